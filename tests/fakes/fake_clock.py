"""A `Clock` that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FakeClock:
    """Implements `Clock`. `advance` lets time pass; `jump` moves only the wall clock, as a time server may."""

    def __init__(self, now: datetime = NOON, monotonic_s: float = 1000.0) -> None:
        self._now = now
        self._monotonic_s = monotonic_s

    def monotonic(self) -> float:
        return self._monotonic_s

    def now(self) -> datetime:
        return self._now

    def at(self, monotonic_s: float) -> datetime:
        return self._now + timedelta(seconds=monotonic_s - self._monotonic_s)

    def stopwatch(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._monotonic_s += seconds
        self._now += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
