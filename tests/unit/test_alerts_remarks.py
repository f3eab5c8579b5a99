"""What a companion says through the daemon's voice: said now or never, in turn, and silent when asked."""

from __future__ import annotations

import asyncio
from datetime import time
from typing import Self

from omni_watch.alerts.floor import Floor, Rank
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.remarks import STALE_S, WAITING_MAX, Remarks
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.tasks import WatchWindow
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.unit.test_alerts_voice import FakeSpeaker, FakeVoice

WAIT_S = 10.0  # only ever used up by a defect


class Room:
    """A loudspeaker on which remarks are played until a test lets them end."""

    def __init__(self) -> None:
        self.speaker, self.clock, self.observer, self.floor = FakeSpeaker(), FakeClock(), FakeObserver(), Floor()
        self.quiet = Quiet()
        self.remarks = Remarks(
            FakeVoice(),
            self.speaker,
            self.floor,
            language="en",
            clock=self.clock,
            observer=self.observer,
            quiet=self.quiet,
        )

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.remarks.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    @property
    def dropped(self) -> list[tuple[str, str]]:
        return [(fields["feed"], fields["why"]) for fields in self.observer.named("companion.dropped")]

    async def until_dropped(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.dropped) < count:  # noqa: ASYNC110  an observer rings no bell
                await asyncio.sleep(0)


async def test_remarks_are_said_one_after_another() -> None:
    async with Room() as room:
        room.speaker.may_finish.set()
        room.remarks.offer("kitchen", "A cat.")
        room.remarks.offer("hall", "A dog.")
        await room.speaker.until("end remark-hall")
        assert room.speaker.log == [
            "begin remark-kitchen",
            "end remark-kitchen",
            "begin remark-hall",
            "end remark-hall",
        ]


async def test_the_oldest_is_dropped_when_too_many_wait() -> None:
    room = Room()  # nobody speaks
    for number in range(WAITING_MAX + 1):
        room.remarks.offer(f"feed{number}", "Well.")
    assert room.dropped == [("feed0", "others wait")]


async def test_what_no_longer_fits_the_moment_is_not_said() -> None:
    async with Room() as room:
        room.remarks.offer("kitchen", "A cat.")
        await room.speaker.until("begin remark-kitchen")
        room.remarks.offer("hall", "A dog.")
        room.clock.advance(STALE_S + 0.1)
        room.speaker.may_finish.set()
        await room.until_dropped(1)
        assert room.dropped == [("hall", "its turn to speak came too late")]


async def test_an_urgent_voice_cuts_a_remark_which_is_said_again_while_it_still_fits() -> None:
    async with Room() as room:
        room.remarks.offer("kitchen", "A cat.")
        await room.speaker.until("begin remark-kitchen")
        urgent = asyncio.create_task(room.floor.speak(Rank.URGENT, lambda: room.speaker.play(b"", "smoke-1")))
        await room.speaker.until("begin smoke-1")
        room.speaker.may_finish.set()
        await urgent
        await room.speaker.until("end remark-kitchen")
        assert room.speaker.log[1] == "cut remark-kitchen"


async def test_being_asked_to_be_quiet_silences_what_sounds_and_what_waits() -> None:
    async with Room() as room:
        room.remarks.offer("kitchen", "A cat.")
        await room.speaker.until("begin remark-kitchen")
        room.remarks.offer("hall", "A dog.")
        room.remarks.quiet()
        await room.until_dropped(2)
        assert room.dropped == [("hall", "asked to be quiet"), ("kitchen", "asked to be quiet")]
        room.speaker.may_finish.set()
        room.remarks.offer("attic", "A bat.")
        await room.speaker.until("end remark-attic")
        room.remarks.quiet()  # nothing is being said: no harm


async def test_a_loudspeaker_that_fails_costs_the_remark() -> None:
    async with Room() as room:
        room.speaker.troubles.append(ChannelUnavailable("unplugged"))
        room.remarks.offer("kitchen", "A cat.")
        await room.until_dropped(1)
        assert room.dropped == [("kitchen", "unplugged")]


async def test_in_quiet_hours_a_companion_says_nothing_and_the_record_says_why() -> None:
    room = Room()
    room.quiet.hours = WatchWindow(begins=time(11), ends=time(13))
    room.remarks.offer("kitchen", "A cat.")
    assert room.dropped == [("kitchen", "quiet hours, until 13:00 (UTC)")]
