"""One feed's sound, block by block, to stretches of voice with their times on the feed's timeline.

Blocks may have any length and may be late or missing: a hole is where a stretch ends, for nobody knows what was said
in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.duplex.embedded.words import stretches
from omni_watch.duplex.embedded.words.stretches import Began, Ended, Faded, Habits, Paused, Resumed, StretchState
from omni_watch.duplex.embedded.words.voice_activity import WINDOW_S, VoiceState

HOLE_S: Final = 0.1  # more than clocks of sound cards are corrected by at a time

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceBegan:
    at_s: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Utterance:
    """Sound with a voice in it, all of it or what there is so far."""

    number: int
    samples: Floats
    start_s: float  # of the voice
    end_s: float
    is_cut: bool


@dataclass(frozen=True, slots=True, eq=False)
class MaybeAll:
    """The voice is silent for a moment."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class GoesOn:
    """It was not all."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class VoiceEnded:
    """That was all of it."""

    utterance: Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class TooShort:
    """What began as a voice was none."""

    number: int
    start_s: float
    end_s: float


Change = VoiceBegan | MaybeAll | GoesOn | VoiceEnded | TooShort


class VoiceNet(Protocol):
    """What judges windows: `VoiceActivity`, or something simpler in tests."""

    def step(self, samples: Floats, past: VoiceState) -> tuple[list[tuple[float, Floats]], VoiceState]: ...


class FeedListening:
    """The memory of one feed. One thread at a time."""

    def __init__(self, activity: VoiceNet, habits: Habits | None = None) -> None:
        self._activity = activity
        self._habits = habits or Habits()
        self._voice = VoiceState.start()
        self._stretch = StretchState()
        self._origin_s = 0.0  # feed timeline at window 0
        self._next_s: float | None = None  # where the next block has to begin

    def hear(self, start_s: float, samples: Floats) -> list[Change]:
        """What this block changes. ModelError: (retryable) the net failed."""
        changes = self._mended(start_s)
        self._next_s = start_s + len(samples) / SAMPLE_RATE_HZ
        judged, self._voice = self._activity.step(samples, self._voice)
        for probability, window in judged:
            turns = stretches.step(probability, window, self._stretch, self._habits)
            changes += [self._timed(turn) for turn in turns]
        return changes

    def _mended(self, start_s: float) -> list[Change]:
        """Begin anew where the timeline does not go on."""
        if self._next_s is not None and abs(start_s - self._next_s) <= HOLE_S:
            return []
        changes = [self._timed(turn) for turn in stretches.flush(self._stretch, self._habits)]
        self._voice = VoiceState.start()
        self._origin_s = start_s - self._stretch.seen * WINDOW_S
        return changes

    def _timed(self, turn: stretches.Turn) -> Change:
        match turn:
            case Began(window):
                return VoiceBegan(at_s=self._at(window))
            case Paused(stretch):
                return MaybeAll(self._utterance(stretch))
            case Resumed(number):
                return GoesOn(number)
            case Ended(stretch):
                return VoiceEnded(self._utterance(stretch))
            case Faded(number, first, last):
                return TooShort(number=number, start_s=self._at(first), end_s=self._at(last + 1))

    def _utterance(self, stretch: stretches.Stretch) -> Utterance:
        return Utterance(
            number=stretch.number,
            samples=stretch.samples,
            start_s=self._at(stretch.first_window),
            end_s=self._at(stretch.last_window + 1),
            is_cut=stretch.is_cut,
        )

    def _at(self, window: int) -> float:
        return round(self._origin_s + window * WINDOW_S, 3)
