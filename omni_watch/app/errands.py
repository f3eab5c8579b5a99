"""Asking the running daemon for what only it can do: a wish left in the store, and its answer.

the command line ── leave ──> store ── read within a second ──> daemon
                 <── answer ──       <── answer ──
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from filelock import FileLock, Timeout

from omni_watch.domain.errors import RequestError
from omni_watch.domain.wishes import Wish
from omni_watch.watch.ports import Clock, Transaction

Transact = Callable[[Callable[[Transaction], Any]], Any]

TEACH: Final = "teach"  # keep what a feed shows now as an example; the payload is `showing.Showing`'s
QUIET: Final = "quiet"  # end what companions are saying; no payload
LOCK: Final = "daemon.lock"
PATIENCE_S: Final = 15.0  # for an answer
POLL_S: Final = 0.2


def daemon_lock(state_dir: Path) -> FileLock:
    """The lock that a running daemon holds."""
    return FileLock(state_dir / LOCK)


def is_daemon_running(state_dir: Path) -> bool:
    try:
        with daemon_lock(state_dir).acquire(timeout=0):
            return False
    except Timeout:
        return True


def ask_daemon(transact: Transact, kind: str, payload: Mapping[str, Any], *, clock: Clock) -> None:
    """Leave a wish and wait until the daemon has done it. Blocks for up to 15 s.

    Raises:
        RequestError: the daemon could not do it, and why; or it does not answer.
    """
    wish = Wish(id=token_hex(4), kind=kind, payload=payload, made_at=clock.now())
    transact(lambda tx: tx.wishes.leave(wish))
    until_s = clock.monotonic() + PATIENCE_S
    while clock.monotonic() < until_s:
        answered = transact(lambda tx: tx.wishes.get(wish.id))
        if answered is not None and answered.answer is not None:
            if error := answered.answer.get("error"):
                raise RequestError(str(error))
            return
        time.sleep(POLL_S)
    raise RequestError(f"the running daemon did not answer within {PATIENCE_S:g} s; `omni-watch doctor` looks closer")
