"""The clocks: the machine's, and a recording's. The only module that asks the operating system what time it is."""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime, timedelta
from typing import Final

TIME_ERROR: Final = 5  # adjtimex(2)
TIMEX_BYTES: Final = 512  # more than struct timex has on any Linux; all zeros


class SystemClock:
    """Implements `Clock` by the machine. Any thread."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def at(self, monotonic_s: float) -> datetime:
        """Counted from now, so that a wall clock that was set right meanwhile is believed."""
        return self.now() + timedelta(seconds=monotonic_s - self.monotonic())

    def stopwatch(self) -> float:
        return time.perf_counter()


class StreamClock:
    """Implements `Clock` by a recording: time stands until `advance_to` says how far the recording is.

    Second 0 of the stream is `began_at`, so that every date of a replay follows from the recording alone.
    """

    def __init__(self, began_at: datetime) -> None:
        if began_at.tzinfo is None:
            raise ValueError(f"began_at {began_at} is without a zone; expected aware UTC")
        self._began_at = began_at.astimezone(UTC)
        self._stream_s = 0.0

    def monotonic(self) -> float:
        return self._stream_s

    def now(self) -> datetime:
        return self.at(self._stream_s)

    def at(self, monotonic_s: float) -> datetime:
        return self._began_at + timedelta(seconds=monotonic_s)

    def stopwatch(self) -> float:
        return time.perf_counter()

    def advance_to(self, stream_s: float) -> None:
        """ValueError when that would turn time back."""
        if stream_s < self._stream_s:
            raise ValueError(f"a recording's time cannot go back from {self._stream_s:.3f} s to {stream_s:.3f} s")
        self._stream_s = stream_s


def is_synchronised() -> bool | None:
    """Whether somebody (timesyncd, chrony, ntpd) keeps the machine's clock right; None: the kernel does not say.

    Source: adjtimex(2): with `modes` 0 it only reads, and TIME_ERROR means that the clock is not synchronised.
    """
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state: int = adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    return None if state < 0 else state != TIME_ERROR
