"""A `Device` that does what a test scripts, on the capture thread."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block, Opened

Items = Sequence[Picture | Block]
Step = Items | BaseException | Callable[[], Items | None] | None


class FakeDevice:
    """Gives what is put into `script`: items, an error to raise, a function that may make items; None ends it."""

    def __init__(self, *senses: Sense, absent: frozenset[Sense] = frozenset(), label: str = "fake") -> None:
        self.label = label
        self.senses = frozenset(senses)
        self.script: queue.Queue[Step] = queue.Queue()
        self.open_errors: list[FeedError] = []  # raised by the next calls of `open`, first one first
        self.opened = 0
        self.closed = 0
        self._absent = absent

    def open(self) -> Opened:
        self.opened += 1
        if self.open_errors:
            raise self.open_errors.pop(0)
        return Opened(self.senses, self._absent, "a fake device")

    def read(self) -> Sequence[Picture | Block] | None:
        try:
            step = self.script.get(timeout=0.05)
        except queue.Empty:
            return ()
        if isinstance(step, BaseException):
            raise step
        return (step() or ()) if callable(step) else step

    def close(self) -> None:
        self.closed += 1
