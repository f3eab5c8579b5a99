"""What people may type for a duration, a time of the day, a region, or moments of a clip."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Any, Final

import click

from omni_watch.domain.regions import Region

_UNITS_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])", re.IGNORECASE)
_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
LONGEST: Final = timedelta(days=3650)


class Duration(click.ParamType[timedelta]):
    """`90s`, `10m`, `1h30m`, `2d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if _PART.sub("", value).strip() or not _PART.search(value):
            self.fail(
                f"{value!r} is no duration; expected a number and s, m, h or d, like 90s, 10m or 1h30m", param, ctx
            )
        seconds = sum(float(number) * _UNITS_S[unit.lower()] for number, unit in _PART.findall(value))
        if not 0 < seconds <= LONGEST.total_seconds():
            self.fail(f"{value!r} is not between 1s and {LONGEST.days}d", param, ctx)
        return timedelta(seconds=seconds)


class Hours(click.ParamType[tuple[time, time]]):
    """`22:00-06:30`; may cross midnight."""

    name = "hours"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[time, time]:
        if isinstance(value, tuple):
            return value
        found = _HOURS.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r} are no hours; expected FROM-TO like 08:00-22:30", param, ctx)
        try:
            return _time_of(found[1], found[2]), _time_of(found[3], found[4])
        except ValueError:
            self.fail(f"{value!r}: hours go from 00:00 to 24:00", param, ctx)


def _time_of(hour: str, minute: str) -> time:
    """24:00 is the midnight that ends a day; ValueError for what no clock shows."""
    return time(0) if (hour, minute) == ("24", "00") else time(int(hour), int(minute))


class Place(click.ParamType[Region]):
    """`0.36,0.30,0.34,0.52`: x, y, width and height as fractions of the picture."""

    name = "x,y,w,h"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Region:
        if isinstance(value, Region):
            return value
        try:
            return Region.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moments(click.ParamType[tuple[float, ...]]):
    """`0.5,2,6`: seconds into a clip."""

    name = "seconds,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            moments = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} are no seconds; expected numbers with commas between, like 0.5,2,6", param, ctx)
        if not all(0 <= moment < float("inf") for moment in moments):
            self.fail(f"{value!r}: a clip's seconds begin at 0", param, ctx)
        return moments
