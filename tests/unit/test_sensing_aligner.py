"""Frames and samples -> units."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.units import SAMPLES_PER_UNIT, Gap, GapCause, Sense, Unit
from omni_watch.sensing.aligner import AlignerState, Alignment, GridBlock, Picture, settled_s, take, units_until
from tests.fakes.fake_picture import FakePicture

HOW = Alignment(feed="kitchen")


def picture(at_s: float, tone: int = 0, **fields: object) -> Picture:
    return Picture(at_s, FakePicture(tone or round(at_s * 100), **fields))  # type: ignore[arg-type]


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, round(seconds * SAMPLES_PER_UNIT)).astype(np.float32)


def aligned(arrivals: list[Picture | GridBlock], how: Alignment = HOW, until_s: float = 3.0) -> tuple[Unit, ...]:
    return units_until(take(AlignerState(), how, arrivals), how, until_s)[1]


def test_a_unit_has_the_samples_of_its_second_and_the_frame_nearest_its_end() -> None:
    sound = noise(3)
    pictures = [picture(at_s) for at_s in np.arange(0, 3.2, 1 / 15)]
    units = aligned([GridBlock(0, sound), *pictures])
    assert [unit.index for unit in units] == [0, 1, 2]
    for unit in units:
        begin = unit.index * SAMPLES_PER_UNIT
        np.testing.assert_array_equal(unit.audio, sound[begin : begin + SAMPLES_PER_UNIT])
        assert unit.frame is not None
        assert abs(unit.frame.at_s - unit.end_s) <= 1 / 30
        assert unit.gaps == ()


def test_a_frame_slightly_after_the_end_counts_and_one_much_later_does_not() -> None:
    (unit,) = aligned([picture(0.8), picture(1.05)], until_s=1.0)
    assert unit.frame is not None
    assert unit.frame.at_s == 1.05
    (unit,) = aligned([picture(0.2), picture(1.2)], until_s=1.0)
    assert unit.frame is not None
    assert unit.frame.at_s == 0.2


def test_only_the_frames_used_are_converted() -> None:
    pictures = [picture(at_s) for at_s in np.arange(0, 3.2, 1 / 30)]
    units = aligned([*pictures])
    converted = [each for each in pictures if isinstance(each.raw, FakePicture) and each.raw.conversions]
    assert len(units) == len(converted) == 3


def test_arrays_of_a_unit_are_read_only() -> None:
    (unit,) = aligned([GridBlock(0, noise(1)), picture(1.0)], until_s=1.0)
    assert unit.frame is not None
    assert not unit.audio.flags.writeable
    assert not unit.frame.rgb.flags.writeable


def test_several_frames_are_spread_over_the_unit_oldest_first_and_never_twice() -> None:
    how = Alignment(feed="kitchen", frames_per_unit=4)
    (unit,) = aligned([picture(at_s) for at_s in np.arange(0.05, 1.2, 0.1)], how, until_s=1.0)
    np.testing.assert_allclose([frame.at_s for frame in unit.frames], [0.25, 0.45, 0.75, 0.95], atol=0.051)
    (unit,) = aligned([picture(0.9)], how, until_s=1.0)
    assert len(unit.frames) == 1


@pytest.mark.parametrize(("heard_s", "is_gap"), [(0.6, False), (0.4, True), (0.0, True)])
def test_missing_sound_is_silence_and_a_gap_only_beyond_half(heard_s: float, is_gap: bool) -> None:
    sound = noise(1)[: round(heard_s * SAMPLES_PER_UNIT)]
    (unit,) = aligned([GridBlock(0, sound), picture(1.0)], until_s=1.0)
    np.testing.assert_array_equal(unit.audio[: len(sound)], sound)
    assert not unit.audio[len(sound) :].any()
    assert unit.gaps == ((Gap(Sense.HEARING, GapCause.LOST),) if is_gap else ())


def test_a_sense_that_the_feed_does_not_have_is_absent_rather_than_lost() -> None:
    how = Alignment(feed="kitchen", absent=frozenset({Sense.SIGHT}))
    (unit,) = aligned([], how, until_s=1.0)
    assert set(unit.gaps) == {Gap(Sense.SIGHT, GapCause.ABSENT), Gap(Sense.HEARING, GapCause.LOST)}


def test_a_damaged_picture_is_a_gap() -> None:
    (unit,) = aligned([GridBlock(0, noise(1)), picture(1.0, is_damaged=True)], until_s=1.0)
    assert unit.frames == ()
    assert unit.gaps == (Gap(Sense.SIGHT, GapCause.LOST),)


def test_sound_that_is_not_a_number_or_too_loud_never_reaches_the_model() -> None:
    sound = noise(1)
    sound[:4] = [np.nan, np.inf, -np.inf, 7.0]
    (unit,) = aligned([GridBlock(0, sound)], until_s=1.0)
    np.testing.assert_array_equal(unit.audio[:4], [0, 1, -1, 1])


def test_a_camera_that_repeats_its_picture_is_stale_after_five_seconds_and_shows_again_when_it_moves() -> None:
    how = Alignment(feed="kitchen", stale_after_s=5.0)
    frozen = [picture(at_s, tone=1) for at_s in np.arange(0.0, 9.5, 0.5)]
    units = aligned([*frozen, picture(10.0, tone=2)], how, until_s=10.0)
    is_stale = [Gap(Sense.SIGHT, GapCause.STALE) in unit.gaps for unit in units]
    assert is_stale == [False] * 6 + [True] * 3 + [False]
    assert all(not unit.frames for unit, stale in zip(units, is_stale, strict=True) if stale)


def test_a_frozen_camera_with_a_blinking_clock_is_stale_too() -> None:
    how = Alignment(feed="kitchen", stale_after_s=5.0)
    units = aligned([picture(at_s, tone=1 + at_s % 2) for at_s in range(1, 13)], how, until_s=12.0)
    assert units[-1].gaps[-1] == Gap(Sense.SIGHT, GapCause.STALE)


def test_a_camera_that_was_away_may_come_back_with_a_picture_that_was_seen_before() -> None:
    how = Alignment(feed="kitchen", stale_after_s=5.0)
    units = aligned([*(picture(at_s, tone=at_s) for at_s in (1, 2, 3)), picture(12, tone=3)], how, until_s=12.0)
    assert units[10].gaps[-1] == Gap(Sense.SIGHT, GapCause.LOST)
    assert units[11].frames


def test_a_still_scene_in_a_recording_is_not_stale() -> None:
    units = aligned([picture(at_s, tone=1) for at_s in np.arange(0.0, 12.5, 0.5)], until_s=12.0)
    assert all(unit.frames for unit in units)


def test_a_recording_holds_a_picture_until_the_next_one_and_a_camera_does_not() -> None:
    sparse: list[Picture | GridBlock] = [picture(0.0), picture(4.2)]
    held = aligned(sparse, Alignment(feed="kitchen", holds_frames=True), until_s=4.0)
    assert [unit.frame and unit.frame.at_s for unit in held] == [0.0] * 4
    seen = aligned(sparse, until_s=4.0)
    assert [bool(unit.frames) for unit in seen] == [True, False, False, False]


def test_pictures_of_a_recording_end_with_its_picture_track() -> None:
    how = Alignment(feed="kitchen", holds_frames=True)
    units = aligned([picture(0.0), picture(0.9)], how, until_s=3.0)
    assert [bool(unit.frames) for unit in units] == [True, False, False]


def test_a_unit_is_settled_once_every_awaited_sense_has_passed_it() -> None:
    state = take(AlignerState(), HOW, [GridBlock(0, noise(2.5)), picture(1.4)])
    assert settled_s(state, HOW, [Sense.HEARING]) == 2.5
    assert settled_s(state, HOW, Sense) == 1.4
    assert settled_s(state, HOW, []) == float("inf")


@given(
    sound_cuts=st.lists(st.integers(1, 3 * SAMPLES_PER_UNIT - 1), unique=True, max_size=8).map(sorted),
    batch_cuts=st.lists(st.integers(1, 60), unique=True, max_size=8).map(sorted),
    frames_per_unit=st.integers(1, 4),
    holds_frames=st.booleans(),
)
def test_where_the_stream_is_cut_never_changes_the_units(
    sound_cuts: list[int], batch_cuts: list[int], frames_per_unit: int, holds_frames: bool
) -> None:
    how = Alignment(feed="kitchen", frames_per_unit=frames_per_unit, holds_frames=holds_frames)
    sound = noise(3)
    blocks = [GridBlock(a, sound[a:b]) for a, b in itertools.pairwise([0, *sound_cuts, len(sound)])]
    pictures = [picture(at_s) for at_s in np.arange(0, 3.15, 0.07)]
    arrivals: list[Picture | GridBlock] = [*blocks, *pictures]
    arrivals.sort(key=lambda each: each.at_s if isinstance(each, Picture) else each.end / SAMPLES_PER_UNIT)

    state, pieces = AlignerState(), list[Unit]()
    for begin, end in itertools.pairwise([0, *batch_cuts, len(arrivals)]):
        state = take(state, how, arrivals[begin:end])
        state, units = units_until(state, how, settled_s(state, how, Sense))
        pieces += units

    for piece, whole in zip(pieces, aligned([GridBlock(0, sound), *pictures], how), strict=True):
        np.testing.assert_array_equal(piece.audio, whole.audio)
        assert [frame.at_s for frame in piece.frames] == [frame.at_s for frame in whole.frames]
        assert piece.gaps == whole.gaps


def test_the_aligner_keeps_no_more_than_it_may_need() -> None:
    state = AlignerState()
    for tick in range(3000):
        at_s = tick / 30
        state = take(state, HOW, [picture(at_s), GridBlock(round(at_s * 16000), np.zeros(534, np.float32))])
        state, _ = units_until(state, HOW, at_s)
    assert len(state.pictures) <= 4
    assert sum(len(block.samples) for block in state.blocks) <= 2 * SAMPLES_PER_UNIT
