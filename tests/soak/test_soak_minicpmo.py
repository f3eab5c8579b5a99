"""Hours of units through the native model, over the tiny checkpoint: memory and the cost of a unit stay flat.

Run by `make soak`, or `pytest -m soak`.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pytest
import torch

from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.decisions import Decision
from omni_watch.domain.tasks import Task
from omni_watch.domain.units import Unit
from omni_watch.duplex.minicpmo.building import FeedPlace, MiniCpmSettings, build
from omni_watch.duplex.minicpmo.engine import MiniCpmEngine
from omni_watch.watch.briefing import BriefedTask, Briefing
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit
from tests.fakes.values import a_task

pytestmark = pytest.mark.soak

UNITS = int(os.environ.get("OMNI_WATCH_SOAK_UNITS", "20000"))


def an_engine(tiny: Path, told: list[str]) -> MiniCpmEngine:
    settings = MiniCpmSettings(
        path=str(tiny), device="cpu", dtype="float32", context_tokens=4096, feeds={"kitchen": FeedPlace()}
    )
    return build(
        settings,
        wall=lambda at_s: NOON + timedelta(seconds=at_s),
        tongues=load_rulebook(None).phrasebook.tongues,
        similarity=None,
        tell=lambda event, **_fields: told.append(event),
    )


def seconds(count: int) -> Iterator[Unit]:
    """Noise, and a picture in which something moves now and then."""
    chance = np.random.default_rng(5)
    still = chance.integers(0, 256, (48, 64, 3), np.uint8)
    for index in range(count):
        if index % 50 == 0:
            still = chance.integers(0, 256, (48, 64, 3), np.uint8)
        audio = (0.05 * chance.standard_normal(16_000)).astype(np.float32)
        yield unit(index, audio=audio, frame=still)


def test_twenty_thousand_units_leave_memory_and_cost_as_they_were(tiny_folder: Path) -> None:
    torch.set_num_threads(1)
    told: list[str] = []
    engine = an_engine(tiny_folder, told)
    task: Task = a_task()
    session = engine.open(Briefing(feed="kitchen", tasks=(BriefedTask(task=task),)))
    process, costs_ms, rss = psutil.Process(), [], []
    for each in seconds(UNITS):
        began = time.perf_counter()
        decision: Decision = session.step(each)
        engine.work_ahead()
        costs_ms.append((time.perf_counter() - began) * 1000)
        assert decision.readings
        if each.index % 1000 == 999:
            gc.collect()
            rss.append(process.memory_info().rss / 2**20)
    print(f"\n  {told.count('session.rotated')} rotations, rss {rss[1]:.0f} -> {rss[-1]:.0f} MB, ", end="")
    print(f"unit {median(costs_ms[:2000]):.1f} -> {median(costs_ms[-2000:]):.1f} ms")
    assert told.count("session.rotated") >= UNITS // 1000
    assert rss[-1] - rss[1] < 25
