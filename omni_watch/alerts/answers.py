"""What we answer to people, aloud: at once, or not at all.

An answer belongs to the moment in which it was asked for. It is stored nowhere and does not go through the relay; it
has the voice, the loudspeaker and the floor of the alerts.
"""

from __future__ import annotations

from typing import Final

from omni_watch.alerts.floor import Floor, Rank
from omni_watch.alerts.speakers import Speaker
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Clock, Observer, Voice

STALE_S: Final = 8.0  # an answer that others kept waiting for so long would come out of nowhere


class Answers:
    """The way of an answer to the loudspeaker. Loop thread only."""

    def __init__(self, voice: Voice, speaker: Speaker, floor: Floor, *, clock: Clock, observer: Observer) -> None:
        self._voice = voice
        self._speaker = speaker
        self._floor = floor
        self._clock = clock
        self._observer = observer
        self.is_silent = False  # the house is muted, or nobody is at home

    async def say(self, text: str, language: Language, label: str = "answer") -> bool:
        """Say it as soon as the floor is free; whether it was said to the end. Why not, the observer is told."""
        if self.is_silent:
            self._observer.on("answer.dropped", label=label, why="the house is muted, or nobody is at home")
            return False
        asked_s = self._clock.monotonic()

        async def utter() -> None:
            waited_s = self._clock.monotonic() - asked_s
            if waited_s > STALE_S:
                raise ChannelUnavailable(f"others were speaking for {waited_s:.0f} s")
            self._observer.on("answer.speaking", label=label, after_s=round(waited_s, 3))
            await self._speaker.play(wav, label)

        try:
            wav = await self._voice.synthesize(text, language)
            await self._floor.speak(Rank.REPLY, utter)
        except ChannelUnavailable as error:
            self._observer.on("answer.dropped", label=label, why=str(error))
            return False
        self._observer.on("answer.spoken", label=label)
        return True
