"""The three promises of a gate, for every order of scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.watch.deciding import Gate, GateSettings

HIGH, MIDDLE, LOW, UNSEEN = 0.9, 0.5, 0.1, None
scores = st.lists(st.sampled_from([HIGH, MIDDLE, LOW, UNSEEN]), max_size=120)
settings = st.builds(
    lambda of, more, prime, rearm: GateSettings(
        confirm_of=of, confirm_in=of + more, prime_s=float(prime), rearm_s=float(rearm)
    ),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(1, 5),
    st.integers(1, 12),
)


def happened(given_scores: Sequence[float | None], gate: Gate) -> list[int]:
    """The seconds at which the gate said that it has just happened."""
    seconds = []
    for second, score in enumerate(given_scores):
        gate, just_happened = gate.after(score, float(second))
        if just_happened:
            seconds.append(second)
    return seconds


def last_gate(given_scores: Sequence[float | None], gate: Gate) -> Gate:
    for second, score in enumerate(given_scores):
        gate, _ = gate.after(score, float(second))
    return gate


def longest_low_run(given_scores: Sequence[float | None]) -> int:
    """Seconds below the lower threshold in a row; unseen ones neither count nor break."""
    longest = run = 0
    for score in given_scores:
        if score is not None:
            run = run + 1 if score < GateSettings().off else 0
            longest = max(longest, run)
    return longest


def test_a_condition_that_comes_true_is_told_at_its_second_good_second() -> None:
    assert happened([LOW] * 3 + [HIGH] * 20, Gate.fresh(GateSettings())) == [4]


def test_a_condition_that_stood_from_the_beginning_is_never_told() -> None:
    gate = Gate.fresh(GateSettings())
    assert happened([HIGH] * 50, gate) == []
    assert last_gate([HIGH] * 50, gate).holds is True


def test_a_condition_that_stood_from_the_beginning_is_told_the_next_time() -> None:
    assert happened([HIGH] * 5 + [LOW] * 10 + [HIGH] * 5, Gate.fresh(GateSettings())) == [16]


def test_an_earlier_session_may_have_seen_it_false_already() -> None:
    assert happened([HIGH] * 5, Gate.fresh(GateSettings(), is_primed=True)) == [1]


def test_one_good_second_alone_is_not_told() -> None:
    assert happened(([LOW] * 5 + [HIGH]) * 5, Gate.fresh(GateSettings())) == []


def test_scores_in_between_neither_tell_nor_rearm() -> None:
    gate = Gate.fresh(GateSettings())
    assert happened([MIDDLE] * 30 + [HIGH] * 5, gate) == [], "never seen false"
    assert happened([LOW] * 5 + [HIGH] * 3 + [MIDDLE] * 60 + [HIGH] * 3, gate) == [6], "once"


def test_a_flicker_shorter_than_rearming_is_the_same_occurrence() -> None:
    assert happened([LOW] * 5 + [HIGH] * 3 + [LOW] * 9 + [HIGH] * 9, Gate.fresh(GateSettings())) == [6]


def test_good_seconds_of_one_occurrence_never_count_for_the_next() -> None:
    slow = GateSettings(confirm_of=2, confirm_in=20, prime_s=3, rearm_s=3)
    assert happened([LOW] * 3 + [HIGH] * 2 + [LOW] * 3 + [HIGH] + [LOW] * 9, Gate.fresh(slow)) == [4]


def test_it_is_true_since_the_first_good_second_of_its_run() -> None:
    gate = Gate.fresh(GateSettings(confirm_of=2, confirm_in=4))
    assert last_gate([LOW] * 3 + [HIGH] * 9, gate).since_s == 3.0
    assert last_gate([LOW, LOW, LOW, HIGH, LOW, HIGH], gate).since_s == 3.0, "a flicker does not break the run"
    assert last_gate([HIGH, MIDDLE, MIDDLE, MIDDLE, HIGH], gate).since_s == 4.0, "that first one was another run"
    assert last_gate([HIGH, MIDDLE, MIDDLE, MIDDLE, MIDDLE], gate).since_s is None


def test_with_one_vote_it_is_still_true_since_the_first() -> None:
    assert last_gate([LOW] * 3 + [HIGH] * 9, Gate.fresh(GateSettings(confirm_of=1, confirm_in=1))).since_s == 3.0


def test_told_by_another_means_it_waits_until_it_was_seen_false() -> None:
    gate = last_gate([LOW] * 5, Gate.fresh(GateSettings())).told()
    assert happened([HIGH] * 9, gate) == []
    assert happened([LOW] * 10 + [HIGH] * 2, gate) == [11]


def test_other_settings_begin_the_votes_anew_and_keep_the_rest() -> None:
    gate = last_gate([LOW] * 5 + [HIGH], Gate.fresh(GateSettings()))
    assert happened([HIGH], gate) == [0]
    assert happened([HIGH], gate.under(GateSettings())) == []
    assert gate.under(GateSettings(on=0.8)).is_primed


@given(scores, settings)
def test_between_two_times_it_was_seen_false_long_enough(given_scores: list[float | None], rules: GateSettings) -> None:
    seconds = happened(given_scores, Gate.fresh(rules))
    for first, second in pairwise(seconds):
        assert longest_low_run(given_scores[first:second]) >= rules.rearm_s


@given(scores, settings)
def test_before_the_first_time_it_was_seen_false(given_scores: list[float | None], rules: GateSettings) -> None:
    seconds = happened(given_scores, Gate.fresh(rules))
    if seconds:
        assert longest_low_run(given_scores[: seconds[0]]) >= min(rules.prime_s, rules.rearm_s)


@given(scores, settings)
def test_each_time_has_enough_good_seconds_of_its_own(given_scores: list[float | None], rules: GateSettings) -> None:
    begins = 0
    for second in happened(given_scores, Gate.fresh(rules)):
        said = [score for score in given_scores[begins : second + 1] if score is not None][-rules.confirm_in :]
        assert sum(score >= rules.on for score in said) >= rules.confirm_of
        assert given_scores[second] == HIGH
        begins = second + 1


@given(scores, settings, st.lists(st.integers(0, 119), max_size=30))
def test_unseen_seconds_change_nothing(given_scores: list[float | None], rules: GateSettings, holes: list[int]) -> None:
    seen = [score for score in given_scores if score is not None]
    with_holes: list[float | None] = list(seen)
    for hole in sorted(holes, reverse=True):
        with_holes.insert(min(hole, len(with_holes)), None)
    count = len(happened(seen, Gate.fresh(rules)))
    assert len(happened(with_holes, Gate.fresh(rules))) == count


@pytest.mark.parametrize("score", [0.0, 0.39, 0.4, 0.59, 0.6, 1.0])
def test_the_thresholds_belong_to_the_upper_side(score: float) -> None:
    gate = Gate.fresh(GateSettings(confirm_of=1, confirm_in=1, prime_s=1.0), is_primed=True)
    after, just_happened = gate.after(score, 0.0)
    assert just_happened is (score >= 0.6)
    assert (after.holds is False) is (score < 0.4)
