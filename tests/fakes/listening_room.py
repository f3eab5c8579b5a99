"""The part of a house that speaks and listens, in a real room: loudspeaker, microphone, canceller, ears for words.

What the daemon wires, without an engine and a store. `Ears.hears` keeps every event with the second at which it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from omni_watch.alerts.floor import Rank, Words
from omni_watch.alerts.speakers import PortAudioSpeaker
from omni_watch.alerts.wav import Sound
from omni_watch.app.giving_way import GivingWay
from omni_watch.app.words import Deaf, open_word_ears
from omni_watch.cabinet import Cabinet
from omni_watch.domain.hearing import Hearing
from omni_watch.domain.rules import Priority
from omni_watch.domain.units import Unit
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block, Device, Opened
from omni_watch.sensing.opening import open_feed
from omni_watch.telemetry.clock import SystemClock
from omni_watch.watch.barge_in import Heed
from omni_watch.watch.ports import WordListener
from tests.fakes.fake_observer import FakeObserver

FEED = "hall"
RATE = 16_000
LOUD = 0.02
PIECE = 640  # samples in which our voice is looked for
START_LIMIT_S = 60.0
Floats = NDArray[np.float32]


class Tapped:
    """A device whose sound somebody else gets too, on the device's thread."""

    def __init__(self, device: Device, tap: Callable[[Block], None]) -> None:
        self.label, self.senses = device.label, device.senses
        self._device, self._tap = device, tap

    def open(self) -> Opened:
        return self._device.open()

    def read(self) -> Sequence[Picture | Block] | None:
        items = self._device.read()
        for item in items or ():
            if isinstance(item, Block):
                self._tap(item)
        return items

    def close(self) -> None:
        self._device.close()


@dataclass
class ListeningRoom:
    """Loop thread only."""

    giving_way: GivingWay
    observer: FakeObserver
    speaker: PortAudioSpeaker
    clock: SystemClock = field(default_factory=SystemClock)
    heard: list[tuple[float, Hearing, Heed]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)  # as cleaned
    raw: list[Block] = field(default_factory=list)  # as the microphone gave them
    units: list[Unit] = field(default_factory=list)

    async def say(self, wav: bytes, text: str, priority: Priority = Priority.NORMAL) -> str:
        """As an alert is said. Interrupted: a person spoke."""
        return await self.giving_way.floor.speak(
            Rank.of(priority), lambda: self.speaker.play(wav, "alert"), words=Words(text, "en")
        )

    def events(self, kind: type[Hearing], since_s: float = 0.0) -> list[tuple[float, Hearing, Heed]]:
        return [each for each in self.heard if isinstance(each[1], kind) and each[0] >= since_s]

    async def until(self, condition: Callable[[], object], limit_s: float = 20.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110  a room rings no bell
                await asyncio.sleep(0.005)

    def hears(self, event: Hearing) -> None:
        self.heard.append((self.clock.monotonic(), event, self.giving_way.hears(event)))

    def is_audible(self) -> bool:
        """Whether our voice is heard in the room at this moment."""
        sound = self.giving_way.played.between(self.clock.monotonic() - 0.1, 1_600)
        return sound is not None and bool(np.abs(sound).max() > LOUD)

    def forget(self) -> None:
        """What was heard so far."""
        self.heard.clear()
        self.blocks.clear()
        self.raw.clear()

    async def rest(self, seconds: float) -> None:
        """Let that much of the room be heard, however busy the machine is."""
        until_s = (self.raw[-1].at_s if self.raw else self.clock.monotonic()) + seconds
        await self.until(lambda: self.blocks and self.blocks[-1].at_s > until_s, seconds + 30)

    def between(self, blocks: Sequence[Block], start_s: float, end_s: float) -> Floats:
        """The sound of those blocks that begin in that time."""
        chosen = [block.samples for block in blocks if start_s <= block.at_s < end_s]
        return np.concatenate(chosen) if chosen else np.zeros(0, np.float32)


@asynccontextmanager
async def listening_room(cabinet: Cabinet, *, is_cleaned: bool = True) -> AsyncIterator[ListeningRoom]:
    """Everything running and ready."""
    observer, clock, loop = FakeObserver(), SystemClock(), asyncio.get_running_loop()
    ears = open_word_ears(cabinet, ("en",), observer)
    assert not isinstance(ears, Deaf), ears.why
    giving_way = GivingWay(clock=clock, observer=observer)
    room = ListeningRoom(giving_way, observer, PortAudioSpeaker(played=giving_way.played))

    def hear(block: Block) -> None:
        loop.call_soon_threadsafe(room.blocks.append, block)
        loop.call_soon_threadsafe(ears.hear, FEED, block.at_s, block.samples)

    def keep_raw(block: Block) -> None:
        loop.call_soon_threadsafe(room.raw.append, block)

    def wrapped(microphone: Device) -> Device:
        raw = Tapped(microphone, keep_raw)
        return Tapped(giving_way.cleaned(FEED, raw) if is_cleaned else raw, hear)

    feed = open_feed(FEED, None, "mic", clock=clock, observer=observer, cleaned=wrapped)
    workers = [asyncio.create_task(_collect(feed.units(), room)), asyncio.create_task(_listen(ears, room))]
    try:
        await room.until(lambda: observer.named("words.ready") and len(room.units) >= 2, START_LIMIT_S)
        yield room
    finally:
        await feed.close()
        for worker in workers:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


async def _collect(units: AsyncIterator[Unit], room: ListeningRoom) -> None:
    async for unit in units:
        room.units.append(unit)


async def _listen(ears: WordListener, room: ListeningRoom) -> None:
    await ears.run(partial(ListeningRoom.hears, room))


def at_level(sound: Floats, level: float = 0.1) -> Floats:
    """So loud on average, of 1."""
    return np.asarray(sound * (level / np.sqrt(np.mean(sound**2))), np.float32)


def as_wav(sound: Floats) -> bytes:
    """Mono samples at 16 kHz as speakers are given them."""
    return Sound((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes(), RATE).to_wav()


def stopped_after_s(room: ListeningRoom, person: Floats, ours: Floats) -> float:
    """Seconds from the person's first sound to our last, as the microphone heard both, to 30 ms: piece by piece, how
    much of our voice is in what was heard beside the person's, which may look like it for a moment. It has to have been
    heard for a second before the person began."""
    sound = room.between(room.raw, room.raw[0].at_s, np.inf)
    person_at = _where(sound, person)
    began = person_at + int(np.flatnonzero(np.abs(person) > LOUD)[0])
    ours_at = began - RATE - _where(ours, sound[began - RATE : began])
    last = began
    for at in range(began, len(sound) - PIECE, PIECE // 4):
        voice = _piece(ours, at - ours_at)
        if float(np.dot(voice, voice)) / PIECE < (LOUD / 2) ** 2:
            continue
        both = np.stack([voice, _piece(person, at - person_at)], axis=1)
        if np.linalg.lstsq(both, sound[at : at + PIECE])[0][0] > 0.5:
            last = at + PIECE
        elif at > last + RATE // 2:
            break
    return (last - began) / RATE


def _piece(sound: Floats, at: int) -> Floats:
    """What `sound` has from there on, and silence where it has nothing."""
    found = sound[max(at, 0) : max(at + PIECE, 0)]
    return np.pad(found, (0, PIECE - len(found)))


def _where(sound: Floats, part: Floats) -> int:
    """The sample of `sound` at which `part` begins."""
    size = 1 << (len(sound) + len(part)).bit_length()
    alike = np.fft.irfft(np.fft.rfft(sound, size) * np.conj(np.fft.rfft(part, size)))[: len(sound)]
    return int(np.argmax(alike))
