"""Somebody talks while we speak: how soon we are silent, and how often we are silent for nobody.

A real loudspeaker and a real microphone in a sound server's room; our voice at the microphone is as loud as the
person's. Times are from the person's first sound to our last, as the microphone hears both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings
from omni_watch.domain.errors import Interrupted
from omni_watch.domain.hearing import Heard, SpeechBegan
from omni_watch.sensing.capture import Block
from omni_watch.sensing.echo import EchoCleaner, open_canceller
from omni_watch.watch.barge_in import Heed
from omni_watch.watch.played import Played
from tests.bench.report import Report
from tests.fakes.fake_clock import FakeClock
from tests.fakes.listening_room import ListeningRoom, as_wav, at_level, listening_room, stopped_after_s
from tests.fakes.rooms import echo_of, level_db
from tests.fakes.spoken import SENTENCES, espeak, piper
from tests.fixtures_pulse import Room, sounding_room

Floats = NDArray[np.float32]
RATE: Final = 16_000
TRIALS: Final = 20
FALSE_TRIALS: Final = 3  # of each kind
REST_S: Final = 3.0  # between trials, so that nobody is taken for a television
OURS: Final = (
    "The kettle is full. Please come to the kitchen and take it off the stove, before the water boils over. "
    "The washing machine has finished too, and somebody left the front door open."
)
INTERRUPTIONS: Final = ("Be quiet.", "I heard you, thanks.", "Stop watching the kettle.", "Cancel that, please.")
VOICES: Final = ("piper", "en-us", "en-gb")


def bench(report: Report) -> None:
    """In rooms that are computed, then in one that sounds."""
    cabinet = Cabinet(read_settings().models_dir)
    cabinet.pull()
    ours = at_level(piper(OURS, cabinet.path("voice-en")))
    _computed(report, ours)
    with sounding_room() as room:
        asyncio.run(_real(report, room, cabinet, ours))


def _computed(report: Report, ours: Floats) -> None:
    for noise in (0.0005, 0.003):
        cleaner, played = _cleaner()
        for turn in ("first", "second"):
            near = echo_of(ours, delay_s=0.06, noise=noise)
            out = _cleaned(cleaner, played, near, ours, 1000.0 if turn == "first" else 1100.0)
            later = slice(2 * RATE, None)
            erle_db = level_db(near[later]) - level_db(out[later])
            report.measured(f"computed room, noise {noise:g}, ERLE, {turn} sound", erle_db, "dB", at_least=15)
    person = np.zeros_like(ours)
    said = slice(4 * RATE, 4 * RATE + len(speech := at_level(espeak("Stop watching the kettle please.", "en-gb"))))
    for level in (0.1, 0.03, 0.015):
        cleaner, played = _cleaner()
        person[said] = speech * (level / 0.1)
        out = _cleaned(cleaner, played, (echo_of(ours, delay_s=0.06) + person).astype(np.float32), ours, 1000.0)
        own_db = level_db(person[said])
        change_db = level_db(out[said]) - own_db
        report.measured(f"a person at {own_db:.0f} dB beside us at -20 dB is louder by", change_db, "dB", at_least=-3)


def _cleaner() -> tuple[EchoCleaner, Played]:
    played = Played(FakeClock())
    return EchoCleaner(played, open_canceller()), played


def _cleaned(cleaner: EchoCleaner, played: Played, near: Floats, far: Floats, at_s: float) -> Floats:
    played.begin(far).heard(0.0, at_s)
    silence = [Block(at_s - 0.5 + k * 0.05, np.zeros(800, np.float32)) for k in range(10)]
    for block in silence:
        cleaner.clean(block)
    blocks = [Block(at_s + at / RATE, near[at : at + 800]) for at in range(0, len(near), 800)]
    out = np.concatenate([each.samples for block in blocks for each in cleaner.clean(block)])
    return np.pad(out, (0, len(near) - len(out)))


async def _real(report: Report, room: Room, cabinet: Cabinet, ours: Floats) -> None:
    voice = as_wav(ours)
    async with listening_room(cabinet) as hall:
        await _alone(report, hall, voice)
        await _interrupted(report, hall, room, cabinet, ours)
        for kind, sound in (("noise", _noise()), ("music", _music()), ("a television", _television(cabinet))):
            await _beside(report, hall, room, kind, sound, voice)


async def _alone(report: Report, hall: ListeningRoom, voice: bytes) -> None:
    stops = voices = words = 0
    erle_db: list[float] = []
    for _ in range(FALSE_TRIALS):
        hall.forget()
        stops += await _said(hall, voice) is None
        await hall.rest(3.0)
        voices += len(hall.events(SpeechBegan))
        words += sum(heed is not Heed.OURS for _, _, heed in hall.events(Heard))
        raw, cleaned = (np.concatenate([block.samples for block in each]) for each in (hall.raw, hall.blocks))
        erle_db.append(level_db(raw) - level_db(cleaned))
    report.measured(f"our voice alone, {FALSE_TRIALS} times: stopped", stops, "", at_most=0)
    report.measured("our voice alone: taken for a voice", voices, "")
    report.measured("our voice alone: words that were not known to be ours", words, "", at_most=0)
    report.measured("our voice alone: ERLE, first sound", erle_db[0], "dB")
    report.measured("our voice alone: ERLE, median", float(np.median(erle_db)), "dB", at_least=20)


async def _interrupted(report: Report, hall: ListeningRoom, room: Room, cabinet: Cabinet, ours: Floats) -> None:
    rng, took_s, voice = np.random.default_rng(0), list[float](), as_wav(ours)
    for trial in range(TRIALS):
        sentence, speaker = INTERRUPTIONS[trial % len(INTERRUPTIONS)], VOICES[trial % len(VOICES)]
        spoken = piper(sentence, cabinet.path("voice-en")) if speaker == "piper" else espeak(sentence, speaker)
        person = np.concatenate([at_level(spoken), np.zeros(RATE // 4, np.float32)])
        await hall.rest(REST_S)
        hall.forget()
        saying = asyncio.create_task(_said(hall, voice))
        await hall.until(hall.is_audible)
        await hall.rest(float(rng.uniform(1.2, 5.0)))
        await asyncio.to_thread(room.play_samples, person)
        await hall.rest(0.5)
        is_stopped = saying.done() and saying.result() is None
        if is_stopped:
            took_s.append(stopped_after_s(hall, person, ours))
        await saying
    report.measured(f"a person talks over us, {TRIALS} times: we stopped", len(took_s), "", at_least=TRIALS - 1)
    report.measured("from the person's first sound to our last, median", float(np.median(took_s)), "s", at_most=0.4)
    report.measured(
        "from the person's first sound to our last, 95 %", float(np.percentile(took_s, 95)), "s", at_most=0.4
    )
    report.measured("the slowest", max(took_s), "s")
    gave_way_s = [each["after_s"] for each in hall.observer.named("voice.gave_way")]
    report.measured("from the onset of the voice until it was decided, median", float(np.median(gave_way_s)), "s")


async def _beside(report: Report, hall: ListeningRoom, room: Room, kind: str, sound: Floats, voice: bytes) -> None:
    """It runs for some time before we begin, and goes on."""
    stops = 0
    for _ in range(FALSE_TRIALS):
        running = asyncio.create_task(asyncio.to_thread(room.play_samples, sound))
        await hall.rest(12.0)
        stops += await _said(hall, voice) is None
        await running
    report.measured(f"beside {kind} that ran before, {FALSE_TRIALS} times: stopped", stops, "", at_most=0)


async def _said(hall: ListeningRoom, voice: bytes) -> str | None:
    """None: we were interrupted."""
    try:
        return await hall.say(voice, OURS)
    except Interrupted:
        return None


def _noise() -> Floats:
    white = np.random.default_rng(5).normal(0, 1, 24 * RATE)
    return at_level(np.convolve(white, np.exp(-np.arange(64) / 8), "same").astype(np.float32), 0.05)


def _music() -> Floats:
    """A tune of four voices with a beat."""
    rng, beat = np.random.default_rng(6), RATE // 2
    t = np.arange(beat) / RATE
    fade = np.exp(-3 * t)
    bars = [
        fade
        * sum(np.sin(2 * np.pi * 220 * 2 ** (note / 12) * k * t) / k for note in rng.choice(24, 4) for k in (1, 2, 3))
        + 0.5 * fade**8 * rng.normal(0, 1, beat)
        for _ in range(48)
    ]
    return at_level(np.concatenate(bars), 0.05)


def _television(cabinet: Cabinet) -> Floats:
    return at_level(np.concatenate(list(_programme(cabinet)))[: 24 * RATE], 0.05)


def _programme(cabinet: Cabinet) -> Iterator[Floats]:
    for number, sentence in enumerate(SENTENCES[6:20]):
        story = f"And then she said to him: {sentence}"
        yield espeak(story, VOICES[1 + number % 2]) if number % 3 else piper(story, cabinet.path("voice-en"))
        yield np.zeros(round(0.7 * RATE), np.float32)
