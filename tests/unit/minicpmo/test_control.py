"""How the model's wish to speak is read and weighed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import ModelTuning, Rule
from omni_watch.domain.units import Gap, GapCause, Sense
from omni_watch.duplex.minicpmo.control import ControlSettings, Guard, checked, probability, read_margins
from omni_watch.duplex.minicpmo.dialogue import Moment
from omni_watch.watch.briefing import BriefedTask
from tests.fakes.fake_feed import unit
from tests.fakes.values import a_task

SPEAK, LISTEN = 3, 5


def a_rule(**changes: Any) -> Rule:
    values: dict[str, Any] = {"id": "kettle", "phrases": {}, "names": {}, "message": {}, "ask": {}}
    return Rule(**{**values, **changes})


def guard(control: ControlSettings | None = None, rule: Rule | None = None, *, is_primed: bool = True) -> Guard:
    briefed = BriefedTask(task=a_task(), rule=rule, is_primed=is_primed)
    return Guard.of(briefed, control or ControlSettings())


def live(watching: Guard, margins: list[float | None]) -> list[bool]:
    """Whether each second has the task told; a second speaks for it when its margin does (its words are about it).
    None: a second in which the feed could not see."""
    happened = []
    for number, margin in enumerate(margins):
        blind = (Gap(Sense.SIGHT, GapCause.LOST),) if margin is None else ()
        watching.weigh(-9.0 if margin is None else margin)
        if watching.is_for:
            happened.append(watching.spoken_for(unit(number)))
        else:
            watching.listened(unit(number, gaps=blind))
            happened.append(False)
    return happened


def test_the_margins_of_several_feeds_are_read_in_their_order() -> None:
    logits = torch.arange(30.0).view(3, 10).square()
    moments = [Moment(row, row) for row in logits]
    assert read_margins(moments, speak=SPEAK, listen=LISTEN) == (logits[:, SPEAK] - logits[:, LISTEN]).tolist()
    assert read_margins([], speak=SPEAK, listen=LISTEN) == []


def test_half_precision_logits_are_subtracted_in_full_precision() -> None:
    logits = torch.tensor([0, 0, 0, 1000.0, 0, 999.5], dtype=torch.float16)
    assert read_margins([Moment(logits, logits)], speak=SPEAK, listen=LISTEN) == [0.5]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_margin_that_is_no_number_ends_the_session_which_may_begin_anew(broken: float) -> None:
    with pytest.raises(ModelError, match="expected a number") as caught:
        checked(broken)
    assert caught.value.can_retry


@given(st.floats(-800, 800))
def test_a_probability_stays_one_and_equal_logits_are_equal(logit: float) -> None:
    assert 0 <= probability(logit) <= 1
    assert probability(logit) + probability(-logit) == pytest.approx(1)


@given(bias=st.integers(-10, 10), margins=st.lists(st.integers(-20, 20), max_size=12))
def test_a_bias_means_the_same_as_so_many_logits_more_whatever_their_sign(bias: int, margins: list[int]) -> None:
    biased, shifted = guard(ControlSettings(bias=bias)), guard()
    assert live(biased, [float(margin) for margin in margins]) == live(shifted, [float(m + bias) for m in margins])


def test_two_good_seconds_of_three_tell_and_one_does_not() -> None:
    assert live(guard(), [2, -5, -5, -5]) == [False] * 4
    assert live(guard(), [2, -5, 2, -5]) == [False, False, True, False]
    assert live(guard(ControlSettings(confirm_of=1, confirm_in=1)), [2, -5]) == [True, False]


def test_a_margin_between_release_and_arm_speaks_neither_for_nor_against() -> None:
    undecided = guard(ControlSettings(arm=1.0, release=-1.0), is_primed=False)
    live(undecided, [0.0] * 20)
    assert not undecided.gate.is_primed
    live(undecided, [-1.1] * 3)
    assert undecided.gate.is_primed


def test_what_stood_from_the_beginning_is_not_told_until_it_was_seen_over() -> None:
    assert live(guard(is_primed=False), [2, 2, 2, 2]) == [False] * 4
    assert live(guard(is_primed=False), [-5, -5, -5, 2, 2]) == [False] * 4 + [True]


def test_a_second_that_could_not_be_seen_speaks_against_nothing() -> None:
    blind = guard(is_primed=False)
    live(blind, [None] * 20)
    assert not blind.gate.is_primed

    by_ear = guard(rule=a_rule(sounds=("doorbell",)), is_primed=False)
    live(by_ear, [None] * 20)
    assert by_ear.gate.is_primed, "a doorbell can be heard without a camera"


def test_a_sense_that_the_feed_never_had_is_not_missed() -> None:
    watching = guard(is_primed=False)
    for number in range(4):
        watching.weigh(-9.0)
        watching.listened(unit(number, gaps=(Gap(Sense.HEARING, GapCause.ABSENT),)))
    assert watching.gate.is_primed


def test_a_rule_says_how_it_is_weighed_and_leaves_the_rest_to_the_settings() -> None:
    settings = ControlSettings(bias=1.0, confirm_of=2, confirm_in=3)
    tuned = settings.tuned(ModelTuning(bias=-2.0, confirm_of=4))
    assert tuned == replace(settings, bias=-2.0, confirm_of=4, confirm_in=4)
    assert settings.tuned(ModelTuning()) == settings
    assert settings.tuned(ModelTuning(second_opinion=True)).second_opinion

    quick = guard(settings, a_rule(model=ModelTuning(confirm_of=1, confirm_in=1), rearm_s=3))
    assert live(quick, [2, -5, -5, -5, 2]) == [True, False, False, False, True]


def test_a_doubted_second_has_to_be_confirmed_from_the_start() -> None:
    watching = guard()
    live(watching, [2])
    watching.doubted()
    assert watching.is_quiet
    assert live(watching, [2, 2]) == [False, True]


def test_whether_it_would_be_told_is_known_without_deciding_it() -> None:
    watching = guard()
    live(watching, [2])
    watching.weigh(2)
    assert watching.would_tell(unit(1))
    assert watching.would_tell(unit(1)), "asking changes nothing"
    watching.weigh(-2)
    assert not watching.would_tell(unit(1))


def test_the_guard_of_a_new_session_goes_on_from_what_the_old_one_knew() -> None:
    old = guard()
    live(old, [2])
    same, other = guard(is_primed=False), guard(ControlSettings(bias=0.5, arm=0.5), is_primed=False)
    same.inherit(old)
    other.inherit(old)
    assert same.gate.votes == (True,)
    assert other.gate.is_primed
    assert other.gate.votes == (), "under other thresholds earlier seconds prove nothing"


def test_the_trace_holds_logits_above_the_threshold_and_a_score() -> None:
    watching = guard(ControlSettings(bias=1.0, arm=0.5))
    assert watching.reading().score is None
    watching.weigh(2.0)
    reading = watching.reading()
    assert reading.margin == 2.5
    assert reading.score == pytest.approx(probability(3.0))


@pytest.mark.parametrize("wrong", [{"release": 1.0}, {"confirm_of": 0}, {"confirm_of": 3, "confirm_in": 2}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected release"):
        ControlSettings(**wrong)
