"""The loop's shell around devices: what waits, what is dropped, how it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from tenacity.wait import wait_fixed

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Gap, GapCause, Sense, Unit
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import PICTURES_WAITING_MAX, Block
from omni_watch.sensing.live import UNITS_WAITING_MAX, LiveFeed
from omni_watch.sensing.opening import open_feed
from omni_watch.sensing.switch import SoundSwitch, SwitchedDevice
from omni_watch.telemetry.clock import SystemClock
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_device import FakeDevice
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_picture import FakePicture

LIMIT_S = 15.0


def feed_of(*devices: FakeDevice, clock: FakeClock | None = None, observer: FakeObserver | None = None) -> LiveFeed:
    clock, observer = clock or FakeClock(), observer or FakeObserver()
    return LiveFeed("den", devices, clock=clock, observer=observer, pauses=wait_fixed(0))


def passing(device: FakeDevice, clock: FakeClock, seconds: int) -> None:
    """Let time pass second by second on the device's thread, with a picture and sound at the end of each."""

    def second() -> list[Picture | Block]:
        clock.advance(1.0)
        at_s = clock.monotonic()
        picture = Picture(at_s, FakePicture(round(at_s)))
        if Sense.HEARING not in device.senses:
            return [picture]
        return [picture, Block(at_s - 1.0, np.full(16_000, 0.25, np.float32))]

    for _ in range(seconds):
        device.script.put(second)


class Expecting(FakeObserver):
    """Tells when so many units were dropped."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.happened = asyncio.Event()
        self._count = count

    def dropped(self, feed: str, what: str, count: int) -> None:
        super().dropped(feed, what, count)
        if len(self.named("unit.dropped")) == self._count:
            self.happened.set()


async def first(feed: LiveFeed, count: int = 1) -> list[Unit]:
    found: list[Unit] = []
    async with asyncio.timeout(LIMIT_S):
        async for unit in feed.units():
            found.append(unit)
            if len(found) == count:
                break
    return found


async def test_units_flow_by_the_clock_though_no_device_gives_anything() -> None:
    device = FakeDevice(Sense.SIGHT, Sense.HEARING)
    feed = LiveFeed("den", [device], clock=SystemClock(), observer=FakeObserver())
    (unit,) = await first(feed)
    await feed.close()
    assert unit.index == 0
    assert len(unit.gaps) == 2
    assert device.closed == 1


async def test_a_camera_and_a_separate_microphone_make_one_feed() -> None:
    clock = FakeClock()
    camera, microphone = FakeDevice(Sense.SIGHT), FakeDevice(Sense.HEARING)
    feed, begin_s = feed_of(camera, microphone, clock=clock), clock.monotonic()
    microphone.script.put([Block(begin_s, np.full(48_000, 0.25, np.float32))])
    passing(camera, clock, 3)
    units = await first(feed, 2)
    await feed.close()
    assert units[1].gaps == ()
    assert units[1].audio.mean() == pytest.approx(0.25)


async def test_at_most_four_units_wait_and_the_oldest_is_dropped_and_reported() -> None:
    seconds = UNITS_WAITING_MAX + 4
    device, clock, observer = (
        FakeDevice(Sense.SIGHT, Sense.HEARING),
        FakeClock(),
        Expecting(seconds - UNITS_WAITING_MAX),
    )
    feed = feed_of(device, clock=clock, observer=observer)
    units = feed.units()
    async with asyncio.timeout(LIMIT_S):
        passing(device, clock, 1)
        assert (await anext(units)).index == 0
        passing(device, clock, seconds)
        await observer.happened.wait()
        waiting = [(await anext(units)).index for _ in range(UNITS_WAITING_MAX)]
    await feed.close()
    assert waiting == list(range(1 + seconds - UNITS_WAITING_MAX, 1 + seconds))


async def test_pictures_that_the_loop_was_too_late_for_are_reported() -> None:
    device, clock, observer = FakeDevice(Sense.SIGHT), FakeClock(), FakeObserver()
    feed = feed_of(device, clock=clock, observer=observer)
    units = feed.units()
    given = threading.Event()
    async with asyncio.timeout(LIMIT_S):
        passing(device, clock, 1)
        await anext(units)
        device.script.put([Picture(clock.monotonic(), FakePicture(k)) for k in range(PICTURES_WAITING_MAX + 7)])
        device.script.put(given.set)
        assert given.wait(LIMIT_S)  # on purpose on the loop: it is late
        passing(device, clock, 1)
        await anext(units)
    await feed.close()
    assert sum(each["count"] for each in observer.named("frame.dropped")) in (7, 8)


async def test_a_device_that_can_never_work_ends_the_units_with_its_error() -> None:
    device = FakeDevice(Sense.SIGHT)
    device.open_errors = [FeedError("den: has unknown scheme", can_retry=False)]
    feed = feed_of(device)
    with pytest.raises(FeedError, match="unknown scheme"):
        await first(feed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_in_a_device_ends_the_units_with_that_bug() -> None:
    device = FakeDevice(Sense.SIGHT)
    device.script.put(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        await first(feed_of(device), 50)


async def test_closing_ends_the_units_within_two_seconds_even_when_a_device_hangs() -> None:
    device, clock, observer = FakeDevice(Sense.SIGHT), FakeClock(), FakeObserver()
    hangs, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang() -> list[Picture | Block]:
        loop.call_soon_threadsafe(hangs.set)
        release.wait(LIMIT_S)
        return []

    feed = feed_of(device, clock=clock, observer=observer)
    passing(device, clock, 2)
    device.script.put(hang)
    consumer = asyncio.create_task(first(feed, 10_000))
    await hangs.wait()
    began_s = time.monotonic()
    await feed.close()
    await feed.close()
    units = await consumer
    assert time.monotonic() - began_s < 2
    assert units
    assert observer.named("feed.state")[-1]["state"] == "ended"
    release.set()


async def test_a_closed_feed_gives_nothing() -> None:
    feed = feed_of(FakeDevice(Sense.SIGHT))
    await feed.close()
    assert [unit async for unit in feed.units()] == []


async def test_leaving_the_loop_over_units_stops_the_devices() -> None:
    device, clock = FakeDevice(Sense.SIGHT), FakeClock()
    units = feed_of(device, clock=clock).units()
    passing(device, clock, 1)
    async with asyncio.timeout(LIMIT_S):
        await anext(units)
        await units.aclose()
    assert device.closed == 1


def test_a_feed_that_can_never_work_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(FeedError, match=r"did you mean rtsp\?"):
        open_feed("porch", "rstp://cam/1", "stream", clock=FakeClock(), observer=FakeObserver())


async def test_no_sound_gets_past_a_switch_that_is_off_and_pictures_do() -> None:
    """Before, while and after; what is behind the device (an echo canceller) gets none either."""
    clock, observer, switch = FakeClock(), FakeObserver(), SoundSwitch()
    device, passed, heard = FakeDevice(Sense.SIGHT, Sense.HEARING), list[Block](), list[int]()

    class Behind(SwitchedDevice):
        def read(self) -> Sequence[Picture | Block] | None:
            items = super().read()
            passed.extend(item for item in items or () if isinstance(item, Block))
            return items

    feed = LiveFeed(
        "den",
        [Behind(device, switch)],
        clock=clock,
        observer=observer,
        pauses=wait_fixed(0),
        on_sound=lambda _start_s, samples: heard.append(len(samples)),
        switch=switch,
    )
    units: list[Unit] = []
    passing(device, clock, 1)
    async with asyncio.timeout(LIMIT_S):
        async for unit in feed.units():
            units.append(unit)
            switch.is_on = len(units) < 2 or len(units) >= 5
            if len(units) > 5 and unit.is_heard:
                break
            passing(device, clock, 2 if len(units) == 5 else 1)  # what is read while it is switched on is not taken

    assert [bool(unit.audio.any()) for unit in units[:5]] == [True, True, False, False, False]
    assert [unit.gaps for unit in units[2:5]] == [(Gap(Sense.HEARING, GapCause.ABSENT),)] * 3
    assert all(unit.frames for unit in units)
    off_s = (units[2].start_s, units[4].end_s)
    assert not [block for block in passed if off_s[0] <= block.at_s < off_s[1]]
    assert 3 <= len(heard) <= len(passed)
    states = [fields["state"] for fields in observer.named("feed.state") if fields["sense"] == "hearing"]
    assert states == ["opening", "live", "off", "live"]


async def test_a_feed_that_is_not_listened_to_from_the_start_is_like_one_without_a_microphone() -> None:
    clock, observer, switch = FakeClock(), FakeObserver(), SoundSwitch(is_on=False)
    device = FakeDevice(Sense.SIGHT, Sense.HEARING)
    feed = LiveFeed(
        "den", [SwitchedDevice(device, switch)], clock=clock, observer=observer, pauses=wait_fixed(0), switch=switch
    )
    units: list[Unit] = []
    passing(device, clock, 1)
    async with asyncio.timeout(LIMIT_S):
        async for unit in feed.units():
            units.append(unit)
            if len(units) == 8:
                break
            passing(device, clock, 1)
    assert {unit.gaps for unit in units} == {(Gap(Sense.HEARING, GapCause.ABSENT),)}
    states = [fields["state"] for fields in observer.named("feed.state") if fields["sense"] == "hearing"]
    assert set(states) == {"off"}, "it is not stale"


async def test_sound_is_handed_over_block_by_block_before_its_second_is_over() -> None:
    clock, heard = FakeClock(), list[tuple[float, int]]()
    microphone = FakeDevice(Sense.HEARING)
    feed = LiveFeed(
        "den",
        [microphone],
        clock=clock,
        observer=FakeObserver(),
        pauses=wait_fixed(0),
        on_sound=lambda start_s, samples: heard.append((start_s, len(samples))),
    )
    begun_s = clock.monotonic()
    for block in range(24):
        microphone.script.put([Block(begun_s + block * 0.05, np.full(800, 0.25, np.float32))])
    microphone.script.put(None)
    async with asyncio.timeout(LIMIT_S):
        units = [unit async for unit in feed.units()]
    assert units == []  # no second of the clock has passed
    assert [round(start_s - begun_s, 4) for start_s, _ in heard] == [round(block * 0.05, 4) for block in range(24)]
    assert {count for _, count in heard} == {800}
