"""What happened to each task's condition, how often, and was it told already.

One `Mark` per task and feed survives restarts, so that an occurrence seen before a crash is not told again after it,
and one that began during the crash still counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from omni_watch.domain.decisions import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the ledger remembers of one task on one feed."""

    task_id: str
    feed: str
    is_primed: bool = False  # the condition was seen false since the task was set or last fired
    holds: bool | None = None  # the last clear reading
    held_when_set: bool = False  # it was already so when the task was set; not told, but shown in the task's state
    last_alert_at: datetime | None = None

    def after(self, reading: Reading) -> Mark:
        """The mark after one more reading; the same object when nothing changed (so nothing need be written)."""
        return self if reading.holds is None else self.seen(holds=reading.holds)

    def seen(self, *, holds: bool) -> Mark:
        """The mark after the condition was clearly seen to hold, or not to."""
        if holds == self.holds:
            return self
        if holds:
            return replace(self, holds=True, held_when_set=not self.is_primed and self.last_alert_at is None)
        return replace(self, holds=False, is_primed=True, held_when_set=False)

    def fired(self, at: datetime) -> Mark:
        return replace(self, is_primed=False, holds=True, held_when_set=False, last_alert_at=at)
