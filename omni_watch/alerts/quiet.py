"""When nothing is said aloud but what is urgent: in the house's quiet hours, and for as long as a person asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from omni_watch.domain.tasks import WatchWindow


@dataclass(slots=True, kw_only=True)
class Quiet:
    """One for all the voices of a house. Loop thread only."""

    hours: WatchWindow | None = None  # of every day
    until: datetime | None = None  # aware; as a person asked

    def why(self, now: datetime) -> str | None:
        """Why nothing is said aloud now, for the record; None when it may be."""
        if self.until is not None and now < self.until:
            return f"the house was asked to be quiet until {self.until:%Y-%m-%d %H:%M} UTC"
        if self.hours is not None and self.hours.contains(now):
            end = self.hours.next_edge(now).astimezone(ZoneInfo(self.hours.zone))
            return f"quiet hours, until {end:%H:%M} ({self.hours.zone})"
        return None
