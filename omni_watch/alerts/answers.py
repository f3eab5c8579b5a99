"""What we answer to people, aloud: at once, or not at all.

An answer belongs to the moment in which it was asked for. It is stored nowhere and does not go through the relay; it
has the voice, the loudspeaker and the floor of the alerts. Its first sentence is heard while the next is being made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final, Protocol

from omni_watch.alerts.floor import Floor, Rank, Words
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.speakers import Speaker
from omni_watch.alerts.wav import Sound
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Clock, Observer

STALE_S: Final = 8.0  # an answer that others kept waiting for so long would come out of nowhere


class StreamingVoice(Protocol):
    """The part of `Speech` that an answer needs."""

    def stream(self, text: str, language: Language) -> AsyncGenerator[Sound, None]: ...

    def warm(self, language: Language) -> None: ...


class Answers:
    """The way of an answer to the loudspeaker. Loop thread only."""

    def __init__(
        self,
        voice: StreamingVoice,
        speaker: Speaker,
        floor: Floor,
        *,
        clock: Clock,
        observer: Observer,
        quiet: Quiet | None = None,
    ) -> None:
        """`quiet`: who asks is answered also in quiet hours, but not by a house that is muted."""
        self._voice = voice
        self._speaker = speaker
        self._floor = floor
        self._clock = clock
        self._observer = observer
        self._quiet = quiet or Quiet()

    def expect(self, language: Language) -> None:
        """Somebody speaks, and may be answered in this language. Returns at once."""
        self._voice.warm(language)

    async def say(self, text: str, language: Language, label: str = "answer") -> bool:
        """Say it as soon as the floor is free; whether it was said to the end. Why not, the observer is told."""
        if (why := self._quiet.why_total()) is not None:
            self._observer.on("answer.dropped", label=label, why=why)
            return False
        asked_s = self._clock.monotonic()

        async def utter() -> None:
            waited_s = self._clock.monotonic() - asked_s
            if waited_s > STALE_S:
                raise ChannelUnavailable(f"others were speaking for {waited_s:.0f} s")
            async with aclosing(self._voice.stream(text, language)) as sounds:
                first = await anext(sounds)
                self._observer.on("answer.speaking", label=label, after_s=round(waited_s, 3))
                await self._speaker.stream(_pieces(first, sounds), first.rate_hz, label)

        try:
            await self._floor.speak(Rank.REPLY, utter, words=Words(text, language))
        except ChannelUnavailable as error:
            self._observer.on("answer.dropped", label=label, why=str(error))
            return False
        self._observer.on("answer.spoken", label=label)
        return True


async def _pieces(first: Sound, others: AsyncIterator[Sound]) -> AsyncIterator[bytes]:
    yield first.pcm
    async for sound in others:
        yield sound.pcm
