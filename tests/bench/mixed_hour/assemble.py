"""An hour of a house: talk, television, a telephone, music and household sounds, in one order for one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.rules import Language
from tests.bench.mixed_hour import sources
from tests.bench.mixed_hour.sources import Scene
from tests.bench.sayings import Saying
from tests.fakes import synthetic_sounds as sounds

Floats = NDArray[np.float32]
Rng = np.random.Generator
Choice = TypeVar("Choice")
RATE: Final = 16_000
SECONDS: Final = 3600
DIALOGUES: Final = frozenset({"conversation", "to_others", "second"})  # kinds of scenes in which two people speak
SMALL_TALK: Final[dict[Language, int]] = {"en": 45, "zh": 60}  # conversations that were not written for the bench
QUOTATIONS: Final = 70
NATURAL: Final = 0.65  # of the scenes are in voices that are nearly as clear as people's
PROMPTS_S: Final = 840.0  # of real English speech
FOREIGN_S: Final = 240.0  # of real French
LOUDEST_DBFS, SOFTEST_DBFS = -18.0, -33.0  # of speech: beside the microphone, and in the next room
BACKGROUND_EVERY_S: Final = 24.0  # on average; under the talk or between it
BACKGROUND_DBFS: Final = (-40.0, -24.0)
LONGEST_BACKGROUND_S: Final = 20.0
ROOM_RMS: Final = 0.0008


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Something that is heard from beginning to end."""

    what: str
    sound: Floats


def ordinary(root: Path, rng: Rng, notes: list[str]) -> list[Scene]:
    """Scenes that are meant for nobody, chosen and cast by `rng`: some were written for the bench, some were not."""
    scenes: list[Scene] = []
    small_talk = sources.small_talk(notes)
    for language, kinds in sources.talk()["ordinary"].items():
        written = [(scene, kind in DIALOGUES) for kind, texts in kinds.items() for scene in texts]
        found = [(scene, True) for scene in small_talk[language]]
        for texts, count in ((written, len(written) // 2), (found, SMALL_TALK[language])):
            scenes += [_cast(scene, language, rng, is_dialogue=each) for scene, each in _drawn(texts, count, rng)]
    quoted = _drawn(sources.quotations(root), QUOTATIONS, rng)
    return [*scenes, *(_cast(scene, "en", rng, is_dialogue=False) for scene in quoted)]


def hard(rng: Rng) -> list[Scene]:
    """What people ask of one another in the words that a house is asked with, each scene in two casts."""
    texts = [(scene, language) for language, scenes in sources.talk()["hard"].items() for scene in scenes]
    return [_cast(scene, language, rng, is_dialogue=True) for scene, language in (*texts, *texts)]


def _drawn(choices: Sequence[Choice], count: int, rng: Rng) -> list[Choice]:
    return [choices[at] for at in rng.permutation(len(choices))[:count]]


def _cast(scene: Sequence[str], language: Language, rng: Rng, *, is_dialogue: bool) -> Scene:
    """In two voices of one kind that take turns, or in one."""
    is_natural = rng.random() < NATURAL
    voices = (sources.NATURAL_VOICES if is_natural else sources.ESPEAK_VOICES)[language]
    cast = _drawn(voices, 2 if is_dialogue else 1, rng)
    said = [text for text in scene if any(map(str.isalnum, text))]  # not "...", which no voice can say
    return [Saying(text, language, cast[line % len(cast)]) for line, text in enumerate(said)]


def hour(scenes: Sequence[Scene], root: Path, rng: Rng, notes: list[str]) -> Floats:
    """[57,600,000] samples at 16 kHz."""
    pieces = [Piece("talk", _scene(scene, rng)) for scene in scenes]
    pieces += _calls(sources.prompts(root, "en_US_f_Allison"), PROMPTS_S, rng)
    pieces += _calls(sources.prompts(root, "fr_CA_f_June"), FOREIGN_S, rng)
    order = [pieces[at] for at in rng.permutation(len(pieces))]
    whole = np.tile(sounds.room_noise(60.0, ROOM_RMS, rng), SECONDS // 60)
    speech_s = sum(len(piece.sound) for piece in order) / RATE
    notes.append(f"{speech_s / 60:.1f} min of {SECONDS / 60:g} are talk, in {len(order)} pieces")
    _laid_out(whole, order, rng)
    return _with_background(whole, list(sources.household(root).values()), rng)


def track(scenes: Sequence[Scene], rng: Rng) -> Floats:
    """The scenes one after another in a quiet room."""
    pieces = [_scene(scene, rng) for scene in scenes]
    length_s = sum(len(sound) for sound in pieces) / RATE + 2.0 * (len(pieces) + 2)
    whole = sounds.room_noise(length_s, ROOM_RMS, rng)
    at = 2 * RATE
    for sound in pieces:
        whole[at : at + len(sound)] += sound
        at += len(sound) + 2 * RATE
    return whole.clip(-1, 1)


def _scene(scene: Scene, rng: Rng) -> Floats:
    """Its sentences with the pauses of people who talk."""
    level = rng.uniform(SOFTEST_DBFS, LOUDEST_DBFS)
    echo_s = rng.choice([0.0, 0.25, 0.5])
    parts: list[Floats] = []
    for saying in scene:
        dry = saying.sound()
        spoken = sounds.room(dry, echo_s, 0.5, rng) if echo_s else dry
        parts += [sounds.at_level(spoken, level + rng.uniform(-2, 2)), _pause(rng)]
    return np.concatenate(parts).astype(np.float32)


def _calls(prompts: Sequence[Floats], length_s: float, rng: Rng) -> list[Piece]:
    """A voice from a loudspeaker, a few sentences at a time."""
    order = [prompts[at] for at in rng.permutation(len(prompts))]
    pieces: list[Piece] = []
    told_s = 0.0
    while order and told_s < length_s:
        level = rng.uniform(SOFTEST_DBFS, LOUDEST_DBFS)
        parts = [part for prompt in order[:6] for part in (sounds.at_level(prompt, level), _pause(rng))]
        del order[:6]
        pieces.append(Piece("prompts", np.concatenate(parts).astype(np.float32)))
        told_s += len(pieces[-1].sound) / RATE
    return pieces


def _pause(rng: Rng) -> Floats:
    return np.zeros(round(rng.uniform(0.25, 1.6) * RATE), np.float32)


def _laid_out(whole: Floats, pieces: Sequence[Piece], rng: Rng) -> None:
    """Place the pieces in order, with silences between them that fill the hour; what does not fit is left out."""
    spare = len(whole) - sum(len(piece.sound) for piece in pieces) - 2 * RATE
    gaps = rng.exponential(1.0, len(pieces) + 1)
    gaps *= max(spare, 0) / gaps.sum()
    at = RATE
    for gap, piece in zip(gaps, pieces, strict=False):
        at += round(gap)
        if at + len(piece.sound) > len(whole):
            return
        whole[at : at + len(piece.sound)] += piece.sound
        at += len(piece.sound)


def _with_background(whole: Floats, household: Sequence[Floats], rng: Rng) -> Floats:
    at = 0
    for sound in _for_ever([*household, *_synthetic(rng)], rng):
        at += round(rng.exponential(BACKGROUND_EVERY_S) * RATE)
        piece = sound[: round(LONGEST_BACKGROUND_S * RATE)]
        if at + len(piece) > len(whole):
            return whole.clip(-1, 1)
        if piece.any():
            whole[at : at + len(piece)] += sounds.at_level(piece, rng.uniform(*BACKGROUND_DBFS))
    return whole


def _for_ever(choices: Sequence[Floats], rng: Rng) -> Iterator[Floats]:
    while True:
        yield choices[int(rng.integers(len(choices)))]


def _synthetic(rng: Rng) -> list[Floats]:
    """Music and household sounds that are computed."""
    chords = [_music(rng) for _ in range(12)]
    return [*chords, sounds.knocks(4, rng), sounds.telephone_bell(3, rng), sounds.kettle_whistle(8.0, rng)]


def _music(rng: Rng) -> Floats:
    """Sixteen seconds of chords with a tune above them."""
    root = rng.uniform(110, 220)
    steps = rng.choice([0, 3, 5, 7, 8, 10], (8, 4))
    beats = []
    for chord in steps:
        t = sounds.seconds(2.0)
        tones = [np.sin(2 * np.pi * root * 2 ** (step / 12 + octave) * t) for octave, step in enumerate(chord)]
        beats.append(np.sum(tones, axis=0) * np.exp(-t))
    return sounds.peak_one(np.concatenate(beats))
