"""The real net and the real table of sounds, on sounds made by formulas."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.duplex.embedded.ears import Ears, EarsState
from omni_watch.duplex.embedded.watcher import Heard
from tests.fakes import synthetic_sounds as sounds

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def ears(cabinet: Cabinet) -> Ears:
    return Ears(cabinet.path("yamnet"), cabinet.path("yamnet-classes"))


def in_a_room(sound: Floats, level: float = -25) -> Floats:
    rng = np.random.default_rng(2)
    wet = sounds.at_level(sounds.room(sound, 0.4, 0.6, rng), level)
    return sounds.mixed(sounds.room_noise(np.ceil(5 + len(wet) / sounds.RATE), 0.001, rng), wet, 3.2)


def hear(ears: Ears, sound: Floats, *, start_s: float = 50.0, state: EarsState | None = None) -> list[Heard]:
    state, seconds = state or ears.start(), []
    for second in range(len(sound) // sounds.RATE):
        piece = sound[second * sounds.RATE : (second + 1) * sounds.RATE]
        heard, state = ears.hear(piece, start_s + second, state)
        seconds.append(heard)
    return seconds


def best(seconds: list[Heard], group: str) -> float:
    return max(heard.sounds[group] for heard in seconds)


def longest_row(seconds: list[Heard]) -> int:
    return max((heard.row.count for heard in seconds if heard.row), default=0)


def test_every_sound_that_a_rule_names_is_a_group(ears: Ears) -> None:
    named = {sound for rule in load_rulebook().all() for sound in rule.sounds}
    assert named <= set(ears.groups)


def test_a_smoke_alarm_is_heard_and_counted(ears: Ears) -> None:
    seconds = hear(ears, in_a_room(sounds.bursts(3100, 3, 0.5, 0.5, 1.0, 3)))
    assert max(heard.sounds["smoke_alarm"] for heard in seconds[:3]) < 0.3
    assert best(seconds, "smoke_alarm") > 0.5
    assert longest_row(seconds) >= 6
    row = next(heard.row for heard in seconds if heard.row)
    assert row.pitch_hz == pytest.approx(3100, abs=15)
    assert row.first_at_s == pytest.approx(53.2, abs=0.1)


def test_a_bedside_alarm_is_heard_and_counted(ears: Ears) -> None:
    seconds = hear(ears, in_a_room(sounds.bursts(2100, 4, 0.08, 0.08, 0.5, 6)))
    assert best(seconds, "alarm_clock") > 0.5
    assert longest_row(seconds) >= 3


def test_a_telephone_bell_rings(ears: Ears) -> None:
    assert best(hear(ears, in_a_room(sounds.telephone_bell(2, np.random.default_rng(4)))), "phone") > 0.5


def test_a_kettle_whistles_across_the_room(ears: Ears) -> None:
    whistle = sounds.kettle_whistle(7, np.random.default_rng(4))
    assert best(hear(ears, in_a_room(whistle, level=-32)), "whistle") > 0.5


@pytest.mark.parametrize("rms", [0.0, 0.0003, 0.003, 0.01])
def test_an_empty_room_is_nothing_at_any_loudness(ears: Ears, rms: float) -> None:
    seconds = hear(ears, sounds.room_noise(20, rms, np.random.default_rng(5)))
    assert {group: round(best(seconds, group), 2) for group in ears.groups if best(seconds, group) >= 0.5} == {}
    assert longest_row(seconds) == 0


def test_key_presses_are_no_row(ears: Ears) -> None:
    keys = np.concatenate([sounds.beep(2050, 0.12), sounds.silence(1.1), sounds.beep(2050, 0.12)])
    assert longest_row(hear(ears, in_a_room(keys))) <= 2


def test_nothing_is_heard_across_a_gap(ears: Ears) -> None:
    """Two beeps, an hour without the microphone, two beeps: no row of four."""
    first, second = np.split(in_a_room(sounds.row(2050, 0.25, 0.25, 4))[: 2 * 67_200], 2)
    state = ears.start()
    _, state = ears.hear(first[-16_000:], 10.0, state)
    after_gap, _ = ears.hear(second[:16_000], 3610.0, state)
    without, _ = ears.hear(second[:16_000], 3610.0, ears.start())
    at_once, _ = ears.hear(second[:16_000], 11.0, state)
    assert after_gap == without
    assert at_once != without


def test_a_feed_that_drifts_by_a_little_goes_on(ears: Ears) -> None:
    sound = in_a_room(sounds.row(2050, 0.25, 0.25, 8))
    state, rows = ears.start(), []
    for second in range(len(sound) // sounds.RATE):
        heard, state = ears.hear(sound[second * 16_000 :][:16_000], second * 1.0001, state)
        rows.append(heard.row.count if heard.row else 0)
    assert max(rows) == 8


SENTENCES = (
    "The kettle is full.",
    "The dog was barking all night, and the baby was crying.",
    "When the alarm rings, tell me the game is over.",
    "Somebody knocked on the door. Did you hear the doorbell ring?",
    "The microwave went beep, beep, beep.",
    "The glass fell and broke, and the water is running.",
)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng to speak")
@pytest.mark.parametrize("text", SENTENCES)
def test_speaking_of_a_sound_is_not_the_sound(ears: Ears, text: str, tmp_path: Path) -> None:
    subprocess.run(["espeak-ng", "-v", "en-us", "-w", str(tmp_path / "spoken.wav"), text], check=True)
    with av.open(str(tmp_path / "spoken.wav")) as container:
        resampler = av.AudioResampler("flt", "mono", sounds.RATE)
        frames = [*container.decode(audio=0), None]
        spoken = np.concatenate([out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)])
    seconds = hear(ears, in_a_room(spoken))
    assert {group: round(best(seconds, group), 2) for group in ears.groups if best(seconds, group) >= 0.5} == {}
    assert longest_row(seconds) < 3
