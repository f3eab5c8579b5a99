"""Killed without warning at any moment, the store has everything that it said it has."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from omni_watch.domain.tasks import TaskState
from omni_watch.store import care
from omni_watch.store.database import open_store
from omni_watch.watch.ports import Transaction

KILLS = 30
WRITER = Path(__file__).with_name("store_writer.py")


@pytest.fixture
def writer() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(WRITER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(WRITER.parents[2])},
    )
    yield process
    process.kill()
    process.communicate()


def killed_after(writer: subprocess.Popen[str], path: Path, alive_s: float, commits: int = 0) -> list[str]:
    """Let the writer work on `path` for about `alive_s` after it began, or after so many commits; the alerts that it
    said were committed."""
    told, heard = _pipe(writer.stdin), _pipe(writer.stdout)
    told.write(f"{path}\n")
    told.flush()
    child = int(heard.readline())
    said = [heard.readline().strip() for _ in range(commits)]
    time.sleep(alive_s)
    os.kill(child, signal.SIGKILL)
    while (line := heard.readline()) != "gone\n":
        assert line, "the writer itself ended; its complaint is on standard error"
        said.append(line.strip())
    return said


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def test_after_thirty_kills_no_alert_that_was_committed_is_lost_or_halved(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    path = tmp_path / "omni-watch.db"
    chance = random.Random(20261122)
    committed: list[str] = []
    for turn in range(KILLS):
        if turn < KILLS // 3:  # while it makes its tables
            committed += killed_after(writer, path, chance.uniform(0.0, 0.2))
        else:  # however slow the machine is
            committed += killed_after(writer, path, chance.uniform(0.0, 0.05), chance.randint(1, 4))
        if path.exists():
            assert_whole(path, committed)
    assert len(committed) == len(set(committed)), "an occurrence is decided once"
    assert len(committed) > KILLS, "most kills came in the middle of the work"


def assert_whole(path: Path, committed: list[str]) -> None:
    """The database opens, is sound, and holds every alert with its deliveries and its task's transition."""

    def look(tx: Transaction) -> None:
        alerts = {alert.id: alert for alert in tx.alerts.recent(limit=10_000)}
        assert set(committed) <= set(alerts)
        assert len(alerts) <= len(committed) + KILLS, "at most one commit of each kill was not heard of any more"
        for alert_id in alerts:
            assert {delivery.channel for delivery in tx.alerts.deliveries(alert_id)} == {"mqtt", "voice"}
        task = tx.tasks.get("kettle01")
        if task is None:
            assert not alerts
            return
        assert task.fired_count == len(alerts)
        assert (task.state is TaskState.FIRED) is bool(alerts)

    with open_store(path) as store:
        store.transact(look)
    assert care.check(path).is_sound
