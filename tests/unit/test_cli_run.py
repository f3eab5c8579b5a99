"""`omni-watch run` around the daemon: logs, the live line, the service manager's socket."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from omni_watch.cli import run_command
from omni_watch.cli.live import LiveLine, line, live_line
from omni_watch.cli.shell import Shell
from omni_watch.config.settings import Settings
from omni_watch.domain.units import FeedState, Sense
from omni_watch.telemetry.fanout import Observers
from omni_watch.telemetry.logs import LOGGER
from omni_watch.telemetry.status import StatusObserver
from omni_watch.watch.ports import Observer
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_house import fake_application


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger(LOGGER)
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "config.toml"
    path.write_text('[[feeds]]\nname = "porch"\naudio = "mic"\n')
    return path


def a_minute(settings: Settings, observers: Sequence[Observer]) -> None:
    """A daemon that starts, decides a unit, loses its microphone and stops."""
    told = Observers(*observers)
    told.on("ready")
    told.on("unit.decided", feed="porch", index=1, lag_s=0.1, step_ms=20.0, spoke=False, gaps=[])
    told.feed_state("porch", Sense.HEARING, FeedState.WAITING, "unplugged")
    told.on("stopping")


def run(config: Path, *more: str) -> int:
    application = fake_application(config.parent)
    application.daemon = a_minute
    return run_command(["run", "--config", str(config), *more], Shell(given_application=application))


def test_a_run_logs_plain_lines_where_nobody_supervises(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config) == 0

    captured = capsys.readouterr()
    assert captured.out == ""
    assert [each.split(" ", 1)[1] for each in captured.err.splitlines()] == [
        "INFO    ready",
        "WARNING feed.state feed=porch sense=hearing state=waiting detail=unplugged",
        "INFO    stopping",
    ]


def test_in_a_terminal_log_lines_stand_above_the_live_line(config: Path) -> None:
    paper = io.StringIO()

    class Watched(Shell):
        def aside(self) -> Console:
            return Console(file=paper, force_terminal=True, color_system=None, width=100)

    application = fake_application(config.parent)
    application.daemon = a_minute
    run_command(["run", "--config", str(config)], Watched(given_application=application))

    shown = paper.getvalue()
    assert "INFO    ready\n" in shown
    assert "watching 0 tasks | porch microphone waiting | step 20 ms p95 | 0 alerts" in shown
    assert "stopping | " in shown


def test_verbose_adds_a_line_for_each_unit(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, "-v")

    assert "unit.decided feed=porch index=1" in capsys.readouterr().err


@pytest.mark.parametrize("is_supervised", [True, False])
def test_a_run_logs_json_under_systemd_or_when_asked(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_supervised: bool
) -> None:
    if is_supervised:
        monkeypatch.setenv("INVOCATION_ID", "0")
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")

    run(config, *([] if is_supervised else ["--json"]))

    events = [json.loads(each)["event"] for each in capsys.readouterr().err.splitlines()]
    assert events == ["ready", "feed.state", "stopping"]


def test_the_service_manager_hears_ready_alive_and_stopping(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")

        run(config)

        heard = [manager.recv(4096).decode().split("\n")[0] for _ in range(4)]

    assert heard == [
        "READY=1",
        "WATCHDOG=1",
        "STATUS=watching 0 feeds for 0 tasks; porch hearing waiting",
        "STOPPING=1",
    ]


class TestLiveLine:
    def status(self) -> StatusObserver:
        status = StatusObserver(FakeClock())
        status.on("session.opened", feed="porch", tasks=2, took_ms=1)
        status.on("feed.state", feed="porch", sense="sight", state="live", detail="")
        status.on("unit.decided", feed="porch", index=0, lag_s=0.24, step_ms=21.4, spoke=False, gaps=[])
        return status

    def test_it_says_what_is_watched_how_fast_and_how_late(self) -> None:
        status = self.status()
        assert line(status.numbers()).plain == "starting | porch 1.0 fps lag 0.2 s | step 21 ms p95 | 0 alerts"
        status.on("ready")
        status.on("alert.queued", alert_id="a-1")
        status.on("unit.skipped", feed="porch", index=2, lag_s=4.0)
        status.on("outbox", pending=2)

        shown = line(status.numbers()).plain

        assert shown == "watching 2 tasks | porch 1.0 fps lag 0.2 s | step 21 ms p95 | 1 late | 2 to tell | 1 alert"

    def test_a_camera_that_is_away_is_named(self) -> None:
        status = self.status()
        status.on("feed.state", feed="porch", sense="sight", state="waiting", detail="")

        assert "porch camera waiting" in line(status.numbers()).plain

    def test_units_redraw_it_at_most_twice_a_second_and_news_at_once(self) -> None:
        clock, status, drawn = FakeClock(), self.status(), []

        class Paper:
            def update(self, renderable: object, *, refresh: bool) -> None:
                drawn.append(clock.monotonic())

        observer = LiveLine(Paper(), status, clock)  # type: ignore[arg-type]
        for _ in range(10):
            observer.on("unit.decided")
            clock.advance(0.25)
        observer.on("alert.queued")

        assert [at - drawn[0] for at in drawn] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]

    def test_it_is_drawn_in_a_terminal_and_gone_afterwards(self) -> None:
        paper = io.StringIO()
        console = Console(file=paper, force_terminal=True, width=120)
        with live_line(console, self.status(), FakeClock()) as observer:
            observer.on("ready")

        assert "starting" in paper.getvalue()
        assert paper.getvalue().endswith("\x1b[2K")
