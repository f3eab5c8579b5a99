"""When only what is urgent is said aloud: in the house's quiet hours, and for as long as a person asked. And when
nothing is said at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from zoneinfo import ZoneInfo

from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import WatchWindow


@dataclass(slots=True, kw_only=True)
class Quiet:
    """One for all the voices of a house. Loop thread only."""

    hours: WatchWindow | None = None  # of every day
    until: datetime | None = None  # aware; as a person asked; the last second there is: until further notice
    is_total: bool = False  # not even what is urgent: the house is muted, or nobody is at home

    def why(self, now: datetime) -> str | None:
        """Why nothing is said aloud now but what is urgent, for the record; None when it may be."""
        if (total := self.why_total()) is not None:
            return total
        if self.until is not None and now < self.until:
            until = "" if self.until.year == MAXYEAR else f" until {self.until:%Y-%m-%d %H:%M} UTC"
            return f"the house was asked to be quiet{until}"
        if self.hours is not None and self.hours.contains(now):
            end = self.hours.next_edge(now).astimezone(ZoneInfo(self.hours.zone))
            return f"quiet hours, until {end:%H:%M} ({self.hours.zone})"
        return None

    def why_not(self, priority: Priority, now: datetime) -> str | None:
        """Why an alert of this priority is not said aloud now; None when it may be."""
        return self.why_total() if priority is Priority.URGENT else self.why(now)

    def why_total(self) -> str | None:
        """Why nothing at all is said aloud; None when what is urgent may be."""
        return "the house is muted, or nobody is at home" if self.is_total else None
