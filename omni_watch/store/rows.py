"""The tables, and how their rows become domain values and back. Rows never leave the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from typing import Any, ClassVar, Self

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Unicode,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from omni_watch.domain.alerts import Alert, AlertState, Course, Delivery, DeliveryState, Transition
from omni_watch.domain.decisions import Means
from omni_watch.domain.regions import Region
from omni_watch.domain.rhythms import Reminder, Rhythm
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.wishes import Wish
from omni_watch.store.columns import Beat, Rectangle, Utc, Word, Words, one_of
from omni_watch.watch.ledger import Mark

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Row(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Utc}

    def take(self, **values: Any) -> Self:
        """Set these columns; the row itself."""
        for name, value in values.items():
            setattr(self, name, value)
        return self


class TaskRow(Row):
    __tablename__ = "tasks"
    __table_args__ = (
        one_of("repeat", Repeat),
        one_of("priority", Priority),
        one_of("state", TaskState),
        CheckConstraint("length(id) BETWEEN 1 AND 32", name="id"),
        CheckConstraint("cooldown_s >= 0", name="cooldown_s"),
        CheckConstraint("fired_count >= 0", name="fired_count"),
        CheckConstraint(
            "(window_begins IS NULL) = (window_ends IS NULL) AND (window_begins IS NULL) = (window_zone IS NULL)",
            name="window",
        ),
        CheckConstraint("rhythm IS NULL OR reminds_at IS NOT NULL", name="rhythm"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)  # order of setting, whatever the clock did
    id: Mapped[str] = mapped_column(String(32), unique=True)
    text: Mapped[str]
    language: Mapped[str] = mapped_column(String(16))
    message: Mapped[str]
    set_by: Mapped[str] = mapped_column(String(16))
    set_at: Mapped[datetime]
    rule: Mapped[str | None] = mapped_column(String(64))
    why: Mapped[str]
    feeds: Mapped[tuple[str, ...]] = mapped_column(Words)
    repeat: Mapped[Repeat] = mapped_column(Word(Repeat))
    priority: Mapped[Priority] = mapped_column(Word(Priority))
    cooldown_s: Mapped[float]
    window_begins: Mapped[time | None]
    window_ends: Mapped[time | None]
    window_zone: Mapped[str | None] = mapped_column(String(64))
    expires_at: Mapped[datetime | None]
    snoozed_until: Mapped[datetime | None]
    state: Mapped[TaskState] = mapped_column(Word(TaskState), index=True)
    fired_count: Mapped[int]
    last_fired_at: Mapped[datetime | None]
    last_told_at: Mapped[datetime | None]
    reminds_at: Mapped[datetime | None]
    rhythm: Mapped[Rhythm | None] = mapped_column(Beat)

    def take_task(self, task: Task) -> Self:
        window, reminder = task.window, task.reminder
        return self.take(
            id=task.id,
            text=task.text,
            language=task.language,
            message=task.message,
            set_by=task.set_by,
            set_at=task.set_at,
            rule=task.rule,
            why=task.why,
            feeds=task.feeds,
            repeat=task.repeat,
            priority=task.priority,
            cooldown_s=task.cooldown_s,
            window_begins=window and window.begins,
            window_ends=window and window.ends,
            window_zone=window and window.zone,
            expires_at=task.expires_at,
            snoozed_until=task.snoozed_until,
            state=task.state,
            fired_count=task.fired_count,
            last_fired_at=task.last_fired_at,
            last_told_at=task.last_told_at,
            reminds_at=reminder and reminder.at,
            rhythm=reminder and reminder.rhythm,
        )

    def to_domain(self) -> Task:
        return Task(
            id=self.id,
            text=self.text,
            language=self.language,
            message=self.message,
            set_by=self.set_by,
            set_at=self.set_at,
            rule=self.rule,
            why=self.why,
            feeds=self.feeds,
            repeat=self.repeat,
            priority=self.priority,
            cooldown_s=self.cooldown_s,
            window=self._window(),
            expires_at=self.expires_at,
            snoozed_until=self.snoozed_until,
            state=self.state,
            fired_count=self.fired_count,
            last_fired_at=self.last_fired_at,
            last_told_at=self.last_told_at,
            reminder=None if self.reminds_at is None else Reminder(at=self.reminds_at, rhythm=self.rhythm),
        )

    def _window(self) -> WatchWindow | None:
        if self.window_begins is None or self.window_ends is None or self.window_zone is None:
            return None
        return WatchWindow(begins=self.window_begins, ends=self.window_ends, zone=self.window_zone)


def _of_task() -> ForeignKey:
    return ForeignKey("tasks.id", ondelete="CASCADE")


class LessonRow(Row):
    __tablename__ = "lessons"

    task_id: Mapped[str] = mapped_column(String(32), _of_task(), primary_key=True)
    feed: Mapped[str] = mapped_column(String(64), primary_key=True)
    region: Mapped[Region | None] = mapped_column(Rectangle)
    display_region: Mapped[Region | None] = mapped_column(Rectangle)

    def to_domain(self, examples: tuple[Example, ...]) -> Lesson:
        return Lesson(
            task_id=self.task_id,
            feed=self.feed,
            region=self.region,
            display_region=self.display_region,
            examples=examples,
        )


class ExampleRow(Row):
    __tablename__ = "examples"
    __table_args__ = (
        ForeignKeyConstraint(["task_id", "feed"], ["lessons.task_id", "lessons.feed"], ondelete="CASCADE"),
        UniqueConstraint("task_id", "id"),
        Index(None, "task_id", "feed"),
        one_of("label", Label),
        CheckConstraint("length(jpeg) > 0", name="jpeg"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)  # order of showing
    task_id: Mapped[str] = mapped_column(String(32))
    feed: Mapped[str] = mapped_column(String(64))
    id: Mapped[str] = mapped_column(String(64))
    label: Mapped[Label] = mapped_column(Word(Label))
    jpeg: Mapped[bytes] = mapped_column(LargeBinary)
    taken_at: Mapped[datetime]
    origin: Mapped[str]

    def to_domain(self) -> Example:
        return Example(id=self.id, label=self.label, jpeg=self.jpeg, taken_at=self.taken_at, origin=self.origin)


class MarkRow(Row):
    __tablename__ = "marks"

    task_id: Mapped[str] = mapped_column(String(32), _of_task(), primary_key=True)
    feed: Mapped[str] = mapped_column(String(64), primary_key=True)
    is_primed: Mapped[bool]
    holds: Mapped[bool | None]
    held_when_set: Mapped[bool]
    last_alert_at: Mapped[datetime | None]

    def to_domain(self) -> Mark:
        return Mark(
            task_id=self.task_id,
            feed=self.feed,
            is_primed=self.is_primed,
            holds=self.holds,
            held_when_set=self.held_when_set,
            last_alert_at=self.last_alert_at,
        )


class AlertRow(Row):
    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("task_id", "occurrence"),
        one_of("priority", Priority),
        one_of("state", AlertState),
        CheckConstraint("occurrence >= 1", name="occurrence"),
        CheckConstraint("repeats >= 0", name="repeats"),
        CheckConstraint("(state = 'open') = (closed_at IS NULL)", name="closed"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)  # order of decision
    id: Mapped[str] = mapped_column(String(64), unique=True)
    task_id: Mapped[str] = mapped_column(String(32), _of_task())
    task_text: Mapped[str]
    feed: Mapped[str] = mapped_column(String(64))
    text: Mapped[str]
    language: Mapped[str] = mapped_column(String(16))
    priority: Mapped[Priority] = mapped_column(Word(Priority))
    occurrence: Mapped[int]
    confidence: Mapped[float]
    means: Mapped[tuple[str, ...]] = mapped_column(Words)
    stream_s: Mapped[float]
    condition_at: Mapped[datetime]
    decided_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[AlertState] = mapped_column(Word(AlertState), index=True)
    repeats: Mapped[int]
    last_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str] = mapped_column(String(16))

    @classmethod
    def of(cls, alert: Alert) -> Self:
        return (
            cls()
            .take_course(Course(alert_id=alert.id))
            .take(
                id=alert.id,
                task_id=alert.task_id,
                task_text=alert.task_text,
                feed=alert.feed,
                text=alert.text,
                language=alert.language,
                priority=alert.priority,
                occurrence=alert.occurrence,
                confidence=alert.confidence,
                means=tuple(means.value for means in alert.means),
                stream_s=alert.stream_s,
                condition_at=alert.condition_at,
                decided_at=alert.decided_at,
            )
        )

    def to_domain(self) -> Alert:
        return Alert(
            id=self.id,
            task_id=self.task_id,
            task_text=self.task_text,
            feed=self.feed,
            text=self.text,
            language=self.language,
            priority=self.priority,
            occurrence=self.occurrence,
            confidence=self.confidence,
            means=tuple(Means(value) for value in self.means),
            stream_s=self.stream_s,
            condition_at=self.condition_at,
            decided_at=self.decided_at,
        )

    def take_course(self, course: Course) -> Self:
        return self.take(
            state=course.state,
            repeats=course.repeats,
            last_at=course.last_at,
            closed_at=course.closed_at,
            closed_by=course.closed_by,
        )

    def to_course(self) -> Course:
        return Course(
            alert_id=self.id,
            state=self.state,
            repeats=self.repeats,
            last_at=self.last_at,
            closed_at=self.closed_at,
            closed_by=self.closed_by,
        )


class DeliveryRow(Row):
    __tablename__ = "deliveries"
    __table_args__ = (
        one_of("state", DeliveryState),
        one_of("transition", Transition),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("(number = 0) = (transition = 'alert') AND number >= 0", name="number"),
        CheckConstraint("loudness BETWEEN 0 AND 1", name="loudness"),
        Index(None, "state", "channel", "due_at"),  # what the relay asks every time it wakes
    )

    alert_id: Mapped[str] = mapped_column(String(64), ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True)
    channel: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    transition: Mapped[Transition] = mapped_column(Word(Transition))
    loudness: Mapped[float]
    state: Mapped[DeliveryState] = mapped_column(Word(DeliveryState))
    attempts: Mapped[int]
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    detail: Mapped[str]

    def take_delivery(self, delivery: Delivery) -> Self:
        return self.take(
            alert_id=delivery.alert_id,
            channel=delivery.channel,
            number=delivery.number,
            transition=delivery.transition,
            loudness=delivery.loudness,
            state=delivery.state,
            attempts=delivery.attempts,
            due_at=delivery.due_at,
            expires_at=delivery.expires_at,
            detail=delivery.detail,
        )

    def to_domain(self) -> Delivery:
        return Delivery(
            alert_id=self.alert_id,
            channel=self.channel,
            number=self.number,
            transition=self.transition,
            loudness=self.loudness,
            state=self.state,
            attempts=self.attempts,
            due_at=self.due_at,
            expires_at=self.expires_at,
            detail=self.detail,
        )


class TopicRow(Row):
    """A retained MQTT topic. No foreign key: it is remembered until cleared, also after its task was deleted."""

    __tablename__ = "published_topics"

    topic: Mapped[str] = mapped_column(String(256), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(32), index=True)


class WishRow(Row):
    __tablename__ = "wishes"
    __table_args__ = (CheckConstraint("(answered_at IS NULL) = (answer IS NULL)", name="answer"),)

    number: Mapped[int] = mapped_column(primary_key=True)  # order of leaving
    id: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    made_at: Mapped[datetime]
    answered_at: Mapped[datetime | None] = mapped_column(index=True)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    def to_domain(self) -> Wish:
        answer: Mapping[str, Any] | None = self.answer
        return Wish(
            id=self.id,
            kind=self.kind,
            payload=self.payload,
            made_at=self.made_at,
            answered_at=self.answered_at,
            answer=answer,
        )


class NoteRow(Row):
    __tablename__ = "notes"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSON)


# Written by APScheduler's SQLAlchemyJobStore, which fixes these columns; here so that the migrations make it.
TIMERS = Table(
    "timers",
    Row.metadata,
    Column("id", Unicode(191), primary_key=True),
    Column("next_run_time", Float(25), index=True),
    Column("job_state", LargeBinary, nullable=False),
)
