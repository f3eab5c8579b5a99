"""What a companion says of its own accord: said now or never, kept nowhere.

Alerts are durable and go first; a remark waits for its turn to speak only as long as it still fits the moment. It uses
the same voice, the same loudspeaker and the same floor as alerts, and does not go through the relay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from omni_watch.alerts.floor import Floor, Rank, Words, until_silent
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.speakers import Speaker
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Clock, Observer, Voice

WAITING_MAX: Final = 4  # sentences; the oldest is dropped, and reported
ASKED: Final = "asked to be quiet"
STALE_S: Final = 6.0  # after this a sentence no longer fits what is seen


@dataclass(frozen=True, slots=True)
class _Remark:
    feed: str
    text: str
    said_at_s: float  # monotonic


class Remarks:
    """The live lane to the loudspeaker. Loop thread only."""

    def __init__(
        self,
        voice: Voice,
        speaker: Speaker,
        floor: Floor,
        *,
        language: Language,
        clock: Clock,
        observer: Observer,
        quiet: Quiet | None = None,
    ) -> None:
        self._voice = voice
        self._speaker = speaker
        self._floor = floor
        self._language = language
        self._clock = clock
        self._observer = observer
        self._waiting: deque[_Remark] = deque()
        self._has_come = asyncio.Event()
        self._quiet = quiet or Quiet()
        self._telling: asyncio.Future[str] | None = None

    def offer(self, feed: str, text: str) -> None:
        """Say it as soon as nobody else speaks, or not at all. Returns at once."""
        if (why := self._quiet.why(self._clock.now())) is not None:
            self._drop(_Remark(feed, text, self._clock.monotonic()), why)
            return
        while len(self._waiting) >= WAITING_MAX:
            self._drop(self._waiting.popleft(), "others wait")
        self._waiting.append(_Remark(feed, text, self._clock.monotonic()))
        self._has_come.set()

    def quiet(self) -> None:
        """Fall silent within 50 ms, and let nothing wait."""
        while self._waiting:
            self._drop(self._waiting.popleft(), ASKED)
        if self._telling is not None:
            self._telling.cancel()

    async def run(self) -> None:
        """Say what is offered, one after the other, until cancelled."""
        while True:
            await self._has_come.wait()
            while self._waiting:
                await self._tell(self._waiting.popleft())
            self._has_come.clear()

    async def _tell(self, remark: _Remark) -> None:
        try:
            wav = await self._voice.synthesize(remark.text, self._language)
            words = Words(remark.text, self._language)
            await self._floor.speak(Rank.CHATTER, lambda: self._play(remark, wav), words=words)
        except ChannelUnavailable as error:
            self._drop(remark, str(error))

    async def _play(self, remark: _Remark, wav: bytes) -> None:
        if self._clock.monotonic() - remark.said_at_s > STALE_S:  # while others spoke, or cut short by an urgent alert
            raise ChannelUnavailable("its turn to speak came too late")
        self._telling = asyncio.ensure_future(self._speaker.play(wav, f"remark-{remark.feed}"))
        await until_silent(self._telling)
        if self._telling.cancelled():
            raise ChannelUnavailable(ASKED)
        await self._telling

    def _drop(self, remark: _Remark, why: str) -> None:
        self._observer.on("companion.dropped", feed=remark.feed, why=why)
