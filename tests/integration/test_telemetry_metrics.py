"""The numbers for Prometheus, asked for over HTTP as Prometheus asks."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from omni_watch.domain.units import FeedState, Sense
from omni_watch.telemetry.fanout import Observers
from omni_watch.telemetry.metrics import MetricsObserver, metrics_server
from tests.fakes.clips import write_clip
from tests.fixtures_broker import free_port
from tests.fixtures_house import HouseProcess

Numbers = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def asked(port: int) -> Numbers:
    """Every sample that the server shows, by name and labels; it must be well-formed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert answer.status == 200
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def value(numbers: Numbers, name: str, **labels: str) -> float | None:
    return numbers.get((f"omni_watch_{name}", frozenset(labels.items())))


@pytest.fixture
def metrics() -> MetricsObserver:
    return MetricsObserver()


def decided(metrics: MetricsObserver, **fields: Any) -> None:
    metrics.on("unit.decided", **{"feed": "porch", "index": 1, "lag_s": 0.3, "step_ms": 40.0, "gaps": [], **fields})


def test_what_happens_in_the_house_is_counted(metrics: MetricsObserver) -> None:
    observer = Observers(metrics)
    metrics.on("session.opened", feed="porch", tasks=2, took_ms=3)
    metrics.on("ready")
    for lag_s in (0.2, 0.4):
        decided(metrics, lag_s=lag_s)
    metrics.on("unit.skipped", feed="porch", index=3, lag_s=3.2)
    metrics.on("unit.shed", feed="porch", index=4, what="frames", lag_s=2.2)
    observer.dropped("porch", "unit", 2)
    observer.dropped("porch", "frame", 7)
    metrics.on("words.dropped", feed="porch", seconds=1.5)
    metrics.on("worker.restarted", worker="relay", why="", attempt=1)
    metrics.on("engine.restarted", feed="porch", why="")
    metrics.on("outbox", pending=3)

    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        numbers = asked(port)

    assert value(numbers, "ready") == 1
    assert value(numbers, "tasks", feed="porch") == 2
    kinds = ("decided", "skipped", "shed", "dropped")
    assert [value(numbers, "units_total", feed="porch", kind=kind) for kind in kinds] == [2, 1, 1, 2]
    assert value(numbers, "lag_seconds", feed="porch") == 0.4
    assert value(numbers, "step_seconds_count", feed="porch") == 2
    assert value(numbers, "step_seconds_sum", feed="porch") == pytest.approx(0.08)
    assert value(numbers, "step_seconds_bucket", feed="porch", le="0.05") == 2
    assert value(numbers, "dropped_total", queue="frame", feed="porch") == 7
    assert value(numbers, "dropped_total", queue="words", feed="porch") == 1
    assert value(numbers, "restarts_total", what="relay") == 1
    assert value(numbers, "restarts_total", what="engine") == 1
    assert value(numbers, "outbox_pending") == 3
    assert numbers[("process_resident_memory_bytes", frozenset())] > 0


def test_alerts_tell_how_long_they_took_from_the_condition_to_each_receipt(metrics: MetricsObserver) -> None:
    metrics.on("alert.queued", alert_id="a-1", task_id="a", feed="porch", delay_s=0.9)
    metrics.on("alert.queued", alert_id="b-1", task_id="b", feed=None)
    metrics.on("delivery.sending", alert_id="a-1", channel="mqtt", delay_s=0.95)
    metrics.on("delivery.sent", alert_id="a-1", channel="mqtt", delay_s=1.1)
    metrics.on("delivery.sent", alert_id="a-1", channel="voice", delay_s=2.5)
    metrics.on("delivery.expired", alert_id="b-1", channel="voice", delay_s=90.0)

    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        numbers = asked(port)

    assert value(numbers, "alerts_total", feed="porch") == 1
    assert value(numbers, "alerts_total", feed="") == 1
    assert value(numbers, "alert_decision_seconds_sum") == 0.9
    assert value(numbers, "alert_delay_seconds_sum", channel="mqtt") == 1.1
    assert value(numbers, "alert_delay_seconds_count", channel="voice") == 1, "what was not told has no delay"
    assert value(numbers, "deliveries_total", channel="voice", state="expired") == 1


def test_a_feed_is_in_one_state_and_going_away_counts(metrics: MetricsObserver) -> None:
    observer = Observers(metrics)
    for state in (FeedState.OPENING, FeedState.LIVE, FeedState.STALE, FeedState.WAITING, FeedState.OPENING):
        observer.feed_state("porch", Sense.SIGHT, state)

    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        numbers = asked(port)

    states = {
        state.value: value(numbers, "feed_state", feed="porch", sense="sight", state=state.value) for state in FeedState
    }
    assert {state for state, is_in in states.items() if is_in} == {"opening"}
    assert value(numbers, "reconnects_total", feed="porch", sense="sight") == 1


def test_events_that_mean_nothing_to_it_are_passed_over(metrics: MetricsObserver) -> None:
    metrics.on("task.changed", task_id="a", state="done")
    metrics.on("stopping")

    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        assert value(asked(port), "ready") == 0


def test_the_port_is_free_again_afterwards(metrics: MetricsObserver) -> None:
    with metrics_server(metrics.registry, "127.0.0.1", 0) as port:
        assert asked(port)
        with pytest.raises(OSError), metrics_server(metrics.registry, "127.0.0.1", port):
            pytest.fail("two servers on one port")
    with socket.socket() as line:
        assert line.connect_ex(("127.0.0.1", port)) != 0


def settings(clip: Path, port: int) -> str:
    feed = f'[[feeds]]\nname = "porch"\nvideo = "{clip}"\n[voice]\noutput = "off"\n'
    return f"{feed}[metrics]\nenabled = true\nport = {port}\n"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "porch.mp4", seconds=120.0, fps=1, paint=lambda at_s: 60 + int(at_s) % 100, tone=None)


async def test_a_running_house_shows_its_numbers_on_this_machine_only(
    make_house: Callable[..., HouseProcess], clip: Path
) -> None:
    port = free_port()
    house = make_house(settings(clip, port))
    house.start()
    await house.until_ready()
    await house.until(lambda: (value(asked(port), "units_total", feed="porch", kind="decided") or 0) >= 2, "no units")

    numbers = asked(port)

    assert value(numbers, "ready") == 1
    assert value(numbers, "feed_state", feed="porch", sense="sight", state="live") == 1
    assert (value(numbers, "lag_seconds", feed="porch") or 9.0) < 3.0
    shown = {labels for name, labels in numbers if name.startswith("omni_watch_")}
    assert not [labels for labels in shown if {"task_id", "text"} & {label for label, _ in labels}]
    told = {each["area"]: each for each in house.ask("doctor", "--quick")["findings"]}
    assert told["metrics"]["what"] == f"shown at http://127.0.0.1:{port}/metrics"
    assert house.stop() == 0


async def test_a_port_that_is_taken_costs_the_numbers_and_nothing_else(
    make_house: Callable[..., HouseProcess], clip: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        house = make_house(settings(clip, other.getsockname()[1]))
        house.start()
        await house.until_ready()

        (event,) = house.events("metrics.unavailable")

    assert event["level"] == "warning"
    assert event["why"] == "Address already in use"
    assert house.stop() == 0
    assert json.dumps(event["address"]).startswith('"127.0.0.1:')
