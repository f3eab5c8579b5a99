"""When something comes round again: on days of the week at a time of day, or after so long. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

EVERY_DAY: Final = frozenset(range(7))
WORKDAYS: Final = frozenset(range(5))
SHORTEST: Final = timedelta(minutes=1)  # between two reminders


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDays:
    """At a time of day, in the house's own time; through summer and winter at the same hour of the clock."""

    days: frozenset[int] = EVERY_DAY  # 0 is Monday
    at: time
    zone: str = "UTC"  # IANA name

    def __post_init__(self) -> None:
        if not self.days or not self.days <= EVERY_DAY:
            raise ValueError(f"days of the week are 0 (Monday) to 6, at least one; found {sorted(self.days)}")

    def after(self, now: datetime) -> datetime:
        """The next one after `now` (aware), in UTC."""
        today = now.astimezone(ZoneInfo(self.zone)).date()
        days = (today + timedelta(days=ahead) for ahead in range(9))
        moments = (moment_on(day, self.at, self.zone) for day in days if day.weekday() in self.days)
        return next(moment for moment in moments if moment > now)


@dataclass(frozen=True, slots=True, kw_only=True)
class EverySoLong:
    """Again and again after so long."""

    interval: timedelta

    def __post_init__(self) -> None:
        if self.interval < SHORTEST:
            raise ValueError(f"at least {SHORTEST} between two reminders; found {self.interval}")

    def after(self, now: datetime) -> datetime:
        return now + self.interval


Rhythm = OnDays | EverySoLong


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder:
    """Something to say at a moment, whatever is seen or heard."""

    at: datetime  # the next time, aware UTC
    rhythm: Rhythm | None = None  # None: only then

    def after(self, now: datetime) -> Reminder:
        """The reminder once it was said: what was missed meanwhile (nobody ran) is not said once more for each time."""
        match self.rhythm:
            case OnDays() as rhythm:
                return replace(self, at=rhythm.after(max(now, self.at)))
            case EverySoLong(interval=interval):  # keeps its beat, however late it was said
                beats = max(0, (now - self.at) // interval) + 1
                return replace(self, at=self.at + beats * interval)
            case None:
                return self


def moment_on(day: date, at: time, zone: str) -> datetime:
    """That time on that day, in UTC.

    An hour that is skipped in spring counts as the same moment on the clock that was not yet changed (02:30 becomes
    03:30); an hour that comes twice in autumn is the first of the two.
    """
    return datetime.combine(day, at, tzinfo=ZoneInfo(zone)).astimezone(UTC)
