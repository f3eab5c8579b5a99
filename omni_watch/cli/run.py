"""`omni-watch run`: the daemon, in the foreground."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from zoneinfo import ZoneInfo

import click
from rich.console import Console

from omni_watch.cli.live import ConsoleHandler, live_line
from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.config.settings import MetricsSettings, Settings
from omni_watch.telemetry.clock import SystemClock
from omni_watch.telemetry.logs import LogObserver, set_up_logs
from omni_watch.telemetry.metrics import MetricsObserver, metrics_server
from omni_watch.telemetry.status import StatusObserver
from omni_watch.telemetry.systemd import SystemdObserver, systemd_notifier
from omni_watch.watch.ports import Clock, Observer


@click.command(short_help="Watch the configured feeds until told to stop.")
@pass_shell
def run(shell: Shell) -> None:
    """Watch the configured feeds until told to stop (Ctrl-C, or SIGTERM), and tell what happens.

    \b
    omni-watch run
    omni-watch run --config ./config.toml -v

    Needs a configuration file: deploy/config.example.toml shows one. In a terminal a line at the bottom says how it
    goes; under systemd the log is JSON and the watchdog is fed by decided units.
    """
    settings = shell.settings(is_file_needed=True).with_feeds()
    clock = SystemClock()
    status = StatusObserver(clock)
    with (
        _terminal(shell, settings, status, clock) as terminal,
        _service(settings, clock) as service,
        _metrics(settings.metrics) as metrics,
    ):
        observers: list[Observer] = [LogObserver(), status, *service, *metrics, *terminal]
        shell.application.run_daemon(settings, observers, shell.aside() if terminal else None)


@contextmanager
def _service(settings: Settings, clock: Clock) -> Iterator[list[Observer]]:
    """What tells the service manager, when there is one."""
    if settings.service.notify_socket is None:
        yield []
        return
    with systemd_notifier() as notifier:
        yield [SystemdObserver(notifier, clock=clock, watchdog_s=settings.service.watchdog_s)]


@contextmanager
def _metrics(settings: MetricsSettings) -> Iterator[list[Observer]]:
    """What counts for Prometheus, when that is wanted. A house is watched without numbers rather than not at all."""
    if not settings.enabled:
        yield []
        return
    metrics = MetricsObserver()
    with ExitStack() as stack:
        try:
            stack.enter_context(metrics_server(metrics.registry, settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            LogObserver().on("metrics.unavailable", address=where, why=error.strerror or str(error))
        yield [metrics]


@contextmanager
def _terminal(shell: Shell, settings: Settings, status: StatusObserver, clock: Clock) -> Iterator[list[Observer]]:
    """Logs to standard error; with a live line below them, and alerts among them, when that is a terminal."""
    console = shell.aside()
    is_watched = console.is_terminal and not shell.as_json and settings.log.format != "json"
    _set_up_logs(shell, settings, console if is_watched else None)
    if not is_watched:
        yield []
        return
    with live_line(console, status, clock) as observer:
        yield [observer]


def _set_up_logs(shell: Shell, settings: Settings, console: Console | None) -> None:
    handler: logging.Handler | None = ConsoleHandler(console) if console else None
    set_up_logs(
        level="debug" if shell.is_verbose else settings.log.level,
        style="json" if shell.as_json else settings.log.format,
        is_supervised=settings.service.is_supervised,
        zone=ZoneInfo(settings.zone),
        handler=handler,
    )
