"""What will be said, made ready while nobody asks for anything: messages of tasks first, then the answers of ours that
are always the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from omni_watch.alerts.speech import Speech
from omni_watch.alerts.texts import sentences
from omni_watch.domain.rules import Language

OPEN_ENDS: Final = ("，", "：")
ENDS: Final = (".", "!", "?", "。", "！", "？", *OPEN_ENDS)

SOMETHING: Final = "{一二三四五六七八}"  # in a place: as long as what makes a clause of its own
_PLACE: Final = re.compile(r"\{\w+\}")

Words = tuple[str, Language]


class Rehearsal:
    """One sound after the other. Loop thread only. What waits is bounded by the tasks and the answers there are."""

    def __init__(self, speech: Speech, language: Language) -> None:
        """`language`: the one usually spoken here."""
        self._speech = speech
        self._language = language
        self.answers: Mapping[Language, Sequence[str]] = {}  # what we may answer, in each language
        self._waiting: list[Words] = []
        self._done: set[Words] = set()
        self._has_come = asyncio.Event()

    def expect(self, messages: Collection[Words], spoken: Collection[Language] = ()) -> None:
        """The messages of all tasks; answers are made ready in the languages that these and the house have, and in
        those that are `spoken` with it."""
        languages = sorted({self._language, *spoken, *(language for _, language in messages)})
        wanted = sorted(messages) + [(each, own) for own in languages for each in self.answers.get(own, ())]
        self._done &= set(wanted)
        self._waiting = [words for words in dict.fromkeys(wanted) if words not in self._done]
        if self._waiting:
            self._has_come.set()

    async def run(self) -> None:
        """Prepare what comes, until cancelled."""
        while True:
            await self._has_come.wait()
            while self._waiting:
                words = self._waiting.pop(0)
                self._done.add(words)  # what fails is tried again when it is said
                await self._speech.prepare(*words)
            self._has_come.clear()


def fixed_sentences(replies: Mapping[str, str]) -> list[str]:
    """The whole sentences and clauses in these templates that have no place to be filled in; first those that more
    comes behind, for which a voice has the time while they are said."""
    found = (piece for reply in replies.values() for piece in sentences(_PLACE.sub(SOMETHING, reply)))
    fixed = dict.fromkeys(each for each in found if "{" not in each and "}" not in each and each.endswith(ENDS))
    return sorted(fixed, key=lambda each: not each.endswith(OPEN_ENDS))
