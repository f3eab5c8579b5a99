"""The numbers of a house, and one observer made of several."""

from __future__ import annotations

import pytest

from omni_watch.domain.units import FeedState, Sense
from omni_watch.telemetry.fanout import Observers
from omni_watch.telemetry.status import STEPS_KEPT, StatusObserver
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_observer import FakeObserver


def decided(status: StatusObserver, step_ms: float = 10.0, feed: str = "porch", gaps: tuple[str, ...] = ()) -> None:
    status.on("unit.decided", feed=feed, index=0, lag_s=0.25, step_ms=step_ms, spoke=False, gaps=list(gaps))


def test_a_house_that_has_not_begun_has_no_numbers() -> None:
    numbers = StatusObserver(FakeClock()).numbers()

    assert not numbers.is_ready
    assert numbers.feeds == {}
    assert numbers.step_ms == {}
    assert numbers.outbox_pending is None
    assert numbers.tasks_watched == 0


def test_units_are_counted_by_what_became_of_them() -> None:
    status = StatusObserver(FakeClock())
    for _ in range(3):
        decided(status)
    status.on("unit.skipped", feed="porch", index=4, lag_s=3.1)
    status.on("unit.dropped", feed="porch", count=2)
    status.on("unit.shed", feed="porch", index=5, what="frames", lag_s=2.1)
    status.on("frame.dropped", feed="porch", count=7)
    status.on("alert.queued", alert_id="a-1")
    status.on("outbox", pending=2)

    numbers = status.numbers()

    assert (numbers.units_decided, numbers.units_missed, numbers.units_shed) == (3, 3, 1)
    assert (numbers.frames_dropped, numbers.alerts, numbers.outbox_pending) == (7, 1, 2)


def test_step_times_are_taken_of_a_bounded_number_of_steps() -> None:
    status = StatusObserver(FakeClock())
    decided(status, step_ms=9000.0)
    for _ in range(STEPS_KEPT - 1):
        decided(status, step_ms=10.0)
    assert status.numbers().step_ms == {"p50": 10.0, "p95": 10.0, "max": 9000.0}

    decided(status, step_ms=20.0)

    assert status.numbers().step_ms["max"] == 20.0


def test_the_age_of_the_last_picture_grows_while_the_camera_is_away() -> None:
    clock = FakeClock()
    status = StatusObserver(clock)
    decided(status)
    for _ in range(9):
        clock.advance(1.0)
        decided(status, gaps=("sight:lost", "hearing:absent"))

    porch = status.numbers().feeds["porch"]

    assert porch.last_frame_age_s == pytest.approx(9.2, abs=0.06)
    assert porch.fps == 0.1
    assert porch.lag_s == 0.25


def test_losing_a_camera_and_trying_again_and_again_is_one_reconnect() -> None:
    status = StatusObserver(FakeClock())
    for state in ("opening", "live", "stale", "waiting", "opening", "waiting", "opening", "live", "waiting"):
        status.on("feed.state", feed="porch", sense="sight", state=state, detail="")

    porch = status.numbers().feeds["porch"]

    assert porch.states == {"sight": "waiting"}
    assert porch.reconnects == 2


def test_feeds_are_told_apart() -> None:
    status = StatusObserver(FakeClock())
    status.on("session.opened", feed="yard", tasks=2, took_ms=5)
    status.on("session.opened", feed="porch", tasks=3, took_ms=5)
    decided(status, gaps=("hearing:absent",))

    numbers = status.numbers()

    assert list(numbers.feeds) == ["porch", "yard"]
    assert numbers.feeds["porch"].fps == 1.0
    assert numbers.feeds["yard"].last_frame_age_s is None
    assert numbers.tasks_watched == 3


def test_a_house_is_ready_until_it_stops() -> None:
    status = StatusObserver(FakeClock())
    status.on("ready")
    assert status.numbers().is_ready

    status.on("stopping")

    assert not status.numbers().is_ready


def test_several_observers_hear_the_same_in_the_same_order() -> None:
    first, second = FakeObserver(), FakeObserver()
    observers = Observers(first, second)

    observers.on("ready")
    observers.feed_state("porch", Sense.SIGHT, FeedState.LIVE, "640x480")
    observers.dropped("porch", "block", 3)

    assert first.events == second.events
    assert first.events == [
        ("ready", {}),
        ("feed.state", {"feed": "porch", "sense": "sight", "state": "live", "detail": "640x480"}),
        ("block.dropped", {"feed": "porch", "count": 3}),
    ]
