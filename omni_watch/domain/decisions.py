"""What the model chose for one unit: Listen or Speak."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Means(Enum):
    """How a task is watched; shown to people, kept in the trace."""

    SOUND = "sound"  # a household sound the engine knows without teaching
    BEEPS = "beeps"  # a row of like beeps
    DISPLAY = "display"  # text read in a marked region
    TAUGHT = "taught"  # states shown as "not yet" and "done"
    LEVEL = "level"  # fill level between a shown empty and a shown full
    MODEL = "model"  # a language model judges the words themselves
    CLOCK = "clock"  # nothing is watched: the time has come


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one unit said about one task; one per task and unit, for the trace and for re-arming."""

    task_id: str
    score: float | None  # 0..1, None when the needed sense was a gap
    margin: float | None  # log-odds above (+) or below (-) the alert threshold
    holds: bool | None  # True: condition stands; False: seen clearly not to; None: in between or not seen
    means: Means | None = None  # which means gave the score


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What the model says because of this unit.

    `task_id` is None for a comment that belongs to no task; only attributed utterances become alerts.
    """

    text: str
    task_id: str | None
    confidence: float  # 0..1
    means: tuple[Means, ...]
    condition_at_s: float  # feed timeline, when the condition is believed to have become true


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Nothing to say about this unit."""

    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speak:
    """One or more things to say, most urgent first."""

    utterances: tuple[Utterance, ...]
    readings: tuple[Reading, ...] = ()

    def __post_init__(self) -> None:
        if not self.utterances:
            raise ValueError("Speak without an utterance; use Listen")


Decision = Listen | Speak
