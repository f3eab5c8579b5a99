"""The doctor's real hands, as far as they reach on any machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from omni_watch.app.probes import find_speaker
from omni_watch.config.settings import VoiceSettings
from omni_watch.domain.errors import ChannelUnavailable


def test_a_speaker_that_nobody_has_is_told_by_its_name() -> None:
    with pytest.raises(ChannelUnavailable, match="no speaker no such device"):
        find_speaker(VoiceSettings(folder=Path("/spoken"), device="no such device"))


def test_speech_into_files_needs_no_speaker() -> None:
    assert "/spoken" in find_speaker(VoiceSettings(folder=Path("/spoken"), output="file"))


def test_without_portaudio_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])

    with pytest.raises(ChannelUnavailable, match="libportaudio2"):
        find_speaker(VoiceSettings(folder=Path("/spoken")))
