"""Two clocks: one that runs, one that is walked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from omni_watch.telemetry.clock import StreamClock, SystemClock
from omni_watch.watch.ports import Clock

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_the_machines_clock_knows_when_a_monotonic_second_was() -> None:
    clock: Clock = SystemClock()

    before = clock.now()
    then = clock.at(clock.monotonic() - 60)
    after = clock.now()

    assert before - timedelta(seconds=60.01) <= then <= after - timedelta(seconds=59.99)
    assert before.utcoffset() == timedelta(0)


def test_a_recordings_time_stands_until_it_is_advanced() -> None:
    clock = StreamClock(NOON.astimezone(timezone(timedelta(hours=8))))
    assert (clock.monotonic(), clock.now()) == (0.0, NOON)

    clock.advance_to(2.5)
    clock.advance_to(2.5)

    assert clock.monotonic() == 2.5
    assert clock.now() == NOON + timedelta(seconds=2.5)
    assert clock.at(1.0) == NOON + timedelta(seconds=1)
    assert clock.now().utcoffset() == timedelta(0)


def test_a_recordings_time_never_goes_back() -> None:
    clock = StreamClock(NOON)
    clock.advance_to(5.0)

    with pytest.raises(ValueError, match=r"cannot go back from 5\.000 s to 4\.000 s"):
        clock.advance_to(4.0)


def test_a_recording_needs_to_know_its_zone() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        StreamClock(NOON.replace(tzinfo=None))


def test_stopwatches_measure_real_work_in_both() -> None:
    for clock in (SystemClock(), StreamClock(NOON)):
        began_s = clock.stopwatch()
        sum(range(10_000))
        assert clock.stopwatch() > began_s
