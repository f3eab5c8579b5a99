"""The parts of one transaction: domain values in and out, rows kept in. None of them commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Select, case, delete, exists, func, select, update
from sqlalchemy.orm import Session

from omni_watch.domain.alerts import Alert, AlertState, Course, Delivery, DeliveryState, Transition
from omni_watch.domain.errors import StoreError
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import LIVE, Task
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.wishes import Wish
from omni_watch.store.rows import (
    AlertRow,
    DeliveryRow,
    ExampleRow,
    LessonRow,
    MarkRow,
    NoteRow,
    TaskRow,
    TopicRow,
    WishRow,
)
from omni_watch.watch.ledger import Mark

UNFINISHED = (DeliveryState.PENDING, DeliveryState.SENDING)
TELLING = tuple(transition for transition in Transition if transition.is_telling)


def _count(result: Any) -> int:
    """How many rows an UPDATE or DELETE touched."""
    assert isinstance(result, CursorResult)  # noqa: S101 - narrows what Session.execute is typed to return
    return int(result.rowcount)


class SqlTasks:
    """The tasks of one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, task: Task) -> None:
        self._session.add(TaskRow().take_task(task))
        self._session.flush()

    def get(self, task_id: str) -> Task | None:
        row = self._row(task_id)
        return None if row is None else row.to_domain()

    def all(self) -> list[Task]:
        return [row.to_domain() for row in self._session.scalars(select(TaskRow).order_by(TaskRow.number))]

    def live(self) -> list[Task]:
        query = select(TaskRow).where(TaskRow.state.in_(sorted(LIVE, key=lambda state: state.value)))
        return [row.to_domain() for row in self._session.scalars(query.order_by(TaskRow.number))]

    def save(self, task: Task) -> None:
        row = self._row(task.id)
        if row is None:
            raise StoreError(f"task {task.id} cannot be saved: it is not in the database; it may have been deleted")
        row.take_task(task)
        self._session.flush()

    def delete(self, task_id: str) -> None:
        self._session.execute(delete(TaskRow).where(TaskRow.id == task_id))
        self._session.expire_all()  # the database's cascades took rows that this session may remember

    def _row(self, task_id: str) -> TaskRow | None:
        return self._session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one_or_none()


class SqlLessons:
    """What was taught, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, task_id: str) -> list[Lesson]:
        lessons = self._session.scalars(
            select(LessonRow).where(LessonRow.task_id == task_id).order_by(LessonRow.feed)
        ).all()
        shown = self._session.scalars(
            select(ExampleRow).where(ExampleRow.task_id == task_id).order_by(ExampleRow.feed, ExampleRow.number)
        )
        examples = {
            feed: tuple(row.to_domain() for row in rows) for feed, rows in groupby(shown, key=lambda row: row.feed)
        }
        return [lesson.to_domain(examples.get(lesson.feed, ())) for lesson in lessons]

    def set_place(self, lesson: Lesson) -> None:
        row = self._lesson(lesson.task_id, lesson.feed)
        row.take(region=lesson.region, display_region=lesson.display_region)
        self._session.flush()

    def add(self, task_id: str, feed: str, example: Example) -> None:
        self._lesson(task_id, feed)
        self._session.add(
            ExampleRow(
                task_id=task_id,
                feed=feed,
                id=example.id,
                label=example.label,
                jpeg=example.jpeg,
                taken_at=example.taken_at,
                origin=example.origin,
            )
        )
        self._session.flush()

    def remove(self, task_id: str, *, example_id: str | None = None, label: Label | None = None) -> int:
        chosen: list[ColumnElement[bool]] = [ExampleRow.task_id == task_id]
        if example_id is not None:
            chosen.append(ExampleRow.id == example_id)
        if label is not None:
            chosen.append(ExampleRow.label == label)
        removed = _count(self._session.execute(delete(ExampleRow).where(*chosen)))
        if example_id is None and label is None:
            self._session.execute(delete(LessonRow).where(LessonRow.task_id == task_id))
        return removed

    def _lesson(self, task_id: str, feed: str) -> LessonRow:
        row = self._session.get(LessonRow, (task_id, feed))
        if row is None:
            row = LessonRow(task_id=task_id, feed=feed)
            self._session.add(row)
            self._session.flush()
        return row


class SqlMarks:
    """The ledger, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, feed: str) -> dict[str, Mark]:
        rows = self._session.scalars(select(MarkRow).where(MarkRow.feed == feed))
        return {row.task_id: row.to_domain() for row in rows}

    def of_task(self, task_id: str) -> list[Mark]:
        rows = self._session.scalars(select(MarkRow).where(MarkRow.task_id == task_id).order_by(MarkRow.feed))
        return [row.to_domain() for row in rows]

    def save(self, mark: Mark) -> None:
        row = self._session.get(MarkRow, (mark.task_id, mark.feed))
        if row is None:
            row = MarkRow(task_id=mark.task_id, feed=mark.feed)
            self._session.add(row)
        row.take(
            is_primed=mark.is_primed,
            holds=mark.holds,
            held_when_set=mark.held_when_set,
            last_alert_at=mark.last_alert_at,
        )
        self._session.flush()


class SqlAlerts:
    """Alerts, what became of them, and their deliveries, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, alert: Alert, deliveries: Sequence[Delivery]) -> None:
        if self.get(alert.id) is not None:
            raise StoreError(f"alert {alert.id} cannot be added: the database already holds an alert of that id")
        self._session.add(AlertRow.of(alert))
        self._session.flush()
        self._session.add_all(DeliveryRow().take_delivery(delivery) for delivery in deliveries)
        self._session.flush()

    def get(self, alert_id: str) -> Alert | None:
        row = self._row(alert_id)
        return None if row is None else row.to_domain()

    def course(self, alert_id: str) -> Course | None:
        row = self._row(alert_id)
        return None if row is None else row.to_course()

    def save_course(self, course: Course) -> None:
        row = self._row(course.alert_id)
        if row is None:
            raise StoreError(
                f"alert {course.alert_id} cannot be saved: it is not in the database; its task may have been deleted"
            )
        row.take_course(course)
        self._session.flush()

    def open_ones(self, task_id: str | None = None) -> list[tuple[Alert, Course]]:
        query = select(AlertRow).where(AlertRow.state == AlertState.OPEN).order_by(AlertRow.number)
        if task_id is not None:
            query = query.where(AlertRow.task_id == task_id)
        return [(row.to_domain(), row.to_course()) for row in self._session.scalars(query)]

    def recent(self, limit: int = 50, task_id: str | None = None) -> list[Alert]:
        query = select(AlertRow).order_by(AlertRow.number.desc()).limit(limit)
        if task_id is not None:
            query = query.where(AlertRow.task_id == task_id)
        return [row.to_domain() for row in self._session.scalars(query)]

    def deliveries(self, alert_id: str) -> list[Delivery]:
        query = select(DeliveryRow).where(DeliveryRow.alert_id == alert_id)
        query = query.order_by(DeliveryRow.number, DeliveryRow.channel)
        return [row.to_domain() for row in self._session.scalars(query)]

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if self._delivery_row(delivery) is not None:
                raise StoreError(f"delivery {_named(delivery)} cannot be added: it is already in the database")
        self._session.add_all(DeliveryRow().take_delivery(delivery) for delivery in deliveries)
        self._session.flush()

    def due(self, channel: str, now: datetime, limit: int = 16) -> list[tuple[Alert, Delivery]]:
        urgency = case(*((AlertRow.priority == priority, priority.rank) for priority in Priority))
        query = (
            select(AlertRow, DeliveryRow)
            .join(DeliveryRow, DeliveryRow.alert_id == AlertRow.id)
            .where(*_pending(channel), DeliveryRow.due_at <= now)
            .order_by(urgency, AlertRow.number, DeliveryRow.number)
            .limit(limit)
        )
        return [(alert.to_domain(), delivery.to_domain()) for alert, delivery in self._session.execute(query)]

    def next_due_at(self, channel: str) -> datetime | None:
        return self._session.scalar(select(func.min(DeliveryRow.due_at)).where(*_pending(channel)))

    def waited_for(self) -> list[str]:
        pending = select(DeliveryRow.channel).where(DeliveryRow.state == DeliveryState.PENDING)
        return sorted(self._session.scalars(pending.distinct()))

    def save_delivery(self, delivery: Delivery) -> None:
        row = self._delivery_row(delivery)
        if row is None:
            raise StoreError(
                f"delivery {_named(delivery)} cannot be saved: it is not in the database; "
                "its task may have been deleted"
            )
        row.take_delivery(delivery)
        self._session.flush()

    def unfinished(self) -> int:
        return self._session.scalar(_unfinished()) or 0

    def untold(self, task_id: str) -> int:
        query = _unfinished().join(AlertRow, AlertRow.id == DeliveryRow.alert_id)
        query = query.where(AlertRow.task_id == task_id, DeliveryRow.transition.in_(TELLING))
        return self._session.scalar(query) or 0

    def forget_before(self, cutoff: datetime) -> list[str]:
        waits = exists().where(DeliveryRow.alert_id == AlertRow.id, DeliveryRow.state.in_(UNFINISHED))
        old = select(AlertRow.id).where(AlertRow.decided_at < cutoff, ~waits).order_by(AlertRow.number)
        alert_ids = list(self._session.scalars(old))
        for alert_id in alert_ids:
            self._session.execute(delete(AlertRow).where(AlertRow.id == alert_id))
        self._session.expire_all()
        return alert_ids

    def reset_sending(self) -> int:
        return _count(
            self._session.execute(
                update(DeliveryRow)
                .where(DeliveryRow.state == DeliveryState.SENDING)
                .values(state=DeliveryState.PENDING)
            )
        )

    def _row(self, alert_id: str) -> AlertRow | None:
        return self._session.scalars(select(AlertRow).where(AlertRow.id == alert_id)).one_or_none()

    def _delivery_row(self, delivery: Delivery) -> DeliveryRow | None:
        return self._session.get(DeliveryRow, (delivery.alert_id, delivery.channel, delivery.number))


def _named(delivery: Delivery) -> str:
    return f"{delivery.number} ({delivery.transition.value}) of {delivery.alert_id} by {delivery.channel}"


def _unfinished() -> Select[int]:
    return select(func.count()).select_from(DeliveryRow).where(DeliveryRow.state.in_(UNFINISHED))


def _pending(channel: str) -> tuple[ColumnElement[bool], ...]:
    return (DeliveryRow.state == DeliveryState.PENDING, DeliveryRow.channel == channel)


class SqlTopics:
    """Which MQTT topics hold something of ours, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def remember(self, topic: str, task_id: str) -> None:
        self._session.merge(TopicRow(topic=topic, task_id=task_id))
        self._session.flush()

    def all(self) -> dict[str, str]:
        rows = self._session.scalars(select(TopicRow).order_by(TopicRow.topic))
        return {row.topic: row.task_id for row in rows}

    def of(self, task_id: str) -> list[str]:
        return list(
            self._session.scalars(select(TopicRow.topic).where(TopicRow.task_id == task_id).order_by(TopicRow.topic))
        )

    def forget(self, topic: str) -> None:
        self._session.execute(delete(TopicRow).where(TopicRow.topic == topic))


class SqlWishes:
    """What the command line asked of the daemon, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def leave(self, wish: Wish) -> None:
        self._session.add(
            WishRow(
                id=wish.id,
                kind=wish.kind,
                payload=dict(wish.payload),
                made_at=wish.made_at,
                answered_at=wish.answered_at,
                answer=None if wish.answer is None else dict(wish.answer),
            )
        )
        self._session.flush()

    def open_ones(self, kind: str | None = None) -> list[Wish]:
        query = select(WishRow).where(WishRow.answered_at.is_(None)).order_by(WishRow.number)
        if kind is not None:
            query = query.where(WishRow.kind == kind)
        return [row.to_domain() for row in self._session.scalars(query)]

    def get(self, wish_id: str) -> Wish | None:
        row = self._row(wish_id)
        return None if row is None else row.to_domain()

    def answer(self, wish_id: str, answer: Mapping[str, Any], at: datetime) -> None:
        row = self._row(wish_id)
        if row is None or row.answered_at is not None:
            found = "there is no such wish" if row is None else "it was answered before"
            raise StoreError(f"wish {wish_id} cannot be answered: {found}")
        row.take(answer=dict(answer), answered_at=at)
        self._session.flush()

    def forget_before(self, cutoff: datetime) -> int:
        return _count(self._session.execute(delete(WishRow).where(WishRow.made_at < cutoff)))

    def _row(self, wish_id: str) -> WishRow | None:
        return self._session.scalars(select(WishRow).where(WishRow.id == wish_id)).one_or_none()


class SqlNotes:
    """What the house remembers by name, in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def keep(self, name: str, value: Mapping[str, Any]) -> None:
        self._session.merge(NoteRow(name=name, value=dict(value)))
        self._session.flush()

    def get(self, name: str) -> Mapping[str, Any] | None:
        row = self._session.get(NoteRow, name)
        return None if row is None else row.value

    def forget(self, name: str) -> None:
        self._session.execute(delete(NoteRow).where(NoteRow.name == name))


class SqlTransaction:
    """One atomic change: every part shares the session, which whoever opened it commits."""

    def __init__(self, session: Session) -> None:
        self.tasks = SqlTasks(session)
        self.lessons = SqlLessons(session)
        self.marks = SqlMarks(session)
        self.alerts = SqlAlerts(session)
        self.topics = SqlTopics(session)
        self.wishes = SqlWishes(session)
        self.notes = SqlNotes(session)
