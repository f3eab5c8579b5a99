"""Who may speak: one voice at a time, urgent ones first, and an urgent one may cut short one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from omni_watch.domain.rules import Priority

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Turn:
    priority: Priority
    number: int  # in order of asking
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    speaking: asyncio.Future[Any] | None = None
    is_cut: bool = False

    def was_cut(self) -> bool:
        return self.is_cut

    @property
    def rank(self) -> tuple[int, int]:
        return (self.priority.rank, self.number)


class Floor:
    """The right to speak. Loop thread only."""

    def __init__(self) -> None:
        self._waiting: list[_Turn] = []
        self._speaker: _Turn | None = None
        self._asked = 0

    async def speak(
        self,
        priority: Priority,
        utter: Callable[[], Awaitable[T]],
        *,
        on_cut: Callable[[], None] = lambda: None,
    ) -> T:
        """Run `utter` when it is its turn; again from the start each time an urgent one cut it short.

        Only one `utter` runs at a time, whatever happens to it; what it raises is raised here.
        """
        self._asked += 1
        turn = _Turn(priority, self._asked)
        while True:
            await self._until_mine(turn)
            try:
                return await self._hold(turn, utter)
            except _CutError:
                on_cut()
            finally:
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
        if turn.was_cut():  # between being given the floor and the first word
            raise _CutError
        speaking = asyncio.ensure_future(utter())
        turn.speaking = speaking
        try:
            await asyncio.wait([speaking])
        finally:
            if not speaking.done():  # we were cancelled: the floor is not free before it is silent
                speaking.cancel()
                await asyncio.wait([speaking])
            turn.speaking = None
        if turn.was_cut() and speaking.cancelled():
            raise _CutError
        return speaking.result()

    def _cut_for(self, turn: _Turn) -> None:
        speaker = self._speaker
        if turn.priority is not Priority.URGENT or speaker is None or speaker.priority is Priority.URGENT:
            return
        speaker.is_cut = True
        if speaker.speaking is not None:
            speaker.speaking.cancel()

    def _pass_on(self) -> None:
        self._speaker = min(self._waiting, key=lambda turn: turn.rank, default=None)
        if self._speaker is not None:
            self._waiting.remove(self._speaker)
            self._speaker.may_begin.set()


class _CutError(Exception):
    """An urgent voice cut this one short."""
