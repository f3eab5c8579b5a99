"""A worker that fails is started again, within bounds; everything else is let out. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from omni_watch.domain.errors import FeedError, ModelError, RequestError
from omni_watch.watch.ports import Clock
from omni_watch.watch.supervise import LONGEST_PAUSE_S, may_pass, pause_s, supervise
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.virtual_loop import LoopClock, run_virtually

CAMERA_AWAY = FeedError("porch: no route to host\nmore words", can_retry=True)


class Worker:
    """Fails as scripted, one entry for each start: an error to raise after some seconds, or None to end well."""

    def __init__(self, *script: Exception | None, after_s: float = 0.0) -> None:
        self._script = list(script)
        self._after_s = after_s
        self.starts = 0

    async def __call__(self) -> None:
        self.starts += 1
        await asyncio.sleep(self._after_s)
        error = self._script.pop(0)
        if error is not None:
            raise error


def watched(work: Callable[[], Any], observer: FakeObserver, **bounds: Any) -> float:
    """Supervise `work`; the virtual seconds it took."""
    clock = cast("Clock", LoopClock())
    _, passed_s = run_virtually(supervise("porch", work, observer=observer, clock=clock, **bounds))
    return passed_s


def test_work_that_ends_well_is_not_started_again() -> None:
    worker, observer = Worker(None), FakeObserver()

    watched(worker, observer)

    assert worker.starts == 1
    assert observer.events == []


def test_an_error_that_may_pass_restarts_the_worker_after_growing_pauses() -> None:
    worker, observer = Worker(CAMERA_AWAY, CAMERA_AWAY, CAMERA_AWAY, None), FakeObserver()

    passed_s = watched(worker, observer)

    assert worker.starts == 4
    assert passed_s == pytest.approx(0.5 + 1 + 2)
    assert observer.named("worker.restarted") == [
        {"worker": "porch", "why": "porch: no route to host", "attempt": attempt} for attempt in (1, 2, 3)
    ]


def test_too_many_failures_in_the_window_are_let_out() -> None:
    worker, observer = Worker(*[CAMERA_AWAY] * 10), FakeObserver()

    with pytest.raises(FeedError):
        watched(worker, observer, restarts=3)

    assert worker.starts == 4
    assert len(observer.named("worker.restarted")) == 3


def test_failures_that_are_far_apart_are_forgiven_for_ever() -> None:
    worker, observer = Worker(*[CAMERA_AWAY] * 50, None, after_s=100.0), FakeObserver()

    watched(worker, observer, restarts=2, window_s=150.0)

    assert worker.starts == 51
    assert {fields["attempt"] for fields in observer.named("worker.restarted")} == {1, 2}


def test_no_restart_is_allowed_when_none_is_granted() -> None:
    worker = Worker(CAMERA_AWAY)

    with pytest.raises(FeedError):
        watched(worker, FakeObserver(), restarts=0)

    assert worker.starts == 1


@pytest.mark.parametrize(
    "bug", [ValueError("bug"), ModelError("no such file"), RequestError("no"), FeedError("gone", can_retry=False)]
)
def test_what_cannot_pass_by_itself_is_let_out_at_once(bug: Exception) -> None:
    worker, observer = Worker(bug), FakeObserver()

    with pytest.raises(type(bug)):
        watched(worker, observer)

    assert worker.starts == 1
    assert observer.events == []


def test_a_group_of_errors_restarts_only_if_each_may_pass() -> None:
    mild = ExceptionGroup("two", [CAMERA_AWAY, ExceptionGroup("inner", [CAMERA_AWAY])])
    mixed = ExceptionGroup("two", [CAMERA_AWAY, ValueError("bug")])
    worker, observer = Worker(mild, mixed), FakeObserver()

    with pytest.raises(ExceptionGroup) as caught:
        watched(worker, observer)

    assert caught.value is mixed
    assert observer.named("worker.restarted") == [{"worker": "porch", "why": "porch: no route to host", "attempt": 1}]
    assert may_pass(mild)
    assert not may_pass(mixed)


@pytest.mark.parametrize("when_s", [0.0, 0.2, 5.0])
def test_cancelling_ends_work_and_pauses_alike(when_s: float) -> None:
    worker = Worker(*[CAMERA_AWAY] * 3, None, after_s=0.1)

    async def cancel_soon() -> None:
        clock = cast("Clock", LoopClock())
        watching = asyncio.create_task(supervise("porch", worker, observer=FakeObserver(), clock=clock, restarts=2))
        await asyncio.sleep(when_s)
        watching.cancel()
        await watching

    with pytest.raises(asyncio.CancelledError if when_s < 1 else FeedError):
        run_virtually(cancel_soon())


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [pause_s(attempt) for attempt in (1, 2, 3, 7, 8, 50)] == [0.5, 1.0, 2.0, LONGEST_PAUSE_S, 30.0, 30.0]
