"""A house that listens: a Saturday morning in Madrid, three feeds, and what is being watched for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.speechbook import load_speechbook
from omni_watch.domain.tasks import Task
from omni_watch.watch.phrases import Hearing
from tests.fakes.values import a_task

ZONE = "Europe/Madrid"
NOW = datetime(2026, 11, 28, 10, 30, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
BOOK = load_speechbook(load_rulebook().phrasebook)
TASKS = (
    a_task("kettle01", text="tell me when the kettle is full", rule="kettle_full"),
    a_task("dog00001", text="每次狗叫都告诉我", language="zh", message="狗叫了", rule="dog_barking"),
    a_task(
        "lift0001", text="tell me when the elevator arrives", message="The elevator is here.", rule="elevator_arrived"
    ),
    a_task("cup00001", text="tell me when the cup is full", message="The cup is full."),
    a_task("cup00002", text="杯子满了告诉我", language="zh", message="杯子满了"),
)
TABLES = {
    language: yaml.safe_load((Path(__file__).parents[1] / "golden" / f"phrases_{language}.yaml").read_text("utf-8"))
    for language in ("en", "zh")
}


def hearing(after: str | None = None, tasks: tuple[Task, ...] = TASKS) -> Hearing:
    return Hearing(
        now=NOW,
        zone=ZONE,
        feeds=("kitchen", "front-door", "garage"),
        names=("Omni",),
        tasks=tasks,
        is_asked=after == "asked",
        spoken_at=NOW if after == "spoken" else None,
        told_at=NOW if after == "told" else None,
    )
