"""The bytes that go over MQTT. Home Assistant drops a misspelt key without a word, so they are compared byte by byte.

Regenerate with `OMNI_WATCH_GOLDEN=write .venv/bin/python -m pytest tests/golden/test_alerts_messages.py` and review the
difference.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from omni_watch.alerts.messages import Speaking, TopicNames, alert_object, as_json, rfc3339, task_object
from omni_watch.domain.alerts import Alert, Transition
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task, TaskState
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.fake_clock import NOON

NOBODY = Speaking()
FOLDER = Path(__file__).parent / "mqtt"
ENGLISH = alert(task_id="k3", occurrence=1)
CHINESE = alert(task_id="k4", occurrence=12, text="烟雾报警器响了！", language="zh", priority=Priority.URGENT)
TASK = Task(id="k3", text="Tell me when the kettle is full", language="en", message="Full.", set_by="cli", set_at=NOON)
TOLD = replace(
    TASK, state=TaskState.COOLING, fired_count=2, last_fired_at=NOON, snoozed_until=NOON + timedelta(hours=1)
)


def message(
    of: Alert, at_s: float, *, speaking: Speaking = NOBODY, snapshot: bool = False, **changes: Any
) -> Mapping[str, Any]:
    told = replace(delivery(of, "mqtt"), **changes)
    at = NOON + timedelta(seconds=at_s)
    return alert_object(of, told, published_at=at, speaking=speaking, snapshot=snapshot)


MESSAGES: dict[str, Mapping[str, Any]] = {
    "alert": message(ENGLISH, 0.1, speaking=Speaking(is_spoken=True), snapshot=True),
    "alert_zh_late": message(CHINESE, 90.9),
    "alert_hushed": message(ENGLISH, 0.1, speaking=Speaking(is_hushed=True)),
    "repeat": message(CHINESE, 60.4, number=2, transition=Transition.REPEAT, due_at=NOON + timedelta(seconds=60)),
    "acknowledged": message(
        ENGLISH, 7.5, number=1, transition=Transition.ACKNOWLEDGED, due_at=NOON + timedelta(seconds=7)
    ),
    "task_watching": task_object(TASK),
    "task_told": task_object(TOLD),
    "task_paused": task_object(replace(TASK, state=TaskState.PAUSED)),
    "task_done": task_object(replace(TASK, state=TaskState.DONE)),
}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_a_message_is_byte_for_byte_what_others_rely_on(name: str) -> None:
    path, written = FOLDER / f"{name}.json", as_json(MESSAGES[name])
    if os.environ.get("OMNI_WATCH_GOLDEN") == "write":
        path.write_bytes(written + b"\n")
    assert written + b"\n" == path.read_bytes()


def test_an_alert_has_exactly_the_agreed_keys_and_none_that_home_assistant_gives_a_meaning() -> None:
    keys = list(json.loads(as_json(MESSAGES["alert"])))
    assert keys == [
        "v", "event_type", "alert_id", "task_id", "task_name", "feed_id", "text", "lang", "priority", "spoken",
        "hushed", "condition_at", "decided_at", "published_at", "latency_ms", "fired_count", "snapshot", "late_s",
        "repeat",
    ]  # fmt: skip
    assert not {"event_types", "device_class"} & set(keys)


def test_times_are_utc_with_milliseconds_and_z() -> None:
    berlin = timezone(timedelta(hours=1))
    assert rfc3339(NOON.astimezone(berlin)) == "2026-11-22T12:00:00.000Z"


def test_a_clock_that_went_back_never_makes_a_message_early() -> None:
    early = message(ENGLISH, -3600)
    assert early["late_s"] == 0


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json({"fps": float("nan")})


@pytest.mark.parametrize("name", ["", "Home", "my home", "a/b", "-a", "+", "#", "a" * 33, "küche"])
def test_an_instance_that_must_not_become_a_topic_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 32"):
        TopicNames(name)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$sys", "Tell me", "a\u0000"])
def test_no_words_of_a_person_become_part_of_a_topic(name: str) -> None:
    topics = TopicNames("home")
    for topic in (topics.task_state, topics.task_alert, topics.feed_state):
        with pytest.raises(ValueError, match="cannot be part of a topic"):
            topic(name)


def test_topics_are_those_that_others_subscribe_to() -> None:
    topics = TopicNames("home")
    assert [
        topics.availability, topics.hub_state, topics.alert, topics.last_alert, topics.snapshot,
        topics.task_state("k3"), topics.task_alert("k3"), topics.feed_state("kitchen"),
    ] == [
        "omni_watch/home/availability", "omni_watch/home/state", "omni_watch/home/alert", "omni_watch/home/last_alert",
        "omni_watch/home/snapshot", "omni_watch/home/task/k3/state", "omni_watch/home/task/k3/alert",
        "omni_watch/home/feed/kitchen/state",
    ]  # fmt: skip
