"""Reminders go the way of alerts: said once, by every channel, over restarts. Quiet, changes, and taking note."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.alerts import Alert, DeliveryState
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import RequestError
from omni_watch.domain.rhythms import EverySoLong, OnDays, Reminder
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.store.database import Database
from omni_watch.watch import being_quiet, requests
from omni_watch.watch.judge import next_look
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_delivery, a_task, an_alert

AT = NOON + timedelta(minutes=10)
HOURLY = EverySoLong(interval=timedelta(hours=1))


@pytest.fixture
def store() -> Iterator[Database]:
    with Database(None) as database:
        yield database


def patience(_priority: Priority) -> dict[str, float]:
    return {"mqtt": 300.0, "voice": 60.0}


def remind(store: Database, rhythm: OnDays | EverySoLong | None = None, **changes: Any) -> Task:
    task = a_task(
        "pills001",
        text="remind me to take my pills",
        message="Take your pills.",
        repeat=Repeat.ONCE if rhythm is None else Repeat.EACH,
        cooldown_s=0.0,
        reminder=Reminder(at=AT, rhythm=rhythm),
        **changes,
    )
    return store.transact(lambda tx: requests.add_task(tx, task=task))


def ring(store: Database, now: datetime) -> tuple[Alert, ...]:
    return store.transact(lambda tx: (requests.settle(tx, now), requests.ring(tx, now, patience))[1])


def the_task(store: Database, task_id: str = "pills001") -> Task:
    task = store.transact(lambda tx: tx.tasks.get(task_id))
    assert task is not None
    return task


def tell(store: Database, alert: Alert, now: datetime, channel: str = "mqtt") -> None:
    sent = a_delivery(alert.id, channel, due_at=now, expires_at=now + timedelta(seconds=9), state=DeliveryState.SENT)
    store.transact(lambda tx: requests.after_delivery(tx, alert, sent, now))


def test_a_reminder_is_an_alert_with_a_delivery_for_each_channel(store: Database) -> None:
    remind(store)

    assert ring(store, AT - timedelta(seconds=1)) == ()
    (alert,) = ring(store, AT)

    assert (alert.id, alert.text, alert.feed, alert.means) == ("pills001-1", "Take your pills.", "", (Means.CLOCK,))
    assert (alert.condition_at, alert.decided_at) == (AT, AT)
    assert [d.channel for d in store.transact(lambda tx: tx.alerts.deliveries(alert.id))] == ["mqtt", "voice"]
    assert the_task(store).state is TaskState.FIRED


def test_it_is_said_once_however_often_one_looks(store: Database) -> None:
    remind(store)
    (alert,) = ring(store, AT)

    assert ring(store, AT) == ring(store, AT + timedelta(hours=1)) == ()
    tell(store, alert, AT + timedelta(seconds=2))
    assert the_task(store).state is TaskState.DONE
    assert ring(store, AT + timedelta(hours=2)) == ()


def test_one_that_came_due_while_nobody_ran_is_said_late(store: Database) -> None:
    remind(store)

    (alert,) = ring(store, AT + timedelta(days=2))

    assert alert.condition_at == AT


def test_a_rhythm_goes_on_and_what_was_missed_is_said_once(store: Database) -> None:
    remind(store, HOURLY)
    (first,) = ring(store, AT + timedelta(seconds=3))
    tell(store, first, AT + timedelta(seconds=4))

    assert the_task(store).reminder == Reminder(at=AT + timedelta(hours=1), rhythm=HOURLY)
    (second,) = ring(store, AT + timedelta(hours=5, minutes=30))
    assert second.id == "pills001-2"
    assert the_task(store).reminder == Reminder(at=AT + timedelta(hours=6), rhythm=HOURLY)


def test_a_cancelled_paused_or_snoozed_reminder_is_not_said(store: Database) -> None:
    task = remind(store, HOURLY)
    store.transact(lambda tx: requests.pause(tx, task.id, by="cli", now=AT))
    assert ring(store, AT) == ()
    store.transact(lambda tx: requests.resume(tx, task.id))
    store.transact(lambda tx: requests.snooze(tx, task.id, until=AT + timedelta(minutes=5), by="cli", now=AT))
    assert ring(store, AT) == ()
    assert len(ring(store, AT + timedelta(minutes=5))) == 1
    store.transact(lambda tx: requests.cancel(tx, task.id, by="cli", now=AT))
    assert ring(store, AT + timedelta(days=3)) == ()


def test_the_timer_is_set_for_it_and_no_engine_watches_it(store: Database) -> None:
    task = remind(store, OnDays(at=time(8)))

    assert next_look([task], NOON) == AT
    assert not task.is_watched(NOON)
    assert task.is_awake(NOON)


def test_the_same_words_at_another_time_are_another_reminder(store: Database) -> None:
    task = remind(store)
    again = replace(task, id="pills002", reminder=Reminder(at=AT + timedelta(hours=1)))

    assert store.transact(lambda tx: requests.add_task(tx, task=again)) == again
    with pytest.raises(RequestError, match="already"):
        store.transact(lambda tx: requests.add_task(tx, task=replace(task, id="pills003")))


@given(late=st.timedeltas(timedelta(0), timedelta(days=30)), minutes=st.integers(1, 3000))
def test_a_beat_is_kept_however_late_it_was_said(late: timedelta, minutes: int) -> None:
    interval = timedelta(minutes=minutes)
    following = Reminder(at=AT, rhythm=EverySoLong(interval=interval)).after(AT + late)

    assert AT + late < following.at <= AT + late + interval
    assert (following.at - AT) % interval == timedelta(0)


def test_what_is_said_and_when_can_be_changed_but_not_what_is_waited_for(store: Database) -> None:
    task = store.transact(lambda tx: requests.add_task(tx, task=a_task()))
    changed = replace(task, repeat=Repeat.ONCE, message="Tea!", feeds=("kitchen",))

    assert store.transact(lambda tx: requests.change(tx, changed)) == changed
    with pytest.raises(RequestError, match="add another task"):
        store.transact(lambda tx: requests.change(tx, replace(task, text="tell me when the bath is full")))
    with pytest.raises(RequestError, match="no words"):
        store.transact(lambda tx: requests.change(tx, replace(task, message=" ")))
    store.transact(lambda tx: requests.cancel(tx, task.id, by="cli", now=AT))
    with pytest.raises(RequestError, match="cancelled"):
        store.transact(lambda tx: requests.change(tx, changed))


def alerted(store: Database) -> Alert:
    task = a_task(state=TaskState.FIRED, fired_count=1, last_fired_at=NOON)
    alert = an_alert()
    deliveries = [a_delivery(alert.id, channel) for channel in ("mqtt", "voice")]
    store.transact(lambda tx: tx.tasks.add(task))
    store.transact(lambda tx: tx.alerts.add(alert, deliveries))
    return alert


def states(store: Database, alert: Alert) -> list[DeliveryState]:
    return [delivery.state for delivery in store.transact(lambda tx: tx.alerts.deliveries(alert.id))]


def test_what_a_person_has_noted_no_channel_need_tell(store: Database) -> None:
    alert = alerted(store)
    tell(store, alert, NOON + timedelta(seconds=2))

    store.transact(lambda tx: requests.acknowledge(tx, alert.id, by="cli", now=NOON + timedelta(seconds=3)))

    assert states(store, alert) == [DeliveryState.SENT, DeliveryState.EXPIRED]
    assert the_task(store, "kettle01").state is TaskState.COOLING
    store.transact(lambda tx: requests.acknowledge(tx, alert.id, by="cli", now=NOON + timedelta(seconds=4)))
    with pytest.raises(RequestError, match="no alert"):
        store.transact(lambda tx: requests.acknowledge(tx, "unknown", by="cli", now=NOON))


def test_noting_what_no_channel_has_told_yet_is_being_told(store: Database) -> None:
    alert = alerted(store)

    store.transact(lambda tx: requests.acknowledge(tx, alert.id, by="cli", now=NOON + timedelta(seconds=3)))

    assert states(store, alert) == [DeliveryState.EXPIRED, DeliveryState.EXPIRED]
    assert the_task(store, "kettle01").state is TaskState.COOLING


def test_what_is_cancelled_is_not_told_any_more(store: Database) -> None:
    alert = alerted(store)
    store.transact(lambda tx: requests.cancel(tx, "kettle01", by="cli", now=AT))

    assert states(store, alert) == [DeliveryState.EXPIRED, DeliveryState.EXPIRED]
    assert the_task(store, "kettle01").state is TaskState.CANCELLED


def test_quiet_lasts_until_it_is_over_or_ended(store: Database) -> None:
    until = NOON + timedelta(hours=1)
    assert store.transact(lambda tx: being_quiet.quiet_until(tx, NOON)) is None

    store.transact(lambda tx: being_quiet.be_quiet(tx, until, NOON))
    assert store.transact(lambda tx: being_quiet.quiet_until(tx, NOON)) == until
    assert store.transact(lambda tx: being_quiet.quiet_until(tx, until)) is None

    store.transact(lambda tx: being_quiet.speak_again(tx))
    assert store.transact(lambda tx: being_quiet.quiet_until(tx, NOON)) is None
    with pytest.raises(RequestError, match="past"):
        store.transact(lambda tx: being_quiet.be_quiet(tx, NOON, NOON))
