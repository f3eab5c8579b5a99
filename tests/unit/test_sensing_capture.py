"""One thread per device: back-off, mailbox, bugs."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
from tenacity.wait import wait_fixed

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import (
    BLOCKS_WAITING_MAX,
    PICTURES_WAITING_MAX,
    Block,
    CaptureThread,
    Finished,
    Item,
    Lost,
    Mailbox,
    Opened,
    Opening,
    pause_s,
)
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_device import FakeDevice
from tests.fakes.fake_picture import FakePicture

DEADLINE_S = 10.0


def picture(at_s: float) -> Picture:
    return Picture(at_s, FakePicture())


def block(at_s: float) -> Block:
    return Block(at_s, np.zeros(8, np.float32))


class Watched:
    """A mailbox, and everything that ever came out of it."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._arrived = threading.Event()
        self.mailbox = Mailbox(self._arrived.set)

    def until(self, kind: type, count: int = 1) -> list[Item]:
        """Wait for so many items of a kind; everything so far."""
        deadline_s = time.monotonic() + DEADLINE_S
        while sum(isinstance(item, kind) for item in self.items) < count:
            assert time.monotonic() < deadline_s, f"no {kind.__name__} came: {self.items}"
            self._arrived.wait(0.5)
            self._arrived.clear()
            self.items += self.mailbox.take()[0]
        return self.items


def test_pauses_double_from_one_second_to_sixty_with_jitter() -> None:
    for failures, shortest in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 59), (50, 59)]:
        pauses = [pause_s(failures) for _ in range(20)]
        assert all(shortest <= each <= min(60, shortest + 1) + 1e-9 for each in pauses), (failures, pauses)
        assert failures > 6 or len(set(pauses)) > 1


def test_pictures_are_dropped_oldest_first_and_before_any_sound() -> None:
    wakes: list[int] = []
    mailbox = Mailbox(lambda: wakes.append(1))
    mailbox.put([block(0.0)])
    for tick in range(PICTURES_WAITING_MAX + 5):
        mailbox.put([picture(tick)])
    items, dropped = mailbox.take()
    assert isinstance(items[0], Block)
    assert [item.at_s for item in items[1:] if isinstance(item, Picture)] == list(range(5, PICTURES_WAITING_MAX + 5))
    assert dropped == {"frame": 5}
    assert len(wakes) == 1
    assert mailbox.take() == ([], {})


def test_sound_is_bounded_too_and_notices_never_are() -> None:
    mailbox = Mailbox(lambda: None)
    mailbox.put([Opening(frozenset({Sense.SIGHT}))])
    mailbox.put([block(tick) for tick in range(BLOCKS_WAITING_MAX + 3)])
    items, dropped = mailbox.take()
    assert isinstance(items[0], Opening)
    assert isinstance(items[1], Block)
    assert items[1].at_s == 3
    assert dropped == {"block": 3}


def test_a_device_that_fails_is_closed_and_opened_again() -> None:
    device, watched = FakeDevice(Sense.SIGHT), Watched()
    device.open_errors = [FeedError("away"), FeedError("still away")]
    thread = CaptureThread(device, watched.mailbox, FakeClock(), wait_fixed(0))
    thread.start()
    device.script.put([picture(1.0)])
    device.script.put(FeedError("gone again"))
    device.script.put([picture(2.0)])
    items = watched.until(Picture, 2)
    thread.stop()
    assert thread.join(DEADLINE_S)
    kinds = [type(item) for item in items]
    assert kinds == [Opening, Lost, Opening, Lost, Opening, Opened, Picture, Lost, Opening, Opened, Picture]
    assert device.opened == 4
    assert device.closed == 4


def test_pauses_grow_with_failures_in_a_row_and_shrink_after_steady_work() -> None:
    device, watched, clock = FakeDevice(Sense.SIGHT), Watched(), FakeClock()
    asked: list[int] = []

    class Noting(wait_fixed):
        def __call__(self, retry_state: object) -> float:
            asked.append(retry_state.attempt_number)  # type: ignore[attr-defined]
            return 0.0

    device.open_errors = [FeedError("away")] * 3
    device.script.put(partial(clock.advance, 60))
    device.script.put(FeedError("gone after a good minute"))
    device.script.put(FeedError("gone at once"))
    thread = CaptureThread(device, watched.mailbox, clock, Noting(0))
    thread.start()
    watched.until(Lost, 5)
    thread.stop()
    assert thread.join(DEADLINE_S)
    assert asked == [1, 2, 3, 1, 2]


def test_a_device_that_can_never_work_is_not_tried_again() -> None:
    device, watched = FakeDevice(Sense.SIGHT), Watched()
    device.open_errors = [FeedError("no such scheme", can_retry=False)]
    CaptureThread(device, watched.mailbox, FakeClock(), wait_fixed(0)).start()
    items = watched.until(Finished)
    lost = next(item for item in items if isinstance(item, Lost))
    assert lost.pause_s is None
    assert device.opened == 1


def test_the_end_of_a_clip_ends_its_thread() -> None:
    device, watched = FakeDevice(Sense.SIGHT), Watched()
    device.script.put(None)
    CaptureThread(device, watched.mailbox, FakeClock(), wait_fixed(0)).start()
    assert watched.until(Finished)[-1] == Finished(device.senses, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_device_reaches_the_loop() -> None:
    device, watched = FakeDevice(Sense.SIGHT), Watched()
    device.script.put(ZeroDivisionError("a bug"))
    thread = CaptureThread(device, watched.mailbox, FakeClock(), wait_fixed(0))
    thread.start()
    finished = watched.until(Finished)[-1]
    assert thread.join(DEADLINE_S)
    assert isinstance(finished, Finished)
    assert isinstance(finished.bug, ZeroDivisionError)
    assert device.closed == 1


def test_a_pause_ends_at_once_when_the_feed_is_closed() -> None:
    device, watched = FakeDevice(Sense.SIGHT), Watched()
    device.open_errors = [FeedError("away")]
    thread = CaptureThread(device, watched.mailbox, FakeClock(), wait_fixed(60))
    thread.start()
    watched.until(Lost)
    thread.stop()
    assert thread.join(DEADLINE_S)
