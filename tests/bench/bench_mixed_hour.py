"""An hour of a house in which nobody asks the house for anything: how often does it take something for a request?

The sound goes through the daemon's ears and its understanding, in a house that watches for three things. `requests` of
the hour are false by construction. The harder track is what people ask of one another in the very words that a house is
asked with; nothing in the sound says who is meant, so its rate shows how much calling the house by name is worth.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.app.talking import Said
from omni_watch.app.wishes import task_from
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.hearing import Heard
from omni_watch.domain.tasks import Task
from tests.bench.listening_house import RATE, ListeningHouse, Piece
from tests.bench.mixed_hour import assemble, sources
from tests.bench.report import Report
from tests.bench.sayings import FOLDER, speak
from tests.fakes.hearing import NOW

Floats = NDArray[np.float32]
USUAL_SEED: Final = 50
HARDER_SEED: Final = 0  # the harder track has the same voices in every hour
WATCHED: Final = ("tell me when the kettle is full", "tell me every time the dog barks", "电梯到了告诉我")
MOST_FALSE: Final = 0.2  # an hour


def bench(report: Report) -> None:
    asyncio.run(_bench(report, int(os.environ.get("OMNI_WATCH_SEED", USUAL_SEED))))


async def _bench(report: Report, seed: int) -> None:
    report.note(f"seed {seed}; another OMNI_WATCH_SEED makes another hour")
    settings, notes, rng = read_settings(), list[str](), np.random.default_rng(seed)
    cabinet, root = Cabinet(settings.models_dir), sources.packages(notes)
    ordinary, hard = assemble.ordinary(root, rng, notes), assemble.hard(np.random.default_rng(HARDER_SEED))
    speak([saying for scene in (*ordinary, *hard) for saying in scene], cabinet)
    hour, track = assemble.hour(ordinary, root, rng, notes), assemble.track(hard, rng)
    for note in notes:
        report.note(note)
    tasks = _tasks(settings)
    async with (
        ListeningHouse.opened(settings, cabinet, tasks) as house,
        ListeningHouse.opened(settings, cabinet, tasks, is_name_needed=True) as strict,
    ):
        heard = await _listened(report, "the hour", hour, house, seed)
        taken = await _taken(heard, house)
        _tell(report, taken)
        report.measured("false commands in the hour", len(taken), "", at_most=MOST_FALSE)
        taken = await _taken(heard, strict)
        report.measured("the same where our name is needed", len(taken), "", at_most=MOST_FALSE)
        harder = await _listened(report, "the harder track", track, house, seed)
        taken = await _taken(harder, house)
        _tell(report, taken)
        report.measured("requests taken from people who ask one another", len(taken), f"of {len(harder)}")
        taken = await _taken(harder, strict)
        report.measured("the same where our name is needed", len(taken), "", at_most=0)


def _tell(report: Report, said: Sequence[tuple[Heard, Said]]) -> None:
    for heard, each in said:
        report.note(f"  {heard.start_s:7.1f} s  {each.op:<8} {each.heard!r} -> {each.reply!r}")


async def _listened(report: Report, what: str, sound: Floats, house: ListeningHouse, seed: int) -> list[Heard]:
    """The words in it, faster than life, in as many parts at once as there are cores."""
    began_s, length_s = time.monotonic(), len(sound) / RATE
    count = len(os.sched_getaffinity(0))
    cuts = [len(sound) // RATE * at // count for at in range(count + 1)]
    pieces = [Piece(float(begin), sound[begin * RATE : end * RATE]) for begin, end in itertools.pairwise(cuts)]
    listened = await house.listen(pieces)
    report.measured(f"{what}: length", length_s / 60, "min")
    report.measured(f"{what}: processor time of the recogniser", 100 * listened.busy_s / length_s, "% of one core")
    report.measured(f"{what}: times as fast as life", length_s / (time.monotonic() - began_s), "")
    report.measured(f"{what}: utterances with words", len(listened.words), "")
    kept = [asdict(each) for each in listened.words]
    path = FOLDER / f"{what.replace(' ', '-')}-{seed}.json"
    path.write_text(json.dumps(kept, ensure_ascii=False), "utf-8")
    return listened.words


async def _taken(words: Sequence[Heard], house: ListeningHouse) -> list[tuple[Heard, Said]]:
    """What was taken for a request. Each starts from the same house: a false one changes nothing for the next."""
    came = [(heard, (await house.comes_of([heard], NOW + timedelta(seconds=heard.end_s))).said) for heard in words]
    return [(heard, said) for heard, said in came if said is not None]


def _tasks(settings: Settings) -> list[Task]:
    book = load_rulebook(settings.rules_dir).phrasebook
    return [
        task_from(text, task_id=f"t{number}", set_by="bench", now=NOW, book=book, similarity=None)
        for number, text in enumerate(WATCHED)
    ]
