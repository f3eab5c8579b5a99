"""A day of stream in virtual time, through the real heartbeat, store, relay and embedded engine: nothing grows.

Run by `make soak`, or `pytest -m soak`; the length in hours is OMNI_WATCH_SOAK_HOURS (24 when not set).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from omni_watch.alerts.relay import Relay
from omni_watch.alerts.snapshots import SnapshotFolder
from omni_watch.app.engines import build_embedded
from omni_watch.app.replaying import ReportChannel
from omni_watch.app.wishes import TaskWish, task_from
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import Task
from omni_watch.domain.units import SAMPLES_PER_UNIT, Unit
from omni_watch.store.thread import SqlStore
from omni_watch.telemetry.clock import StreamClock
from omni_watch.telemetry.status import StatusObserver
from omni_watch.watch import requests
from omni_watch.watch.heartbeat import Heartbeat
from omni_watch.watch.roster import Roster
from omni_watch.watch.stepping import ModelThread
from tests.fakes import synthetic_sounds as sounds
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit

HOUR_S = 3600
WARM_UP_S = 1800  # until then caches fill and pools start
EVENT_EVERY_S = 600
GROWTH_MAX_MB = 12.0

pytestmark = [pytest.mark.soak, pytest.mark.models]


@dataclass(frozen=True)
class Size:
    """What a process holds."""

    rss_mb: float
    files: int
    threads: int

    @classmethod
    def now(cls) -> Size:
        process = psutil.Process()
        return cls(process.memory_info().rss / 2**20, process.num_fds(), process.num_threads())


class Day:
    """Implements `Feed`: a room with noise and a small moving picture, in which four beeps sound now and then."""

    name = "kitchen"

    def __init__(self, seconds: int) -> None:
        rng = np.random.default_rng(5)
        self._seconds = seconds
        self._noise = [sounds.room_noise(1.0, 0.002, rng)[:SAMPLES_PER_UNIT] for _ in range(16)]
        self._beeps = sounds.at_level(sounds.row(2000, 0.3, 0.3, 5), -18)[: 3 * SAMPLES_PER_UNIT]
        self._pictures = [rng.integers(0, 255, (72, 128, 3), np.uint8) for _ in range(8)]

    async def units(self) -> AsyncGenerator[Unit, None]:
        for index in range(self._seconds):
            yield unit(index, audio=self._sound(index), frame=self._pictures[index % 8])

    def _sound(self, index: int) -> NDArray[np.float32]:
        heard = self._noise[index % 16].copy()
        since = index % EVENT_EVERY_S - EVENT_EVERY_S // 2
        if since >= 0:
            piece = self._beeps[since * SAMPLES_PER_UNIT : (since + 1) * SAMPLES_PER_UNIT]
            heard[: len(piece)] += piece
        return heard

    async def close(self) -> None:
        pass


def a_task() -> Task:
    book = load_rulebook().phrasebook
    return task_from(
        "tell me when the microwave is done",
        task_id="m1",
        set_by="soak",
        now=NOON,
        book=book,
        similarity=None,
        wish=TaskWish(repeat=Repeat.EACH, cooldown_s=30),
    )


async def test_a_day_leaves_memory_files_and_threads_as_they_were(tmp_path: Path, cabinet_dir: Path) -> None:
    seconds = round(float(os.environ.get("OMNI_WATCH_SOAK_HOURS", "24")) * HOUR_S)
    clock = StreamClock(NOON)
    observer = StatusObserver(clock)
    store = await SqlStore.open(tmp_path / "day.db")
    feed, channel = Day(seconds), ReportChannel(clock)
    task = a_task()
    await store.transact(lambda tx: requests.add_task(tx, task=task))
    rules = {rule.id: rule for rule in load_rulebook().all()}
    relay = Relay(store, [channel], clock, observer)
    relaying = asyncio.create_task(relay.run())
    engine = build_embedded(Cabinet(cabinet_dir))
    with ThreadPoolExecutor(1, "fitting") as fitting:
        roster = Roster(
            feed.name,
            store=store,
            rules=rules,
            model=engine,
            fitting=fitting,
            clock=clock,
            observer=observer,
        )
        heartbeat = Heartbeat(
            feed,
            roster,
            store=store,
            snapshots=SnapshotFolder(tmp_path / "snapshots", observer=observer),
            model_thread=ModelThread(engine),
            clock=clock,
            observer=observer,
            expiries_s=lambda priority: {channel.name: 3600.0},
            on_alerts=lambda alerts: relay.wake(),
        )
        await roster.look(clock.now())
        await roster.settled()
        told, before = 0, Size.now()
        async for each in feed.units():
            clock.advance_to(each.end_s)
            told += len(await heartbeat.beat(each))
            if each.index % 20 == 0:
                await store.transact(lambda tx: requests.settle(tx, clock.now()))
                await roster.look(clock.now())
            if each.index == min(WARM_UP_S, seconds // 2):
                before = Size.now()
        after = Size.now()
    await relay.drain(5)
    await relaying
    await store.close()

    print(f"{seconds / HOUR_S:g} h: {before} -> {after}, {told} alerts, {observer.numbers()}")
    assert told == seconds // EVENT_EVERY_S
    assert after.rss_mb - before.rss_mb < GROWTH_MAX_MB
    assert after.files <= before.files
    assert after.threads <= before.threads
