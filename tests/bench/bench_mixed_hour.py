"""An hour of a house in which nobody asks the house for anything: how often does it take something for a request?

The sound goes through the daemon's ears and its understanding, in a house that watches for three things. `requests` of
the hour are false by construction. The harder track is what people ask of one another in the very words that a house is
asked with; nothing in the sound says who is meant, so its rate shows how much calling the house by name is worth.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from omni_watch.app.household import Planner, household_of
from omni_watch.app.talking import Conversation, Said
from omni_watch.app.wishes import task_from
from omni_watch.app.words import Deaf, open_word_ears
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Heard
from omni_watch.duplex.embedded.words.ears import WordEars
from omni_watch.store.thread import SqlStore
from omni_watch.telemetry.clock import StreamClock
from omni_watch.watch import requests
from tests.bench.mixed_hour import assemble, sources
from tests.bench.report import Report
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.hearing import NOW

Floats = NDArray[np.float32]
SEED: Final = 20
RATE: Final = 16_000
FEED: Final = "living-room"
WATCHED: Final = ("tell me when the kettle is full", "tell me every time the dog barks", "电梯到了告诉我")
MOST_FALSE: Final = 0.2  # an hour


def bench(report: Report) -> None:
    asyncio.run(_bench(report))


async def _bench(report: Report) -> None:
    settings, notes = read_settings(), list[str]()
    cabinet = Cabinet(settings.models_dir)
    house = _House(settings, cabinet)
    root, model = sources.packages(notes), cabinet.path("voice-en")
    rng = np.random.default_rng(SEED)
    ordinary, hard = assemble.ordinary(model, notes), assemble.hard(model, notes)
    hour, track = assemble.hour(ordinary, root, rng, notes), assemble.track(hard, rng)
    for note in notes:
        report.note(note)
    heard = await _listened(report, "the hour", hour, house)
    said = await house.understood(heard)
    _tell(report, said)
    report.measured("false commands in the hour", len(said), "", at_most=MOST_FALSE)
    said = await house.understood(heard, is_name_needed=True)
    report.measured("the same where our name is needed", len(said), "", at_most=MOST_FALSE)
    harder = await _listened(report, "the harder track", track, house)
    report.note(f"harder: {len(hard)} scenes in {len(track) / RATE / 60:.1f} min")
    said = await house.understood(harder)
    _tell(report, said)
    report.measured("requests taken from people who ask one another", len(said), f"of {len(harder)}")
    said = await house.understood(harder, is_name_needed=True)
    report.measured("the same where our name is needed", len(said), "", at_most=0)


def _tell(report: Report, said: Sequence[tuple[Heard, Said]]) -> None:
    for heard, each in said:
        report.note(f"  {heard.start_s:7.1f} s  {each.op:<8} {each.heard!r} -> {each.reply!r}")


@dataclass(slots=True)
class _Listened:
    """What ears made of a piece of sound."""

    words: list[Heard] = field(default_factory=list)
    busy_s: float = 0.0  # processor time of the recogniser


async def _listened(report: Report, what: str, sound: Floats, house: _House) -> list[Heard]:
    """The words in it, faster than life, in as many parts at once as there are cores."""
    began_s, length_s = time.monotonic(), len(sound) / RATE
    seconds = range(len(sound) // RATE)
    count = len(os.sched_getaffinity(0))
    parts = [seconds[len(seconds) * at // count : len(seconds) * (at + 1) // count] for at in range(count)]
    heard = await asyncio.gather(*(_part_listened(sound, part, house) for part in parts))
    busy_s = sum(part.busy_s for part in heard)
    report.measured(f"{what}: length", length_s / 60, "min")
    report.measured(f"{what}: processor time of the recogniser", 100 * busy_s / length_s, "% of one core")
    report.measured(f"{what}: times as fast as life", length_s / (time.monotonic() - began_s), "")
    words = [each for part in heard for each in part.words]
    report.measured(f"{what}: utterances with words", len(words), "")
    kept = [asdict(each) for each in words]
    (sources.FOLDER / f"{what.replace(' ', '-')}.json").write_text(json.dumps(kept, ensure_ascii=False), "utf-8")
    return words


async def _part_listened(sound: Floats, part: range, house: _House) -> _Listened:
    ears = open_word_ears(house.cabinet, ("en", "zh"), FakeObserver())
    if isinstance(ears, Deaf) or not isinstance(ears, WordEars):
        raise ModelError(f"no ears for words: {ears}")
    ears.expect(await house.hot_words())
    heard = _Listened()
    running = asyncio.create_task(
        ears.run(lambda hearing: heard.words.append(hearing) if isinstance(hearing, Heard) else None)
    )
    try:
        await ears.settled()
        program = psutil.Process(ears.pid)
        before_s = sum(program.cpu_times()[:2])
        for second in part:
            ears.hear(FEED, float(second), sound[second * RATE : (second + 1) * RATE])
            await ears.settled()
        heard.busy_s = sum(program.cpu_times()[:2]) - before_s
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return heard


class _House:
    """A house that watches for three things, and forgets every request again."""

    def __init__(self, settings: Settings, cabinet: Cabinet) -> None:
        self.settings = settings
        self.cabinet = cabinet
        self._rulebook = load_rulebook(settings.rules_dir)
        planner = Planner(settings, self._rulebook, cabinet)
        self._household = household_of(settings, self._rulebook, cabinet, planner.plan, set_by="voice")

    async def hot_words(self) -> Any:
        store = await self._opened()
        try:
            return await Conversation(store, self._household).hot_words()
        finally:
            await store.close()

    async def understood(self, words: Sequence[Heard], *, is_name_needed: bool = False) -> list[tuple[Heard, Said]]:
        """What was taken for a request. Each starts from the same house: a false one changes nothing for the next."""
        household = replace(self._household, is_name_needed=is_name_needed)
        clock, taken = StreamClock(NOW), list[tuple[Heard, Said]]()
        store = await self._opened()
        for heard in words:
            said = await Conversation(store, household).hears(heard, clock.at(heard.end_s))
            if said is not None:
                taken.append((heard, said))
                await store.close()
                store = await self._opened()
        await store.close()
        return taken

    async def _opened(self) -> SqlStore:
        store = await SqlStore.open(None)
        book = self._rulebook.phrasebook
        for number, text in enumerate(WATCHED):
            task = task_from(text, task_id=f"t{number}", set_by="bench", now=NOW, book=book, similarity=None)
            await store.transact(lambda tx, task=task: requests.add_task(tx, task=task))  # type: ignore[misc]
        return store
