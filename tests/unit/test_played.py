"""What our loudspeaker played, by the seconds in which it was heard."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.watch.played import FADES_S, SOUNDS_KEPT, TAIL_S, Played
from tests.fakes.fake_clock import FakeClock

START_S = 1000.0  # of the fake clock
SOUND = np.random.default_rng(1).uniform(-1, 1, SAMPLE_RATE_HZ).astype(np.float32)  # one second


def test_nothing_is_known_before_it_is_told_when_it_is_heard() -> None:
    played = Played(FakeClock())
    played.begin(SOUND)
    assert played.between(START_S, 16_000) is None


def test_a_sound_is_where_it_is_heard_with_silence_around_it_and_forgotten_after_a_while() -> None:
    played = Played(FakeClock())
    played.begin(SOUND).heard(0.0, START_S + 1)
    assert played.between(START_S, 16_000) is None
    around = played.between(START_S + 0.5, 32_000)
    assert around is not None
    np.testing.assert_array_equal(around[8_000:24_000], SOUND)
    assert not around[:8_000].any()
    assert not around[24_000:].any()
    assert played.between(START_S + 2 + TAIL_S - 0.1, 160) is not None
    assert played.between(START_S + 2 + TAIL_S + 0.1, 160) is None


@given(cuts=st.lists(st.integers(1, 39_999), unique=True, max_size=12).map(sorted))
def test_where_the_time_is_cut_never_changes_what_is_heard_in_it(cuts: list[int]) -> None:
    played = Played(FakeClock())
    playing = played.begin(SOUND)
    playing.heard(0.0, START_S + 0.25)
    playing.heard(0.5, START_S + 1.0)  # the device ran dry for a quarter of a second
    whole = played.between(START_S, 40_000)
    pieces = [
        played.between(START_S + begin / SAMPLE_RATE_HZ, end - begin)
        for begin, end in itertools.pairwise([0, *cuts, 40_000])
    ]
    known = [np.zeros(end - begin) if piece is None else piece
             for piece, (begin, end) in zip(pieces, itertools.pairwise([0, *cuts, 40_000]), strict=True)]  # fmt: skip
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate(known), whole)
    np.testing.assert_array_equal(whole[4_000:12_000], SOUND[:8_000])
    np.testing.assert_array_equal(whole[16_000:24_000], SOUND[8_000:])
    assert not whole[12_000:16_000].any()


def test_a_sound_that_is_cut_short_is_heard_no_further() -> None:
    clock = FakeClock()
    played = Played(clock)
    playing = played.begin(SOUND)
    playing.heard(0.0, START_S)
    clock.advance(0.25)
    playing.silenced()
    clock.advance(5)
    playing.silenced()
    heard = played.between(START_S, 16_000)
    assert heard is not None
    assert np.flatnonzero(heard)[-1] == pytest.approx((0.25 + FADES_S) * SAMPLE_RATE_HZ, abs=2)


def test_a_sound_may_grow_while_it_is_heard_and_a_better_time_replaces_one_that_has_not_come() -> None:
    played = Played(FakeClock())
    playing = played.begin()
    playing.heard(0.0, START_S + 0.3)
    playing.heard(0.0, START_S + 0.2)
    playing.add(SOUND[:8_000])
    playing.add(SOUND[8_000:])
    heard = played.between(START_S + 0.2, 16_000)
    np.testing.assert_array_equal(heard, SOUND)


def test_only_the_last_sounds_are_kept() -> None:
    played = Played(FakeClock())
    for number in range(SOUNDS_KEPT + 1):
        played.begin(SOUND).heard(0.0, START_S + number * 100)
    assert played.between(START_S, 16_000) is None
    assert played.between(START_S + 100, 16_000) is not None


def test_where_another_time_holds_is_known() -> None:
    played = Played(FakeClock())
    first, second = played.begin(SOUND), played.begin(SOUND)
    first.heard(0.0, START_S)
    first.heard(0.5, START_S + 0.6)
    second.heard(0.0, START_S + 5)
    moments_s = [START_S - 1, START_S, START_S + 0.7, START_S + 6]
    assert [played.newest(at_s) for at_s in moments_s] == [(0, 0), (1, 1), (1, 2), (2, 1)]
