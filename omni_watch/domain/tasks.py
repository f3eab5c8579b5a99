"""Task: what a person asked us to watch for, and the table of what may happen to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

from omni_watch.domain.rhythms import Reminder
from omni_watch.domain.rules import Language, Priority, Repeat


class TaskState(Enum):
    """The life of a task; `TASK_MOVES` lists the allowed moves."""

    ARMED = "armed"  # watching for it
    FIRED = "fired"  # an alert is committed and nobody has been told yet
    COOLING = "cooling"  # told; quiet until the cooldown is over
    PAUSED = "paused"  # kept, not watched
    DONE = "done"  # once, and it was told
    CANCELLED = "cancelled"
    EXPIRED = "expired"


LIVE: Final = frozenset({TaskState.ARMED, TaskState.FIRED, TaskState.COOLING, TaskState.PAUSED})
ENDED: Final = frozenset({TaskState.DONE, TaskState.CANCELLED, TaskState.EXPIRED})

TASK_MOVES: Final[dict[TaskState, frozenset[TaskState]]] = {
    # FIRED -> FIRED: another occurrence of an `each` task while the last alert still waits for its channel
    # FIRED -> ARMED: every channel gave up, so nobody was told and no cooldown begins
    TaskState.ARMED: frozenset({TaskState.FIRED, TaskState.PAUSED, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.FIRED: frozenset(
        {
            TaskState.FIRED,
            TaskState.COOLING,
            TaskState.DONE,
            TaskState.ARMED,
            TaskState.PAUSED,
            TaskState.CANCELLED,
            TaskState.EXPIRED,
        }
    ),
    TaskState.COOLING: frozenset({TaskState.ARMED, TaskState.PAUSED, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.PAUSED: frozenset({TaskState.ARMED, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.DONE: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.EXPIRED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchWindow:
    """The hours of the day during which a task is watched, in the house's own time; may cross midnight."""

    begins: time
    ends: time
    zone: str = "UTC"  # IANA name

    def contains(self, now: datetime) -> bool:
        local = now.astimezone(ZoneInfo(self.zone)).time()
        if self.begins <= self.ends:
            return self.begins <= local < self.ends
        return local >= self.begins or local < self.ends

    def next_edge(self, now: datetime) -> datetime:
        """When it next begins or ends, in UTC; at the change to summer time an hour that is skipped counts as its
        first moment after the change."""
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        edges = (
            datetime.combine(today + timedelta(days=days), edge, tzinfo=zone).astimezone(UTC)
            for days in (0, 1, 2)
            for edge in (self.begins, self.ends)
        )
        return min(edge for edge in edges if edge > now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request, with its state. Times are aware UTC."""

    id: str  # [a-z0-9_-]{1,32}, ours; never made of the person's words
    text: str  # the person's own words
    language: Language
    message: str  # what will be said
    set_by: str  # "cli", "replay", "voice", "mqtt"
    set_at: datetime
    rule: str | None = None  # id of the rule its words chose
    why: str = ""  # why this rule, for people
    feeds: tuple[str, ...] = ()  # empty: every feed
    repeat: Repeat = Repeat.ONCE
    priority: Priority = Priority.NORMAL
    cooldown_s: float = 30.0
    window: WatchWindow | None = None
    expires_at: datetime | None = None
    snoozed_until: datetime | None = None
    state: TaskState = TaskState.ARMED
    fired_count: int = 0
    last_fired_at: datetime | None = None
    last_told_at: datetime | None = None
    reminder: Reminder | None = None  # the time is its condition: no engine watches for it

    def to(self, state: TaskState) -> Task:
        """The same task in another state; ValueError when the table does not allow the move."""
        if state not in TASK_MOVES[self.state]:
            raise ValueError(f"task {self.id} is {self.state.value} and cannot become {state.value}")
        return replace(self, state=state)

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    def is_watched(self, now: datetime) -> bool:
        """Whether the model should be told of it: no reminder, live, not paused, awake, inside its window."""
        return self.reminder is None and self.is_awake(now)

    def is_awake(self, now: datetime) -> bool:
        """Whether it may alert: live, not paused, not snoozed, inside its window."""
        if self.state in ENDED or self.state is TaskState.PAUSED:
            return False
        if self.state is TaskState.FIRED and self.repeat is Repeat.ONCE:
            return False
        if self.snoozed_until is not None and now < self.snoozed_until:
            return False
        if self.expires_at is not None and now >= self.expires_at:
            return False
        return self.window is None or self.window.contains(now)

    def watches(self, feed: str) -> bool:
        return not self.feeds or feed in self.feeds
