"""Decision + armed tasks + ledger -> alerts and task transitions. Pure: time is an argument.

The last word on "exactly one alert per occurrence": whatever an engine says, an alert needs a task that is armed,
awake and inside its window, a condition that was seen false since the last time, and no running cooldown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from omni_watch.domain.alerts import Alert, Delivery
from omni_watch.domain.decisions import Decision, Means, Speak, Utterance
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.domain.units import Unit
from omni_watch.watch.ledger import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one decision changes; all of it is committed in one transaction."""

    alerts: tuple[Alert, ...] = ()
    tasks: tuple[Task, ...] = ()  # those that changed
    marks: tuple[Mark, ...] = ()  # those that changed
    comments: tuple[Utterance, ...] = ()  # said, but about no task: never an alert
    held_back: tuple[tuple[str, str], ...] = ()  # (task id, why) of utterances that did not become alerts

    @property
    def is_empty(self) -> bool:
        return not (self.alerts or self.tasks or self.marks)


def judge(
    decision: Decision,
    *,
    unit: Unit,
    tasks: Mapping[str, Task],
    marks: Mapping[str, Mark],
    now: datetime,
    condition_at: Mapping[str, datetime] | None = None,
) -> Verdict:
    """What follows from one decision about one unit.

    `tasks` and `marks` are by task id; a task without a mark gets a fresh one. `now` is the wall time of the unit's
    end. `condition_at` overrides when a task's condition came true (wall time), else `now` is taken.
    """
    after = {task_id: marks.get(task_id, Mark(task_id=task_id, feed=unit.feed)) for task_id in tasks}
    alerts: list[Alert] = []
    changed: dict[str, Task] = {}
    held_back: list[tuple[str, str]] = []
    comments: list[Utterance] = []

    readings = {reading.task_id: reading for reading in decision.readings if reading.task_id in tasks}
    utterances = decision.utterances if isinstance(decision, Speak) else ()
    spoken_for = {utterance.task_id for utterance in utterances}
    for task_id, reading in readings.items():
        if task_id not in spoken_for:  # the mark of a spoken task is moved by `fired`, below
            after[task_id] = after[task_id].after(reading)

    for utterance in utterances:
        task = changed.get(utterance.task_id or "") or tasks.get(utterance.task_id or "")
        if task is None:
            comments.append(utterance)
            continue
        mark = after[task.id]
        task = due(task, now)  # a timer may be late; a cooldown that is over must not swallow an alert
        reason = _why_not(task, mark, unit.feed, now)
        if reason:
            held_back.append((task.id, reason))
            after[task.id] = mark.seen(holds=True)
            continue
        happened_at = (condition_at or {}).get(task.id, now)
        changed[task.id] = fired(task, now)
        alerts.append(_alert(utterance, changed[task.id], unit=unit, now=now, happened_at=happened_at))
        after[task.id] = mark.fired(now)

    return Verdict(
        alerts=tuple(sorted(alerts, key=lambda alert: alert.priority.rank)),
        tasks=tuple(changed.values()),
        marks=tuple(mark for task_id, mark in after.items() if mark != marks.get(task_id)),
        comments=tuple(comments),
        held_back=tuple(held_back),
    )


def _why_not(task: Task, mark: Mark, feed: str, now: datetime) -> str:
    """Why this task must not alert now; empty when it may."""
    if not task.watches(feed):
        return f"task does not watch feed {feed}"
    if not task.is_watched(now):
        return f"task is {task.state.value} or outside its window"
    if not mark.is_primed:
        return "not seen false since it was set or last told"
    if task.state is TaskState.COOLING:
        return "cooling"
    return ""


def fired(task: Task, at: datetime) -> Task:
    """The task once its condition came true; ValueError when its state does not allow it."""
    return replace(task.to(TaskState.FIRED), fired_count=task.fired_count + 1, last_fired_at=at)


def alert_id(task: Task) -> str:
    """The id of a fired task's newest alert."""
    return f"{task.id}-{task.fired_count}"


def _alert(utterance: Utterance, task: Task, *, unit: Unit, now: datetime, happened_at: datetime) -> Alert:
    return Alert(
        id=alert_id(task),
        task_id=task.id,
        task_text=task.text,
        feed=unit.feed,
        text=utterance.text,
        language=task.language,
        priority=task.priority,
        occurrence=task.fired_count,
        confidence=utterance.confidence,
        means=utterance.means,
        stream_s=unit.end_s,
        condition_at=happened_at,
        decided_at=now,
    )


def reminded(task: Task, now: datetime) -> tuple[Task, Alert] | None:
    """A reminder whose time has come, as it is afterwards, and its alert; None when it is not to be said now."""
    if task.reminder is None or task.reminder.at > now or not task.is_awake(now):
        return None
    after = replace(fired(task, now), reminder=task.reminder.after(now))
    alert = Alert(
        id=alert_id(after),
        task_id=task.id,
        task_text=task.text,
        feed="",
        text=task.message,
        language=task.language,
        priority=task.priority,
        occurrence=after.fired_count,
        confidence=1.0,
        means=(Means.CLOCK,),
        stream_s=0.0,
        condition_at=task.reminder.at,
        decided_at=now,
    )
    return after, alert


def told(task: Task, at: datetime) -> Task:
    """The task once the first channel really told its alert: cooldowns begin here and nowhere else."""
    if task.state is not TaskState.FIRED:
        return task
    task = replace(task, last_told_at=at)
    return task.to(TaskState.DONE if task.repeat is Repeat.ONCE else TaskState.COOLING)


def given_up(task: Task) -> Task:
    """The task once every channel gave up on its alert without telling anybody."""
    if task.state is not TaskState.FIRED:
        return task
    return task.to(TaskState.DONE if task.repeat is Repeat.ONCE else TaskState.ARMED)


def due(task: Task, now: datetime) -> Task:
    """The task after what time alone does to it: expiry, the end of a cooldown or of a snooze."""
    if not task.is_live:
        return task
    if task.expires_at is not None and now >= task.expires_at:
        return task.to(TaskState.EXPIRED)
    cool_at = _cool_at(task)
    if cool_at is not None and now >= cool_at:
        task = task.to(TaskState.ARMED)
    if task.snoozed_until is not None and now >= task.snoozed_until:
        task = replace(task, snoozed_until=None)
    return task


def _cool_at(task: Task) -> datetime | None:
    """When a running cooldown ends; None when none runs."""
    if task.state is not TaskState.COOLING or task.last_told_at is None:
        return None
    return task.last_told_at + timedelta(seconds=task.cooldown_s)


def next_due(task: Task, now: datetime) -> datetime | None:
    """When `due` will next change this task; None: never."""
    moments = [task.expires_at, task.snoozed_until, _cool_at(task), task.reminder.at if task.reminder else None]
    later = [moment for moment in moments if moment is not None and moment > now]
    return min(later) if later and task.is_live else None


def next_look(tasks: Iterable[Task], now: datetime) -> datetime | None:
    """When time alone will next change one of these tasks, or whether it is watched; None: never."""
    live = [task for task in tasks if task.is_live]
    changes = (next_due(task, now) for task in live)
    edges = (task.window.next_edge(now) for task in live if task.window is not None)
    return min((moment for moment in (*changes, *edges) if moment is not None), default=None)


def deliveries(alert: Alert, expiries_s: Mapping[str, float]) -> Sequence[Delivery]:
    """One pending delivery per channel; `expiries_s` gives each channel's patience for this alert."""
    return [
        Delivery(
            alert_id=alert.id,
            channel=channel,
            due_at=alert.decided_at,
            expires_at=alert.decided_at + timedelta(seconds=expiry_s),
        )
        for channel, expiry_s in expiries_s.items()
    ]
