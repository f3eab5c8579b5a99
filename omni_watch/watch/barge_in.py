"""When a person talks while we speak: whether that is a person, and whether we fall silent. Pure; loop thread only.

Whoever speaks tells what is being said; ears for words tell of voices and words; an echo canceller tells how loud a
microphone is before and after our own voice was taken out. From these it decides, by three rules:

- A microphone out of which our voice is taken: a voice that sets in while we speak stops us at once, if it is more
  than what may be left of ours.
- Where a voice was there before we began (people among themselves, a television), only a request stops us.
- A microphone that hears us (a camera's; one of which it is not learnt yet how we sound there): only words stop us,
  and only words that are surely not ours.

Words that are likely to be ours, come back, are `OURS` on every microphone, and never a command.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan, SpeechEnded
from omni_watch.domain.rules import Language
from omni_watch.watch.own_words import is_own_sentence, is_own_words
from omni_watch.watch.pinyin import syllables

SAYINGS_KEPT: Final = 8
STRETCHES_KEPT: Final = 64
LEVELS_KEPT: Final = 400  # 20 s of a microphone's blocks of 50 ms: an utterance
SINCE_S: Final = 15.0  # how far we look back for a voice that was there before
BUSY_SHARE: Final = 0.33  # of that time; a person who asks for something takes a fifth of it
BACK_S: Final = 0.3  # so late may our own words come back through a microphone of this machine
BACK_FAR_S: Final = 4.0  # and through a camera
LATELY_S: Final = 0.3  # in which a voice is looked for
LEAST_FOREIGN: Final = 0.5  # of the time of a voice, for it to be a person's
LEAST_OF_WORDS: Final = 0.15  # of the time of words, with their pauses
LEAST_SURE: Final = 0.5  # of words through a camera; below it they may be ours, misheard
FEWEST_WORDS: Final = 3  # likewise; of Chinese, syllables


class Heed(Enum):
    """What follows from something that was heard."""

    NOTHING = "nothing"  # go on, and treat it like anything that is heard
    STOP = "stop"  # fall silent; a person speaks. Words that come with it are treated as ever
    OURS = "ours"  # our own voice: forget it


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A block of a microphone, before and after our voice was taken out. 0 dB is full scale."""

    at_s: float  # monotonic
    heard_db: float
    cleaned_db: float
    foreign: float  # 0..1: the part of it in which something is louder than what may be left of our voice
    is_sure: bool = True  # whether that is known, or only likely


@dataclass(slots=True, kw_only=True)
class Saying:
    """Something that we say or said. Monotonic seconds."""

    text: str  # "": nobody knows
    language: Language
    start_s: float
    end_s: float = math.inf
    busy: frozenset[str] = frozenset()  # feeds on which a voice was there before


@dataclass(slots=True)
class _Ear:
    """What is remembered of one feed."""

    voice_since_s: float | None = None
    stretches: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=STRETCHES_KEPT))
    levels: deque[Level] = field(default_factory=lambda: deque(maxlen=LEVELS_KEPT))

    def voice_s(self, since_s: float, until_s: float) -> float:
        """Seconds with a voice in that time."""
        running = [] if self.voice_since_s is None else [(self.voice_since_s, until_s)]
        return sum(
            max(min(end_s, until_s) - max(start_s, since_s), 0.0) for start_s, end_s in (*self.stretches, *running)
        )


class BargeIn:
    """Who talks while we speak. Seconds are monotonic ones, which are the timeline of every live feed."""

    def __init__(
        self,
        *,
        cleaned: Collection[str] = (),
        is_request: Callable[[str, Language], bool] = lambda _text, _language: False,
    ) -> None:
        """`cleaned`: feeds out of which our voice is taken. `is_request`: whether a sentence asks us for something."""
        self.cleaned = set(cleaned)
        self.is_request = is_request
        self._ears: dict[str, _Ear] = {}
        self._sayings: deque[Saying] = deque(maxlen=SAYINGS_KEPT)

    @property
    def saying(self) -> Saying | None:
        """What is being said now."""
        newest = self._sayings[-1] if self._sayings else None
        return newest if newest is not None and newest.end_s == math.inf else None

    def speaking(self, text: str, language: Language, at_s: float) -> None:
        """We begin to say this; an empty text: nobody knows the words."""
        self.silent(at_s)
        busy = frozenset(feed for feed, ear in self._ears.items() if _is_busy(ear, at_s))
        self._sayings.append(Saying(text=text, language=language, start_s=at_s, busy=busy))

    def adds(self, text: str) -> None:
        """What is being said goes on with these words."""
        if (saying := self.saying) is not None:
            saying.text = f"{saying.text} {text}".strip()

    def silent(self, at_s: float) -> None:
        """We ended, or fell silent."""
        if (saying := self.saying) is not None:
            saying.end_s = at_s

    def hears(self, event: Hearing) -> Heed:
        """What follows from a voice or words on a feed. Each event once, in order."""
        ear = self._ears.setdefault(event.feed, _Ear())
        match event:
            case SpeechBegan(feed=feed, at_s=at_s):
                ear.voice_since_s = at_s
                return self._voice(feed, ear, at_s)
            case SpeechEnded(start_s=start_s, end_s=end_s):
                ear.voice_since_s = None
                ear.stretches.append((start_s, end_s))
                return Heed.NOTHING
            case Heard():
                return self._words(event)
            case _:
                return Heed.NOTHING

    def level(self, feed: str, level: Level) -> Heed:
        """The next block of a cleaned microphone; STOP when somebody joins in while a voice is thought to be ours."""
        ear = self._ears.setdefault(feed, _Ear())
        ear.levels.append(level)
        if ear.voice_since_s is None:
            return Heed.NOTHING
        return self._voice(feed, ear, ear.voice_since_s)

    def _voice(self, feed: str, ear: _Ear, since_s: float) -> Heed:
        saying = self.saying
        if saying is None or feed not in self.cleaned or feed in saying.busy or since_s < saying.start_s:
            return Heed.NOTHING
        return Heed.STOP if _is_a_person(ear, since_s) else Heed.NOTHING

    def _words(self, heard: Heard) -> Heed:
        is_cleaned = heard.feed in self.cleaned
        is_request = self.is_request(heard.text, heard.language)
        if any(self._is_ours(heard, saying) for saying in self._sayings):
            return Heed.OURS
        is_clear = heard.confidence >= LEAST_SURE and len(syllables(heard.text)) >= FEWEST_WORDS
        ear = self._ears[heard.feed]
        is_left = is_cleaned and not is_request and _foreign(ear, heard.start_s, heard.end_s) < LEAST_OF_WORDS
        if is_left and not (is_clear and not _is_known(ear, heard)):
            return Heed.OURS  # misheard from what is left of us
        saying = self.saying
        if saying is None or heard.end_s < saying.start_s:
            return Heed.NOTHING
        if is_request:
            return Heed.STOP
        if heard.feed in saying.busy:
            return Heed.NOTHING
        if is_cleaned:
            return Heed.STOP
        return Heed.STOP if is_clear else Heed.NOTHING

    def _is_ours(self, heard: Heard, saying: Saying) -> bool:
        is_cleaned = heard.feed in self.cleaned
        back_s = BACK_S if is_cleaned else BACK_FAR_S
        if heard.end_s < saying.start_s or heard.start_s > saying.end_s + back_s:
            return False
        if is_cleaned and _is_surely_a_person(self._ears[heard.feed], heard):
            return False
        if not saying.text:
            return not is_cleaned
        readings = ((heard.text, heard.language), *((each.text, each.language) for each in heard.alternatives))
        is_late = not is_cleaned and heard.start_s > saying.end_s and heard.confidence >= LEAST_SURE
        is_alike = is_own_sentence if is_late else is_own_words
        return any(is_alike(text, language, saying.text) for text, language in readings)


def _is_busy(ear: _Ear, at_s: float) -> bool:
    return ear.voice_since_s is not None or ear.voice_s(at_s - SINCE_S, at_s) >= BUSY_SHARE * SINCE_S


def _is_a_person(ear: _Ear, since_s: float) -> bool:
    """Whether what was heard lately of a voice that began at `since_s` was more than is left of us."""
    newest_s = ear.levels[-1].at_s if ear.levels else -math.inf
    return _foreign(ear, max(since_s, newest_s - LATELY_S), math.inf) >= LEAST_FOREIGN


def _foreign(ear: _Ear, since_s: float, until_s: float) -> float:
    """The part of that time in which there was more than is left of us; 1 when we were not heard then."""
    levels = _levels(ear, since_s, until_s)
    return sum(level.foreign for level in levels) / len(levels) if levels else 1.0


def _is_known(ear: _Ear, heard: Heard) -> bool:
    """Whether it was known how we sound here for most of the time of these words."""
    levels = _levels(ear, heard.start_s, heard.end_s)
    return 2 * sum(level.is_sure for level in levels) >= len(levels)


def _levels(ear: _Ear, since_s: float, until_s: float) -> list[Level]:
    return [level for level in ear.levels if since_s <= level.at_s <= until_s]


def _is_surely_a_person(ear: _Ear, heard: Heard) -> bool:
    """Whether a person was heard for all of the time of these words, as far as we spoke then."""
    levels = _levels(ear, heard.start_s, heard.end_s)
    is_sure = bool(levels) and all(level.is_sure for level in levels)
    return is_sure and _foreign(ear, heard.start_s, heard.end_s) >= LEAST_FOREIGN
