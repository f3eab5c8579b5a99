"""Run a worker; start it again within bounds; then let the process fail, so that the service manager takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from omni_watch.domain.errors import OmniWatchError
from omni_watch.watch.ports import Clock, Observer

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0


async def supervise(
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    observer: Observer,
    clock: Clock,
    restarts: int = 5,
    window_s: float = 600.0,
) -> None:
    """Run `work` until it returns; start it again after an error of ours that may pass.

    At most `restarts` times within `window_s` seconds, after pauses that double; the next such error is raised.
    A worker that then runs for a whole window starts with a clean record. Any other error is a bug and is raised at
    once, and cancellation passes through.
    """
    failed_at_s: list[float] = []
    while True:
        try:
            await work()
        except (OmniWatchError, ExceptionGroup) as error:
            now_s = clock.monotonic()
            failed_at_s = [at_s for at_s in failed_at_s if now_s - at_s < window_s]
            if not may_pass(error) or len(failed_at_s) >= restarts:
                raise
            failed_at_s.append(now_s)
            attempt = len(failed_at_s)
            observer.on("worker.restarted", worker=name, why=_first_line(error), attempt=attempt)
            await asyncio.sleep(pause_s(attempt))
        else:
            return


def may_pass(error: Exception) -> bool:
    """Whether the same work may succeed later; of a group of errors, only if that holds for each."""
    if isinstance(error, ExceptionGroup):
        return all(may_pass(inner) for inner in error.exceptions)
    return isinstance(error, OmniWatchError) and error.can_retry


def pause_s(attempt: int) -> float:
    """Seconds before the `attempt`-th restart (1 for the first) of a window: 0.5, 1, 2, … at most 30."""
    return float(min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S))


def _first_line(error: Exception) -> str:
    inner = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    return _first_line(inner) if isinstance(inner, ExceptionGroup) else str(inner).partition("\n")[0]
