"""Who may speak: one queue for all that is said aloud, one voice at a time, the most pressing first.

An urgent alert may cut short what is not urgent. People come before all of it: while one speaks, whoever of us spoke
falls silent, and only what is urgent begins. What waits too long to be worth saying is dropped by whoever offers it,
with a record: here nobody knows how long that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeVar

from omni_watch.domain.errors import Interrupted
from omni_watch.domain.rules import Language, Priority

T = TypeVar("T")
AGAIN_S: Final = 3.0  # after which what a person interrupted may be offered again


@dataclass(frozen=True, slots=True)
class Words:
    """What is going to be said, for who has to know our words from a person's."""

    text: str
    language: Language


class Rank(IntEnum):
    """Who speaks first; among equals, who asked first."""

    URGENT = 0  # an urgent alert: it waits for nobody but another one
    REPLY = 1  # a person asked and is waiting
    ALERT = 2
    LOW_ALERT = 3
    CHATTER = 4  # what a companion says of its own accord

    @classmethod
    def of(cls, priority: Priority) -> Rank:
        """That of an alert."""
        return {Priority.URGENT: cls.URGENT, Priority.NORMAL: cls.ALERT, Priority.LOW: cls.LOW_ALERT}[priority]


async def until_silent(speaking: asyncio.Future[Any], *others: asyncio.Future[Any]) -> None:
    """Wait until `speaking` or one of `others` is done. Whichever comes first, and also when the waiting is cancelled:
    afterwards it is silent, so that somebody else may speak. What `speaking` came to is for the caller to look at."""
    try:
        await asyncio.wait([speaking, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not speaking.done():
            speaking.cancel()
            await asyncio.wait([speaking])


@dataclass(slots=True, eq=False)
class _Turn:
    rank: Rank
    number: int  # in order of asking
    words: Words | None  # None: nobody knows them
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    speaking: asyncio.Future[Any] | None = None
    is_cut: bool = False
    gives_way: str = ""  # why

    def was_interrupted(self) -> bool:
        return bool(self.gives_way)

    def was_cut(self) -> bool:
        return self.is_cut

    @property
    def place(self) -> tuple[Rank, int]:
        return (self.rank, self.number)


class Floor:
    """The right to speak. Loop thread only."""

    def __init__(
        self,
        *,
        on_speaking: Callable[[Words | None], None] = lambda _words: None,
        on_silent: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_speaking`: somebody of us begins to say this; `on_silent`: has ended or fallen silent."""
        self._waiting: list[_Turn] = []
        self._speaker: _Turn | None = None
        self._asked = 0
        self._on_speaking = on_speaking
        self._on_silent = on_silent
        self._person: asyncio.TimerHandle | None = None  # while one speaks

    async def speak(
        self,
        rank: Rank,
        utter: Callable[[], Awaitable[T]],
        *,
        words: Words | None = None,
        on_cut: Callable[[], None] = lambda: None,
    ) -> T:
        """Run `utter` when it is its turn; again from the start each time an urgent one cut it short.

        Only one `utter` runs at a time, whatever happens to it; what it raises is raised here. `words`: what it
        says.

        Raises:
            Interrupted: a person began to speak, or the house is to be quiet.
        """
        self._asked += 1
        turn = _Turn(rank, self._asked, words)
        while True:
            await self._until_mine(turn)
            try:
                return await self._hold(turn, utter)
            except _CutError:
                on_cut()
            finally:
                self._pass_on()

    def give_way(self, for_s: float) -> bool:
        """A person speaks: who has the floor falls silent at once, and its `speak` raises `Interrupted`. For so long
        nobody begins but who is urgent; called again, the last time counts. Whether somebody had the floor until now.
        """
        self.person_speaks(for_s)
        return self._interrupt(frozenset(Rank), "a person spoke")

    def hush(self, ranks: Collection[Rank]) -> bool:
        """Who has the floor with one of these ranks falls silent at once, and its `speak` raises `Interrupted`; others
        may begin. Whether somebody fell silent."""
        return self._interrupt(ranks, "the house is to be quiet")

    def _interrupt(self, ranks: Collection[Rank], why: str) -> bool:
        speaker = self._speaker
        if speaker is None or speaker.gives_way or speaker.rank not in ranks:
            return False
        speaker.gives_way = why
        if speaker.speaking is not None:
            speaker.speaking.cancel()
        return True

    def person_speaks(self, for_s: float) -> None:
        """For so long nobody begins but who is urgent; 0: from now on everybody may. The last call counts."""
        if self._person is not None:
            self._person.cancel()
        self._person = asyncio.get_running_loop().call_later(for_s, self._person_is_done)

    def _person_is_done(self) -> None:
        self._person = None
        if self._speaker is None:
            self._pass_on()

    async def _until_mine(self, turn: _Turn) -> None:
        turn.may_begin.clear()
        turn.is_cut = False
        self._waiting.append(turn)
        self._cut_for(turn)
        if self._speaker is None:
            self._pass_on()
        try:
            await turn.may_begin.wait()
        except asyncio.CancelledError:
            if self._speaker is turn:
                self._pass_on()
            else:
                self._waiting.remove(turn)
            raise

    async def _hold(self, turn: _Turn, utter: Callable[[], Awaitable[T]]) -> T:
        self._require_undisturbed(turn)  # between being given the floor and the first word
        self._on_speaking(turn.words)
        speaking = asyncio.ensure_future(utter())
        turn.speaking = speaking
        try:
            await until_silent(speaking)
        finally:
            turn.speaking = None
            self._on_silent()
        if speaking.cancelled():
            self._require_undisturbed(turn)
        return speaking.result()

    def _require_undisturbed(self, turn: _Turn) -> None:
        if turn.was_interrupted():
            raise Interrupted(turn.gives_way, again_in_s=AGAIN_S)
        if turn.was_cut():
            raise _CutError

    def _cut_for(self, turn: _Turn) -> None:
        speaker = self._speaker
        if turn.rank is not Rank.URGENT or speaker is None or speaker.rank is Rank.URGENT:
            return
        speaker.is_cut = True
        if speaker.speaking is not None:
            speaker.speaking.cancel()

    def _pass_on(self) -> None:
        may_speak = [turn for turn in self._waiting if self._person is None or turn.rank is Rank.URGENT]
        self._speaker = min(may_speak, key=lambda turn: turn.place, default=None)
        if self._speaker is not None:
            self._waiting.remove(self._speaker)
            self._speaker.may_begin.set()


class _CutError(Exception):
    """An urgent voice cut this one short."""
