"""What goes over the pipe comes out of it."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan, SpeechEnded, Transcript, Unheard, UnheardCause
from omni_watch.duplex.embedded.words.wire import hearing_of, message_of, packed, sound_bytes, sound_of, unpacked

HEARINGS = [
    SpeechBegan(feed="hall", at_s=1.25),
    SpeechEnded(feed="hall", start_s=1.25, end_s=2.5),
    Heard(feed="厨房", start_s=1.0, end_s=2.0, text="水壶满了", language="zh", confidence=0.5, is_cut=True,
          alternatives=(Transcript(text="shui who", language="en", confidence=0.25),)),
    Unheard(feed="hall", start_s=1.0, end_s=2.0, cause=UnheardCause.BEHIND),
]  # fmt: skip


@pytest.mark.parametrize("hearing", HEARINGS, ids=lambda each: type(each).__name__)
def test_everything_that_can_be_heard_comes_through_whole(hearing: Hearing) -> None:
    assert hearing_of(json.loads(packed(message_of(hearing)))) == hearing


def test_another_message_is_no_hearing() -> None:
    assert hearing_of({"is": "alive", "waiting": 0, "job": 0}) is None


def test_messages_with_and_without_sound_follow_one_another() -> None:
    pipe = io.BytesIO(packed({"do": "hear", "feed": "a\nb"}, b"\n\n{}") + packed({"do": "ping"}))
    assert unpacked(pipe) == ({"do": "hear", "feed": "a\nb", "bytes": 4}, b"\n\n{}")
    assert unpacked(pipe) == ({"do": "ping"}, b"")
    assert unpacked(pipe) is None


@pytest.mark.parametrize("sent", [packed({"do": "hear"}, b"1234")[:-1], packed({"do": "ping"})[:-1]])
def test_a_message_that_breaks_off_is_the_end(sent: bytes) -> None:
    assert unpacked(io.BytesIO(sent)) is None


def test_sound_comes_through_as_well_as_a_microphone_gives_it() -> None:
    samples = np.array([-2.0, -1.0, -0.5, 0.0, 1e-4, 0.25, 1.0, 3.0], np.float32)
    np.testing.assert_allclose(sound_of(sound_bytes(samples)), samples.clip(-1, 1), atol=1 / 32767)
