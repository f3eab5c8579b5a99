"""What people type, as values; and what they are told when it makes no sense."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import click
import pytest

from omni_watch.cli.replay import clock_text
from omni_watch.cli.shown import span
from omni_watch.cli.values import Duration, Hours, Moments, Place
from omni_watch.domain.regions import Region


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [
        (Duration(), "90s", timedelta(seconds=90)),
        (Duration(), "10m", timedelta(minutes=10)),
        (Duration(), "10 min", timedelta(minutes=10)),
        (Duration(), "1h30m", timedelta(minutes=90)),
        (Duration(), "1.5H", timedelta(minutes=90)),
        (Duration(), "2d", timedelta(days=2)),
        (Hours(), "08:00-22:30", (time(8), time(22, 30))),
        (Hours(), "22:00 - 6:30", (time(22), time(6, 30))),
        (Hours(), "08:00-24:00", (time(8), time(0))),
        (Place(), "0.36, 0.30, 0.34, 0.52", Region(0.36, 0.30, 0.34, 0.52)),
        (Moments(), "0.5, 2,6", (0.5, 2.0, 6.0)),
        (Moments(), "3", (3.0,)),
    ],
)
def test_people_type_values_in_their_own_ways(kind: click.ParamType[Any], typed: str, meant: object) -> None:
    assert kind.convert(typed, None, None) == meant


@pytest.mark.parametrize(
    ("kind", "typed", "hint"),
    [
        (Duration(), "10", "like 90s, 10m or 1h30m"),
        (Duration(), "soon", "like 90s, 10m or 1h30m"),
        (Duration(), "10m!", "like 90s, 10m or 1h30m"),
        (Duration(), "-5m", "like 90s, 10m or 1h30m"),
        (Duration(), "0s", "not between 1s and 3650d"),
        (Duration(), "99999999999d", "not between 1s and 3650d"),
        (Hours(), "8-22", "like 08:00-22:30"),
        (Hours(), "25:00-26:00", "from 00:00 to 24:00"),
        (Hours(), "24:30-06:00", "from 00:00 to 24:00"),
        (Place(), "1,2,3", "four numbers"),
        (Place(), "0.9,0.9,0.5,0.5", "does not lie inside the picture"),
        (Moments(), "a,b", "like 0.5,2,6"),
        (Moments(), "", "like 0.5,2,6"),
        (Moments(), "-1", "begin at 0"),
        (Moments(), "nan", "begin at 0"),
        (Moments(), "inf", "begin at 0"),
    ],
)
def test_what_makes_no_sense_is_answered_with_an_example(kind: click.ParamType[Any], typed: str, hint: str) -> None:
    with pytest.raises(click.BadParameter, match=hint):
        kind.convert(typed, None, None)


@pytest.mark.parametrize("seconds", [1, 59, 60, 90, 3600, 5400, 86_400, 90_061])
def test_a_duration_is_shown_as_it_would_be_typed(seconds: int) -> None:
    lasting = timedelta(seconds=seconds)

    assert Duration().convert(span(lasting), None, None) == lasting


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "00:00.0"), (27.04, "00:27.0"), (59.97, "01:00.0"), (3723.4, "1:02:03.4")]
)
def test_moments_of_a_clip_are_shown_as_players_show_them(seconds: float, shown: str) -> None:
    assert clock_text(seconds) == shown
