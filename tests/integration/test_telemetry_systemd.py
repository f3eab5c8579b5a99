"""What the service manager reads on its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_watch.telemetry.systemd import Notifier, SystemdObserver, systemd_notifier
from tests.fakes.fake_clock import FakeClock


class Manager:
    """The service manager's end: a real datagram socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Everything sent since the last look: a datagram is there as soon as the sender's call returned."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    yield manager
    manager.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic_s=1000.0)


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    with systemd_notifier() as notifier:
        yield notifier


@pytest.fixture
def observer(notifier: Notifier, clock: FakeClock) -> SystemdObserver:
    return SystemdObserver(notifier, clock=clock, watchdog_s=60.0)


def decided(observer: SystemdObserver) -> None:
    observer.on("unit.decided", feed="porch", index=1, lag_s=0.1, step_ms=20.0, spoke=False, gaps=[])


def test_ready_is_said_once_with_what_is_watched(observer: SystemdObserver, manager: Manager) -> None:
    observer.on("session.opened", feed="porch", tasks=2, took_ms=3)
    observer.on("session.opened", feed="yard", tasks=1, took_ms=3)
    assert manager.heard() == []

    observer.on("ready")
    observer.on("ready")

    assert manager.heard() == ["READY=1\nSTATUS=watching 2 feeds for 3 tasks"]


def test_loading_asks_for_patience(observer: SystemdObserver, manager: Manager) -> None:
    observer.on("loading", what="sounds")
    observer.on("ready")
    observer.on("loading", what="sounds")

    assert manager.heard() == [
        "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=loading sounds",
        "READY=1\nSTATUS=watching 0 feeds for 0 tasks",
    ]


def test_only_decided_units_feed_the_watchdog(observer: SystemdObserver, manager: Manager) -> None:
    observer.on("ready")
    manager.heard()
    for event in ("unit.shed", "unit.skipped", "unit.dropped"):
        observer.on(event, feed="porch", index=1, lag_s=4.0)
    observer.on("feed.state", feed="porch", sense="sight", state="live", detail="")
    observer.on("delivery.sent", alert_id="a-1", channel="mqtt")
    assert manager.heard() == []

    decided(observer)

    assert manager.heard() == ["WATCHDOG=1"]


def test_the_watchdog_is_fed_twice_in_its_interval_and_no_more(
    observer: SystemdObserver, manager: Manager, clock: FakeClock
) -> None:
    fed_at_s = []
    for second in range(121):
        decided(observer)
        fed_at_s += [second] * len(manager.heard())
        clock.advance(1.0)

    assert fed_at_s == [0, 30, 60, 90, 120]


def test_without_a_watchdog_nothing_is_fed(manager: Manager, notifier: Notifier, clock: FakeClock) -> None:
    observer = SystemdObserver(notifier, clock=clock, watchdog_s=None)

    decided(observer)

    assert manager.heard() == []


def test_status_changes_only_when_something_changed(observer: SystemdObserver, manager: Manager) -> None:
    observer.on("session.opened", feed="porch", tasks=1, took_ms=3)
    observer.on("ready")
    manager.heard()
    for state in ("waiting", "waiting", "opening", "live", "live"):
        observer.on("feed.state", feed="porch", sense="sight", state=state, detail="rtsp://anna:pw@cam")
    observer.on("session.opened", feed="porch", tasks=1, took_ms=3)

    assert manager.heard() == [
        "STATUS=watching 1 feed for 1 task; porch sight waiting",
        "STATUS=watching 1 feed for 1 task; porch sight opening",
        "STATUS=watching 1 feed for 1 task",
    ]


def test_reloading_carries_the_monotonic_time_and_ends_with_ready(
    observer: SystemdObserver, manager: Manager, clock: FakeClock
) -> None:
    observer.on("ready")
    manager.heard()
    clock.advance(0.5)
    observer.on("reloading")
    observer.on("ready")

    assert manager.heard() == [
        "RELOADING=1\nMONOTONIC_USEC=1000500000",
        "READY=1\nSTATUS=watching 0 feeds for 0 tasks",
    ]


def test_stopping_is_announced(observer: SystemdObserver, manager: Manager) -> None:
    observer.on("ready")
    manager.heard()
    observer.on("stopping")

    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping"]


def test_a_manager_that_went_away_does_not_stop_the_house(observer: SystemdObserver, manager: Manager) -> None:
    manager.close()
    manager.path.unlink()

    observer.on("ready")
    decided(observer)
