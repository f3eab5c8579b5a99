"""The only place where concrete things meet: what the command line may ask for.

Each door imports what it needs when it is used, so that `omni-watch task list` starts without models, brokers or
media libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from omni_watch.app.doctor import Finding
    from omni_watch.app.house import House
    from omni_watch.config.settings import Settings
    from omni_watch.watch.ports import Observer


def open_house(config_path: Path | None = None) -> House:
    """Tasks, lessons and alerts; see `app.house`."""
    from omni_watch.app import house

    return house.open_house(config_path)


def run_daemon(settings: Settings, observers: Sequence[Observer], console: Console | None = None) -> None:
    """Watch until told to stop; alerts are also printed on `console` when there is one; see `app.daemon`."""
    from omni_watch.app import daemon

    daemon.run_daemon(settings, observers, console)


def replay(
    settings: Settings,
    clip: Path,
    *,
    tasks: Sequence[str],
    listens: bool = False,
    teach: Path | None = None,
    on_progress: Callable[[float, float | None], None] | None = None,
    keeps_trace: bool = False,
) -> Mapping[str, Any]:
    """The document that `omni-watch replay --json` prints; see `app.replaying`."""
    from omni_watch.app.lessons import read_teach_file
    from omni_watch.app.replaying import ReplayPlan, run_replay

    takes = read_teach_file(teach) if teach is not None else []
    wanted = ReplayPlan(clip=clip, tasks=tasks, listens=listens, takes=takes, keeps_trace=keeps_trace)
    return asyncio.run(run_replay(settings, wanted, on_progress=on_progress)).as_json()


def run_demo(console: Console, folder: Path | None = None) -> Mapping[str, Any]:
    """Watch the shipped clip and tell its alert three ways; see `app.demo`."""
    from omni_watch.app import demo

    return demo.run_demo(console, folder)


def diagnose(settings: Settings, *, is_quick: bool = False) -> Sequence[Finding]:
    """What works, what does not, and what to do; see `app.doctor`."""
    from omni_watch.app import diagnosing

    return diagnosing.diagnose(settings, is_quick=is_quick)


def check_parity(
    folder: Path, *, dtype: str, device: str, on_progress: Callable[[int, int], None] | None = None
) -> Mapping[str, Any]:
    """Is the native model the one that was recorded? See `app.parity`."""
    from omni_watch.app import parity

    return parity.check_parity(folder, dtype=dtype, device=device, on_progress=on_progress)
