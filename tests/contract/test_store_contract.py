"""What every store promises: the fake in memory, SQLite in memory and SQLite in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from omni_watch.domain.alerts import AlertState, Course, DeliveryState, Transition
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import StoreError
from omni_watch.domain.regions import Region
from omni_watch.domain.rhythms import WORKDAYS, EverySoLong, OnDays, Reminder, Rhythm
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.store.thread import SqlStore
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Store, Transaction
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_store import FakeStore
from tests.fakes.values import a_delivery, a_task, a_wish, an_alert, an_example

LATER = NOON + timedelta(seconds=30)


@pytest.fixture(params=["fake", "memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "fake":
        made = FakeStore()
    else:
        made = await SqlStore.open(tmp_path / "omni-watch.db" if request.param == "file" else None)
    yield made
    await made.close()


def add_alert(tx: Transaction, occurrence: int = 1, *channels: str, **changes: Any) -> None:
    alert = an_alert(occurrence=occurrence, **changes)
    tx.alerts.add(alert, [a_delivery(alert.id, channel, due_at=alert.decided_at) for channel in channels or ("mqtt",)])


async def test_a_task_comes_back_as_it_was_kept(store: Store) -> None:
    task = a_task(
        text="水壶满了告诉我",
        language="zh",
        rule="kettle_full",
        why="words: 水壶, 满",
        feeds=("kitchen", "hall"),
        priority=Priority.URGENT,
        window=WatchWindow(begins=time(22, 30), ends=time(6), zone="Asia/Shanghai"),
        expires_at=NOON + timedelta(days=1, microseconds=1),
        snoozed_until=NOON + timedelta(hours=1),
        last_fired_at=NOON,
        last_told_at=NOON,
        fired_count=3,
        state=TaskState.COOLING,
    )
    await store.transact(lambda tx: tx.tasks.add(task))
    kept = await store.transact(lambda tx: tx.tasks.get(task.id))
    assert kept == task
    assert kept is not None
    assert kept.set_at.utcoffset() == timedelta(0)
    assert await store.transact(lambda tx: tx.tasks.get("unknown")) is None


async def test_tasks_come_oldest_first_and_ended_ones_are_not_live(store: Store) -> None:
    tasks = [a_task(f"t{n}", state=state) for n, state in enumerate(TaskState)]

    def keep(tx: Transaction) -> None:
        for task in tasks:
            tx.tasks.add(task)

    await store.transact(keep)
    assert await store.transact(lambda tx: tx.tasks.all()) == tasks
    assert await store.transact(lambda tx: tx.tasks.live()) == [task for task in tasks if task.is_live]


@pytest.mark.parametrize(
    "rhythm",
    [
        None,
        OnDays(days=WORKDAYS, at=time(8, 30), zone="Asia/Shanghai"),
        EverySoLong(interval=timedelta(hours=2, milliseconds=1)),
    ],
)
async def test_a_reminder_comes_back_as_it_was_kept(store: Store, rhythm: Rhythm | None) -> None:
    task = a_task(reminder=Reminder(at=LATER, rhythm=rhythm))
    await store.transact(lambda tx: tx.tasks.add(task))
    assert await store.transact(lambda tx: tx.tasks.get(task.id)) == task
    await store.transact(lambda tx: tx.tasks.save(replace(task, reminder=None)))
    assert await store.transact(lambda tx: tx.tasks.get(task.id)) == replace(task, reminder=None)


async def test_a_note_is_kept_replaced_and_forgotten(store: Store) -> None:
    await store.transact(lambda tx: tx.notes.keep("quiet", {"until": "八点"}))
    await store.transact(lambda tx: tx.notes.keep("quiet", {"until": "nine", "why": None}))
    await store.transact(lambda tx: tx.notes.keep("other", {"numbers": [1, 2.5]}))
    assert await store.transact(lambda tx: tx.notes.get("quiet")) == {"until": "nine", "why": None}
    for name in ("quiet", "unknown"):
        await store.transact(lambda tx, name=name: tx.notes.forget(name))  # type: ignore[misc]
    assert await store.transact(lambda tx: tx.notes.get("quiet")) is None
    assert await store.transact(lambda tx: tx.notes.get("other")) == {"numbers": [1, 2.5]}


async def test_a_task_that_is_not_there_cannot_be_saved(store: Store) -> None:
    with pytest.raises(StoreError, match="kettle01"):
        await store.transact(lambda tx: tx.tasks.save(a_task()))


async def test_a_task_id_is_used_once(store: Store) -> None:
    await store.transact(lambda tx: tx.tasks.add(a_task()))
    with pytest.raises(StoreError):
        await store.transact(lambda tx: tx.tasks.add(a_task()))


async def test_what_fails_leaves_nothing_behind(store: Store) -> None:
    def work(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        add_alert(tx)
        tx.topics.remember("t", "kettle01")
        tx.wishes.leave(a_wish())
        raise RuntimeError("after everything was written")

    with pytest.raises(RuntimeError, match="after everything"):
        await store.transact(work)
    assert await store.transact(lambda tx: (tx.tasks.all(), tx.alerts.recent(), tx.alerts.unfinished())) == ([], [], 0)
    assert await store.transact(lambda tx: (tx.topics.all(), tx.wishes.open_ones())) == ({}, [])


async def test_deleting_a_task_takes_its_lessons_marks_and_alerts_and_no_others(store: Store) -> None:
    def keep(tx: Transaction) -> None:
        for task_id in ("kettle01", "other"):
            tx.tasks.add(a_task(task_id))
            tx.lessons.add(task_id, "kitchen", an_example())
            tx.marks.save(Mark(task_id=task_id, feed="kitchen"))
            alert = an_alert(task_id)
            tx.alerts.add(alert, [a_delivery(alert.id)])
        tx.topics.remember("state/kettle01", "kettle01")

    def rest(tx: Transaction) -> object:
        tx.tasks.delete("kettle01")
        lessons = [tx.lessons.of(task_id) for task_id in ("kettle01", "other")]
        return (
            [task.id for task in tx.tasks.all()],
            [len(each) for each in lessons],
            list(tx.marks.of("kitchen")),
            [alert.id for alert in tx.alerts.recent()],
            tx.alerts.unfinished(),
            tx.topics.of("kettle01"),
        )

    await store.transact(keep)
    expected = (["other"], [0, 1], ["other"], ["other-1"], 1, ["state/kettle01"])
    assert await store.transact(rest) == expected


async def test_lessons_keep_regions_and_examples_apart_and_in_order(store: Store) -> None:
    region = Region(0.36, 0.30, 0.34, 0.52)
    examples = [an_example(f"e{n}", label, jpeg=bytes([n + 1]) * 9) for n, label in enumerate(Label)]

    def teach(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        for example in examples:
            tx.lessons.add("kettle01", "kitchen", example)
        place = Lesson(task_id="kettle01", feed="kitchen", region=region, display_region=region)
        tx.lessons.set_place(replace(place, examples=(an_example("ignored"),)))

    await store.transact(teach)
    (lesson,) = await store.transact(lambda tx: tx.lessons.of("kettle01"))
    assert lesson == Lesson(
        task_id="kettle01", feed="kitchen", region=region, display_region=region, examples=tuple(examples)
    )
    await store.transact(lambda tx: tx.lessons.set_place(Lesson(task_id="kettle01", feed="kitchen")))
    (lesson,) = await store.transact(lambda tx: tx.lessons.of("kettle01"))
    assert (lesson.region, lesson.display_region, len(lesson.examples)) == (None, None, len(examples))


async def test_examples_go_one_by_one_by_label_or_with_the_whole_lesson(store: Store) -> None:
    def teach(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        for number, label in enumerate((Label.NOT_YET, Label.DONE, Label.DONE, Label.FULL)):
            tx.lessons.add("kettle01", "kitchen", an_example(f"e{number}", label))

    await store.transact(teach)
    assert await store.transact(lambda tx: tx.lessons.remove("kettle01", example_id="e0")) == 1
    assert await store.transact(lambda tx: tx.lessons.remove("kettle01", example_id="e0")) == 0
    assert await store.transact(lambda tx: tx.lessons.remove("kettle01", label=Label.DONE)) == 2
    (lesson,) = await store.transact(lambda tx: tx.lessons.of("kettle01"))
    assert [example.id for example in lesson.examples] == ["e3"]
    assert await store.transact(lambda tx: tx.lessons.remove("kettle01")) == 1
    assert await store.transact(lambda tx: tx.lessons.of("kettle01")) == []


async def test_marks_are_kept_for_each_feed(store: Store) -> None:
    first = Mark(task_id="kettle01", feed="kitchen", is_primed=True, holds=False, last_alert_at=NOON)
    other = Mark(task_id="kettle01", feed="hall", holds=True, held_when_set=True)

    def keep(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        tx.marks.save(replace(first, is_primed=False))
        tx.marks.save(first)
        tx.marks.save(other)

    await store.transact(keep)
    assert await store.transact(lambda tx: tx.marks.of("kitchen")) == {"kettle01": first}
    assert await store.transact(lambda tx: tx.marks.of_task("kettle01")) == [other, first]
    assert await store.transact(lambda tx: tx.marks.of("porch")) == {}


async def test_an_alert_comes_back_as_it_was_kept_and_its_id_is_used_once(store: Store) -> None:
    alert = an_alert(means=(Means.DISPLAY, Means.BEEPS), text="水壶满了。", priority=Priority.LOW)
    deliveries = [a_delivery(channel=channel, attempts=2, detail="broker away") for channel in ("mqtt", "voice")]
    await store.transact(lambda tx: tx.tasks.add(a_task()))
    await store.transact(lambda tx: tx.alerts.add(alert, deliveries))
    assert await store.transact(lambda tx: tx.alerts.get(alert.id)) == alert
    assert await store.transact(lambda tx: tx.alerts.deliveries(alert.id)) == deliveries
    with pytest.raises(StoreError, match="kettle01-1"):
        await store.transact(lambda tx: tx.alerts.add(alert, []))
    assert await store.transact(lambda tx: tx.alerts.get("unknown-1")) is None


async def test_an_alert_begins_open_and_what_became_of_it_is_kept(store: Store) -> None:
    ended = Course(
        alert_id="kettle01-1",
        state=AlertState.ACKNOWLEDGED,
        repeats=3,
        last_at=NOON + timedelta(microseconds=1),
        closed_at=LATER,
        closed_by="voice",
    )

    def keep(tx: Transaction) -> None:
        for task_id in ("kettle01", "other"):
            tx.tasks.add(a_task(task_id))
        for number in (1, 2, 3):
            add_alert(tx, number, decided_at=NOON + timedelta(seconds=number))
        tx.alerts.add(an_alert("other", decided_at=NOON + timedelta(seconds=9)), [])

    await store.transact(keep)
    assert await store.transact(lambda tx: tx.alerts.course("kettle01-1")) == Course(alert_id="kettle01-1")
    assert await store.transact(lambda tx: tx.alerts.course("unknown-1")) is None
    await store.transact(lambda tx: tx.alerts.save_course(ended))
    assert await store.transact(lambda tx: tx.alerts.course("kettle01-1")) == ended
    still = await store.transact(lambda tx: tx.alerts.open_ones())
    assert [(alert.id, course) for alert, course in still] == [
        (alert_id, Course(alert_id=alert_id)) for alert_id in ("kettle01-2", "kettle01-3", "other-1")
    ]
    of_one = await store.transact(lambda tx: tx.alerts.open_ones("other"))
    assert [alert.id for alert, _ in of_one] == ["other-1"]
    with pytest.raises(StoreError, match="unknown-1"):
        await store.transact(lambda tx: tx.alerts.save_course(replace(ended, alert_id="unknown-1")))


async def test_what_is_told_of_an_alert_is_kept_in_order_and_each_message_once(store: Store) -> None:
    again = a_delivery(channel="voice", number=1, transition=Transition.REPEAT, loudness=0.5)
    over = a_delivery(number=2, transition=Transition.ACKNOWLEDGED)

    def keep(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        tx.alerts.add(an_alert(), [a_delivery(), a_delivery(channel="voice", state=DeliveryState.SENT)])
        tx.alerts.add_deliveries([over, again])

    await store.transact(keep)
    kept = await store.transact(lambda tx: tx.alerts.deliveries("kettle01-1"))
    assert [(one.number, one.channel) for one in kept] == [(0, "mqtt"), (0, "voice"), (1, "voice"), (2, "mqtt")]
    assert kept[2:] == [again, over]
    due = await store.transact(lambda tx: tx.alerts.due("mqtt", LATER))
    assert [one.number for _, one in due] == [0, 2], "the alert before what became of it"
    assert await store.transact(lambda tx: tx.alerts.unfinished()) == 3
    assert await store.transact(lambda tx: tx.alerts.untold("kettle01")) == 2, "that it is over tells nobody of it"
    await store.transact(lambda tx: tx.alerts.save_delivery(replace(again, state=DeliveryState.DEAD)))
    assert await store.transact(lambda tx: tx.alerts.untold("kettle01")) == 1
    with pytest.raises(StoreError, match="already"):
        await store.transact(lambda tx: tx.alerts.add_deliveries([again]))
    with pytest.raises(StoreError):
        await store.transact(lambda tx: tx.alerts.save_delivery(replace(again, number=7)))


async def test_the_newest_alerts_come_first(store: Store) -> None:
    def keep(tx: Transaction) -> None:
        for task_id in ("kettle01", "other"):
            tx.tasks.add(a_task(task_id))
        for number in (1, 2, 3):
            add_alert(tx, number, decided_at=NOON + timedelta(seconds=number))
        tx.alerts.add(an_alert("other", decided_at=NOON + timedelta(seconds=9)), [])

    await store.transact(keep)
    newest = await store.transact(lambda tx: tx.alerts.recent(2))
    assert [alert.id for alert in newest] == ["other-1", "kettle01-3"]
    of_one = await store.transact(lambda tx: tx.alerts.recent(task_id="kettle01"))
    assert [alert.occurrence for alert in of_one] == [3, 2, 1]


async def test_due_deliveries_are_the_pending_ones_urgent_first_then_as_decided(store: Store) -> None:
    def keep(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        priorities = (Priority.LOW, Priority.NORMAL, Priority.URGENT, Priority.NORMAL)
        for number, priority in enumerate(priorities, start=1):
            add_alert(tx, number, priority=priority, decided_at=NOON + timedelta(seconds=number))
        tx.alerts.add(an_alert(occurrence=5), [a_delivery("kettle01-5", state=DeliveryState.SENDING)])
        tx.alerts.add(an_alert(occurrence=6), [a_delivery("kettle01-6", "voice")])
        later = a_delivery("kettle01-7", due_at=NOON + timedelta(hours=1))
        tx.alerts.add(an_alert(occurrence=7), [later])

    await store.transact(keep)
    now = NOON + timedelta(minutes=1)
    due = await store.transact(lambda tx: tx.alerts.due("mqtt", now))
    assert [alert.occurrence for alert, _ in due] == [3, 2, 4, 1]
    assert all(delivery.alert_id == alert.id for alert, delivery in due)
    assert len(await store.transact(lambda tx: tx.alerts.due("mqtt", now, limit=2))) == 2
    assert len(await store.transact(lambda tx: tx.alerts.due("mqtt", NOON + timedelta(hours=1)))) == 5
    assert await store.transact(lambda tx: tx.alerts.next_due_at("mqtt")) == NOON + timedelta(seconds=1)
    assert await store.transact(lambda tx: tx.alerts.next_due_at("nothing")) is None
    assert await store.transact(lambda tx: tx.alerts.waited_for()) == ["mqtt", "voice"]


async def test_deliveries_found_sending_after_a_crash_become_pending_again(store: Store) -> None:
    def keep(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        tx.alerts.add(an_alert(), [a_delivery(channel=state.value, state=state) for state in DeliveryState])

    await store.transact(keep)
    assert await store.transact(lambda tx: tx.alerts.unfinished()) == 2
    assert await store.transact(lambda tx: tx.alerts.reset_sending()) == 1
    assert await store.transact(lambda tx: tx.alerts.reset_sending()) == 0
    states = {d.channel: d.state for d in await store.transact(lambda tx: tx.alerts.deliveries("kettle01-1"))}
    assert states["sending"] is DeliveryState.PENDING
    assert states["sent"] is DeliveryState.SENT


async def test_unfinished_deliveries_are_counted_over_all_and_for_one_task(store: Store) -> None:
    def keep(tx: Transaction) -> None:
        for task_id in ("kettle01", "other"):
            tx.tasks.add(a_task(task_id))
        add_alert(tx, 1, "mqtt", "voice")
        tx.alerts.add(an_alert("other"), [a_delivery("other-1")])
        tx.alerts.save_delivery(a_delivery(state=DeliveryState.SENT))

    await store.transact(keep)
    assert await store.transact(lambda tx: tx.alerts.unfinished()) == 2
    assert await store.transact(lambda tx: tx.alerts.untold("kettle01")) == 1


async def test_old_alerts_are_forgotten_once_nothing_of_them_waits(store: Store) -> None:
    def keep(tx: Transaction) -> None:
        tx.tasks.add(a_task())
        for number, state in enumerate((DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.SENT), start=1):
            alert = an_alert(occurrence=number, decided_at=NOON + timedelta(seconds=number))
            tx.alerts.add(alert, [a_delivery(alert.id, state=state)])

    await store.transact(keep)
    assert await store.transact(lambda tx: tx.alerts.forget_before(NOON + timedelta(seconds=3))) == ["kettle01-1"]
    kept = await store.transact(lambda tx: tx.alerts.recent())
    assert [alert.occurrence for alert in kept] == [3, 2]
    assert await store.transact(lambda tx: tx.alerts.deliveries("kettle01-1")) == []


async def test_topics_are_remembered_until_they_are_forgotten(store: Store) -> None:
    def remember(tx: Transaction) -> None:
        tx.topics.remember("b/task/2/state", "t2")
        tx.topics.remember("b/task/1/state", "t0")
        tx.topics.remember("b/task/1/state", "t1")

    await store.transact(remember)
    assert await store.transact(lambda tx: tx.topics.all()) == {"b/task/1/state": "t1", "b/task/2/state": "t2"}
    assert await store.transact(lambda tx: tx.topics.of("t1")) == ["b/task/1/state"]
    await store.transact(lambda tx: tx.topics.forget("b/task/1/state"))
    await store.transact(lambda tx: tx.topics.forget("unknown"))
    assert await store.transact(lambda tx: list(tx.topics.all())) == ["b/task/2/state"]


async def test_a_wish_is_open_until_it_is_answered_and_answered_once(store: Store) -> None:
    wish, other = a_wish(payload={"feed": "kitchen", "done": [1.5, None]}), a_wish("wish0002", kind="other")
    await store.transact(lambda tx: tx.wishes.leave(wish))
    await store.transact(lambda tx: tx.wishes.leave(other))
    assert await store.transact(lambda tx: tx.wishes.open_ones()) == [wish, other]
    assert await store.transact(lambda tx: tx.wishes.open_ones("teach")) == [wish]
    later = NOON + timedelta(seconds=2)
    await store.transact(lambda tx: tx.wishes.answer(wish.id, {"ok": True}, later))
    answered = await store.transact(lambda tx: tx.wishes.get(wish.id))
    assert answered == replace(wish, answer={"ok": True}, answered_at=later)
    assert await store.transact(lambda tx: tx.wishes.open_ones()) == [other]
    for wish_id in (wish.id, "unknown"):
        with pytest.raises(StoreError, match="cannot be answered"):
            await store.transact(lambda tx, i=wish_id: tx.wishes.answer(i, {}, later))  # type: ignore[misc]


async def test_old_wishes_are_forgotten(store: Store) -> None:
    for wish in (a_wish("old"), a_wish("new", made_at=LATER)):
        await store.transact(lambda tx, w=wish: tx.wishes.leave(w))  # type: ignore[misc]
    assert await store.transact(lambda tx: tx.wishes.forget_before(LATER)) == 1
    assert [wish.id for wish in await store.transact(lambda tx: tx.wishes.open_ones())] == ["new"]


async def test_what_a_transaction_returns_comes_back(store: Store) -> None:
    def work(tx: Transaction) -> Task:
        tx.tasks.add(a_task())
        return tx.tasks.all()[0]

    assert await store.transact(work) == a_task()


async def test_nobody_else_changed_it(store: Store) -> None:
    await store.transact(lambda tx: tx.tasks.add(a_task()))
    assert await store.changed_elsewhere() is False


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=8)), timezone(timedelta(hours=-11, minutes=-30))])
async def test_a_time_in_any_zone_is_the_same_moment(store: Store, zone: timezone) -> None:
    moment = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=zone)
    await store.transact(lambda tx: tx.tasks.add(a_task(set_at=moment)))
    (kept,) = await store.transact(lambda tx: tx.tasks.all())
    assert kept.set_at == moment
