"""How soon, at what cost and how clearly the house speaks.

Texts are messages and answers of ours. How clearly: what our own recogniser makes of them, English in wrong words,
Chinese in wrong syllables without tones; it says how the voices compare, not how well people understand them.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from omni_watch.alerts.kokoro import KokoroVoice
from omni_watch.alerts.piper import PiperVoice
from omni_watch.alerts.speech import EspeakVoice, Speech
from omni_watch.alerts.wav import Sound
from omni_watch.app.channels import speech_for
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.settings import read_settings
from omni_watch.domain.rules import Language
from omni_watch.duplex.embedded.voices.kokoro import RATE_HZ, Kokoro
from omni_watch.duplex.embedded.words.models import MODELS
from omni_watch.duplex.embedded.words.recognizer import Recognizer
from omni_watch.watch.pinyin import syllables
from omni_watch.watch.ports import Voice
from tests.bench.report import Report
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.spoken import wording

ANSWERS: Final = {
    "en": (
        "Okay. I'll tell you when the kettle is full.",
        "Okay. I've stopped watching for this: the dog barks.",
        "Okay. I'll remind you at 7:30 pm: turn off the oven.",
        "Which one do you mean: the kettle is full, or the washing machine is done?",
        "I'm not watching for anything, and there are no reminders.",
        "Nothing has happened since 7:00 pm.",
    ),
    "zh": (
        "好，水壶满了就告诉你。",
        "每次狗叫都告诉你。",
        "我会留意门铃，只看厨房。",
        "好，不再留意：水壶满了。",
        "好，晚上7点30分提醒你：关掉烤箱。",
        "你说的是哪一个：水壶满了，还是洗衣机好了？",
        "我在留意：水壶满了、电梯到了。",
        "我没有在留意什么，也没有提醒。",
        "好，我安静到明天8点，紧急的事除外。",
        "从7点到现在没有发生什么。",
        "不过我现在还看不出来。",
        "好，10分钟后再告诉你。",
    ),
}
COLD_TIMES: Final = 3
VOICES: Final = ("jf_nezumi", "jf_gongitsune", "jm_kumo", "jf_tebukuro", "jf_alpha")

Floats = NDArray[np.float32]


def bench(report: Report) -> None:
    cabinet = Cabinet(read_settings().models_dir)
    cabinet.pull()
    asyncio.run(_soon(report, cabinet))
    asyncio.run(_clear(report, cabinet))


def texts(language: Language) -> list[str]:
    return [*(rule.message[language] for rule in load_rulebook().all()), *ANSWERS[language]]


# --- how soon ---


async def _soon(report: Report, cabinet: Cabinet) -> None:
    for kind, language, warm_most_s in ((PiperVoice, "en", 0.5), (KokoroVoice, "zh", None), (EspeakVoice, "zh", None)):
        await _voice(report, cabinet, kind, language, warm_most_s)
    with tempfile.TemporaryDirectory() as folder:
        await _kept(report, cabinet, Path(folder))


def _made(cabinet: Cabinet, shelf: Path | None = None) -> Speech:
    return speech_for(read_settings().voice, cabinet, FakeObserver(), shelf)


async def _voice(report: Report, cabinet: Cabinet, kind: Any, language: Language, warm_most_s: float | None) -> None:
    """Each text whole, without what was kept."""
    cold_s = []
    for turn in range(COLD_TIMES):
        speech = _made(cabinet)
        voice = next(voice for voice in speech._voices if isinstance(voice, kind))
        took_s, _ = await _timed(voice.synthesize(ANSWERS[language][0], language))
        cold_s.append(took_s)
        if turn < COLD_TIMES - 1:
            await speech.close()
    program = voice.resident.pid if isinstance(voice, (PiperVoice, KokoroVoice)) else None
    took, lengths, began_s = [], [], _processor_s(program)
    for text in texts(language):
        took_s, wav = await _timed(voice.synthesize(text, language))
        took.append(took_s)
        lengths.append(Sound.from_wav(wav).duration_s)
    report.measured(f"{voice.name}: an answer, program started for it", statistics.median(cold_s), "s")
    report.measured(f"{voice.name}: a text, median", statistics.median(took), "s", at_most=warm_most_s)
    report.measured(f"{voice.name}: a text, 95 %", float(np.percentile(took, 95)), "s")
    report.measured(f"{voice.name}: for a second of speech", sum(took) / sum(lengths), "s")
    if program is not None:
        of_processor = (_processor_s(program) - began_s) / sum(lengths)
        report.measured(f"{voice.name}: for a second of speech, of a processor", of_processor, "s")
        memory = psutil.Process(program).memory_info().rss / 2**20
        report.measured(f"{voice.name}: memory of its program afterwards", memory, "MB")
        report.measured(f"{voice.name}: memory of its program, most", _peak_mb(program), "MB")
    await speech.close()


async def _kept(report: Report, cabinet: Cabinet, shelf: Path) -> None:
    """Answers that were said before, after a restart."""
    for language in ("en", "zh"):
        speech = _made(cabinet, shelf)
        for text in ANSWERS[language]:
            await speech.prepare(text, language)  # which waits for the natural voice as long as it takes
        await speech.close()
        speech = _made(cabinet, shelf)
        took = [(await _timed(speech.synthesize(text, language)))[0] for text in ANSWERS[language]]
        report.measured(f"{language}: an answer that was said before a restart", 1000 * max(took), "ms", at_most=100)
        await speech.close()


async def _timed(making: Awaitable[bytes]) -> tuple[float, bytes]:
    began = time.monotonic()
    made = await making
    return time.monotonic() - began, made


def _processor_s(pid: int | None) -> float:
    """What a program has used so far; unlike the time it took, the same on a busy machine."""
    if pid is None:
        return 0.0
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


# --- how clearly ---


async def _clear(report: Report, cabinet: Cabinet) -> None:
    files = MODELS[0].files(cabinet.find)
    assert files is not None
    english, chinese = Recognizer(files, ("en",)), Recognizer(files, ("zh",))
    speech = _made(cabinet)
    piper = next(voice for voice in speech._voices if isinstance(voice, PiperVoice))
    for voice in (piper, EspeakVoice()):
        sounds = [await _samples(voice, text, "en") for text in texts("en")]
        _score(report, f"{voice.name}, English: wrong words", english, texts("en"), sounds, _words)
    for text in texts("zh"):
        await speech.prepare(text, "zh")
    sounds = [await _samples(speech, text, "zh") for text in texts("zh")]
    _score(report, "as it is said, piece by piece, Chinese: wrong syllables", chinese, texts("zh"), sounds, syllables)
    await speech.close()
    for name in VOICES:
        model, vocabulary, voices = (cabinet.path(f"kokoro{part}") for part in ("", "-vocabulary", "-voices"))
        kokoro = Kokoro(model, vocabulary, voices, name, threads=2)
        sounds = [_at_16k(kokoro.speak(text, "zh"), RATE_HZ) for text in texts("zh")]
        _score(report, f"kokoro {name}, Chinese: wrong syllables", chinese, texts("zh"), sounds, syllables)
    sounds = [await _samples(EspeakVoice(), text, "zh") for text in texts("zh")]
    _score(report, "espeak-ng, Chinese: wrong syllables", chinese, texts("zh"), sounds, syllables)


async def _samples(voice: Voice, text: str, language: Language) -> Floats:
    return Sound.from_wav(await voice.synthesize(text, language)).at_rate(16_000).samples()


def _at_16k(samples: Floats, rate_hz: int) -> Floats:
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    return Sound(pcm, rate_hz).at_rate(16_000).samples()


def _words(text: str) -> Sequence[str]:
    return wording(text).split()


def _score(
    report: Report,
    what: str,
    ears: Recognizer,
    said: Sequence[str],
    sounds: Sequence[Floats],
    units: Callable[[str], Sequence[str]],
) -> None:
    wrong = count = exact = 0
    around = np.zeros(4000, np.float32)
    for text, sound in zip(said, sounds, strict=True):
        found = ears.recognize(np.concatenate([around, sound, around]), {})
        missed = _distance(units(found[0].text if found else ""), units(text))
        wrong, count, exact = wrong + missed, count + len(units(text)), exact + (missed == 0)
    report.measured(what, 100 * wrong / count, "%")
    report.note(f"{'':<4}{exact} of {len(said)} texts without a mistake")


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Units that are missing, too many or others."""
    above = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        line = [row]
        for column, right in enumerate(other, 1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (left != right)))
        above = line
    return above[-1]
