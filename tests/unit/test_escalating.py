"""When an alert is told again, where and how loud, and when it is given up: a table of the rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.alerts import AlertState, Course, Delivery, DeliveryState, Transition
from omni_watch.domain.rules import Escalation, EscalationTuning, Priority
from omni_watch.watch.escalating import LOOK_AGAIN, OPEN_FOR, loudness, next_look, step
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_delivery, an_alert

SMOKE = an_alert("smoke", priority=Priority.URGENT, decided_at=NOON)
KETTLE = an_alert("kettle01", decided_at=NOON)
OPEN = Course(alert_id=SMOKE.id)
RULE = Escalation(every_s=60, times=3, louder_after=1, every_channel_after=2)
CHANNELS = {"mqtt": 300.0, "voice": 120.0, "phone": 600.0}
S = DeliveryState
EVERYWHERE = ("mqtt", "voice", "phone")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def told(number: int = 0, **states: DeliveryState) -> list[Delivery]:
    transition = Transition.REPEAT if number else Transition.ALERT
    return [
        a_delivery(SMOKE.id, channel, number=number, transition=transition, state=state)
        for channel, state in states.items()
    ]


@pytest.mark.parametrize(
    ("repeats", "states", "expected"),
    [
        # where it was told, it is told again
        (0, {"mqtt": S.SENT, "voice": S.SENT}, ("mqtt", "voice")),
        (0, {"mqtt": S.SENT, "voice": S.DEAD}, ("mqtt",)),
        # told often enough, it goes everywhere: where it had been given up, and where it never went
        (1, {"mqtt": S.SENT, "voice": S.DEAD}, EVERYWHERE),
        (2, {"mqtt": S.SENT, "voice": S.EXPIRED}, EVERYWHERE),
        # nobody was told: everywhere at once
        (0, {"mqtt": S.EXPIRED, "voice": S.DEAD}, EVERYWHERE),
        # who is still trying is left to it
        (0, {"mqtt": S.PENDING, "voice": S.SENT}, ("voice",)),
        (1, {"mqtt": S.SENDING, "voice": S.SENT}, ("voice", "phone")),
        (0, {"mqtt": S.PENDING, "voice": S.DEAD}, ("voice", "phone")),
    ],
)
def test_a_repeat_goes_where_its_rule_says(
    repeats: int, states: dict[str, DeliveryState], expected: tuple[str, ...]
) -> None:
    course = replace(OPEN, repeats=repeats, last_at=NOON)
    done = step(SMOKE, course, told(repeats, **states), RULE, CHANNELS, at(60))

    assert done is not None
    assert tuple(one.channel for one in done.deliveries) == expected
    assert {(one.number, one.transition, one.state) for one in done.deliveries} == {
        (repeats + 1, Transition.REPEAT, S.PENDING)
    }
    assert all(one.expires_at == at(60 + CHANNELS[one.channel]) for one in done.deliveries)
    assert done.course == replace(course, repeats=repeats + 1, last_at=at(60))


def test_only_the_last_time_counts_for_where_it_was_told() -> None:
    unplugged = [*told(mqtt=S.SENT, voice=S.SENT), *told(1, mqtt=S.SENT, voice=S.DEAD)]
    rule = replace(RULE, every_channel_after=9)
    done = step(SMOKE, replace(OPEN, repeats=1, last_at=NOON), unplugged, rule, CHANNELS, at(60))
    assert done is not None
    assert [one.channel for one in done.deliveries] == ["mqtt"]


def test_it_is_not_told_again_before_its_time_and_then_counted_from_when_it_was_last_told() -> None:
    spoken_late = replace(OPEN, last_at=at(50))
    sent = told(mqtt=S.SENT, voice=S.SENT)

    assert step(SMOKE, OPEN, sent, RULE, CHANNELS, at(59.9)) is None
    assert step(SMOKE, OPEN, sent, RULE, CHANNELS, at(60)) is not None
    assert step(SMOKE, spoken_late, sent, RULE, CHANNELS, at(109.9)) is None
    assert step(SMOKE, spoken_late, sent, RULE, CHANNELS, at(110)) is not None


def test_while_everybody_still_tries_nothing_is_counted_and_it_is_looked_at_again_later() -> None:
    trying = told(mqtt=S.PENDING, voice=S.SENDING, phone=S.PENDING)
    done = step(SMOKE, OPEN, trying, RULE, CHANNELS, at(60))
    assert done is not None
    assert (done.course.repeats, done.course.last_at, done.deliveries) == (0, at(60), ())
    assert next_look(SMOKE, done.course, RULE) == at(120)


def test_told_as_often_as_its_rule_says_it_expires_but_not_while_somebody_is_still_being_told() -> None:
    course = replace(OPEN, repeats=3, last_at=NOON)
    waiting = step(SMOKE, course, told(3, mqtt=S.PENDING, voice=S.SENT), RULE, CHANNELS, at(60))
    assert waiting is not None
    assert waiting.course.is_open

    done = step(SMOKE, course, told(3, mqtt=S.SENT, voice=S.DEAD), RULE, CHANNELS, at(60))
    assert done is not None
    assert (done.course.state, done.course.closed_at, done.course.closed_by) == (AlertState.EXPIRED, at(60), "time")
    assert next_look(SMOKE, done.course, RULE) is None


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOW])
def test_what_is_not_urgent_is_told_once_and_expires_after_an_hour(priority: Priority) -> None:
    alert = replace(KETTLE, priority=priority)
    course = Course(alert_id=alert.id, last_at=at(1))
    sent = [a_delivery(state=S.SENT)]
    assert next_look(alert, course, RULE) == NOON + OPEN_FOR
    assert step(alert, course, sent, RULE, CHANNELS, NOON + OPEN_FOR - timedelta(seconds=1)) is None
    done = step(alert, course, sent, RULE, CHANNELS, NOON + OPEN_FOR)
    assert done is not None
    assert (done.course.state, done.deliveries) == (AlertState.EXPIRED, ())

    pending = step(alert, course, [a_delivery()], RULE, CHANNELS, NOON + OPEN_FOR)
    assert pending is not None
    assert pending.course.is_open
    assert next_look(alert, pending.course, RULE) == NOON + OPEN_FOR + LOOK_AGAIN


def test_an_urgent_one_whose_rule_repeats_nothing_is_told_once_like_any_other() -> None:
    once = replace(RULE, times=0)
    assert next_look(SMOKE, OPEN, once) == NOON + OPEN_FOR
    done = step(SMOKE, OPEN, told(mqtt=S.SENT), once, CHANNELS, NOON + OPEN_FOR)
    assert done is not None
    assert (done.course.state, done.deliveries) == (AlertState.EXPIRED, ())


def test_one_that_nobody_took_note_of_while_the_house_was_down_for_long_is_not_told_again() -> None:
    done = step(SMOKE, OPEN, told(mqtt=S.SENT), RULE, CHANNELS, NOON + timedelta(days=3))
    assert done is not None
    assert done.course.state is AlertState.EXPIRED

    slow = replace(RULE, every_s=7200)
    still = step(SMOKE, OPEN, told(mqtt=S.SENT), slow, CHANNELS, NOON + timedelta(hours=7))
    assert still is not None
    assert still.course.repeats == 1, "its rule gives it eight hours"


def test_it_becomes_louder_until_it_is_as_loud_as_it_can() -> None:
    assert [round(loudness(repeat, RULE), 2) for repeat in (1, 2, 3, 4)] == [0.33, 0.67, 1.0, 1.0]
    late = replace(RULE, louder_after=3)
    assert [round(loudness(repeat, late), 2) for repeat in (1, 2, 3, 4, 5, 6)] == [0.0, 0.0, 0.33, 0.67, 1.0, 1.0]


def test_in_a_house_without_channels_it_is_over_all_the_same() -> None:
    course, now = OPEN, NOON
    while course.is_open:
        now += timedelta(seconds=60)
        done = step(SMOKE, course, [], RULE, {}, now)
        assert done is not None
        course = done.course
    assert now == at(60 * (RULE.times + 1))


def test_a_rule_says_only_what_is_different_for_it() -> None:
    usual = Escalation()
    assert usual.tuned(EscalationTuning()) == usual
    assert usual.tuned(EscalationTuning(times=0)) == replace(usual, times=0)


ends = st.sampled_from([S.SENT, S.DEAD, S.EXPIRED, S.PENDING])


@given(
    fates=st.lists(st.tuples(ends, ends), min_size=1, max_size=40),
    naps=st.lists(st.floats(1, 900), min_size=40, max_size=40),
    times=st.integers(0, 6),
)
def test_whatever_happens_to_its_messages_it_ends_and_is_never_told_more_often_than_its_rule_says(
    fates: Iterable[tuple[DeliveryState, DeliveryState]], naps: list[float], times: int
) -> None:
    rule = Escalation(every_s=30, times=times)
    channels = {"mqtt": 300.0, "voice": 300.0}
    course, now = OPEN, NOON
    deliveries = [a_delivery(SMOKE.id, channel, state=S.PENDING) for channel in channels]
    for (mqtt, voice), nap_s in zip(fates, naps, strict=False):
        deliveries = [
            replace(one, state={"mqtt": mqtt, "voice": voice}[one.channel]) if one.state is S.PENDING else one
            for one in deliveries
        ]
        now += timedelta(seconds=nap_s)
        done = step(SMOKE, course, deliveries, rule, channels, now)
        if done is None:
            continue
        assert done.course.repeats - course.repeats in (0, 1)
        assert (done.course.repeats > course.repeats) == bool(done.deliveries)
        course = done.course
        deliveries += done.deliveries
        keys = [(one.channel, one.number) for one in deliveries]
        assert len(keys) == len(set(keys))
        look = next_look(SMOKE, course, rule)
        assert (look is not None) == course.is_open
        assert look is None or look > now, "nobody is woken again at once"
    assert course.repeats <= times
    settled = [replace(one, state=S.SENT) for one in deliveries]
    for _ in range(times + 2):
        now += OPEN_FOR
        done = step(SMOKE, course, settled, rule, channels, now)
        course = done.course if done is not None else course
    assert not course.is_open
