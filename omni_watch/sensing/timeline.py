"""Device clocks -> the feed's timeline.

A live feed's timeline is the monotonic clock; a recording's is stream time from its first sample. Cameras and
microphones count time by crystals of their own, which differ by up to 100 millionths (9 s a day), and what they send
arrives with a delay that varies. `DeviceClock` follows the difference, `StreamTimeline` keeps the two senses of one
stream together through jumps of its time stamps, `SoundTrack` stretches sound so that a second of it stays a second.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.units import SAMPLE_RATE_HZ, Sense
from omni_watch.sensing.aligner import GridBlock

WINDOW_S: Final = 30.0  # a clock 100 millionths off moves 3 ms in this time, jitter's least value shows many times
JUMP_BACK_S: Final = 1.0  # stamps of one sense that fall by more have begun anew
SAME_LEAP_S: Final = 10.0  # how far apart the senses of one stream may be when both have leapt

RESTART_SAMPLES: Final = SAMPLE_RATE_HZ // 50  # 20 ms off: cut or leave a hole, rather than stretch for long
TOLERATED_SAMPLES: Final = SAMPLE_RATE_HZ // 500  # 2 ms off: stamps are rounded (Matroska: 1 ms); leave sound untouched
CATCH_UP_S: Final = 2.0
STRETCH_MAX: Final = 1e-3  # 1.7 hundredths of a semitone, ten times what a crystal may be off
TAPS: Final = 16
PHASES: Final = 512


class DeviceClock:
    """Where a device's own seconds lie on the monotonic clock.

    Delay only ever adds, so the least of (arrival - device time) within the window is the difference of the clocks
    plus the shortest delay: jitter drops out, drift is followed. Owned by one thread.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._least: deque[tuple[float, float]] = deque()  # (arrived, difference), both rising

    def observe(self, device_s: float, arrived_s: float) -> None:
        """Something captured at `device_s` was here at `arrived_s`."""
        difference_s = arrived_s - device_s
        while self._least and self._least[-1][1] >= difference_s:
            self._least.pop()
        self._least.append((arrived_s, difference_s))
        while self._least[0][0] < arrived_s - self._window_s:
            self._least.popleft()

    def at(self, device_s: float) -> float:
        """Monotonic seconds of `device_s`. Something must have been observed before."""
        return device_s + self._least[0][1]


class _Epoch(Protocol):
    """A run of stamps without a jump."""

    newest_s: float  # the newest stamp in it

    def observe(self, captured_s: float, arrived_s: float) -> None: ...
    def at(self, stamp_s: float) -> float: ...


@dataclass(slots=True)
class _LiveEpoch:
    newest_s: float
    clock: DeviceClock = field(default_factory=DeviceClock)

    def observe(self, captured_s: float, arrived_s: float) -> None:
        self.clock.observe(captured_s, arrived_s)

    def at(self, stamp_s: float) -> float:
        return self.clock.at(stamp_s)


@dataclass(slots=True)
class _RecordedEpoch:
    newest_s: float
    offset_s: float

    def observe(self, captured_s: float, arrived_s: float) -> None:
        """A recording's stamps are its time, whenever they are read."""

    def at(self, stamp_s: float) -> float:
        return stamp_s + self.offset_s


@dataclass(slots=True)
class _Progress:
    """How far one sense of a stream has come."""

    epoch: _Epoch
    ended_s: float  # stamp after the newest item
    arrived_s: float


class StreamTimeline:
    """One mapping for both senses of a stream, so that they stay together; follows jumps and restarts of its stamps.

    Owned by the thread that reads the stream.
    """

    def __init__(self, *, is_live: bool, origin_s: float = 0.0) -> None:
        """`origin_s`: the stamp at which a recording begins (ignored when live)."""
        self._is_live = is_live
        self._leap_s = 2.0 if is_live else 30.0  # a recording may have a hole; a live stream cannot run ahead
        self._origin_s = origin_s
        self._senses: dict[Sense, _Progress] = {}

    def place(self, sense: Sense, stamp_s: float, *, lasts_s: float, arrived_s: float = 0.0) -> float:
        """Timeline seconds of what has the stamp `stamp_s`, lasts so long and arrived then.

        Sound has lasted when it arrives, a picture has not: only then is its end proof of how late it came.
        """
        epoch = self._epoch(sense, stamp_s, arrived_s)
        epoch.newest_s = max(epoch.newest_s, stamp_s)
        epoch.observe(stamp_s + (lasts_s if sense is Sense.HEARING else 0.0), arrived_s)
        self._senses[sense] = _Progress(epoch, stamp_s + lasts_s, arrived_s)
        return epoch.at(stamp_s)

    def _epoch(self, sense: Sense, stamp_s: float, arrived_s: float) -> _Epoch:
        progress = self._senses.get(sense)
        if progress is not None:
            ahead_s = stamp_s - progress.ended_s - (arrived_s - progress.arrived_s)
            if stamp_s >= progress.ended_s - JUMP_BACK_S and ahead_s <= self._leap_s:
                return progress.epoch
        for other in self._senses.values():  # the other sense may have jumped (or begun) just before
            is_elsewhere = progress is None or other.epoch is not progress.epoch
            if is_elsewhere and abs(stamp_s - other.epoch.newest_s) < SAME_LEAP_S:
                return other.epoch
        return self._begun(progress, stamp_s)

    def _begun(self, progress: _Progress | None, stamp_s: float) -> _Epoch:
        if self._is_live:
            return _LiveEpoch(stamp_s)
        if progress is None:
            return _RecordedEpoch(stamp_s, -self._origin_s)
        return _RecordedEpoch(stamp_s, progress.epoch.at(progress.ended_s) - stamp_s)


class SoundTrack:
    """Lays stamped sound on the feed's grid: one sample for each 1/16000 s of the timeline.

    Sound whose stamps agree with its sample count passes through bit for bit. When they drift apart by more than 2 ms
    it is stretched by at most one thousandth until they agree; by more than 20 ms, it is cut or a hole is left.
    """

    def __init__(self, origin_s: float) -> None:
        self._origin_s = origin_s
        self._tail = np.zeros(0, np.float32)  # the last input samples, for interpolation
        self._next_in: float | None = None  # grid position where the next input sample is due
        self._next_out = 0  # grid position of the next sample to give

    def place(self, at_s: float, samples: NDArray[np.float32]) -> GridBlock | None:
        """`samples` [n], mono 16 kHz, the first one heard at `at_s`; None when they do not fill a new grid position."""
        position = (at_s - self._origin_s) * SAMPLE_RATE_HZ
        if self._next_in is None or abs(position - self._next_in) > RESTART_SAMPLES:
            self._restart(position)
        begin = self._next_in if self._next_in is not None else position
        stretch = 1.0 + _stretch(position - begin)
        self._next_in = begin + len(samples) * stretch
        known = np.concatenate((self._tail, samples))
        tail_begin = begin - len(self._tail) * stretch
        self._tail = known[-2 * TAPS :]
        if stretch == 1.0 and begin.is_integer():
            return self._given(int(tail_begin), known)
        last = math.floor(tail_begin + (len(known) - 1 - TAPS // 2) * stretch)
        wanted = np.arange(self._next_out, last + 1, dtype=np.float64)
        return self._given(self._next_out, interpolated(known, (wanted - tail_begin) / stretch))

    def _restart(self, position: float) -> None:
        self._next_in = float(math.floor(position + 0.5 + 1e-3))  # 1e-3: a stamp's rounding must not decide
        self._next_out = max(self._next_out, int(self._next_in))
        self._tail = self._tail[:0]

    def _given(self, position: int, samples: NDArray[np.float32]) -> GridBlock | None:
        """What of `samples`, beginning at a grid position, was not given before."""
        fresh = samples[max(0, self._next_out - position) :]
        if not len(fresh):
            return None
        block = GridBlock(max(position, self._next_out), fresh)
        self._next_out = block.end
        return block


def _stretch(error: float) -> float:
    """How much longer each sample must become to make up for `error` samples."""
    beyond = math.copysign(max(0.0, abs(error) - TOLERATED_SAMPLES), error)
    return min(STRETCH_MAX, max(-STRETCH_MAX, beyond / (CATCH_UP_S * SAMPLE_RATE_HZ)))


def _kernel() -> NDArray[np.float32]:
    """[PHASES + 1, TAPS] Kaiser-windowed sinc, each row summing to one."""
    offsets = np.arange(TAPS) - (TAPS // 2 - 1)
    distance = offsets[None, :] - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (distance / (TAPS / 2)) ** 2, 0, None))) / np.i0(8.0)
    rows = np.sinc(distance) * window
    return np.asarray(rows / rows.sum(axis=1, keepdims=True), np.float32)


_KERNEL: Final = _kernel()


def interpolated(samples: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """`samples` [n] read at the fractional indices `at` [m]; silence beyond both ends."""
    whole = np.floor(at).astype(np.int64)
    rows = _KERNEL[np.rint((at - whole) * PHASES).astype(np.int64)]
    padded = np.concatenate((np.zeros(TAPS, np.float32), samples, np.zeros(TAPS, np.float32)))
    columns = whole[:, None] + np.arange(TAPS)[None, :] + (TAPS - TAPS // 2 + 1)
    near = padded[np.clip(columns, 0, len(padded) - 1)]
    return np.asarray(np.einsum("mt,mt->m", near, rows), np.float32)
