"""Domain values for tests: a kettle in the kitchen, with whatever a test wants to be different."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from omni_watch.domain.alerts import Alert, Delivery
from omni_watch.domain.decisions import Means, Reading, Speak, Utterance
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Example, Label
from omni_watch.domain.wishes import Wish
from tests.fakes.fake_clock import NOON


def a_task(task_id: str = "kettle01", **changes: Any) -> Task:
    values: dict[str, Any] = {
        "id": task_id,
        "text": f"tell me when the kettle {task_id} is full",
        "language": "en",
        "message": "The kettle is full.",
        "set_by": "cli",
        "set_at": NOON,
        "repeat": Repeat.EACH,
    }
    return Task(**{**values, **changes})


def an_alert(task_id: str = "kettle01", occurrence: int = 1, **changes: Any) -> Alert:
    values: dict[str, Any] = {
        "id": f"{task_id}-{occurrence}",
        "task_id": task_id,
        "task_text": "tell me when the kettle is full",
        "feed": "kitchen",
        "text": "The kettle is full.",
        "language": "en",
        "priority": Priority.NORMAL,
        "occurrence": occurrence,
        "confidence": 0.9,
        "means": (Means.TAUGHT, Means.SOUND),
        "stream_s": 27.0,
        "condition_at": NOON,
        "decided_at": NOON + timedelta(seconds=1),
    }
    return Alert(**{**values, **changes})


def a_delivery(alert_id: str = "kettle01-1", channel: str = "mqtt", **changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "alert_id": alert_id,
        "channel": channel,
        "due_at": NOON + timedelta(seconds=1),
        "expires_at": NOON + timedelta(seconds=301),
    }
    return Delivery(**{**values, **changes})


def an_example(example_id: str = "e1", label: Label = Label.DONE, **changes: Any) -> Example:
    values: dict[str, Any] = {
        "id": example_id,
        "label": label,
        "jpeg": b"\xff\xd8 a picture \xff\xd9",
        "taken_at": NOON,
        "origin": "feed kitchen",
    }
    return Example(**{**values, **changes})


def a_wish(wish_id: str = "wish0001", **changes: Any) -> Wish:
    values: dict[str, Any] = {"id": wish_id, "kind": "teach", "payload": {"feed": "kitchen"}, "made_at": NOON}
    return Wish(**{**values, **changes})


def an_utterance(task_id: str | None = "kettle01", **changes: Any) -> Utterance:
    values: dict[str, Any] = {
        "text": "The kettle is full.",
        "task_id": task_id,
        "confidence": 0.9,
        "means": (Means.TAUGHT,),
        "condition_at_s": 26.0,
    }
    return Utterance(**{**values, **changes})


def a_reading(holds: bool | None, task_id: str = "kettle01") -> Reading:
    return Reading(task_id=task_id, score=None, margin=None, holds=holds)


def says(*task_ids: str, readings: tuple[Reading, ...] = ()) -> Speak:
    return Speak(utterances=tuple(an_utterance(task_id) for task_id in task_ids), readings=readings)
