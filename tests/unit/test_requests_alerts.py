"""From verdict to told: what is kept together, and what people and other feeds may do in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_watch.domain.alerts import Alert, AlertState, Delivery, DeliveryState
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.store.database import Database
from omni_watch.watch import requests
from omni_watch.watch.judge import Verdict, judge
from omni_watch.watch.ledger import Mark
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit
from tests.fakes.values import a_delivery, a_task, an_alert, says

PENDING, SENT, EXPIRED, DEAD = DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.EXPIRED, DeliveryState.DEAD


@pytest.fixture
def store() -> Iterator[Database]:
    with Database(None) as database:
        yield database


def patience(priority: Priority) -> dict[str, float]:
    return {"mqtt": 300.0, "voice": 60.0 if priority is Priority.URGENT else 30.0}


def verdict_on(task: Task, *, feed: str = "kitchen", at_s: float = 0.0) -> Verdict:
    """What the judge says when the engine has just seen the task's condition come true."""
    mark = Mark(task_id=task.id, feed=feed, is_primed=True, holds=False)
    now = NOON + timedelta(seconds=at_s)
    return judge(says(task.id), unit=unit(9, feed=feed), tasks={task.id: task}, marks={task.id: mark}, now=now)


def commit(store: Database, verdict: Verdict) -> tuple[Alert, ...]:
    return store.transact(lambda tx: requests.commit_verdict(tx, verdict, patience))


def the_task(store: Database, task_id: str = "kettle01") -> Task:
    task = store.transact(lambda tx: tx.tasks.get(task_id))
    assert task is not None
    return task


def end(store: Database, alert: Alert, channel: str, state: DeliveryState, at_s: float = 1.0) -> Task | None:
    """The relay tried one delivery, and it ended so."""
    now = NOON + timedelta(seconds=at_s)
    delivery = next(d for d in store.transact(lambda tx: tx.alerts.deliveries(alert.id)) if d.channel == channel)
    ended = delivery.to(DeliveryState.SENDING).to(state)
    return store.transact(lambda tx: requests.after_delivery(tx, alert, ended, now))


def fire(store: Database, *, at_s: float = 0.0) -> Alert:
    (alert,) = commit(store, verdict_on(the_task(store), at_s=at_s))
    return alert


def test_an_alert_is_kept_with_its_deliveries_its_task_and_its_mark(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task(priority=Priority.URGENT)))
    alert = fire(store)
    deliveries: list[Delivery] = store.transact(lambda tx: tx.alerts.deliveries(alert.id))
    assert [(d.channel, d.state, (d.expires_at - NOON).total_seconds()) for d in deliveries] == [
        ("mqtt", PENDING, 300.0),
        ("voice", PENDING, 60.0),
    ]
    assert (the_task(store).state, the_task(store).fired_count) == (TaskState.FIRED, 1)
    assert store.transact(lambda tx: tx.marks.of("kitchen"))["kettle01"].last_alert_at == NOON
    assert store.transact(lambda tx: tx.alerts.recent()) == [alert]


@pytest.mark.parametrize("state", [TaskState.CANCELLED, TaskState.PAUSED, TaskState.EXPIRED, TaskState.DONE])
def test_a_task_that_was_ended_or_paused_meanwhile_does_not_alert(store: Database, state: TaskState) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    verdict = verdict_on(the_task(store))
    store.transact(lambda tx: tx.tasks.save(a_task(state=state)))
    assert commit(store, verdict) == ()
    assert the_task(store) == a_task(state=state)
    assert store.transact(lambda tx: tx.alerts.recent()) == []
    assert "kettle01" in store.transact(lambda tx: tx.marks.of("kitchen")), "what was seen is remembered"


def test_a_task_that_was_deleted_meanwhile_leaves_nothing(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    verdict = verdict_on(the_task(store))
    store.transact(lambda tx: tx.tasks.delete("kettle01"))
    assert commit(store, verdict) == ()
    assert store.transact(lambda tx: tx.marks.of("kitchen")) == {}


def test_what_a_person_changed_meanwhile_is_not_overwritten(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    verdict = verdict_on(the_task(store))
    store.transact(lambda tx: tx.tasks.save(a_task(message="Tea time.", cooldown_s=5.0)))
    commit(store, verdict)
    assert (the_task(store).message, the_task(store).cooldown_s) == ("Tea time.", 5.0)


def test_two_feeds_that_saw_it_at_once_make_two_occurrences_of_each_time(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    task = the_task(store)
    both = [commit(store, verdict_on(task, feed=feed))[0] for feed in ("kitchen", "porch")]
    assert [alert.id for alert in both] == ["kettle01-1", "kettle01-2"]
    assert the_task(store).fired_count == 2


def test_two_feeds_that_saw_it_at_once_make_one_alert_for_once(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task(repeat=Repeat.ONCE)))
    task = the_task(store)
    both = [commit(store, verdict_on(task, feed=feed)) for feed in ("kitchen", "porch")]
    assert [len(alerts) for alerts in both] == [1, 0]


def test_a_cooldown_that_another_feed_began_keeps_this_one_quiet(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task(cooldown_s=30.0)))
    before = the_task(store)
    end(store, fire(store), "mqtt", SENT, at_s=1.0)
    assert commit(store, verdict_on(before, feed="porch", at_s=30.9)) == ()
    assert len(commit(store, verdict_on(before, feed="porch", at_s=31.0))) == 1, "over, though no timer has rung yet"


def test_a_verdict_is_kept_whole_or_not_at_all(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    verdict = verdict_on(the_task(store))

    def breaks(priority: Priority) -> dict[str, float]:
        raise RuntimeError("no channels")

    with pytest.raises(RuntimeError):
        store.transact(lambda tx: requests.commit_verdict(tx, verdict, breaks))
    assert the_task(store) == a_task()
    assert store.transact(lambda tx: tx.marks.of("kitchen")) == {}


@pytest.mark.parametrize(("repeat", "state"), [(Repeat.ONCE, TaskState.DONE), (Repeat.EACH, TaskState.ARMED)])
def test_in_a_house_without_channels_a_task_does_not_wait_forever(
    store: Database, repeat: Repeat, state: TaskState
) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task(repeat=repeat)))
    verdict = verdict_on(the_task(store))
    assert len(store.transact(lambda tx: requests.commit_verdict(tx, verdict, lambda priority: {}))) == 1
    assert the_task(store).state is state


def test_the_first_channel_that_told_it_begins_the_cooldown_and_the_second_does_not_move_it(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    alert = fire(store)
    told = end(store, alert, "mqtt", SENT, at_s=2.0)
    assert told is not None
    assert (told.state, told.last_told_at) == (TaskState.COOLING, NOON + timedelta(seconds=2))
    assert end(store, alert, "voice", SENT, at_s=9.0) is None
    assert the_task(store) == told


def test_a_late_second_channel_does_not_begin_the_cooldown_of_the_next_alert(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task(cooldown_s=30.0)))
    first = fire(store)
    end(store, first, "mqtt", SENT, at_s=1.0)
    fire(store, at_s=60.0)
    assert end(store, first, "voice", SENT, at_s=61.0) is None
    assert the_task(store).state is TaskState.FIRED, "the second alert has not been told to anybody"


def test_a_retry_keeps_the_task_waiting(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    assert end(store, fire(store), "mqtt", PENDING) is None
    assert the_task(store).state is TaskState.FIRED


@pytest.mark.parametrize("ends", [(EXPIRED, EXPIRED), (DEAD, EXPIRED), (DEAD, DEAD)])
def test_when_all_channels_gave_up_nobody_was_told_and_the_task_watches_on(
    store: Database, ends: tuple[DeliveryState, DeliveryState]
) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    alert = fire(store)
    assert end(store, alert, "mqtt", ends[0]) is None, "one channel is left"
    after = end(store, alert, "voice", ends[1])
    assert after is not None
    assert (after.state, after.last_told_at) == (TaskState.ARMED, None)


def test_a_task_is_not_given_up_while_a_later_alert_may_still_be_told(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    first, second = fire(store), fire(store, at_s=10.0)
    for channel in ("mqtt", "voice"):
        end(store, first, channel, EXPIRED)
    assert the_task(store).state is TaskState.FIRED
    end(store, second, "voice", EXPIRED)
    told = end(store, second, "mqtt", SENT, at_s=70.0)
    assert told is not None
    assert told.state is TaskState.COOLING


def test_a_cancelled_task_stays_cancelled_when_its_last_alert_arrives(store: Database) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task()))
    alert = fire(store)
    (mqtt, _) = store.transact(lambda tx: tx.alerts.deliveries(alert.id))
    sending = mqtt.to(DeliveryState.SENDING)
    store.transact(lambda tx: requests.after_delivery(tx, alert, sending, NOON))
    store.transact(lambda tx: requests.cancel(tx, "kettle01", by="cli", now=NOON))
    assert store.transact(lambda tx: requests.after_delivery(tx, alert, sending.to(SENT), NOON)) is None
    assert the_task(store).state is TaskState.CANCELLED


steps = st.lists(
    st.tuples(st.sampled_from(["saw", "told", "expired", "retry", "wait", "pause", "resume"]), st.integers(0, 1)),
    max_size=40,
)


@settings(max_examples=30, deadline=None)  # each step is several transactions
@given(steps, st.sampled_from(Repeat))
def test_whatever_happens_a_fired_task_always_has_a_delivery_that_will_move_it(
    sequence: list[tuple[str, int]], repeat: Repeat
) -> None:
    with Database(None) as store:
        store.transact(lambda tx: tx.tasks.add(a_task(repeat=repeat, cooldown_s=20.0)))
        alerts: dict[str, Alert] = {}
        for second, (step, choice) in enumerate(sequence):
            at_s = 5.0 * second
            _one_step(store, step, choice, at_s, alerts)
            waiting = store.transact(lambda tx: tx.alerts.untold("kettle01"))
            task = the_task(store)
            assert task.state is not TaskState.FIRED or waiting > 0
            assert task.fired_count == len(alerts)
            assert repeat is Repeat.EACH or len(alerts) <= 1


def _one_step(store: Database, step: str, choice: int, at_s: float, alerts: dict[str, Alert]) -> None:
    now = NOON + timedelta(seconds=at_s)
    store.transact(lambda tx: requests.settle(tx, now))
    task = the_task(store)
    if step == "saw":
        alerts.update({alert.id: alert for alert in commit(store, verdict_on(replace(task), at_s=at_s))})
    elif step == "pause" and task.is_live and not (task.state is TaskState.FIRED and task.repeat is Repeat.ONCE):
        store.transact(lambda tx: requests.pause(tx, task.id, by="cli", now=now))
    elif step == "resume" and task.is_live:
        store.transact(lambda tx: requests.resume(tx, task.id))
    elif step in ("told", "expired", "retry"):
        channel = ("mqtt", "voice")[choice]
        due = store.transact(lambda tx: tx.alerts.due(channel, now))
        if due:
            state = {"told": SENT, "expired": EXPIRED, "retry": PENDING}[step]
            end(store, due[0][0], channel, state, at_s=at_s)


@pytest.mark.parametrize(("repeat", "after"), [(Repeat.EACH, TaskState.PAUSED), (Repeat.ONCE, TaskState.DONE)])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_task_that_is_paused_rings_no_more(store: Database, repeat: Repeat, after: TaskState, is_told: bool) -> None:
    store.transact(lambda tx: tx.tasks.add(a_task(repeat=repeat, priority=Priority.URGENT)))
    (alert,) = commit(store, verdict_on(the_task(store)))
    if is_told:
        end(store, alert, "mqtt", SENT)
    now = NOON + timedelta(seconds=5)
    paused = store.transact(lambda tx: requests.pause(tx, "kettle01", by="mqtt", now=now))
    assert (paused.state, the_task(store).state) == (after, after)
    assert store.transact(lambda tx: tx.alerts.open_ones()) == []
    course = store.transact(lambda tx: tx.alerts.course(alert.id))
    assert course is not None
    assert (course.state, course.closed_by) == (AlertState.ACKNOWLEDGED, "mqtt")
    waiting = [one for one in store.transact(lambda tx: tx.alerts.deliveries(alert.id)) if one.transition.is_telling]
    assert all(delivery.state is not PENDING for delivery in waiting)


def test_what_waits_for_a_channel_that_was_switched_off_expires_and_ends_its_task(store: Database) -> None:
    fired = a_task(state=TaskState.FIRED, repeat=Repeat.ONCE)
    waiting = a_delivery(channel="terminal", expires_at=NOON + timedelta(hours=1))
    store.transact(lambda tx: tx.tasks.add(fired))
    store.transact(lambda tx: tx.alerts.add(an_alert(), [waiting]))
    later = NOON + timedelta(hours=2)

    assert store.transact(lambda tx: requests.expire_unserved(tx, ["mqtt"], NOON)) == 0, "it may be switched on again"
    assert store.transact(lambda tx: requests.expire_unserved(tx, ["terminal"], later)) == 0, "its own worker does that"
    assert store.transact(lambda tx: requests.expire_unserved(tx, ["mqtt"], later)) == 1
    assert store.transact(lambda tx: tx.tasks.get(fired.id)) == fired.to(TaskState.DONE)
