"""The numbers of a running house for Prometheus: an observer that counts, and a small server that shows the counts.

Nothing private is among them: feeds, channels and states are named, tasks and words are not. The labels are as many as
the configuration has feeds and channels, so a house that runs for years has no more series than on its first day.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server
from prometheus_client.process_collector import ProcessCollector

from omni_watch import __version__
from omni_watch.domain.units import FeedState

STEP_BOUNDS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0)  # a step has one second
DELAY_BOUNDS_S: Final = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
STATES: Final = tuple(state.value for state in FeedState)


class MetricsObserver:
    """Implements `Observer`. Loop thread only; `registry` may be read on any thread.

    Times are in seconds. What an event does not say is not counted: an event can never fail here.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        Info("omni_watch", "The program.", registry=self.registry).info({"version": __version__})
        self._ready = self._gauge("ready", "Whether a first second was decided, and the house is not stopping.")
        self._units = self._counter("units", "Seconds of a feed, by what became of them.", "feed", "kind")
        self._lag = self._gauge("lag_seconds", "From the end of the last second to its decision.", "feed")
        self._step = self._histogram("step_seconds", "What the engine took for a second.", STEP_BOUNDS_S, "feed")
        self._tasks = self._gauge("tasks", "Tasks that are watched for.", "feed")
        self._alerts = self._counter("alerts", "Alerts that were decided; reminders have no feed.", "feed")
        self._decision = self._histogram(
            "alert_decision_seconds", "From the condition to the decision to tell it.", DELAY_BOUNDS_S
        )
        self._deliveries = self._counter("deliveries", "Steps of deliveries, by channel and state.", "channel", "state")
        self._delay = self._histogram(
            "alert_delay_seconds", "From the condition to the channel's receipt.", DELAY_BOUNDS_S, "channel"
        )
        self._outbox = self._gauge("outbox_pending", "Deliveries that are not finished.")
        self._dropped = self._counter("dropped", "What a full queue let go.", "queue", "feed")
        self._state = self._gauge("feed_state", "1 for the state that a feed's sense is in.", "feed", "sense", "state")
        self._reconnects = self._counter("reconnects", "Times that a feed went away.", "feed", "sense")
        self._restarts = self._counter("restarts", "Workers and engines that were started anew.", "what")
        self._states: dict[tuple[str, str], str] = {}

    def on(self, event: str, **fields: Any) -> None:
        feed = str(fields.get("feed") or "")
        match event.split("."):
            case ["unit", "decided"]:
                self._decided(feed, fields["lag_s"], fields["step_ms"])
            case ["unit", "shed" | "skipped" as kind]:
                self._units.labels(feed, kind).inc()
            case ["unit", "dropped"]:
                self._units.labels(feed, "dropped").inc(fields.get("count", 1))
            case ["frame" | "block" | "words" | "verdict" | "companion" as queue, "dropped"]:
                self._dropped.labels(queue, feed).inc(fields.get("count", 1))
            case ["session", "opened"]:
                self._tasks.labels(feed).set(fields["tasks"])
            case ["alert", "queued"]:
                self._queued(feed, fields.get("delay_s"))
            case ["delivery", state]:
                self._delivered(fields["channel"], state, fields.get("delay_s"))
            case ["feed", "state"]:
                self._moved(feed, fields["sense"], fields["state"])
            case ["outbox"]:
                self._outbox.set(fields["pending"])
            case ["worker", "restarted"]:
                self._restarts.labels(fields["worker"]).inc()
            case ["engine", "restarted"]:
                self._restarts.labels("engine").inc()
            case ["ready" | "stopping"]:
                self._ready.set(event == "ready")

    def _decided(self, feed: str, lag_s: float, step_ms: float) -> None:
        self._units.labels(feed, "decided").inc()
        self._lag.labels(feed).set(lag_s)
        self._step.labels(feed).observe(step_ms / 1000)

    def _queued(self, feed: str, delay_s: float | None) -> None:
        self._alerts.labels(feed).inc()
        if delay_s is not None:
            self._decision.observe(delay_s)

    def _delivered(self, channel: str, state: str, delay_s: float | None) -> None:
        self._deliveries.labels(channel, state).inc()
        if state == "sent" and delay_s is not None:
            self._delay.labels(channel).observe(delay_s)

    def _moved(self, feed: str, sense: str, state: str) -> None:
        if state == "waiting" and self._states.get((feed, sense)) in ("live", "stale"):
            self._reconnects.labels(feed, sense).inc()
        self._states[feed, sense] = state
        for each in STATES:
            self._state.labels(feed, sense, each).set(each == state)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"omni_watch_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"omni_watch_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, bounds_s: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"omni_watch_{name}", what, labels, buckets=bounds_s, registry=self.registry)


@contextmanager
def metrics_server(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Show the numbers at http://HOST:PORT/metrics until the end of the context; the port (0 lets the system choose).

    It answers on threads of its own, which only read.

    Raises:
        OSError: the port is taken, or the host is no address of this machine.
    """
    server, thread = start_http_server(port, host, registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2.0)
