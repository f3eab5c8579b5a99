"""What a companion says with its own voice: piece by piece, now or never, and never beside anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Self

import pytest

from omni_watch.alerts import live_voice
from omni_watch.alerts.floor import Floor
from omni_watch.alerts.live_voice import PIECES_MAX, STALE_S, TURNS_MAX, LiveVoice
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Priority
from omni_watch.watch.ports import LivePiece
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.fake_clock import NOON, FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.unit.test_alerts_voice import FakeVoice

WAIT_S = 10.0  # only ever used up by a defect
SECOND = 1000.0  # of the fake clock: noon


def piece(
    turn: int = 0,
    pcm: bytes = b"",
    *,
    at_s: float = SECOND,
    feed: str = "kitchen",
    ends_turn: bool = False,
    is_lost: bool = False,
) -> LivePiece:
    return LivePiece(feed=feed, turn=turn, at_s=at_s, pcm=pcm, rate_hz=24_000, ends_turn=ends_turn, is_lost=is_lost)


class Loudspeaker:
    """Notes what it plays; notices when two would play at once."""

    name = "fake"

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.log: list[str] = []
        self._playing = 0
        self._moved = asyncio.Condition()

    async def play(self, wav: bytes, label: str, *, loudness: float = 0.0) -> str:
        async def once() -> AsyncIterator[bytes]:
            yield wav

        return await self.stream(once(), 0, label)

    async def stream(self, pieces: AsyncIterator[bytes], rate_hz: int, label: str) -> str:
        assert self._playing == 0, "two at once"
        self._playing += 1
        await self._note(f"begin {label}")
        try:
            async for each in pieces:
                self.heard.append(each)
                await self._note(f"{label}: {len(self.heard)}")
        except asyncio.CancelledError:
            self.log.append(f"cut {label}")
            raise
        finally:
            self._playing -= 1
        await self._note(f"end {label}")
        return "played"

    async def close(self) -> None: ...

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._moved:
            await self._moved.wait_for(is_so)

    async def _note(self, entry: str) -> None:
        async with self._moved:
            self.log.append(entry)
            self._moved.notify_all()


class Room:
    """A loudspeaker with the model's own voice and the daemon's."""

    def __init__(self) -> None:
        self.speaker, self.clock, self.observer, self.floor = Loudspeaker(), FakeClock(), FakeObserver(), Floor()
        self.hushed: list[str] = []
        self.quiet = Quiet()
        self.live = LiveVoice(
            self.speaker,
            self.floor,
            hush=self.hushed.append,
            clock=self.clock,
            observer=self.observer,
            quiet=self.quiet,
        )
        self.alerts = VoiceChannel(
            FakeVoice(),
            self.speaker,
            clock=self.clock,
            observer=self.observer,
            floor=self.floor,
            said_live=self.live.has_said,
        )

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.live.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    @property
    def dropped(self) -> list[str]:
        return [fields["why"] for fields in self.observer.named("companion.dropped")]

    async def is_heard(self, *pieces: bytes) -> None:
        await self.speaker.until(lambda: self.speaker.heard[-len(pieces) :] == list(pieces))


async def test_pieces_are_heard_as_they_come_and_the_floor_is_free_after_the_last() -> None:
    async with Room() as room:
        room.live.offer(piece())
        room.live.offer(piece(0, b"a"))
        await room.is_heard(b"a")
        room.live.offer(piece(0, b"b", ends_turn=True))
        await room.speaker.until(lambda: "end companion-kitchen-0" in room.speaker.log)
        room.live.offer(piece(1, b"c", ends_turn=True))
        await room.speaker.until(lambda: "end companion-kitchen-1" in room.speaker.log)
        assert room.speaker.heard == [b"a", b"b", b"c"]
        assert not room.hushed


async def test_an_urgent_alert_cuts_it_ends_the_models_turn_and_nothing_of_it_is_heard_later() -> None:
    async with Room() as room:
        room.live.offer(piece(0, b"a"))
        await room.is_heard(b"a")
        smoke = alert("smoke", priority=Priority.URGENT)
        await room.alerts.send(smoke, delivery(smoke, "voice"))
        assert room.hushed == ["kitchen"]
        room.live.offer(piece(0, b"late", ends_turn=True))  # was under way when the model was told
        room.live.offer(piece(1, b"new", ends_turn=True))
        await room.is_heard(b"new")
        assert b"late" not in room.speaker.heard
        assert room.dropped == ["it was cut short"]
        assert room.speaker.log[:4] == [
            "begin companion-kitchen-0",
            "companion-kitchen-0: 1",
            "cut companion-kitchen-0",
            "begin smoke-1",
        ]


async def test_two_companions_take_turns() -> None:
    async with Room() as room:
        room.live.offer(piece(0, b"a"))
        room.live.offer(piece(0, b"b", feed="hall", ends_turn=True))
        await room.is_heard(b"a")
        room.live.offer(piece(0, b"A", ends_turn=True))
        await room.is_heard(b"a", b"A", b"b")


async def test_what_could_not_begin_in_time_is_not_begun_and_the_model_is_told() -> None:
    async with Room() as room:
        room.live.offer(piece(0, b"a"))
        await room.is_heard(b"a")
        room.live.offer(piece(0, b"b", feed="hall"))
        room.clock.advance(STALE_S + 0.1)
        room.live.offer(piece(0, b"A", ends_turn=True))
        room.live.offer(piece(1, b"c", ends_turn=True))
        await room.is_heard(b"a", b"A", b"c")
        assert room.hushed == ["hall"]
        assert room.dropped == ["its turn to speak came too late"]


async def test_a_turn_whose_next_piece_never_comes_gives_the_floor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_voice, "PATIENCE_S", 0.01)
    async with Room() as room:
        room.live.offer(piece(0, b"a"))
        await room.is_heard(b"a")
        room.live.offer(piece(0, b"b", feed="hall", ends_turn=True))
        await room.is_heard(b"a", b"b")
        assert room.hushed == ["kitchen"]
        assert room.dropped == ["nothing more came for 0.01 s"]


async def test_a_turn_that_lost_its_sound_ends_without_the_model_being_hushed() -> None:
    async with Room() as room:
        room.live.offer(piece(0, b"a"))
        await room.is_heard(b"a")
        room.live.offer(piece(0, is_lost=True, ends_turn=True))
        room.live.offer(piece(1, b"b", ends_turn=True))
        await room.is_heard(b"a", b"b")
        assert not room.hushed
        assert room.dropped == ["its sound could not be made"]


async def test_being_asked_to_be_quiet_silences_what_sounds_and_what_waits() -> None:
    async with Room() as room:
        room.live.offer(piece(0, b"a"))
        await room.is_heard(b"a")
        room.live.offer(piece(0, b"b", feed="hall"))
        room.live.quiet()
        room.live.offer(piece(1, b"c", ends_turn=True))
        await room.is_heard(b"a", b"c")
        assert sorted(room.hushed) == ["hall", "kitchen"]
        assert room.dropped == ["asked to be quiet"] * 2


async def test_in_a_house_that_keeps_quiet_no_turn_begins_and_the_model_is_told() -> None:
    async with Room() as room:
        room.quiet.until = room.clock.now() + timedelta(minutes=5)
        room.live.offer(piece(0, b"a"))
        assert room.hushed == ["kitchen"]
        room.clock.advance(301)
        room.live.offer(piece(1, b"b", at_s=SECOND + 301, ends_turn=True))
        await room.is_heard(b"b")
        assert room.speaker.heard == [b"b"]


async def test_turns_and_pieces_that_wait_are_bounded() -> None:
    room = Room()  # nobody plays
    for number in range(TURNS_MAX + 1):
        room.live.offer(piece(0, b"x", feed=f"feed{number}"))
    assert room.hushed == [f"feed{TURNS_MAX}"]
    for _ in range(PIECES_MAX):
        room.live.offer(piece(0, b"x", feed="feed0"))
    assert room.hushed == [f"feed{TURNS_MAX}", "feed0"]
    assert room.dropped == ["others speak"] * 2


async def test_an_alert_that_the_voice_itself_told_is_not_said_again() -> None:
    async with Room() as room:
        told = alert(decided_at=NOON + timedelta(seconds=1))
        room.live.offer(piece(0, at_s=SECOND))  # the turn began a second before it was decided
        room.live.offer(piece(0, b"The kettle", at_s=SECOND))
        sending = asyncio.create_task(room.alerts.send(told, delivery(told, "voice")))
        await room.is_heard(b"The kettle")
        room.live.offer(piece(0, b"is full.", at_s=SECOND + 1, ends_turn=True))
        assert (await sending).detail == "said by the model itself"
        assert "begin kettle-1" not in room.speaker.log


async def test_an_alert_whose_telling_was_cut_short_is_said_by_the_daemon() -> None:
    async with Room() as room:
        told = alert()
        room.live.offer(piece(0, b"The kettle"))
        await room.is_heard(b"The kettle")
        sending = asyncio.create_task(room.alerts.send(told, delivery(told, "voice")))
        room.live.offer(piece(0, is_lost=True, ends_turn=True))
        assert (await sending).detail == "played"


@pytest.mark.parametrize(
    ("when", "changes"),
    [
        ("before the turn", {"decided_at": NOON - timedelta(seconds=5)}),
        ("after the turn", {"decided_at": NOON + timedelta(seconds=5)}),
        ("urgent", {"priority": Priority.URGENT}),
    ],
)
async def test_any_other_alert_is_said_by_the_daemon(when: str, changes: dict[str, object]) -> None:
    async with Room() as room:
        room.live.offer(piece(0, b"words", ends_turn=True))
        await room.speaker.until(lambda: "end companion-kitchen-0" in room.speaker.log)
        other = alert(**changes)  # type: ignore[arg-type]
        assert (await room.alerts.send(other, delivery(other, "voice"))).detail == "played", when


async def test_a_loudspeaker_that_fails_costs_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> str:
        raise ChannelUnavailable("unplugged")

    async with Room() as room:
        monkeypatch.setattr(room.speaker, "stream", fail)
        room.live.offer(piece(0, b"a"))
        async with asyncio.timeout(WAIT_S):
            assert not await room.live.has_said(alert())
        assert room.dropped == ["unplugged"]
