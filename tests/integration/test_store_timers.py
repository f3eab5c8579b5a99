"""Wake-ups on a real file and a real scheduler: over restarts, changed clocks and a database that is away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import apscheduler.schedulers.base
import pytest

from omni_watch.domain.errors import StoreError
from omni_watch.domain.tasks import TaskState
from omni_watch.store.thread import SqlStore
from omni_watch.store.timers import TASKS, Timers
from omni_watch.telemetry.clock import SystemClock
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.values import a_task

DEADLINE_S = 20.0
HOUR = timedelta(hours=1)


class MovableClock(SystemClock):
    """The system's clock as if somebody had set it `shift` forward."""

    shift = timedelta()

    def now(self) -> datetime:
        return super().now() + self.shift


class Bell:
    """Remembers who rang; `heard` waits for a ring of that name."""

    def __init__(self) -> None:
        self.rings: list[str] = []
        self._rang = asyncio.Event()

    def __call__(self, name: str) -> None:
        self.rings.append(name)
        self._rang.set()

    async def heard(self, name: str, times: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.rings.count(name) < times:
                self._rang.clear()
                await self._rang.wait()


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    file = tmp_path / "omni-watch.db"
    store = await SqlStore.open(file)
    yield file
    await store.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    """One clock for us and for the scheduler, which asks the system by itself."""
    clock = MovableClock()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return clock.now().astimezone(tz)

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Shifted)
    return clock


class TroubleObserver(FakeObserver):
    """`failed` is set when timers report that they cannot use the database."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = asyncio.Event()

    def on(self, event: str, **fields: Any) -> None:
        super().on(event, **fields)
        if event == "timers.failed":
            self.failed.set()


Start = Callable[[], Any]


@pytest.fixture
async def start(path: Path, clock: MovableClock) -> AsyncIterator[Start]:
    """Timers with a bell of their own, as often as a test restarts them."""
    made: list[Timers] = []

    async def starting() -> tuple[Timers, Bell]:
        bell = Bell()
        timers = Timers(path, on_wake=bell, clock=clock, observer=FakeObserver(), nap_s=0.05)
        await timers.start()
        made.append(timers)
        return timers, bell

    yield starting
    for timers in made:
        await timers.close()


def kept(path: Path) -> dict[str, float]:
    """What the file holds: name -> when."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, next_run_time FROM timers").fetchall())


async def test_a_timer_rings_once_at_its_time_on_the_loop(path: Path, clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    when = clock.now() + timedelta(seconds=0.3)
    await timers.wake_at("soon", when)
    assert bell.rings == []
    await bell.heard("soon")
    assert clock.now() >= when
    await timers.wake_at("past", clock.now() - HOUR)
    await bell.heard("past")
    assert bell.rings == ["soon", "past"]
    await timers.close()
    assert kept(path) == {}


async def test_a_timer_is_replaced_and_cancelled_by_name(path: Path, clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    await timers.wake_at("a", clock.now() + HOUR)
    later = clock.now() + 2 * HOUR
    await timers.wake_at("a", later)
    assert kept(path) == {"a": pytest.approx(later.timestamp())}
    await timers.cancel("a")
    await timers.cancel("a")
    assert kept(path) == {}
    assert bell.rings == []


async def test_what_came_due_while_nobody_ran_rings_at_the_next_start_once(clock: MovableClock, start: Start) -> None:
    timers, _ = await start()
    await timers.wake_at("once", clock.now() + HOUR)
    await timers.every("often", 60.0)
    await timers.close()
    clock.shift += 100 * HOUR
    _, bell = await start()
    await bell.heard("once")
    await bell.heard("often")
    assert sorted(bell.rings) == ["often", "once"]


async def test_a_timer_that_is_not_due_yet_survives_a_restart(path: Path, clock: MovableClock, start: Start) -> None:
    timers, _ = await start()
    await timers.wake_at("later", clock.now() + HOUR)
    before = kept(path)
    await timers.close()
    timers, bell = await start()
    assert kept(path) == before
    clock.shift += HOUR
    await bell.heard("later")


async def test_a_database_that_was_moved_keeps_its_timers(path: Path, clock: MovableClock, start: Start) -> None:
    timers, _ = await start()
    await timers.wake_at("later", clock.now() + HOUR)
    await timers.close()
    elsewhere = path.with_name("elsewhere.db")
    with closing(sqlite3.connect(path)) as origin, closing(sqlite3.connect(elsewhere)) as copy:
        origin.backup(copy)
    clock.shift += HOUR
    bell = Bell()
    moved = Timers(elsewhere, on_wake=bell, clock=clock, observer=FakeObserver())
    await moved.start()
    await bell.heard("later")
    await moved.close()


async def test_a_clock_set_forward_is_noticed(clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    await timers.wake_at("later", clock.now() + HOUR)
    clock.shift += 50 * 365 * 24 * HOUR  # a board without a battery finds the right year
    await bell.heard("later")


async def test_a_clock_set_back_does_not_stop_what_rings_again_and_again(clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    await timers.every("often", 0.2)
    await bell.heard("often")
    clock.shift -= 1000 * HOUR
    await bell.heard("often", times=bell.rings.count("often") + 2)


async def test_fifty_years_of_missed_times_ring_once(clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    await timers.every("hourly", 3600.0)
    clock.shift += 50 * 365 * 24 * HOUR
    await bell.heard("hourly")
    await timers.wake_at("after", clock.now())
    await bell.heard("after")
    assert bell.rings == ["hourly", "after"]


async def test_an_interval_goes_on_over_restarts_and_begins_anew_when_it_changes(
    path: Path, clock: MovableClock, start: Start
) -> None:
    timers, _ = await start()
    await timers.every("often", 3600.0)
    first = kept(path)["often"]
    await timers.close()
    timers, _ = await start()
    clock.shift += HOUR / 2
    await timers.every("often", 3600.0)
    assert kept(path)["often"] == first
    await timers.every("often", 60.0)
    assert kept(path)["often"] == pytest.approx(clock.now().timestamp() + 60, abs=5)


async def test_tasks_have_one_timer_for_whatever_changes_next(path: Path, clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    now = clock.now()
    cooling = a_task("a", state=TaskState.COOLING, last_told_at=now, cooldown_s=3600.0)
    ending = a_task("b", expires_at=now + 2 * HOUR)
    await timers.sync([cooling, ending], now)
    assert kept(path) == {TASKS: pytest.approx((now + HOUR).timestamp())}
    clock.shift += HOUR
    await bell.heard(TASKS)
    await timers.sync([ending], now + HOUR)
    assert kept(path) == {TASKS: pytest.approx((now + 2 * HOUR).timestamp())}
    await timers.sync([], now + HOUR)
    assert kept(path) == {}


async def test_the_same_moment_is_not_written_twice(path: Path, clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    now = clock.now()
    tasks = [a_task(expires_at=now + HOUR)]
    await timers.sync(tasks, now)
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        await timers.sync(tasks, now)
        assert connection.execute("PRAGMA data_version").fetchone() == before
    clock.shift += HOUR
    await bell.heard(TASKS)
    clock.shift -= HOUR  # the clock was wrong: the task's end is ahead again
    await timers.sync(tasks, now)
    assert list(kept(path)) == [TASKS]


async def test_timers_and_store_share_the_file_without_waiting_for_each_other(
    path: Path, clock: MovableClock, start: Start
) -> None:
    timers, bell = await start()
    store = await SqlStore.open(path)
    for number in range(40):
        await store.transact(lambda tx, n=number: tx.tasks.add(a_task(f"t{n}")))  # type: ignore[misc]
        await timers.wake_at(f"t{number}", clock.now())
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(bell.heard(f"t{number}") for number in range(40)))
    assert len(await store.transact(lambda tx: tx.tasks.all())) == 40
    await store.close()


async def test_timers_outlive_a_database_that_is_held_by_somebody_else(
    path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omni_watch.store.database.BUSY_TIMEOUT_S", 0.05)
    observer, bell = TroubleObserver(), Bell()
    timers = Timers(path, on_wake=bell, clock=clock, observer=observer, nap_s=0.05)
    await timers.start()
    await timers.wake_at("later", clock.now() + HOUR)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="busy") as refused:
            await timers.wake_at("refused", clock.now())
        assert refused.value.can_retry
        async with asyncio.timeout(DEADLINE_S):
            await observer.failed.wait()
        clock.shift += HOUR
        other.execute("ROLLBACK")
    await bell.heard("later")
    await timers.close()


async def test_after_closing_nothing_rings_and_nothing_can_be_set(clock: MovableClock, start: Start) -> None:
    timers, bell = await start()
    await timers.wake_at("later", clock.now() + HOUR)
    await timers.close()
    await timers.close()
    clock.shift += HOUR
    with pytest.raises(StoreError, match="before they were started"):
        await timers.wake_at("more", datetime.now(UTC))
    assert bell.rings == []
