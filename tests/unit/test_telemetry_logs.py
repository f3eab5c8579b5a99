"""What the house writes about itself, and what it never writes."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import FeedState
from omni_watch.telemetry.logs import LOGGER, PRIVATE, LogObserver, level_of, public, set_up_logs

Style = Literal["auto", "plain", "json"]


class Paper:
    """Where the lines of a test go."""

    def __init__(self) -> None:
        self._stream = io.StringIO()

    def set_up(self, style: Style = "json", level: str = "debug", *, is_supervised: bool = False) -> LogObserver:
        handler = logging.StreamHandler(self._stream)
        zone = ZoneInfo("Asia/Shanghai")
        set_up_logs(level=level, style=style, is_supervised=is_supervised, zone=zone, handler=handler)
        return LogObserver()

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def paper() -> Iterator[Paper]:
    root, ours = logging.getLogger(), logging.getLogger(LOGGER)
    before = (root.handlers[:], root.level, ours.level)
    yield Paper()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_in_a_terminal_a_line_is_time_level_event_and_fields(paper: Paper) -> None:
    paper.set_up("auto").on(
        "alert.queued", alert_id="k3-1", task_id="k3", feed="kitchen", means=["taught", "sound"], confidence=0.93
    )

    (line,) = paper.lines
    time, rest = line.split(" ", 1)
    assert datetime.strptime(time, "%H:%M:%S").replace(tzinfo=UTC)
    assert rest == "INFO    alert.queued alert_id=k3-1 task_id=k3 feed=kitchen means=taught,sound confidence=0.93"


def test_under_systemd_a_line_is_one_json_object(paper: Paper) -> None:
    paper.set_up("auto", is_supervised=True).on("feed.state", feed="门口", state=FeedState.WAITING, detail='a "b"\nc')

    (document,) = paper.documents
    assert datetime.fromisoformat(document.pop("at")).utcoffset() == timedelta(0)
    assert document == {
        "level": "warning",
        "event": "feed.state",
        "feed": "门口",
        "state": "waiting",
        "detail": 'a "b"\nc',
    }


def test_a_style_that_was_asked_for_wins_over_the_surroundings(paper: Paper) -> None:
    paper.set_up("plain", is_supervised=True).on("ready")

    assert paper.lines[0].endswith("INFO    ready")


def test_plain_values_with_spaces_or_nothing_in_them_stay_readable(paper: Paper) -> None:
    paper.set_up("plain").on("x", why="disk full", odd='a="b"', line="a\nb", yes=True, empty="", none=None, many=[])

    assert paper.lines == [f'{paper.lines[0][:8]} INFO    x why="disk full" odd="a=\\"b\\"" line="a\\nb" yes=yes']


@pytest.mark.parametrize(
    ("event", "fields", "level"),
    [
        ("unit.decided", {}, logging.DEBUG),
        ("alert.queued", {}, logging.INFO),
        ("delivery.sent", {}, logging.INFO),
        ("task.changed", {}, logging.INFO),
        ("delivery.failed", {}, logging.WARNING),
        ("store.failed", {}, logging.WARNING),
        ("feed.state", {"state": "live"}, logging.INFO),
        ("feed.state", {"state": "waiting"}, logging.WARNING),
        ("feed.state", {"state": "stale"}, logging.WARNING),
        ("something.new", {}, logging.INFO),
    ],
)
def test_a_warning_means_that_a_person_may_need_to_act(event: str, fields: dict[str, str], level: int) -> None:
    assert level_of(event, fields) == level


def test_units_are_silent_unless_asked_for(paper: Paper) -> None:
    observer = paper.set_up(level="info")
    observer.on("unit.decided", feed="kitchen", index=1)
    observer.on("ready")

    assert [document["event"] for document in paper.documents] == ["ready"]


def test_addresses_lose_their_credentials_wherever_they_stand(paper: Paper) -> None:
    address = "rtsp://anna:hunter2@cam/1?token=abc"
    observer = paper.set_up()
    observer.on("feed.state", detail=f"cannot open {address}", error=FeedError(address), nested={"a": [address]})
    logging.getLogger("libav").warning("failed: %s", address)
    logging.getLogger("asyncio").error("crashed", exc_info=FeedError(address))

    text = "\n".join(paper.lines)
    assert "hunter2" not in text
    assert "abc" not in text
    assert "rtsp://***@cam/1?token=***" in text
    assert [document["event"] for document in paper.documents] == ["feed.state", "log", "log"]
    assert "FeedError" in paper.documents[2]["traceback"]


@given(
    words=st.text(min_size=3, alphabet=st.characters(categories=["L"])),
    name=st.sampled_from(sorted(PRIVATE)),
)
def test_what_was_heard_seen_or_said_is_never_written(words: str, name: str) -> None:
    said = f"<<{words}>>"

    assert said not in str(public({name: said, "nested": {name: said}, "list": [{name: said}]}))


def test_pictures_sounds_and_objects_show_only_their_kind() -> None:
    fields = {"picture": np.zeros((2, 2)), "jpeg": b"\xff\xd8", "object": object(), "path": Path("/a"), "set": {1}}

    assert public(fields) == {
        "picture": "<ndarray>",
        "jpeg": "<bytes>",
        "object": "<object>",
        "path": "/a",
        "set": [1],
    }


def test_every_value_becomes_valid_json() -> None:
    fields = {
        "nan": math.nan,
        "inf": math.inf,
        "numpy": np.float32(0.5),
        "count": np.int64(3),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "for": timedelta(seconds=3),
    }

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    read = json.loads(json.dumps(public(fields)), parse_constant=refuse)
    assert read == {
        "nan": "nan",
        "inf": "inf",
        "numpy": 0.5,
        "count": 3,
        "at": "2026-01-02T00:00:00+00:00",
        "for": 3.0,
    }
