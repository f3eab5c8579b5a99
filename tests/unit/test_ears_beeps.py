"""Rows of like beeps: found in rooms and noise, however the sound is cut, and never made of key presses or voices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_watch.duplex.embedded import beeps
from omni_watch.duplex.embedded.beeps import BeepState, Row
from tests.fakes import synthetic_sounds as sounds

Floats = NDArray[np.float32]


def in_a_room(sound: Floats, *, lead_s: float = 3.0, snr_db: float = 20.0, seed: int = 3) -> Floats:
    rng = np.random.default_rng(seed)
    wet = sounds.at_level(sounds.room(sound, 0.4, 0.6, rng), -25)
    noise = sounds.room_noise(lead_s + len(wet) / sounds.RATE + 1, 10 ** ((-25 - snr_db) / 20), rng)
    return sounds.mixed(noise, wet, lead_s)


def rows_in(sound: Floats, cuts: list[int] | None = None) -> list[Row]:
    past, found = BeepState.start(), list[Row]()
    for piece in np.split(sound, cuts if cuts is not None else range(16_000, len(sound), 16_000)):
        rows, past = beeps.step(piece, past)
        found += rows
    return found


def longest(rows: list[Row]) -> int:
    return max((row.count for row in rows if row.is_believable), default=0)


ALARM = in_a_room(sounds.row(2050, 0.2, 0.3, 4))


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, len(ALARM)), max_size=10).map(sorted))
def test_where_the_sound_is_cut_never_changes_the_rows(cuts: list[int]) -> None:
    whole = rows_in(ALARM, cuts=[])
    pieces = rows_in(ALARM, cuts)
    assert [row.count for row in pieces] == [row.count for row in whole] == [1, 2, 3, 4]
    assert [row.last.start_s for row in pieces] == [row.last.start_s for row in whole]
    assert [row.last.pitch_hz for row in pieces] == pytest.approx([row.last.pitch_hz for row in whole], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "sound", "count"),
    [
        ("a microwave: half a second, once a second", sounds.row(2050, 0.5, 0.5, 3), 3),
        ("a slow microwave", sounds.row(1000, 0.9, 1.0, 4), 4),
        ("a kitchen timer: short and fast", sounds.row(2700, 0.09, 0.11, 6, square=True), 6),
        ("a smoke alarm: three times three", sounds.bursts(3100, 3, 0.5, 0.5, 1.0, 3), 9),
        ("an alarm clock: bursts of four pips", sounds.bursts(2400, 4, 0.08, 0.08, 0.5, 5), 5),
        ("an alarm clock that rings in pairs", sounds.bursts(2700, 2, 0.09, 0.1, 0.45, 5), 5),
        ("long beeps with short pauses", sounds.row(1800, 0.8, 0.35, 4), 4),
        ("low and long", sounds.row(880, 0.4, 0.4, 4), 4),
    ],
)
def test_a_row_is_found_at_its_length(name: str, sound: Floats, count: int) -> None:
    assert longest(rows_in(in_a_room(sound))) >= count, name


def test_a_row_knows_its_pitch_and_when_it_began() -> None:
    last = rows_in(ALARM)[-1]
    assert last.last.pitch_hz == pytest.approx(2050, abs=10)
    assert last.first.start_s == pytest.approx(3.0, abs=0.06)
    assert last.last.start_s == pytest.approx(4.5, abs=0.06)
    assert last.last.length_s == pytest.approx(0.2, abs=0.06)


def test_a_beep_is_noticed_at_a_tenth_of_the_level_of_speech() -> None:
    assert longest(rows_in(in_a_room(sounds.row(2050, 0.5, 0.5, 3)) * np.float32(0.1))) == 3


@pytest.mark.parametrize("presses", [1, 2])
def test_key_presses_are_no_row_of_three(presses: int) -> None:
    assert longest(rows_in(in_a_room(sounds.row(2050, 0.1, 0.6, presses)))) <= 2


def test_beeps_at_uneven_times_are_a_hand_on_keys_and_not_a_machine() -> None:
    typed = np.concatenate(
        [np.concatenate([sounds.beep(2050, 0.1), sounds.silence(gap_s)]) for gap_s in (0.2, 1.1, 0.35, 0.9, 0.2)]
    )
    assert longest(rows_in(in_a_room(typed))) <= 2


def test_a_voice_that_glides_is_no_beep() -> None:
    t = sounds.seconds(4.0)
    hz = 1200 + 300 * np.sin(2 * np.pi * 1.5 * t)
    glide = np.sin(2 * np.pi * np.cumsum(hz) / sounds.RATE) * (np.sin(2 * np.pi * 2 * t) > 0)
    assert longest(rows_in(in_a_room(glide.astype(np.float32)))) <= 2


def test_a_tone_that_never_stops_is_no_beep() -> None:
    assert longest(rows_in(in_a_room(sounds.beep(1000, 8.0)))) == 0


@pytest.mark.parametrize("sound", [np.zeros(160_000, np.float32), sounds.room_noise(10, 0.1, np.random.default_rng(1))])
def test_silence_and_noise_have_no_beeps(sound: Floats) -> None:
    assert longest(rows_in(sound)) == 0


def test_an_alarm_that_rings_for_minutes_stays_one_row_of_little_memory() -> None:
    second, past, count = sounds.row(2050, 0.25, 0.25, 2), BeepState.start(), 0
    for _ in range(180):
        rows, past = beeps.step(second, past)
        count = max([count, *(row.count for row in rows)])
    assert count > 300
    assert len(past.rows) <= 2
    assert len(past.levels) == beeps.PAST_FRAMES
    assert len(past.samples) < beeps.FFT
