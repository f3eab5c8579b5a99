"""When an alert that nobody has taken note of is told again, where, how loud, and when it is given up. Pure.

An urgent alert is repeated as its rule says; all others are told once. An alert that is still being told to somebody is
neither repeated there nor given up. Time that passed while nobody ran is not made up for: it is told again once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from omni_watch.domain.alerts import DELIVERY_MOVES, Alert, AlertState, Course, Delivery, DeliveryState, Transition
from omni_watch.domain.rules import Escalation, Priority

OPEN_FOR: Final = timedelta(hours=1)  # after which nobody need take note any more; longer only where a rule is slower
LOOK_AGAIN: Final = timedelta(seconds=60)  # at one that should end, but is still being told to somebody
LOUDER_STEPS: Final = 3  # from as loud as the house speaks to as loud as it can
BY_TIME: Final = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What time alone makes of an open alert; all of it is committed in one transaction."""

    course: Course
    deliveries: tuple[Delivery, ...] = ()  # of a repeat


def next_look(alert: Alert, course: Course, escalation: Escalation) -> datetime | None:
    """When `step` will next have something to do; None: never."""
    if not course.is_open:
        return None
    last = course.last_at or alert.decided_at
    if alert.priority is Priority.URGENT and escalation.times > 0:
        return last + timedelta(seconds=escalation.every_s)
    return max(alert.decided_at + OPEN_FOR, last + LOOK_AGAIN)


def step(
    alert: Alert,
    course: Course,
    deliveries: Sequence[Delivery],
    escalation: Escalation,
    expiries_s: Mapping[str, float],
    now: datetime,
) -> Step | None:
    """What is to be done with an alert now; None: nothing.

    `deliveries` are all of this alert; `expiries_s` gives the channels that there are, with their patience.
    """
    look_at = next_look(alert, course, escalation)
    if look_at is None or now < look_at:
        return None
    latest = _latest(deliveries)
    busy = {channel for channel, one in latest.items() if DELIVERY_MOVES[one.state]}
    if not _may_repeat(alert, course, escalation, now):
        if busy:
            return Step(course=replace(course, last_at=now))
        return Step(course=course.to(AlertState.EXPIRED, at=now, by=BY_TIME))
    repeat = course.repeats + 1
    chosen = [channel for channel in _chosen(repeat, latest, escalation, expiries_s) if channel not in busy]
    if not chosen and expiries_s:  # everybody still tries; what nobody can tell is not counted
        return Step(course=replace(course, last_at=now))
    return Step(
        course=replace(course, repeats=repeat, last_at=now),
        deliveries=tuple(
            Delivery(
                alert_id=alert.id,
                channel=channel,
                number=repeat,
                transition=Transition.REPEAT,
                loudness=loudness(repeat, escalation),
                due_at=now,
                expires_at=now + timedelta(seconds=expiries_s[channel]),
            )
            for channel in chosen
        ),
    )


def loudness(repeat: int, escalation: Escalation) -> float:
    """0..1: of the way from as loud as the house speaks to as loud as it can. `repeat` is 1 for the first one."""
    return min(1.0, max(0, repeat - escalation.louder_after + 1) / LOUDER_STEPS)


def _may_repeat(alert: Alert, course: Course, escalation: Escalation, now: datetime) -> bool:
    if alert.priority is not Priority.URGENT or course.repeats >= escalation.times:
        return False
    by_its_rule = timedelta(seconds=escalation.every_s * (escalation.times + 1))
    return now < alert.decided_at + max(OPEN_FOR, by_its_rule)


def _latest(deliveries: Sequence[Delivery]) -> dict[str, Delivery]:
    """The last message on each channel that told a person what has happened."""
    telling = (one for one in sorted(deliveries, key=lambda one: one.number) if one.transition.is_telling)
    return {one.channel: one for one in telling}


def _chosen(
    repeat: int, latest: Mapping[str, Delivery], escalation: Escalation, expiries_s: Mapping[str, float]
) -> list[str]:
    """Where it was told, as long as that may be enough; else everywhere."""
    reached = [channel for channel in expiries_s if channel in latest and latest[channel].state is DeliveryState.SENT]
    return reached if reached and repeat < escalation.every_channel_after else list(expiries_s)
