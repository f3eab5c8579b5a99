"""One thread per device: opens it, reads it, opens it again when it went away, and hands what came to the loop.

A device blocks, so it lives on its thread alone. What it gives crosses to the loop through a bounded `Mailbox`; when
the loop is late, pictures are dropped first (oldest first), sound last, notices never.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential_jitter

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.aligner import Picture
from omni_watch.watch.ports import Clock

PICTURES_WAITING_MAX: Final = 16  # a 1080p picture takes 3 MB
BLOCKS_WAITING_MAX: Final = 2048  # 43 s of sound in AAC's blocks of 21 ms
STEADY_S: Final = 10.0  # a device that worked for so long starts again with the shortest pause
PAUSES: Final[wait_base] = wait_exponential_jitter(initial=1, max=60, jitter=1)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Sound as a device gave it, brought to 16 kHz."""

    at_s: float  # the feed's timeline, at the first sample
    samples: NDArray[np.float32]  # [n], mono, 16 kHz


@dataclass(frozen=True, slots=True)
class Opening:
    """A device is about to be opened."""

    senses: frozenset[Sense]


@dataclass(frozen=True, slots=True)
class Opened:
    """A device was opened; `absent` is what it turned out not to have."""

    senses: frozenset[Sense]
    absent: frozenset[Sense]
    detail: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A device failed; it is opened again after a pause, or never when `pause_s` is None."""

    senses: frozenset[Sense]
    error: FeedError
    pause_s: float | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A device's thread is over: its recording ended, it was stopped, or (`bug`) it broke."""

    senses: frozenset[Sense]
    bug: BaseException | None


Notice = Opening | Opened | Lost | Finished
Item = Picture | Block | Notice


class Device(Protocol):
    """A camera, microphone or stream. Made anywhere, then used by its own thread only. May be opened again."""

    label: str  # for messages; no credentials
    senses: frozenset[Sense]  # what it is asked to give

    def open(self) -> Opened:
        """Start it.

        Raises:
            FeedError: not retryable when it can never work.
        """

    def read(self) -> Sequence[Picture | Block] | None:
        """What came, with timeline stamps; empty after about half a second of nothing; None at the end for good.

        Raises:
            FeedError: it went away, or gave nothing for too long.
        """

    def close(self) -> None:
        """Stop it; whether or not it is open."""


class Mailbox:
    """Where devices leave things for the loop. `put` on any thread, `take` on the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called, on the thread that puts, when something lies in an empty mailbox."""
        self._wake = wake
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._waiting: Counter[type] = Counter()
        self._dropped: Counter[str] = Counter()

    def put(self, items: Sequence[Item]) -> None:
        with self._lock:
            was_empty = not self._items
            for item in items:
                self._items.append(item)
                self._waiting[type(item)] += 1
            self._shed(Picture, PICTURES_WAITING_MAX, "frame")
            self._shed(Block, BLOCKS_WAITING_MAX, "block")
            is_empty = not self._items
        if was_empty and not is_empty:
            self._wake()

    def take(self) -> tuple[list[Item], Counter[str]]:
        """Everything in order of arrival, and how many of what had to be dropped since the last call."""
        with self._lock:
            items, dropped = list(self._items), self._dropped
            self._items.clear()
            self._waiting.clear()
            self._dropped = Counter()
        return items, dropped

    def _shed(self, kind: type, most: int, name: str) -> None:
        while self._waiting[kind] > most:
            oldest = next(index for index, item in enumerate(self._items) if isinstance(item, kind))
            del self._items[oldest]
            self._waiting[kind] -= 1
            self._dropped[name] += 1


def pause_s(failures: int, pauses: wait_base = PAUSES) -> float:
    """How long to wait after so many failures in a row (1 or more): 1 s, doubling up to 60 s, plus up to 1 s."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = failures
    return float(pauses(state))


class CaptureThread:
    """Keeps one device going."""

    def __init__(self, device: Device, mailbox: Mailbox, clock: Clock, pauses: wait_base = PAUSES) -> None:
        self._device = device
        self._mailbox = mailbox
        self._clock = clock
        self._pauses = pauses
        self._stopping = threading.Event()
        self._opened_s: float | None = None
        # a daemon: a camera that hangs inside its library must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name=f"capture {device.label}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; any thread, returns at once."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._keep_going()
        finally:
            self._device.close()
            self._mailbox.put([Finished(self._device.senses, sys.exception())])

    def _keep_going(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._opened_s = None
            try:
                self._capture()
            except FeedError as error:
                self._device.close()
                failures = 1 if self._was_steady() else failures + 1
                pause = pause_s(failures, self._pauses) if error.can_retry else None
                self._mailbox.put([Lost(self._device.senses, error, pause)])
                if pause is None:
                    return
                self._stopping.wait(pause)
            else:
                return

    def _capture(self) -> None:
        """Until the device ends or is stopped."""
        self._mailbox.put([Opening(self._device.senses)])
        self._mailbox.put([self._device.open()])
        self._opened_s = self._clock.monotonic()
        while not self._stopping.is_set():
            items = self._device.read()
            if items is None:
                return
            self._mailbox.put(items)

    def _was_steady(self) -> bool:
        return self._opened_s is not None and self._clock.monotonic() - self._opened_s > STEADY_S
