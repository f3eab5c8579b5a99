"""The sentences of the typed tables, spoken: how many of them come through the ears as what they ask for.

Every second sentence that needs nothing said before it, in several voices, over the noise of a room, through the
daemon's ears and its conversation, in the house of the tables. What a spoken sentence does is compared with what the
same sentence does when it is typed. OMNI_WATCH_HALF=1 takes the other sentences, and other noise.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings
from omni_watch.domain.hearing import Heard
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task
from omni_watch.watch.tongues import fold
from tests.bench.listening_house import RATE, Came, ListeningHouse, Piece
from tests.bench.report import Report
from tests.bench.sayings import FOLDER, JOE, Saying, speak
from tests.fakes.hearing import BOOK, NOW, TABLES, TASKS, ZONE, hearing
from tests.fakes.spoken import in_a_room

Floats = NDArray[np.float32]
VOICES: Final[dict[Language, Sequence[str]]] = {
    "en": (JOE, "en-us", "en-gb", "jm_kumo"),
    "zh": ("jf_nezumi", "jf_gongitsune", "jm_kumo", "cmn-latn-pinyin"),
}
HALVES: Final = 2
HALF: Final = int(os.environ.get("OMNI_WATCH_HALF", "0"))
BEFORE_S, AFTER_S = 0.5, 1.2  # of the room alone
APART_S: Final = 100.0  # on the feed's timeline: what is said next has nothing to do with it
WORDED: Final = frozenset({"add", "remind", "change"})  # whose answers repeat the person's own words
NEW: Final = "new"
# how a spoken sentence fares
RIGHT, MISWORDED, REFUSED, WRONG, NOTHING = "right", "misworded", "refused", "wrong", "nothing"


@dataclass(frozen=True, slots=True)
class Entry:
    """A sentence of the tables in one voice."""

    saying: Saying
    is_request: bool


def bench(report: Report) -> None:
    asyncio.run(_bench(report))


async def _bench(report: Report) -> None:
    settings = read_settings()
    cabinet = Cabinet(settings.models_dir)
    entries = [entry for language in VOICES for entry in _entries(language)]
    speak([entry.saying for entry in entries], cabinet)
    async with ListeningHouse.opened(settings, cabinet, TASKS, feeds=hearing().feeds, zone=ZONE) as house:
        await _scored(report, entries, house)


async def _scored(report: Report, entries: Sequence[Entry], house: ListeningHouse) -> None:
    began_s = time.monotonic()
    listened = await house.listen(list(_pieces(entries)))
    report.measured("sentences, each in one voice", len(entries), "")
    report.measured("processor time of the recogniser, of a sentence", listened.busy_s / len(entries), "s")
    report.measured("to listen to all", (time.monotonic() - began_s) / 60, "min")
    heard = [[each for each in listened.words if each.start_s // APART_S == at] for at in range(len(entries))]
    typed: dict[str, Came] = {}
    fates: Counter[tuple[str, bool, str]] = Counter()
    kept: list[dict[str, Any]] = []
    for entry, words in zip(entries, heard, strict=True):
        saying = entry.saying
        if saying.text not in typed:
            typed[saying.text] = await house.comes_of([_as_typed(saying)], NOW)
        came = await house.comes_of(words, NOW)
        fate = _fate(came, typed[saying.text])
        fates[f"{saying.language} {saying.voice}", entry.is_request, fate] += 1
        if fate == WRONG:
            report.note(f"{saying.voice}: {saying.text!r} {[each.text for each in words]} -> {came.said}")
        kept.append({"entry": entry, "fate": fate, "words": words, "reply": came.said and came.said.reply})
    _keep(kept)
    _tell(report, fates)


def _entries(language: Language) -> Iterator[Entry]:
    table = TABLES[language]
    requests = [entry["say"] for entry in table["requests"] if "after" not in entry]
    for voice in VOICES[language]:
        for texts, is_request in ((requests, True), (table["nothing"], False)):
            for text in texts[HALF::HALVES]:
                yield Entry(Saying(text, language, voice), is_request)


def _pieces(entries: Sequence[Entry]) -> Iterator[Piece]:
    rng = np.random.default_rng(HALF)
    before, after = np.zeros(round(BEFORE_S * RATE), np.float32), np.zeros(round(AFTER_S * RATE), np.float32)
    for at, entry in enumerate(entries):
        yield Piece(at * APART_S, in_a_room(np.concatenate([before, entry.saying.sound(), after]), rng))


def _as_typed(saying: Saying) -> Heard:
    return Heard(feed="typed", start_s=0, end_s=0, text=saying.text, language=saying.language, confidence=1.0)


# --- whether two sentences did the same ---


def _fate(spoken: Came, typed: Came) -> str:
    """How the spoken one fared; a sentence that does nothing when it is typed is right when it does nothing."""
    if spoken.said is None or typed.said is None:
        return RIGHT if spoken.said is typed.said else NOTHING if spoken.said is None else WRONG
    if _plain(spoken.said.reply) == _plain(typed.said.reply) and _facts(spoken) == _facts(typed):
        return RIGHT
    is_same = spoken.said.op == typed.said.op and _facts(spoken) == _facts(typed)
    if is_same and (spoken.said.op in WORDED or not typed.said.is_done):
        return MISWORDED
    return WRONG if spoken.said.is_done else REFUSED


def _facts(came: Came) -> list[Task]:
    """The tasks of the house without the words in them, and without the names of new ones."""
    known = {task.id for task in TASKS}
    bare = [
        replace(task, id=task.id if task.id in known else NEW, text="", message="", why="", language="en")
        for task in came.tasks
    ]
    return sorted((replace(task, set_at=NOW, **_rounded(task)) for task in bare), key=lambda task: task.id)


def _rounded(task: Task) -> dict[str, Any]:
    """Times to the minute."""
    return {
        name: at.replace(second=0, microsecond=0)
        for name in ("expires_at", "snoozed_until")
        if (at := getattr(task, name)) is not None
    }


def _plain(reply: str) -> str:
    """An answer without marks, capitals and differences of script."""
    folded = re.sub(r"[\W_]+", " ", fold(reply)).strip()
    for speech in BOOK.speeches:
        folded = folded.translate(dict(BOOK.book.tongue(speech.language).variants))
    return folded


# --- telling ---


def _tell(report: Report, fates: Counter[tuple[str, bool, str]]) -> None:
    for who in dict.fromkeys(who for who, _, _ in fates):
        said = sum(count for (each, is_request, _), count in fates.items() if each == who and is_request)
        idle = sum(count for (each, is_request, _), count in fates.items() if each == who and not is_request)
        right = fates[who, True, RIGHT]
        report.measured(f"{who}: requests that came through", 100 * right / said, "%")
        others = ", ".join(f"{fates[who, True, fate]} {fate}" for fate in (MISWORDED, REFUSED, WRONG, NOTHING))
        report.note(f"{'':<4}{right} of {said}; {others}")
        report.measured(f"{who}: of {idle} that ask for nothing, taken", fates[who, False, WRONG], "")


def _keep(kept: Sequence[dict[str, Any]]) -> None:
    """All that was heard, beside the sounds, for who looks into it."""
    rows = [
        {
            "text": row["entry"].saying.text,
            "voice": row["entry"].saying.voice,
            "language": row["entry"].saying.language,
            "is_request": row["entry"].is_request,
            "fate": row["fate"],
            "reply": row["reply"],
            "heard": [_as_json(each) for each in row["words"]],
        }
        for row in kept
    ]
    (FOLDER / f"spoken-requests-{HALF}.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), "utf-8")


def _as_json(heard: Heard) -> dict[str, Any]:
    others = [[each.text, each.language, round(each.confidence, 3)] for each in heard.alternatives]
    return {"text": heard.text, "language": heard.language, "confidence": heard.confidence, "others": others}
