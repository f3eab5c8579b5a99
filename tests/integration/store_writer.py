"""A program that commits alerts as fast as it can, for `test_store_kill.py` to kill.

Reads one database path after another from standard input; for each it forks a child that prints its process id and
then, after each commit, the id of the alert, until it is killed. Forking spares every child the imports.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path

from omni_watch.store.database import open_store
from omni_watch.watch.judge import judge
from omni_watch.watch.ledger import Mark
from omni_watch.watch.requests import commit_verdict
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit
from tests.fakes.values import a_task, says


def commit_alerts(path: Path) -> None:
    """Until killed. What is printed was committed before."""
    print(os.getpid(), flush=True)
    with open_store(path) as store:
        if store.transact(lambda tx: tx.tasks.get("kettle01")) is None:
            store.transact(lambda tx: tx.tasks.add(a_task()))
        for second in count():
            task = store.transact(lambda tx: tx.tasks.get("kettle01"))
            assert task is not None
            now = NOON + timedelta(seconds=second)
            mark = Mark(task_id=task.id, feed="kitchen", is_primed=True)
            verdict = judge(says(task.id), unit=unit(second), tasks={task.id: task}, marks={task.id: mark}, now=now)
            alerts = store.transact(
                lambda tx, v=verdict: commit_verdict(tx, v, lambda priority: {"mqtt": 300.0, "voice": 30.0})  # type: ignore[misc]
            )
            print(alerts[0].id, flush=True)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            commit_alerts(Path(line.strip()))
        os.waitpid(child, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
