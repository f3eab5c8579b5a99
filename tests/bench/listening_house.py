"""A house in a bench: the daemon's ears hear pieces of sound, faster than life; its conversation understands them."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Self, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from omni_watch.app.household import Planner, household_of
from omni_watch.app.talking import Conversation, Said
from omni_watch.app.words import Deaf, open_word_ears
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.settings import Settings
from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Heard
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task
from omni_watch.duplex.embedded.words.ears import WordEars
from omni_watch.store.thread import SqlStore
from tests.fakes.fake_observer import FakeObserver

Floats = NDArray[np.float32]
Each = TypeVar("Each")
RATE: Final = 16_000
FEED: Final = "kitchen"


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Sound on the feed's timeline."""

    start_s: float
    samples: Floats  # [n] at 16 kHz


@dataclass(slots=True)
class Listened:
    """What ears made of sound."""

    words: list[Heard] = field(default_factory=list)
    busy_s: float = 0.0  # processor time of the recogniser


@dataclass(frozen=True, slots=True)
class Came:
    """What came of words: the answer, if they were taken for a request, and the tasks of the house after it."""

    said: Said | None
    tasks: tuple[Task, ...]


class ListeningHouse:
    """A house with some tasks, that forgets every request again."""

    def __init__(
        self,
        settings: Settings,
        cabinet: Cabinet,
        tasks: Sequence[Task],
        *,
        feeds: tuple[str, ...] = (),
        zone: str | None = None,
        is_name_needed: bool = False,
    ) -> None:
        self.cabinet = cabinet
        rulebook = load_rulebook(settings.rules_dir)
        planner = Planner(settings, rulebook, cabinet)
        household = household_of(settings, rulebook, cabinet, planner.plan, set_by="voice")
        self._household = replace(
            household, feeds=feeds or household.feeds, zone=zone or household.zone, is_name_needed=is_name_needed
        )
        self._tasks = tuple(tasks)
        self._store: SqlStore | None = None  # in which nothing was changed

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, settings: Settings, cabinet: Cabinet, tasks: Sequence[Task], **others: Any
    ) -> AsyncGenerator[Self, None]:
        """As the constructor; closed in the end."""
        house = cls(settings, cabinet, tasks, **others)
        try:
            yield house
        finally:
            if house._store is not None:
                await house._store.close()

    async def hot_words(self) -> Mapping[Language, tuple[str, ...]]:
        return await Conversation(await self._fresh_store(), self._household).hot_words()

    async def comes_of(self, words: Sequence[Heard], now: datetime) -> Came:
        """Of what was heard one after another, each in its own utterance: the first that was a request."""
        store = await self._fresh_store()
        conversation = Conversation(store, self._household)
        for heard in words:
            said = await conversation.hears(heard, now)
            if said is not None:
                tasks = tuple(await store.transact(lambda tx: tx.tasks.all()))
                await store.close()
                self._store = None
                return Came(said, tasks)
        return Came(None, self._tasks)

    async def listen(self, pieces: Sequence[Piece]) -> Listened:
        """In as many programs at once as there are cores."""
        hot_words, cores = await self.hot_words(), len(os.sched_getaffinity(0))
        parts = await asyncio.gather(*(self._listen_alone(some, hot_words) for some in _shares(pieces, cores)))
        words = sorted((heard for part in parts for heard in part.words), key=lambda heard: heard.start_s)
        return Listened(words, sum(part.busy_s for part in parts))

    async def _listen_alone(self, pieces: Sequence[Piece], hot_words: Mapping[Language, Sequence[str]]) -> Listened:
        ears = open_word_ears(self.cabinet, ("en", "zh"), FakeObserver())
        if isinstance(ears, Deaf) or not isinstance(ears, WordEars):
            raise ModelError(f"no ears for words: {ears}")
        ears.expect(hot_words)
        found = Listened()
        running = asyncio.create_task(
            ears.run(lambda hearing: found.words.append(hearing) if isinstance(hearing, Heard) else None)
        )
        try:
            await ears.settled()
            program = psutil.Process(ears.pid)
            before_s = sum(program.cpu_times()[:2])
            for piece in pieces:
                for at in range(0, len(piece.samples), RATE):
                    ears.hear(FEED, piece.start_s + at / RATE, piece.samples[at : at + RATE])
                    await ears.settled()
            found.busy_s = sum(program.cpu_times()[:2]) - before_s
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        return found

    async def _fresh_store(self) -> SqlStore:
        if self._store is None:
            self._store = await SqlStore.open(None)
            for task in self._tasks:
                await self._store.transact(lambda tx, task=task: tx.tasks.add(task))  # type: ignore[misc]
        return self._store


def _shares(pieces: Sequence[Each], count: int) -> list[Sequence[Each]]:
    """Dealt out in order, about as many for each; none is empty."""
    cuts = [len(pieces) * at // count for at in range(count + 1)]
    return [pieces[begin:end] for begin, end in itertools.pairwise(cuts) if begin < end]
