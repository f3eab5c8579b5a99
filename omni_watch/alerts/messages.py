"""What goes over MQTT, as typed builders: topics, the alert object, the states. Pure.

Home Assistant drops a misspelt key without a word, so every object is built here and compared byte by byte in tests.
No word of a person ever becomes part of a topic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

from omni_watch.domain.alerts import Alert, Delivery
from omni_watch.domain.tasks import ENDED, Task, TaskState

INSTANCE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
TOPIC_ID: Final = re.compile(r"[a-z0-9_-]{1,32}")
REPLY_TO: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
ONLINE: Final = b"online"
OFFLINE: Final = b"offline"


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Every topic of one device. ValueError for a name that must not become part of a topic."""

    instance: str

    def __post_init__(self) -> None:
        if not INSTANCE.fullmatch(self.instance):
            raise ValueError(
                f"instance {self.instance!r} must be 1 to 32 of a-z, 0-9, _ and -, beginning with a letter or digit"
            )

    @property
    def base(self) -> str:
        return f"omni_watch/{self.instance}"

    @property
    def availability(self) -> str:
        return f"{self.base}/availability"

    @property
    def hub_state(self) -> str:
        return f"{self.base}/state"

    @property
    def alert(self) -> str:
        return f"{self.base}/alert"

    @property
    def last_alert(self) -> str:
        return f"{self.base}/last_alert"

    @property
    def snapshot(self) -> str:
        return f"{self.base}/snapshot"

    @property
    def claim(self) -> str:
        """Where houses of one name find out about each other; never retained."""
        return f"{self.base}/claim"

    @property
    def check(self) -> str:
        """Where `doctor` tries whether publishing is allowed; never retained."""
        return f"{self.base}/check"

    @property
    def request(self) -> str:
        """Where anything may be asked, as JSON."""
        return f"{self.base}/request"

    def reply(self, to: str) -> str:
        """What was asked is answered here; `to` is its id."""
        if not REPLY_TO.fullmatch(to):
            raise ValueError(f"{to!r} cannot be part of a topic; expected 1 to 64 of A-Z, a-z, 0-9, _ and -")
        return f"{self.base}/reply/{to}"

    def command(self, name: str) -> str:
        """Where the house takes one kind of plain command; `+` for all of them."""
        return f"{self.base}/set/{name}"

    def task_command(self, task_id: str, name: str) -> str:
        """Where a task takes one kind of plain command."""
        return f"{self.base}/task/{_topic_id(task_id)}/set/{name}"

    @property
    def task_commands(self) -> str:
        """A filter for all commands of all tasks."""
        return f"{self.base}/task/+/set/+"

    def task_state(self, task_id: str) -> str:
        return f"{self.base}/task/{_topic_id(task_id)}/state"

    def task_alert(self, task_id: str) -> str:
        return f"{self.base}/task/{_topic_id(task_id)}/alert"

    def feed_command(self, feed: str, name: str) -> str:
        """Where a feed takes one kind of plain command."""
        return f"{self.base}/feed/{_topic_id(feed)}/set/{name}"

    @property
    def feed_commands(self) -> str:
        """A filter for all commands of all feeds."""
        return f"{self.base}/feed/+/set/+"

    def feed_state(self, feed: str) -> str:
        return f"{self.base}/feed/{_topic_id(feed)}/state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaking:
    """Who says an alert aloud."""

    is_spoken: bool = False  # our own loudspeaker
    is_hushed: bool = False  # nobody shall: the house is muted, away or to be quiet


class AlertObject(TypedDict):
    """The alert as the outside sees it; exactly these keys, none that Home Assistant gives a meaning of its own."""

    v: int
    event_type: str  # "alert", "repeat", "acknowledged", "snoozed", "expired" or "cancelled"
    alert_id: str  # whoever sees it twice with the same event_type and repeat must do nothing the second time
    task_id: str
    task_name: str
    feed_id: str
    text: str
    lang: str
    priority: str
    spoken: bool  # whether our own loudspeaker tells it too, now
    hushed: bool  # whether nobody shall say it aloud: the house is muted, away or to be quiet, and it is not urgent
    condition_at: str
    decided_at: str
    published_at: str
    latency_ms: int  # from the condition to the decision
    fired_count: int
    snapshot: bool  # whether a picture was published with it
    late_s: int  # whole seconds between the decision to tell this and this message; 0 when it went out at once
    repeat: int  # how often the alert had been told again by then, this time included


class TaskObject(TypedDict):
    v: int
    enabled: bool
    active: bool  # it has happened, and nobody has taken note of it yet
    status: str
    fired_count: int
    last_fired: str | None
    snoozed_until: str | None
    text: str


def alert_object(
    alert: Alert, delivery: Delivery, *, published_at: datetime, speaking: Speaking, snapshot: bool
) -> AlertObject:
    """What a delivery says of its alert, going out at `published_at`."""
    since = alert.decided_at if delivery.number == 0 else delivery.due_at
    return AlertObject(
        v=1,
        event_type=delivery.transition.value,
        alert_id=alert.id,
        task_id=alert.task_id,
        task_name=alert.task_text,
        feed_id=alert.feed,
        text=alert.text,
        lang=alert.language,
        priority=alert.priority.value,
        spoken=speaking.is_spoken and delivery.transition.is_telling,
        hushed=speaking.is_hushed,
        condition_at=rfc3339(alert.condition_at),
        decided_at=rfc3339(alert.decided_at),
        published_at=rfc3339(published_at),
        latency_ms=max(0, round((alert.decided_at - alert.condition_at).total_seconds() * 1000)),
        fired_count=alert.occurrence,
        snapshot=snapshot,
        late_s=max(0, int((published_at - since).total_seconds())),
        repeat=delivery.repeats,
    )


def task_object(task: Task, *, is_active: bool = False) -> TaskObject:
    """A task's state; `fired` from the alert until it is told, then `cooling` or `done`. `is_active`: nobody has taken
    note of an alert of it yet."""
    return TaskObject(
        v=1,
        enabled=task.state not in ENDED and task.state is not TaskState.PAUSED,
        active=is_active,
        status="watching" if task.state is TaskState.ARMED else task.state.value,
        fired_count=task.fired_count,
        last_fired=None if task.last_fired_at is None else rfc3339(task.last_fired_at),
        snoozed_until=None if task.snoozed_until is None else rfc3339(task.snoozed_until),
        text=task.text,
    )


def as_json(message: Mapping[str, Any]) -> bytes:
    """One compact UTF-8 object; Chinese stays readable.

    Raises:
        ValueError: a number that JSON does not know (NaN, infinity).
    """
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def rfc3339(moment: datetime) -> str:
    """Aware time -> UTC with milliseconds and Z, RFC 3339 section 5.6."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _topic_id(name: str) -> str:
    if not TOPIC_ID.fullmatch(name):
        raise ValueError(f"{name!r} cannot be part of a topic; expected 1 to 32 of a-z, 0-9, _ and -")
    return name
