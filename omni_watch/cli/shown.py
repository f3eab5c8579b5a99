"""Tasks, lessons and alerts as documents for scripts and as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from omni_watch.app.told import Told
from omni_watch.cli.shell import json_time, local_time
from omni_watch.domain.alerts import AlertState, Course, Delivery, DeliveryState
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.watch.briefing import Plan
from omni_watch.watch.ledger import Mark

STATE_STYLE = {
    TaskState.ARMED: "green",
    TaskState.FIRED: "bold yellow",
    TaskState.COOLING: "cyan",
    TaskState.PAUSED: "yellow",
    TaskState.DONE: "dim",
    TaskState.CANCELLED: "dim",
    TaskState.EXPIRED: "dim",
}
COURSE_STYLE = {
    AlertState.OPEN: "bold yellow",
    AlertState.ACKNOWLEDGED: "green",
    AlertState.SNOOZED: "cyan",
    AlertState.EXPIRED: "dim",
    AlertState.CANCELLED: "dim",
}
DELIVERY_STYLE = {
    DeliveryState.SENT: "green",
    DeliveryState.PENDING: "yellow",
    DeliveryState.SENDING: "yellow",
    DeliveryState.EXPIRED: "red",
    DeliveryState.DEAD: "red",
}


def table(*columns: str) -> Table:
    """A plain table whose cells fold rather than vanish."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Two columns: what, and how it is. Values may hold markup, so callers escape people's words."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, value)
    return made


def span(lasting: timedelta) -> str:
    """`1h30m`, as it would be typed."""
    seconds = round(lasting.total_seconds())
    parts = []
    for letter, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        parts += [f"{count}{letter}"] if count else []
    return "".join(parts) or "0s"


def window_text(window: WatchWindow) -> str:
    return f"{window.begins:%H:%M}-{window.ends:%H:%M} ({window.zone})"


# --- tasks ---


def task_document(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "text": task.text,
        "language": task.language,
        "message": task.message,
        "state": task.state.value,
        "feeds": list(task.feeds),
        "rule": task.rule,
        "why": task.why,
        "repeat": task.repeat.value,
        "priority": task.priority.value,
        "cooldown_s": task.cooldown_s,
        "window": task.window
        and {
            "begins": f"{task.window.begins:%H:%M}",
            "ends": f"{task.window.ends:%H:%M}",
            "zone": task.window.zone,
        },
        "set_by": task.set_by,
        "set_at": json_time(task.set_at),
        "expires_at": json_time(task.expires_at),
        "snoozed_until": json_time(task.snoozed_until),
        "fired_count": task.fired_count,
        "last_fired_at": json_time(task.last_fired_at),
        "last_told_at": json_time(task.last_told_at),
        "reminds_at": json_time(task.reminder.at) if task.reminder else None,
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    return {"means": [means.value for means in plan.means], "why": list(plan.why), "ask": plan.ask}


def state_text(task: Task) -> str:
    word = "snoozed" if task.snoozed_until and task.is_live else task.state.value
    return f"[{STATE_STYLE[task.state]}]{word}[/]"


def tasks_table(tasks: Sequence[Task], zone: str) -> Table:
    made = table("id", "state", "task", "feeds", "told", "last")
    for task in tasks:
        made.add_row(
            task.id,
            state_text(task),
            escape(task.text),
            ", ".join(task.feeds) or "all",
            str(task.fired_count),
            local_time(task.last_fired_at, zone) if task.last_fired_at else "",
        )
    return made


def task_facts(task: Task, zone: str) -> Table:
    pairs = [
        ("task", task.id),
        ("words", escape(task.text)),
        ("state", state_text(task)),
        ("will say", escape(task.message)),
        ("told", "once" if task.repeat.value == "once" else f"each time, then quiet for {task.cooldown_s:g} s"),
        ("priority", task.priority.value),
        ("feeds", ", ".join(task.feeds) or "all"),
        ("set", f"{local_time(task.set_at, zone)} by {task.set_by}"),
    ]
    if task.rule:
        pairs.append(("rule", f"{task.rule} ({escape(task.why)})" if task.why else task.rule))
    if task.reminder:
        again = ", and again after that" if task.reminder.rhythm else ""
        pairs.append(("reminds", f"{local_time(task.reminder.at, zone)}{again}"))
    if task.window:
        pairs.append(("hours", window_text(task.window)))
    if task.expires_at:
        pairs.append(("until", local_time(task.expires_at, zone)))
    if task.snoozed_until:
        pairs.append(("snoozed", f"until {local_time(task.snoozed_until, zone)}"))
    if task.last_fired_at:
        times = f"{task.fired_count} time{'s' * (task.fired_count != 1)}"
        pairs.append(("happened", f"{times}, last {local_time(task.last_fired_at, zone)}"))
    return facts(pairs)


def plan_lines(plan: Plan) -> list[str]:
    """How it will be watched, and what would help."""
    means = ", ".join(means.value for means in plan.means)
    head = "[red]cannot be watched yet[/]" if plan.is_blind else f"watched by [green]{means}[/]"
    lines = [head, *(f"  {escape(reason)}" for reason in plan.why)]
    return [*lines, f"[yellow]{escape(plan.ask)}[/]"] if plan.ask else lines


def mark_lines(marks: Sequence[Mark]) -> list[str]:
    """What the ledger says that a person would not guess."""
    return [
        f"[yellow]on {mark.feed} it was already so when the task was set;[/] it is told once it was seen otherwise"
        for mark in marks
        if mark.held_when_set
    ]


def mark_document(mark: Mark) -> dict[str, Any]:
    return {"feed": mark.feed, "holds": mark.holds, "is_primed": mark.is_primed, "held_when_set": mark.held_when_set}


# --- lessons ---


def lesson_document(lesson: Lesson) -> dict[str, Any]:
    return {
        "feed": lesson.feed,
        "region": lesson.region and list(lesson.region.as_tuple()),
        "display_region": lesson.display_region and list(lesson.display_region.as_tuple()),
        "examples": [
            {
                "id": example.id,
                "label": example.label.value,
                "origin": example.origin,
                "taken_at": json_time(example.taken_at),
            }
            for example in lesson.examples
        ],
    }


def lessons_table(lessons: Sequence[Lesson], zone: str) -> Table:
    made = table("example", "shows", "feed", "from", "taken")
    for lesson in lessons:
        for example in lesson.examples:
            shows = label_text(example.label)
            made.add_row(example.id, shows, lesson.feed, escape(example.origin), local_time(example.taken_at, zone))
    return made


def lesson_line(lesson: Lesson) -> str:
    """`kitchen: 5 not yet, 3 done; looks at 0.36,0.30,0.34,0.52`."""
    counts = [(label_text(label), len(lesson.labelled(label))) for label in Label]
    shown = ", ".join(f"{count} {label}" for label, count in counts if count) or "no examples"
    places = [
        f"{words} {','.join(f'{side:g}' for side in region.as_tuple())}"
        for words, region in (("looks at", lesson.region), ("reads", lesson.display_region))
        if region
    ]
    return "; ".join([f"{lesson.feed}: {shown}", *places])


def label_text(label: Label) -> str:
    return label.value.replace("_", " ")


# --- alerts ---


def alert_document(told: Told) -> dict[str, Any]:
    alert, course = told.alert, told.course
    return {
        "id": alert.id,
        "task_id": alert.task_id,
        "task": alert.task_text,
        "feed": alert.feed,
        "text": alert.text,
        "priority": alert.priority.value,
        "occurrence": alert.occurrence,
        "confidence": round(alert.confidence, 4),
        "means": [means.value for means in alert.means],
        "condition_at": json_time(alert.condition_at),
        "decided_at": json_time(alert.decided_at),
        "state": course.state.value,
        "repeats": course.repeats,
        "closed_at": json_time(course.closed_at),
        "closed_by": course.closed_by or None,
        "deliveries": [
            {
                "channel": delivery.channel,
                "transition": delivery.transition.value,
                "number": delivery.number,
                "state": delivery.state.value,
                "attempts": delivery.attempts,
                "detail": delivery.detail,
            }
            for delivery in told.deliveries
        ],
    }


def course_text(course: Course) -> str:
    by = f" by {course.closed_by}" if course.closed_by and course.state is not AlertState.EXPIRED else ""
    return f"[{COURSE_STYLE[course.state]}]{course.state.value}[/]{by}"


def alerts_table(alerts: Sequence[Told], zone: str) -> Table:
    made = table("when", "alert id", "feed", "alert", "state", "sure", "by", "told")
    for told in alerts:
        alert = told.alert
        made.add_row(
            local_time(alert.decided_at, zone),
            alert.id,
            alert.feed,
            escape(alert.text),
            course_text(told.course),
            f"{alert.confidence:.0%}",
            ", ".join(means.value for means in alert.means),
            ", ".join(_told_by(told.deliveries)),
        )
    return made


def _told_by(deliveries: Sequence[Delivery]) -> list[str]:
    """How it went on each channel, the last time that it was told; `×3` when it was told so often."""
    telling = [one for one in deliveries if one.transition.is_telling]
    latest = {one.channel: one for one in sorted(telling, key=lambda one: one.number)}
    sent = Counter(one.channel for one in telling if one.state is DeliveryState.SENT)
    return [
        f"{channel} [{DELIVERY_STYLE[one.state]}]{one.state.value}[/]" + (f" ×{sent[channel]}" * (sent[channel] > 1))
        for channel, one in latest.items()
    ]
