"""What our own loudspeaker plays, and when it is heard: the reference by which our voice is taken out of what we hear.

A speaker writes on the loop thread, microphones read on theirs. Seconds are monotonic ones, so the two meet without
knowing of each other.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.watch.ports import Clock

TAIL_S: Final = 2.0  # a room still answers, and a microphone is late
SOUNDS_KEPT: Final = 8  # one plays at a time; the oldest is forgotten
FADES_S: Final = 0.05  # what a loudspeaker still holds when it is silenced

Floats = NDArray[np.float32]


class Playing:
    """One sound on its way to the loudspeaker; made by `Played.begin`."""

    def __init__(self, number: int, clock: Clock, lock: threading.Lock) -> None:
        self.number = number  # counts the sounds of a loudspeaker, from 1
        self._clock = clock
        self._lock = lock
        self._samples = np.zeros(0, np.float32)  # [n], 16 kHz
        self._runs: list[tuple[float, int]] = []  # (monotonic second, sample heard at it), both rising
        self._silent_s = math.inf

    def add(self, samples: Floats) -> None:
        """What is going to be heard next, [n] at 16 kHz, -1..1."""
        with self._lock:
            self._samples = np.concatenate([self._samples, samples])

    def heard(self, source_s: float, at_s: float) -> None:
        """From `source_s` on the sound is heard from the monotonic second `at_s` on, until the next such call."""
        with self._lock:
            self._runs = [run for run in self._runs if run[0] < at_s]
            self._runs.append((at_s, round(source_s * SAMPLE_RATE_HZ)))

    def silenced(self) -> None:
        """It was cut short just now, or is over."""
        with self._lock:
            self._silent_s = min(self._silent_s, self._clock.monotonic() + FADES_S)

    @property
    def is_heard_from_s(self) -> float:
        """Infinite as long as that is not known."""
        return self._runs[0][0] if self._runs else math.inf

    @property
    def is_heard_until_s(self) -> float:
        """Minus infinity as long as nothing is."""
        if not self._runs:
            return -math.inf
        at_s, first = self._runs[-1]
        return min(at_s + (len(self._samples) - first) / SAMPLE_RATE_HZ, self._silent_s)

    def times_told(self, until_s: float) -> int:
        """How often another time came to hold until then."""
        return sum(at_s <= until_s for at_s, _ in self._runs)

    def mix_into(self, sound: Floats, start_s: float) -> None:
        """Add what is heard of it within the samples of `sound`, the first of which is at `start_s`."""
        following = [*self._runs[1:], (self.is_heard_until_s, len(self._samples))]
        for (at_s, first), (next_s, next_first) in zip(self._runs, following, strict=True):
            offset = round((at_s - start_s) * SAMPLE_RATE_HZ) - first  # of the sound's first sample in `sound`
            begin = max(offset + first, 0)
            until = round((min(next_s, self._silent_s) - start_s) * SAMPLE_RATE_HZ)
            end = min(offset + next_first, until, len(sound))
            if begin < end:
                sound[begin:end] += self._samples[begin - offset : end - offset]


class Played:
    """All sounds of one loudspeaker, of the last seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sounds: deque[Playing] = deque(maxlen=SOUNDS_KEPT)
        self._count = 0

    def begin(self, samples: Floats | None = None) -> Playing:
        """A sound that will be heard; nothing of it is until its time is told."""
        with self._lock:
            self._count += 1
            playing = Playing(self._count, self._clock, self._lock)
            self._sounds.append(playing)
        if samples is not None:
            playing.add(samples)
        return playing

    def between(self, start_s: float, count: int) -> Floats | None:
        """`count` samples at 16 kHz as they were heard from `start_s` on; None: nothing was, nor lately. Any thread."""
        end_s = start_s + count / SAMPLE_RATE_HZ
        with self._lock:
            near = [
                each
                for each in self._sounds
                if each.is_heard_from_s < end_s and each.is_heard_until_s + TAIL_S > start_s
            ]
            if not near:
                return None
            sound = np.zeros(count, np.float32)
            for each in near:
                each.mix_into(sound, start_s)
        return sound

    def newest(self, at_s: float) -> tuple[int, int]:
        """Which sound, and which time told for it, was the last that was heard until then. Where that changes, an echo
        need not be as late as it was before. Any thread."""
        with self._lock:
            return max(
                ((each.number, each.times_told(at_s)) for each in self._sounds if each.is_heard_from_s <= at_s),
                default=(0, 0),
            )
