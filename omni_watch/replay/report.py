"""What a replay says when it is over: a table of tasks, alerts and costs, as plain values fit for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from omni_watch.domain.alerts import Alert
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task
from omni_watch.watch.briefing import Plan


@dataclass(slots=True)
class Tally:
    """Counts what a replay does; an `Observer`. Loop thread only."""

    units: int = 0
    missed: int = 0  # skipped, or stripped of pictures, because deciding was late
    steps_ms: list[float] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    keeps_trace: bool = False

    def on(self, event: str, **fields: Any) -> None:
        if event == "unit.decided":
            self.units += 1
            self.steps_ms.append(fields["step_ms"])
            if self.keeps_trace:
                self.traces.append(fields)
        elif event in ("unit.skipped", "unit.shed"):
            self.missed += 1

    def step_ms(self) -> dict[str, float]:
        """p50, p95 (linear interpolation) and max of the steps, in milliseconds; zeros when there was none."""
        steps = np.array(self.steps_ms or [0.0])
        p50, p95 = np.percentile(steps, [50, 95])
        return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "max": round(float(steps.max()), 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request that was spoken in the recording; also one that could not be done."""

    stream_s: float  # when it was carried out
    ended_s: float  # when its last word was said
    heard: str
    language: Language  # of the reply
    op: str  # "add", "cancel", …
    task_ids: Sequence[str]  # that were added or changed, or are asked about
    reply: str
    is_done: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "stream_s": round(self.stream_s, 3),
            "ended_s": round(self.ended_s, 3),
            "heard": self.heard,
            "language": self.language,
            "op": self.op,
            "task_id": self.task_ids[0] if self.task_ids else None,
            "task_ids": list(self.task_ids),
            "reply": self.reply,
            "is_done": self.is_done,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One finished replay."""

    clip: str
    duration_s: float
    began_at: datetime
    engine: str
    warnings: Sequence[str]  # what a person should know before trusting it
    tasks: Sequence[Task]
    plans: Sequence[Plan]
    commands: Sequence[Command]
    alerts: Sequence[Alert]
    tally: Tally
    wall_s: float
    rss_mb_peak: float

    def as_json(self) -> dict[str, Any]:
        """The document that `omni-watch replay --json` prints; `stream_s` is the end of the deciding unit."""
        plans = {plan.task_id: plan for plan in self.plans}
        document: dict[str, Any] = {
            "clip": self.clip,
            "duration_s": round(self.duration_s, 3),
            "engine": self.engine,
            "warnings": list(self.warnings),
            "tasks": [_task(task, plans[task.id], self.began_at) for task in self.tasks],
            "commands": [command.as_json() for command in self.commands],
            "alerts": [_alert(alert) for alert in self.alerts],
            "units": {"count": self.tally.units, "missed": self.tally.missed, "step_ms": self.tally.step_ms()},
            "wall_s": round(self.wall_s, 3),
            "rss_mb_peak": round(self.rss_mb_peak, 1),
        }
        if self.tally.keeps_trace:
            document["trace"] = self.tally.traces
        return document


def _task(task: Task, plan: Plan, began_at: datetime) -> dict[str, Any]:
    return {
        "id": task.id,
        "text": task.text,
        "means": [means.value for means in plan.means],
        "set_by": task.set_by,
        "set_at_s": round((task.set_at - began_at).total_seconds(), 3),
        "state": task.state.value,
        "rule": task.rule,
        "repeat": task.repeat.value,
        "message": task.message,
        "why": list(plan.why),
        "ask": plan.ask,
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "task_id": alert.task_id,
        "task": alert.task_text,
        "stream_s": round(alert.stream_s, 3),
        "text": alert.text,
        "confidence": round(alert.confidence, 4),
        "means": [means.value for means in alert.means],
    }
