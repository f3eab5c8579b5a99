"""A `Store` in memory: what is rolled back is gone, what is committed stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from omni_watch.domain.alerts import Alert, Course, Delivery, DeliveryState
from omni_watch.domain.errors import StoreError
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.wishes import Wish
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Transaction

T = TypeVar("T")
UNFINISHED = (DeliveryState.PENDING, DeliveryState.SENDING)


@dataclass
class Shelves:
    """Everything that was committed; values are immutable, so copying the dictionaries is a snapshot."""

    tasks: dict[str, Task] = field(default_factory=dict)
    lessons: dict[tuple[str, str], Lesson] = field(default_factory=dict)
    marks: dict[tuple[str, str], Mark] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    deliveries: dict[tuple[str, str, int], Delivery] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def snapshot(self) -> Shelves:
        return Shelves(**{name: copy(value) for name, value in vars(self).items()})


class FakeTasks:
    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves

    def add(self, task: Task) -> None:
        if task.id in self._shelves.tasks:
            raise StoreError(f"task {task.id} is already there")
        self._shelves.tasks[task.id] = task

    def get(self, task_id: str) -> Task | None:
        return self._shelves.tasks.get(task_id)

    def all(self) -> list[Task]:
        return sorted(self._shelves.tasks.values(), key=lambda task: task.set_at)

    def live(self) -> list[Task]:
        return [task for task in self.all() if task.is_live]

    def save(self, task: Task) -> None:
        if task.id not in self._shelves.tasks:
            raise StoreError(f"there is no task {task.id}")
        self._shelves.tasks[task.id] = task

    def delete(self, task_id: str) -> None:
        shelves = self._shelves
        shelves.tasks.pop(task_id, None)
        gone = {alert.id for alert in shelves.alerts.values() if alert.task_id == task_id}
        _drop(shelves.alerts, lambda alert_id: alert_id in gone)
        _drop(shelves.courses, lambda alert_id: alert_id in gone)
        _drop(shelves.deliveries, lambda key: key[0] in gone)
        _drop(shelves.lessons, lambda key: key[0] == task_id)
        _drop(shelves.marks, lambda key: key[0] == task_id)


K = TypeVar("K")


def _drop(shelf: dict[K, Any], is_gone: Callable[[K], bool]) -> None:
    """In place: the other parts of the transaction look at the same dictionaries."""
    for key in [key for key in shelf if is_gone(key)]:
        del shelf[key]


class FakeLessons:
    def __init__(self, shelves: Shelves) -> None:
        self._lessons = shelves.lessons

    def of(self, task_id: str) -> list[Lesson]:
        return [lesson for key, lesson in self._lessons.items() if key[0] == task_id]

    def set_place(self, lesson: Lesson) -> None:
        key = (lesson.task_id, lesson.feed)
        before = self._lessons.get(key)
        self._lessons[key] = replace(lesson, examples=before.examples if before else ())

    def add(self, task_id: str, feed: str, example: Example) -> None:
        lesson = self._lessons.get((task_id, feed)) or Lesson(task_id=task_id, feed=feed)
        self._lessons[task_id, feed] = replace(lesson, examples=(*lesson.examples, example))

    def remove(self, task_id: str, *, example_id: str | None = None, label: Label | None = None) -> int:
        gone = 0
        for key, lesson in list(self._lessons.items()):
            if key[0] != task_id:
                continue
            if example_id is None and label is None:
                gone += len(lesson.examples)
                del self._lessons[key]
                continue
            kept = tuple(each for each in lesson.examples if each.id != example_id and each.label is not label)
            gone += len(lesson.examples) - len(kept)
            self._lessons[key] = replace(lesson, examples=kept)
        return gone


class FakeMarks:
    def __init__(self, shelves: Shelves) -> None:
        self._marks = shelves.marks

    def of(self, feed: str) -> dict[str, Mark]:
        return {mark.task_id: mark for mark in self._marks.values() if mark.feed == feed}

    def of_task(self, task_id: str) -> list[Mark]:
        return sorted((m for m in self._marks.values() if m.task_id == task_id), key=lambda mark: mark.feed)

    def save(self, mark: Mark) -> None:
        self._marks[mark.task_id, mark.feed] = mark


class FakeAlerts:
    def __init__(self, shelves: Shelves) -> None:
        self._alerts = shelves.alerts
        self._courses = shelves.courses
        self._deliveries = shelves.deliveries

    def add(self, alert: Alert, deliveries: Sequence[Delivery]) -> None:
        if alert.id in self._alerts:
            raise StoreError(f"alert {alert.id} is already there")
        self._alerts[alert.id] = alert
        self._courses[alert.id] = Course(alert_id=alert.id)
        self.add_deliveries(deliveries)

    def get(self, alert_id: str) -> Alert | None:
        return self._alerts.get(alert_id)

    def recent(self, limit: int = 50, task_id: str | None = None) -> list[Alert]:
        chosen = [alert for alert in self._alerts.values() if task_id in (None, alert.task_id)]
        return sorted(chosen, key=lambda alert: alert.decided_at, reverse=True)[:limit]

    def course(self, alert_id: str) -> Course | None:
        return self._courses.get(alert_id)

    def save_course(self, course: Course) -> None:
        if course.alert_id not in self._courses:
            raise StoreError(f"there is no alert {course.alert_id}")
        self._courses[course.alert_id] = course

    def open_ones(self, task_id: str | None = None) -> list[tuple[Alert, Course]]:
        return [
            (alert, self._courses[alert.id])
            for alert in reversed(self.recent(len(self._alerts), task_id))
            if self._courses[alert.id].is_open
        ]

    def deliveries(self, alert_id: str) -> list[Delivery]:
        found = [delivery for key, delivery in self._deliveries.items() if key[0] == alert_id]
        return sorted(found, key=lambda delivery: (delivery.number, delivery.channel))

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if _key(delivery) in self._deliveries:
                raise StoreError(f"delivery {_key(delivery)} is already there")
            self._deliveries[_key(delivery)] = delivery

    def due(self, channel: str, now: datetime, limit: int = 16) -> list[tuple[Alert, Delivery]]:
        rows = [
            (self._alerts[delivery.alert_id], delivery) for delivery in self._pending(channel) if delivery.due_at <= now
        ]
        return sorted(rows, key=lambda row: (row[0].priority.rank, row[0].decided_at, row[1].number))[:limit]

    def next_due_at(self, channel: str) -> datetime | None:
        return min((delivery.due_at for delivery in self._pending(channel)), default=None)

    def save_delivery(self, delivery: Delivery) -> None:
        if _key(delivery) not in self._deliveries:
            raise StoreError(f"there is no delivery {_key(delivery)}")
        self._deliveries[_key(delivery)] = delivery

    def waited_for(self) -> list[str]:
        return sorted({d.channel for d in self._deliveries.values() if d.state is DeliveryState.PENDING})

    def unfinished(self) -> int:
        return sum(delivery.state in UNFINISHED for delivery in self._deliveries.values())

    def untold(self, task_id: str) -> int:
        return sum(
            delivery.state in UNFINISHED
            and delivery.transition.is_telling
            and self._alerts[delivery.alert_id].task_id == task_id
            for delivery in self._deliveries.values()
        )

    def forget_before(self, cutoff: datetime) -> list[str]:
        gone = [
            alert.id
            for alert in self._alerts.values()
            if alert.decided_at < cutoff and all(each.state not in UNFINISHED for each in self.deliveries(alert.id))
        ]
        for alert_id in gone:
            del self._alerts[alert_id], self._courses[alert_id]
            for key in [key for key in self._deliveries if key[0] == alert_id]:
                del self._deliveries[key]
        return gone

    def reset_sending(self) -> int:
        stuck = [delivery for delivery in self._deliveries.values() if delivery.state is DeliveryState.SENDING]
        for delivery in stuck:
            self.save_delivery(delivery.to(DeliveryState.PENDING))
        return len(stuck)

    def _pending(self, channel: str) -> list[Delivery]:
        return [
            delivery
            for delivery in self._deliveries.values()
            if delivery.channel == channel and delivery.state is DeliveryState.PENDING
        ]


def _key(delivery: Delivery) -> tuple[str, str, int]:
    return (delivery.alert_id, delivery.channel, delivery.number)


class FakeTopics:
    def __init__(self, shelves: Shelves) -> None:
        self._topics = shelves.topics

    def remember(self, topic: str, task_id: str) -> None:
        self._topics[topic] = task_id

    def all(self) -> dict[str, str]:
        return dict(sorted(self._topics.items()))

    def of(self, task_id: str) -> list[str]:
        return [topic for topic, owner in self.all().items() if owner == task_id]

    def forget(self, topic: str) -> None:
        self._topics.pop(topic, None)


class FakeWishes:
    def __init__(self, shelves: Shelves) -> None:
        self._wishes = shelves.wishes

    def leave(self, wish: Wish) -> None:
        if wish.id in self._wishes:
            raise StoreError(f"wish {wish.id} is already there")
        self._wishes[wish.id] = wish

    def open_ones(self, kind: str | None = None) -> list[Wish]:
        return [wish for wish in self._wishes.values() if wish.is_open and kind in (None, wish.kind)]

    def get(self, wish_id: str) -> Wish | None:
        return self._wishes.get(wish_id)

    def answer(self, wish_id: str, answer: Mapping[str, Any], at: datetime) -> None:
        wish = self._wishes.get(wish_id)
        if wish is None or not wish.is_open:
            raise StoreError(f"wish {wish_id} cannot be answered")
        self._wishes[wish_id] = replace(wish, answer=answer, answered_at=at)

    def forget_before(self, cutoff: datetime) -> int:
        old = [wish.id for wish in self._wishes.values() if wish.made_at < cutoff]
        for wish_id in old:
            del self._wishes[wish_id]
        return len(old)


class FakeNotes:
    def __init__(self, shelves: Shelves) -> None:
        self._notes = shelves.notes

    def keep(self, name: str, value: Mapping[str, Any]) -> None:
        self._notes[name] = dict(value)

    def get(self, name: str) -> Mapping[str, Any] | None:
        return self._notes.get(name)

    def forget(self, name: str) -> None:
        self._notes.pop(name, None)


class FakeTransaction:
    def __init__(self, shelves: Shelves) -> None:
        self.tasks = FakeTasks(shelves)
        self.lessons = FakeLessons(shelves)
        self.marks = FakeMarks(shelves)
        self.alerts = FakeAlerts(shelves)
        self.topics = FakeTopics(shelves)
        self.wishes = FakeWishes(shelves)
        self.notes = FakeNotes(shelves)


class FakeStore:
    """Implements `Store` on the calling thread. `failures` are raised, one per transaction, before any work."""

    def __init__(self) -> None:
        self.shelves = Shelves()
        self.failures: list[Exception] = []
        self.commits = 0
        self._is_changed_elsewhere = False

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        if self.failures:
            raise self.failures.pop(0)
        draft = self.shelves.snapshot()
        result = work(FakeTransaction(draft))
        self.shelves = draft
        self.commits += 1
        return result

    async def changed_elsewhere(self) -> bool:
        changed, self._is_changed_elsewhere = self._is_changed_elsewhere, False
        return changed

    def change_elsewhere(self) -> None:
        """As if another process had committed."""
        self._is_changed_elsewhere = True

    async def close(self) -> None:
        pass
