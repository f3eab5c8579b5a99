"""A conversation by voice: what was heard -> what it asks for, done -> what we answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from typing import Final

from omni_watch.domain.hearing import Heard
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task
from omni_watch.watch import requests
from omni_watch.watch.asking import Add, BeQuiet, Cancel, Nothing, Understood
from omni_watch.watch.by_ear import fits_a_rule, is_disputed, put_right
from omni_watch.watch.conversing import ANSWER_WITHIN, Household, Talking, carry_out, hear
from omni_watch.watch.hot_words import hot_words
from omni_watch.watch.phrases import Hearing, understand
from omni_watch.watch.pinyin import repaired
from omni_watch.watch.ports import Store, Transaction

SURE_WISH: Final = 0.7  # of words that ask for what no rule knows; talk that was misheard as a wish had 0.6 to 0.7
FAR_BEHIND: Final = 0.2  # by so much less sure than what was heard best, and nobody said it
LONGEST_DOING: Final = 3  # characters: 狗叫; longer ones are put right as conditions, see `by_ear`
_HAN: Final = r"\u3400-\u9fff\uf900-\ufaff"
_COMMA: Final = re.compile(rf"(?<=[{_HAN}0-9])\s*[,，、]\s*(?=[{_HAN}0-9])")
_HYPHEN: Final = re.compile(r"(?<=[^\W_])-(?=[^\W\d_])")
_MARKS: Final = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a spoken request came to."""

    heard: str  # the words that were taken
    language: Language  # of the answer
    op: str  # "add", "cancel", ...
    task_ids: tuple[str, ...]
    reply: str  # empty: say nothing
    is_done: bool
    is_question: bool
    is_hush: bool  # what is being said shall end


class Conversation:
    """What is remembered of the talk on each feed. Loop thread only; the work is done on the store's thread."""

    def __init__(self, store: Store, household: Household) -> None:
        self._store = store
        self.household = household  # another one when the rules have changed; what was talked of goes on
        self._talks: dict[str, Talking] = {}
        self._live: tuple[Task, ...] = ()  # as of the last look

    async def hears(self, heard: Heard, now: datetime) -> Said | None:
        """Do what was asked for; None when nothing was. `now`: when it was said.

        Raises:
            StoreError: it could not be carried out.
        """
        talking = self._talks.get(heard.feed, Talking())

        def work(tx: Transaction) -> tuple[Said, Talking] | None:
            requests.settle(tx, now)
            sentence, understood = self._understood(tx, heard, talking, now)
            if not understood.is_request:
                return None
            reply = carry_out(tx, understood, sentence, self.household, talking, now)
            said = Said(
                heard=sentence,
                language=reply.language,
                op=reply.deed,
                task_ids=reply.task_ids,
                reply=reply.text,
                is_done=reply.is_done,
                is_question=reply.is_question,
                is_hush=isinstance(understood.request, BeQuiet),
            )
            return said, reply.talking

        done = await self._store.transact(work)
        if done is None:
            return None
        said, self._talks[heard.feed] = done
        return said

    def _understood(self, tx: Transaction, heard: Heard, talking: Talking, now: datetime) -> tuple[str, Understood]:
        """The reading that was most likely meant: rather one that can be done than a wish that no rule knows, rather
        as it was heard than put right, and the likelier first. The likeliest of all when none is a request.

        What would end everything has to have been heard best, in these words. What no rule knows is only taken as it
        was heard best, and only when that is sure or we were called by our name: among what it may have been as well,
        there is always something that sounds like a wish.
        """
        others = {each.text: each.confidence for each in reversed(heard.alternatives)}
        sure = others | {heard.text: heard.confidence}
        known: list[tuple[int, str, Understood]] = []  # how much was put right, and what came of it
        first: tuple[str, Understood] | None = None
        wish: tuple[str, Understood] | None = None
        for text, reading in self._readings(tx, heard):
            understood = hear(tx, reading, self.household, talking, now)
            first = first or (reading, understood)
            if not understood.is_request or (_ends_all(understood) and _changed(heard.text, reading) > 0):
                continue
            if isinstance(understood.request, Add):
                if is_disputed(reading, sure[text], sure.items()):
                    continue
                found = self._known(tx, reading, understood, talking, now)
                if found is None:
                    is_as_heard = reading == text == heard.text
                    if is_as_heard and (understood.is_named or heard.confidence >= SURE_WISH):
                        wish = wish or (reading, understood)
                    continue
                reading, understood = found
            elif wish is not None and text != heard.text:
                continue
            known.append((_changed(text, reading), reading, understood))
            if known[-1][0] == 0:
                break
        if known:
            _, reading, understood = min(known, key=lambda one: one[0])
            return reading, understood
        if first is None:
            raise ValueError("nothing was heard")
        if wish is None and first[1].is_request:
            return first[0], replace(first[1], request=Nothing(), why="it was not heard well")
        return wish or first

    def _readings(self, tx: Transaction, heard: Heard) -> list[tuple[str, str]]:
        """What was heard, and how it may be read, the likeliest first; none twice."""
        words = self._words_by_ear(tx)
        asking = tuple(word for speech in self.household.book.speeches for word in speech.by_ear)
        others = (other.text for other in heard.alternatives if other.confidence >= heard.confidence - FAR_BEHIND)
        readings: dict[str, str] = {}
        for text in (heard.text, *others):
            plain = _unmarked(text)
            for reading in (text, plain, repaired(text, words), repaired(plain, (*words, *asking))):
                readings.setdefault(reading, text)
        return [(text, reading) for reading, text in readings.items()]

    def _words_by_ear(self, tx: Transaction) -> tuple[str, ...]:
        """What is likely to be spoken of where words are put right by their sound: things, and what those do that are
        watched."""
        watched = {task.rule for task in tx.tasks.live()}
        book = self.household.book.book
        return tuple(
            word
            for tongue in book.tongues
            if not tongue.is_spaced
            for word in (
                *self._hot_words(tx)[tongue.language],
                *(
                    phrase.stripped
                    for phrase in book.phrases[tongue.language]
                    if phrase.rule in watched and len(phrase.stripped) <= LONGEST_DOING
                ),
            )
        )

    def _known(
        self, tx: Transaction, sentence: str, understood: Understood, talking: Talking, now: datetime
    ) -> tuple[str, Understood] | None:
        """The sentence, if it asks for what a rule knows; or as it must have been said, if it sounds like that."""
        request, language, book = understood.request, understood.language, self.household.book.book
        if not isinstance(request, Add):
            return None
        if fits_a_rule(request, language, book):
            return sentence, understood
        if (said := put_right(sentence, request, language, book)) is None:
            return None
        again = hear(tx, said, self.household, talking, now)
        is_right = isinstance(again.request, Add) and fits_a_rule(again.request, again.language, book)
        return (said, again) if is_right else None

    def not_kept(self, language: Language) -> str:
        """What we answer when the store took nothing."""
        return self.household.book.speech(language).replies["not_kept"]

    def spoken(self, feed: str, now: datetime) -> None:
        """Our answer was heard to its end: only now do the seconds for an answer to it begin."""
        talking = self._talks.get(feed)
        if talking is None:
            return
        question = talking.question and replace(talking.question, until=now + ANSWER_WITHIN)
        self._talks[feed] = replace(talking, question=question, said_at=now)

    @property
    def languages(self) -> frozenset[Language]:
        """Those in which people asked for what is watched now, as of the last look."""
        return frozenset(task.language for task in self._live)

    async def hot_words(self) -> Mapping[Language, tuple[str, ...]]:
        """What is likely to be said in this house now, by language."""
        words, self._live = await self._store.transact(lambda tx: (self._hot_words(tx), tuple(tx.tasks.live())))
        return words

    def is_request(self, sentence: str, now: datetime) -> bool:
        """Whether a sentence asks us for something, as far as that can be said without the store."""
        house = self.household
        hearing = Hearing(
            now=now,
            zone=house.zone,
            feeds=house.feeds,
            names=house.names,
            is_name_needed=house.is_name_needed,
            tasks=self._live,
            is_asked=any(talking.asks(now) is not None for talking in self._talks.values()),
            spoken_at=now,
        )
        return understand(sentence, house.book, hearing).is_request

    def _hot_words(self, tx: Transaction) -> Mapping[Language, tuple[str, ...]]:
        book = self.household.book.book
        return {tongue.language: hot_words(tongue, book.rules, tx.tasks.live()) for tongue in book.tongues}


def _ends_all(understood: Understood) -> bool:
    return isinstance(understood.request, Cancel) and understood.request.which.is_all


def _unmarked(text: str) -> str:
    """Without the marks that a recogniser puts where it likes: commas in Chinese, hyphens between words."""
    return _HYPHEN.sub(" ", _COMMA.sub("", text))


def _changed(heard: str, said: str) -> int:
    """In how many characters they differ, marks apart."""
    return sum(one != other for one, other in zip_longest(_MARKS.sub("", heard), _MARKS.sub("", said)))
