"""The whole of both tables of moves, and the hours of a day during which a task is watched."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.alerts import ALERT_MOVES, DELIVERY_MOVES, AlertState, Course, DeliveryState, Transition
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import ENDED, LIVE, TASK_MOVES, TaskState, WatchWindow
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_delivery, a_task

T, D = TaskState, DeliveryState
# written out again, so that a slip in the product's table shows here
TASK_MAY = {
    (T.ARMED, T.FIRED),
    (T.ARMED, T.PAUSED),
    (T.ARMED, T.CANCELLED),
    (T.ARMED, T.EXPIRED),
    (T.FIRED, T.FIRED),
    (T.FIRED, T.COOLING),
    (T.FIRED, T.DONE),
    (T.FIRED, T.ARMED),
    (T.FIRED, T.PAUSED),
    (T.FIRED, T.CANCELLED),
    (T.FIRED, T.EXPIRED),
    (T.COOLING, T.ARMED),
    (T.COOLING, T.PAUSED),
    (T.COOLING, T.CANCELLED),
    (T.COOLING, T.EXPIRED),
    (T.PAUSED, T.ARMED),
    (T.PAUSED, T.CANCELLED),
    (T.PAUSED, T.EXPIRED),
}
DELIVERY_MAY = {
    (D.PENDING, D.SENDING),
    (D.PENDING, D.EXPIRED),
    (D.SENDING, D.SENT),
    (D.SENDING, D.PENDING),
    (D.SENDING, D.EXPIRED),
    (D.SENDING, D.DEAD),
}


@pytest.mark.parametrize(("before", "after"), list(product(TaskState, TaskState)))
def test_a_task_moves_as_its_table_says_and_in_no_other_way(before: TaskState, after: TaskState) -> None:
    task = a_task(state=before)
    if (before, after) in TASK_MAY:
        assert task.to(after).state is after
    else:
        with pytest.raises(ValueError, match=f"is {before.value} and cannot become {after.value}"):
            task.to(after)


@pytest.mark.parametrize(("before", "after"), list(product(DeliveryState, DeliveryState)))
def test_a_delivery_moves_as_its_table_says_and_in_no_other_way(before: DeliveryState, after: DeliveryState) -> None:
    delivery = a_delivery(state=before)
    if (before, after) in DELIVERY_MAY:
        assert delivery.to(after, detail="why").state is after
    else:
        with pytest.raises(ValueError, match="cannot become"):
            delivery.to(after)


@pytest.mark.parametrize(("before", "after"), list(product(AlertState, AlertState)))
def test_an_alert_ends_once_and_keeps_when_and_by_whom(before: AlertState, after: AlertState) -> None:
    course = Course(alert_id="kettle01-1", state=before)
    if before is AlertState.OPEN and after is not AlertState.OPEN:
        ended = course.to(after, at=NOON, by="voice")
        assert (ended.state, ended.closed_at, ended.closed_by) == (after, NOON, "voice")
        assert not ended.is_open
    else:
        with pytest.raises(ValueError, match=f"is {before.value} and cannot become {after.value}"):
            course.to(after, at=NOON, by="voice")


def test_what_is_told_of_an_alert_has_a_name_for_each_way_it_may_end() -> None:
    assert set(ALERT_MOVES) == set(AlertState)
    ends = {state.value for state in AlertState if state is not AlertState.OPEN}
    assert {transition.value for transition in Transition if not transition.is_telling} == ends


def test_the_tables_name_every_state_and_nothing_leaves_an_ended_one() -> None:
    assert set(TASK_MOVES) == set(TaskState)
    assert set(DELIVERY_MOVES) == set(DeliveryState)
    assert set(TaskState) == LIVE | ENDED
    assert not LIVE & ENDED
    assert all(not TASK_MOVES[state] for state in ENDED)
    assert all(TASK_MOVES[state] & ENDED for state in LIVE), "every live task can be ended"


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("repeat", Repeat)
def test_only_live_tasks_that_may_still_alert_are_watched(state: TaskState, repeat: Repeat) -> None:
    waits_to_be_told = state is TaskState.FIRED and repeat is Repeat.ONCE
    expected = state in {T.ARMED, T.FIRED, T.COOLING} and not waits_to_be_told
    assert a_task(state=state, repeat=repeat).is_watched(NOON) is expected


def test_a_snoozed_or_expired_task_is_not_watched() -> None:
    later = NOON + timedelta(minutes=1)
    assert not a_task(snoozed_until=later).is_watched(NOON)
    assert a_task(snoozed_until=NOON).is_watched(NOON)
    assert not a_task(expires_at=NOON).is_watched(NOON)
    assert a_task(expires_at=later).is_watched(NOON)


def test_a_task_without_feeds_watches_all_of_them() -> None:
    assert a_task().watches("anything")
    assert a_task(feeds=("kitchen",)).watches("kitchen")
    assert not a_task(feeds=("kitchen",)).watches("porch")


@pytest.mark.parametrize(
    ("begins", "ends", "at", "inside"),
    [
        ("08:00", "20:00", "07:59", False),
        ("08:00", "20:00", "08:00", True),
        ("08:00", "20:00", "19:59", True),
        ("08:00", "20:00", "20:00", False),
        ("22:00", "06:00", "21:59", False),
        ("22:00", "06:00", "22:00", True),
        ("22:00", "06:00", "00:00", True),
        ("22:00", "06:00", "05:59", True),
        ("22:00", "06:00", "06:00", False),
    ],
)
def test_a_window_holds_its_first_minute_and_not_its_last_also_over_midnight(
    begins: str, ends: str, at: str, inside: bool
) -> None:
    window = WatchWindow(begins=time.fromisoformat(begins), ends=time.fromisoformat(ends))
    assert window.contains(datetime.fromisoformat(f"2026-11-22T{at}:00+00:00")) is inside


def test_a_window_is_in_the_time_of_the_house() -> None:
    window = WatchWindow(begins=time(8), ends=time(9), zone="Asia/Shanghai")
    assert window.contains(datetime(2026, 11, 22, 0, 30, tzinfo=UTC))
    assert window.next_edge(NOON) == datetime(2026, 11, 23, 0, 0, tzinfo=UTC)


def test_a_window_follows_summer_time() -> None:
    window = WatchWindow(begins=time(8), ends=time(20), zone="Europe/Berlin")
    winter = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)  # the evening before the change
    assert window.next_edge(winter) == datetime(2026, 3, 29, 6, 0, tzinfo=UTC)


minutes = st.integers(0, 24 * 60 - 1).map(lambda minute: time(minute // 60, minute % 60))


@given(
    begins=minutes,
    ends=minutes,
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_between_now_and_the_next_edge_a_window_does_not_change(
    begins: time, ends: time, zone: str, now: datetime
) -> None:
    window = WatchWindow(begins=begins, ends=ends, zone=zone)
    edge = window.next_edge(now)
    assert now < edge <= now + timedelta(days=2)
    inside = window.contains(now)
    span_s = (edge - now).total_seconds()
    # the hour that is skipped or repeated once a year may hold an edge of its own
    clocks = {(now + timedelta(hours=h)).astimezone(_zone(zone)).utcoffset() for h in range(-26, 27)}
    if len(clocks) == 1:
        assert all(window.contains(now + timedelta(seconds=span_s * part / 10)) is inside for part in range(10))


def _zone(name: str) -> ZoneInfo:

    return ZoneInfo(name)
