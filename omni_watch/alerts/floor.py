"""Who may speak: one voice at a time, urgent ones first, and an urgent one may cut short one that is not.

People come before all of them: while one speaks, whoever of us spoke falls silent, and only what is urgent begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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


@dataclass(slots=True, eq=False)
class _Turn:
    priority: Priority
    number: int  # in order of asking
    words: Words | None  # None: nobody knows them
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    speaking: asyncio.Future[Any] | None = None
    is_cut: bool = False
    gives_way: bool = False

    def was_interrupted(self) -> bool:
        return self.gives_way

    def was_cut(self) -> bool:
        return self.is_cut

    @property
    def rank(self) -> tuple[int, int]:
        return (self.priority.rank, self.number)


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
        priority: Priority,
        utter: Callable[[], Awaitable[T]],
        *,
        words: Words | None = None,
        on_cut: Callable[[], None] = lambda: None,
    ) -> T:
        """Run `utter` when it is its turn; again from the start each time an urgent one cut it short.

        Only one `utter` runs at a time, whatever happens to it; what it raises is raised here. `words`: what it
        says.

        Raises:
            Interrupted: a person began to speak.
        """
        self._asked += 1
        turn = _Turn(priority, self._asked, words)
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
        nobody begins but who is urgent; called again, the last time counts. Whether somebody had the floor.
        """
        self.person_speaks(for_s)
        speaker = self._speaker
        if speaker is None:
            return False
        speaker.gives_way = True
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
            await asyncio.wait([speaking])
        finally:
            if not speaking.done():  # we were cancelled: the floor is not free before it is silent
                speaking.cancel()
                await asyncio.wait([speaking])
            turn.speaking = None
            self._on_silent()
        if speaking.cancelled():
            self._require_undisturbed(turn)
        return speaking.result()

    def _require_undisturbed(self, turn: _Turn) -> None:
        if turn.was_interrupted():
            raise Interrupted("a person spoke", again_in_s=AGAIN_S)
        if turn.was_cut():
            raise _CutError

    def _cut_for(self, turn: _Turn) -> None:
        speaker = self._speaker
        if turn.priority is not Priority.URGENT or speaker is None or speaker.priority is Priority.URGENT:
            return
        speaker.is_cut = True
        if speaker.speaking is not None:
            speaker.speaking.cancel()

    def _pass_on(self) -> None:
        may_speak = [turn for turn in self._waiting if self._person is None or turn.priority is Priority.URGENT]
        self._speaker = min(may_speak, key=lambda turn: turn.rank, default=None)
        if self._speaker is not None:
            self._waiting.remove(self._speaker)
            self._speaker.may_begin.set()


class _CutError(Exception):
    """An urgent voice cut this one short."""
