"""The status line that a person sees while the daemon runs in a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from omni_watch.telemetry.status import FeedNumbers, HouseNumbers, StatusObserver
from omni_watch.watch.ports import Clock, Observer

REFRESH_S = 0.5
SENSES = {"sight": "camera", "hearing": "microphone"}


class LiveLine:
    """Implements `Observer`: redraws the line after events, at most twice a second. Loop thread only."""

    def __init__(self, live: Live, status: StatusObserver, clock: Clock) -> None:
        self._live = live
        self._status = status
        self._clock = clock
        self._drawn_at_s: float | None = None

    def on(self, event: str, **fields: Any) -> None:
        now_s = self._clock.monotonic()
        is_due = self._drawn_at_s is None or now_s - self._drawn_at_s >= REFRESH_S
        if is_due or event != "unit.decided":
            self._drawn_at_s = now_s
            self._live.update(line(self._status.numbers()), refresh=True)


class ConsoleHandler(logging.Handler):
    """Prints log lines above the status line instead of through it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def live_line(console: Console, status: StatusObserver, clock: Clock) -> Iterator[Observer]:
    """An observer that keeps one line at the bottom of the terminal up to date."""
    with Live(line(status.numbers()), console=console, auto_refresh=False, transient=True) as live:
        yield LiveLine(live, status, clock)


def line(numbers: HouseNumbers) -> Text:
    """`watching 3 tasks | porch 1.0 fps lag 0.2 s | step 21 ms p95 | 2 alerts`."""
    text = Text(overflow="ellipsis", no_wrap=True)
    count = numbers.tasks_watched
    text.append(f"watching {count} task{'s' * (count != 1)}" if numbers.is_ready else numbers.phase, style="bold")
    for name, feed in numbers.feeds.items():
        text.append(" | ").append_text(_feed(name, feed))
    if numbers.step_ms:
        text.append(f" | step {numbers.step_ms['p95']:.0f} ms p95")
    if missed := numbers.units_missed + numbers.units_shed:
        text.append(f" | {missed} late", style="yellow")
    if numbers.outbox_pending:
        text.append(f" | {numbers.outbox_pending} to tell", style="yellow")
    return text.append(f" | {numbers.alerts} alert{'s' * (numbers.alerts != 1)}")


def _feed(name: str, feed: FeedNumbers) -> Text:
    troubles = [
        f"{SENSES.get(sense, sense)} {state}" for sense, state in feed.states.items() if state not in ("live", "off")
    ]
    if troubles:
        return Text(f"{name} {', '.join(troubles)}", style="red")
    rate = f" {feed.fps:.1f} fps" if "sight" in feed.states else ""
    lag = "" if feed.lag_s is None else f" lag {feed.lag_s:.1f} s"
    sound = " sound off" if feed.states.get("hearing") == "off" else ""
    return Text(f"{name}{rate}{lag}{sound}", style="green")
