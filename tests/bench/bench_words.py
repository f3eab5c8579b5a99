"""How well, how soon and at what cost spoken words are understood.

Sentences are spoken by programs (Piper, espeak-ng), so that the rates say how the parts compare, not how a person at a
kitchen table fares. Mandarin: the recordings in tests/golden/words.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

from omni_watch.app.words import Deaf, open_word_ears
from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings
from omni_watch.domain.hearing import Heard, Hearing, Unheard
from omni_watch.domain.rules import Language
from omni_watch.duplex.embedded.words.ears import WordEars
from omni_watch.duplex.embedded.words.listening import FeedListening, VoiceEnded
from omni_watch.duplex.embedded.words.models import MODELS
from omni_watch.duplex.embedded.words.recognizer import Recognizer
from omni_watch.duplex.embedded.words.voice_activity import VoiceActivity
from omni_watch.watch.pinyin import meant, repaired
from tests.bench.report import Report
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.spoken import COMMANDS_ZH, HOT_WORDS, SENTENCES, errors, espeak, in_a_room, piper, recorded, wording

Floats = NDArray[np.float32]
HotWords = Mapping[Language, Sequence[str]]

RATE: Final = 16_000
BLOCK: Final = 512  # samples at a time, as a microphone gives them
ESPEAK: Final = {"espeak us": ("en-us",), "espeak gb": ("en-gb",), "espeak f3": ("en-us+f3", "-s", "160")}
NATURAL: Final = "piper joe"
TIMED: Final = 16  # sentences in real time
LOUD: Final = 0.02  # of what has no noise: the end of speech, as an ear would say


def bench(report: Report) -> None:
    cabinet = Cabinet(read_settings().models_dir)
    cabinet.pull()
    spoken = dict(_spoken(cabinet))
    _voice_activity(report, cabinet, spoken[NATURAL])
    _base(report, cabinet, spoken)
    _tiny(report, cabinet, spoken)
    asyncio.run(_in_real_time(report, cabinet, spoken[NATURAL][:TIMED]))


def _spoken(cabinet: Cabinet) -> Iterator[tuple[str, list[Floats]]]:
    yield NATURAL, [piper(sentence, cabinet.path("voice-en"), varies=True) for sentence in SENTENCES]
    for name, (voice, *options) in ESPEAK.items():
        yield name, [espeak(sentence, voice, *options) for sentence in SENTENCES]


def _voice_activity(report: Report, cabinet: Cabinet, spoken: Sequence[Floats]) -> None:
    activity = VoiceActivity(cabinet.path("silero-vad"))
    rng = np.random.default_rng(0)
    second = np.zeros(RATE, np.float32)
    found, length_s, began = 0, 0.0, time.process_time()
    for speech in spoken:
        listening = FeedListening(activity)
        sound = in_a_room(np.concatenate([second, speech, second]), rng)
        for at in range(0, len(sound), BLOCK):
            found += sum(isinstance(each, VoiceEnded) for each in listening.hear(at / RATE, sound[at : at + BLOCK]))
        length_s += len(sound) / RATE
    took_s = time.process_time() - began
    report.measured("voice activity, of a second of sound", 1000 * took_s / length_s, "ms CPU", at_most=20)
    report.measured(f"stretches of voice in {len(spoken)} sentences", found, "")


@dataclass(slots=True)
class Score:
    """Of one voice or several."""

    wrong: int = 0
    words: int = 0
    exact: int = 0
    sentences: int = 0
    took_s: list[float] = field(default_factory=list)

    def add(self, heard: str, said: str, took_s: float) -> None:
        wrong = errors(heard, said)
        self.wrong += wrong
        self.words += len(wording(said).split())
        self.exact += wrong == 0
        self.sentences += 1
        self.took_s.append(took_s)

    def tell(self, report: Report, what: str) -> None:
        report.measured(f"{what}: wrong words", 100 * self.wrong / self.words, "%")
        report.note(f"{'':<4}{self.exact} of {self.sentences} sentences word for word")


def _score(recognizer: Recognizer, spoken: Sequence[Floats], hot_words: HotWords, score: Score) -> None:
    rng = np.random.default_rng(1)
    for sentence, speech in zip(SENTENCES, spoken, strict=True):
        sound = in_a_room(speech, rng)
        began = time.process_time()
        transcripts = recognizer.recognize(sound, hot_words)
        score.add(transcripts[0].text if transcripts else "", sentence, time.process_time() - began)


def _base(report: Report, cabinet: Cabinet, spoken: Mapping[str, Sequence[Floats]]) -> None:
    recognizer = _recognizer(cabinet, 0)
    for name, hot_words in (("without hot words", {}), ("with hot words", HOT_WORDS)):
        total = Score()
        for voice, sounds in spoken.items():
            score = Score()
            _score(recognizer, sounds, hot_words, score)
            score.tell(report, f"{voice}, {name}")
            _add(total, score)
        total.tell(report, f"all voices, {name}")
        report.measured("to recognise a sentence, median", statistics.median(total.took_s), "s CPU")
    _mandarin(report, recognizer)


def _mandarin(report: Report, recognizer: Recognizer) -> None:
    phrases = {name: (text,) for name, text in COMMANDS_ZH.items()}
    rng, right, wrong, in_chinese = np.random.default_rng(2), 0, 0, 0
    for name in COMMANDS_ZH:
        transcripts = recognizer.recognize(in_a_room(recorded(name), rng), HOT_WORDS)
        in_chinese += bool(transcripts) and transcripts[0].language == "zh"
        text = repaired(transcripts[0].text, HOT_WORDS["zh"]) if transcripts else ""
        found = meant(text, phrases)
        right += found is not None and found.meaning == name
        wrong += found is not None and found.meaning != name
    report.measured(f"Mandarin: right of {len(COMMANDS_ZH)} commands", right, "")
    report.measured("Mandarin: wrong command", wrong, "", at_most=0)
    report.measured("Mandarin: taken for Chinese", in_chinese, "")


def _tiny(report: Report, cabinet: Cabinet, spoken: Mapping[str, Sequence[Floats]]) -> None:
    score = Score()
    recognizer = _recognizer(cabinet, 1)
    for sounds in spoken.values():
        _score(recognizer, sounds, {}, score)
    score.tell(report, "all voices, the small English model")
    report.measured("to recognise a sentence with it, median", statistics.median(score.took_s), "s CPU")


def _recognizer(cabinet: Cabinet, index: int) -> Recognizer:
    files = MODELS[index].files(cabinet.find)
    assert files is not None
    return Recognizer(files, ("en", "zh"))


def _add(total: Score, score: Score) -> None:
    total.wrong += score.wrong
    total.words += score.words
    total.exact += score.exact
    total.sentences += score.sentences
    total.took_s += score.took_s


async def _in_real_time(report: Report, cabinet: Cabinet, spoken: Sequence[Floats]) -> None:
    """From the end of speech to the words, through the program, with sound at the pace of a microphone."""
    listener = open_word_ears(cabinet, ("en", "zh"), observer := FakeObserver())
    if isinstance(listener, Deaf) or not isinstance(listener, WordEars):
        report.note(f"no words in real time: {listener}")
        return
    listener.expect(HOT_WORDS)
    arrived: asyncio.Queue[tuple[float, Hearing]] = asyncio.Queue()
    began = time.monotonic()
    life = asyncio.create_task(listener.run(lambda hearing: arrived.put_nowait((time.monotonic(), hearing))))
    while not observer.named("words.ready"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    report.measured("from start to ready", time.monotonic() - began, "s")
    program = psutil.Process(listener.pid)
    try:
        late_s: list[float] = []
        waits_s = [await _said(listener, arrived, speech, turn, late_s) for turn, speech in enumerate(spoken)]
        peak_mb = _peak_mb(program.pid)
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
    heard_s = [wait_s for wait_s in waits_s if wait_s is not None]
    report.measured(f"sentences heard in real time, of {len(spoken)}", len(heard_s), "")
    report.measured("from the end of speech to the words, median", statistics.median(heard_s), "s", at_most=1.5)
    report.measured("from the end of speech to the words, 95 %", float(np.percentile(heard_s, 95)), "s", at_most=2.0)
    report.measured("our own loop late meanwhile, 99 % of blocks", 1000 * float(np.percentile(late_s, 99)), "ms")
    report.measured("memory of the program, most", peak_mb, "MB", at_most=MODELS[0].peak_mb)


async def _said(
    listener: WordEars, arrived: asyncio.Queue[tuple[float, Hearing]], speech: Floats, turn: int, late_s: list[float]
) -> float | None:
    """Play one sentence; how long after its end its words came. `late_s` gets how late each block was handed over."""
    rng = np.random.default_rng(turn)
    speech_end_s = 0.5 + np.flatnonzero(np.abs(speech) > LOUD)[-1] / RATE
    sound = in_a_room(np.concatenate([np.zeros(RATE // 2, np.float32), speech, np.zeros(3 * RATE, np.float32)]), rng)
    begin_s = time.monotonic()
    for at in range(0, len(sound), BLOCK):
        due_s = begin_s + (at + BLOCK) / RATE
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        late_s.append(time.monotonic() - due_s)
        listener.hear("kitchen", 100.0 * turn + at / RATE, sound[at : at + BLOCK])
        while not arrived.empty():
            at_s, hearing = arrived.get_nowait()
            if isinstance(hearing, Heard):
                return float(at_s - begin_s - speech_end_s)
            if isinstance(hearing, Unheard):
                return None
    return None


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
