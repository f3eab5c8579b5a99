"""Falling silent for a person: what we say, what the microphones hear of it, and who decides, brought together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from omni_watch.alerts.floor import Floor, Words
from omni_watch.domain.errors import FeedError
from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan, SpeechEnded
from omni_watch.sensing.capture import Device
from omni_watch.sensing.echo import CleanedDevice, EchoCleaner, open_canceller
from omni_watch.watch.barge_in import BargeIn, Heed, Level
from omni_watch.watch.played import Played
from omni_watch.watch.ports import Clock, Observer

LONGEST_S: Final = 10.0  # a person who is not heard to end has ended
AFTER_S: Final = 1.0  # a person has ended: a breath
UNKNOWN: Final = Words("", "en")


class GivingWay:
    """Owns the floor. Loop thread only, but for the microphones that it wraps."""

    def __init__(self, *, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._stopped_by: str | None = None  # the feed on which a person speaks
        self.played = Played(clock)
        self.barge_in = BargeIn()
        self.floor = Floor(on_speaking=self._speaking, on_silent=lambda: self.barge_in.silent(self._clock.monotonic()))

    def hears(self, event: Hearing) -> Heed:
        """Falls silent if that is what follows from the event; every event of every feed once, in order. OURS: whoever
        acts on words shall not act on these."""
        heed = self.barge_in.hears(event)
        if heed is Heed.STOP:
            self._give_way(event.feed, event.at_s if isinstance(event, SpeechBegan) else event.start_s)
        if isinstance(event, SpeechEnded | Heard) and event.feed == self._stopped_by:
            self._stopped_by = None
            self.floor.person_speaks(AFTER_S)
        return heed

    def cleaned(self, feed: str, microphone: Device) -> Device:
        """A microphone of this machine without our voice; as it is, and the observer told, where that cannot be."""
        try:
            canceller = open_canceller()
        except FeedError as error:
            self._observer.on("echo.failed", feed=feed, why=str(error))
            return microphone
        self.barge_in.cleaned.add(feed)
        loop = asyncio.get_running_loop()

        def tell(level: Level) -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody listens any more
                loop.call_soon_threadsafe(partial(self._level, feed, level))

        return CleanedDevice(microphone, EchoCleaner(self.played, canceller, tell))

    def _speaking(self, words: Words | None) -> None:
        said = words or UNKNOWN
        self.barge_in.speaking(said.text, said.language, self._clock.monotonic())

    def _level(self, feed: str, level: Level) -> None:
        if self.barge_in.level(feed, level) is Heed.STOP:
            self._give_way(feed, level.at_s)

    def _give_way(self, feed: str, since_s: float) -> None:
        if not self.floor.give_way(LONGEST_S):
            return
        self._stopped_by = feed
        self._observer.on("voice.gave_way", feed=feed, after_s=round(self._clock.monotonic() - since_s, 3))
