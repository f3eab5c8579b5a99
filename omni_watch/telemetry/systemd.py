"""Tells the service manager what it must know: ready, status, still alive, reloading, stopping.

The watchdog is fed by a decided unit and by nothing else, so that a stuck model is a dead process. A lost camera does
not withhold it: units go on, with gaps. Without a service manager (no NOTIFY_SOCKET) nothing is sent.
Source: sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import sdnotify

from omni_watch.watch.ports import Clock

# a starting daemon asks for more time while it loads; much longer than any pause between two "loading" events
EXTEND_S: Final = 60


class Notifier(Protocol):
    """The door to the service manager; `sdnotify.SystemdNotifier` is one. Never raises, never blocks for long."""

    def notify(self, state: str) -> None: ...


@contextmanager
def systemd_notifier() -> Iterator[Notifier]:
    """The socket that NOTIFY_SOCKET names, until the end of the context. To be called only when there is one."""
    notifier = sdnotify.SystemdNotifier()
    try:
        yield notifier
    finally:
        if notifier.socket is not None:  # None: it could not be opened, and nothing is sent
            notifier.socket.close()


class SystemdObserver:
    """Implements `Observer`. Loop thread only."""

    def __init__(self, notifier: Notifier, *, clock: Clock, watchdog_s: float | None = None) -> None:
        self._notifier = notifier
        self._clock = clock
        self._beat_every_s = None if watchdog_s is None else watchdog_s / 2  # half, as sd_watchdog_enabled(3) advises
        self._beaten_at_s: float | None = None
        self._is_ready = False
        self._status = ""
        self._tasks: dict[str, int] = {}  # feed -> tasks of its session
        self._troubles: dict[tuple[str, str], str] = {}  # (feed, sense) -> state, of those that give nothing

    def on(self, event: str, **fields: Any) -> None:
        match event:
            case "unit.decided":
                self._beat()
            case "loading":
                self._loading(fields)
            case "ready":
                self._ready()
            case "reloading":
                self._is_ready = False
                self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.monotonic() * 1e6)}")
            case "stopping":
                self._is_ready = False  # what feeds do from now on is no news
                self._say("stopping", "STOPPING=1")
            case "session.opened":
                self._tasks[fields["feed"]] = fields["tasks"]
                self._tell_status()
            case "feed.state":
                self._note(fields["feed"], fields["sense"], fields["state"])
                self._tell_status()

    def _beat(self) -> None:
        if self._beat_every_s is None:
            return
        now_s = self._clock.monotonic()
        if self._beaten_at_s is None or now_s - self._beaten_at_s >= self._beat_every_s:
            self._beaten_at_s = now_s
            self._send("WATCHDOG=1")

    def _ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self._say(self._summary(), "READY=1")

    def _loading(self, fields: dict[str, Any]) -> None:
        if not self._is_ready:
            self._say(f"loading {fields.get('what', '')}".rstrip(), f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}")

    def _note(self, feed: str, sense: str, state: str) -> None:
        if state in ("live", "ended"):
            self._troubles.pop((feed, sense), None)
        else:
            self._troubles[feed, sense] = state

    def _tell_status(self) -> None:
        if self._is_ready and self._summary() != self._status:
            self._say(self._summary())

    def _summary(self) -> str:
        """`watching 2 feeds for 3 tasks; porch sight waiting`."""
        feeds, tasks = len(self._tasks), sum(self._tasks.values())
        watching = f"watching {feeds} feed{'s' * (feeds != 1)} for {tasks} task{'s' * (tasks != 1)}"
        return "; ".join([watching, *(f"{feed} {sense} {state}" for (feed, sense), state in self._troubles.items())])

    def _say(self, status: str, *first: str) -> None:
        self._status = status
        self._send(*first, f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        # sdnotify writes latin-1 and drops what does not fit; feed names are ASCII, so nothing is lost here
        self._notifier.notify("\n".join(lines).encode("ascii", "replace").decode("ascii"))
