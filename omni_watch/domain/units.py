"""Feeds, frames and units: the house, cut into aligned seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ: Final = 16_000
UNIT_S: Final = 1.0
SAMPLES_PER_UNIT: Final = 16_000


class Sense(Enum):
    """What a feed can give."""

    SIGHT = "sight"
    HEARING = "hearing"


class GapCause(Enum):
    """Why a unit lacks a sense."""

    ABSENT = "absent"  # this feed has no such device, or nobody wants us to use it
    LOST = "lost"  # the device is away, or gave nothing during this second
    STALE = "stale"  # pictures arrive but repeat: the camera is frozen
    SHED = "shed"  # we were late and let it go on purpose


@dataclass(frozen=True, slots=True)
class Gap:
    """A feed's camera or microphone gave nothing for this unit."""

    sense: Sense
    cause: GapCause


class FeedState(Enum):
    """The life of a feed's camera or microphone; `FEED_MOVES` lists the allowed moves."""

    OPENING = "opening"
    LIVE = "live"
    STALE = "stale"  # open, but nothing new arrives
    WAITING = "waiting"  # closed after a failure; opens again after a pause
    ENDED = "ended"  # a recording came to its end, or we are stopping
    OFF = "off"  # told in place of the others while a person does not want us to listen; the device's own life goes on


FEED_MOVES: Final[dict[FeedState, frozenset[FeedState]]] = {
    FeedState.OPENING: frozenset({FeedState.LIVE, FeedState.WAITING, FeedState.ENDED}),
    FeedState.LIVE: frozenset({FeedState.STALE, FeedState.WAITING, FeedState.ENDED}),
    FeedState.STALE: frozenset({FeedState.LIVE, FeedState.WAITING, FeedState.ENDED}),
    FeedState.WAITING: frozenset({FeedState.OPENING, FeedState.ENDED}),
    FeedState.ENDED: frozenset(),
    FeedState.OFF: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture with its time on the feed's timeline."""

    at_s: float  # seconds on the feed's timeline
    rgb: NDArray[np.uint8]  # [H, W, 3], read-only, long side at most 1280

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8 or 0 in self.rgb.shape:
            found = f"{self.rgb.dtype} {list(self.rgb.shape)}"
            raise ValueError(f"frame at {self.at_s:.3f} s: expected uint8 [H, W, 3], found {found}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """One second of one feed, exactly as the model receives it."""

    feed: str
    index: int  # whole seconds since the feed's timeline began; never repeats, may skip
    start_s: float  # seconds on the feed's timeline at the first sample (live: the monotonic clock)
    audio: NDArray[np.float32]  # [16000], mono, 16 kHz, -1..1, read-only; zeros where there was nothing
    frames: tuple[Frame, ...] = ()  # oldest first; the last one lies nearest the unit's end
    gaps: tuple[Gap, ...] = ()

    def __post_init__(self) -> None:
        if self.audio.shape != (SAMPLES_PER_UNIT,) or self.audio.dtype != np.float32:
            found = f"{self.audio.dtype} {list(self.audio.shape)}"
            raise ValueError(f"unit {self.index}: expected float32 [16000], found {found}")

    @property
    def end_s(self) -> float:
        return self.start_s + UNIT_S

    @property
    def frame(self) -> Frame | None:
        """The model's frame: the one nearest the unit's end, or None."""
        return self.frames[-1] if self.frames else None

    @property
    def is_heard(self) -> bool:
        return all(gap.sense is not Sense.HEARING for gap in self.gaps)

    def without_frames(self) -> Unit:
        """The same second with its pictures shed, marked so; sound is kept."""
        if not self.frames:
            return self
        return replace(self, frames=(), gaps=(*self.gaps, Gap(Sense.SIGHT, GapCause.SHED)))
