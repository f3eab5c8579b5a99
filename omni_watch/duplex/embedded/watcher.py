"""What every means of the embedded engine gives: a score for one task, second by second.

A watcher serves one means of one task in one session and keeps its own short memory. The session (`engine.py`) feeds
it each unit, passes its score through a gate (`omni_watch.watch.deciding`), and decides. Watchers know nothing of
tasks' states, cooldowns or who was told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from omni_watch.domain.decisions import Means
from omni_watch.domain.units import Unit
from omni_watch.watch.deciding import GateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BeepRow:
    """A row of like beeps that ended or went on during the unit."""

    count: int  # beeps in the row so far
    pitch_hz: float
    first_at_s: float  # feed timeline: start of the first beep
    last_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the ears made of one unit; made once and shared by all tasks of the feed."""

    sounds: Mapping[str, float] = field(default_factory=dict)  # household sound group -> 0..1, sustained
    row: BeepRow | None = None  # the row of beeps heard in this unit, when it passed the gate against cries and crows


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one unit says about one means of one task."""

    score: float | None  # 0..1; None: the needed sense was a gap, or cannot be trusted now
    condition_at_s: float | None = None  # feed timeline: when the condition is believed to have become true
    detail: str = ""  # for the trace: "level 0.94 off 0.12", "reads 0:07"


class Watcher(Protocol):
    """One means of one task."""

    means: Means
    gate: GateSettings  # how its scores become "it has just happened"

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        """The evidence of one unit. `heard` is None when the unit has no sound. Model thread only."""
