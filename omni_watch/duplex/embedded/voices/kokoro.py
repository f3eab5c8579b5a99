"""Kokoro-82M: phonemes to sound, with voices that were made for Japanese. The model works; the program around it is
`program`.

Mandarin through pypinyin, with the changes of tone that neighbours cause; English words through espeak-ng, run as a
program. One thread at a time.
"""

from __future__ import annotations

import json
import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Language
from omni_watch.duplex.embedded.voices import phonemes, reading
from omni_watch.duplex.embedded.yamnet import RUNTIME_ERRORS

Floats = NDArray[np.float32]

RATE_HZ: Final = 24_000
TOKENS_MAX: Final = 80  # at a time, four seconds of 35 MB each: what is longer is cut; the model would take 509
SPEED: Final = 1.0
QUIET: Final = 0.01
EDGE_S: Final = 0.03  # of silence that is kept at both ends
ESPEAK_LIMIT_S: Final = 5.0
STOPS: Final = str.maketrans(
    {
        "。": ". ",
        "！": "! ",
        "？": "? ",
        "；": "; ",
        "：": ": ",
        "，": ", ",
        "、": ", ",
        "（": " (",
        "）": ") ",
        "「": ' "',
        "」": '" ',
    }
)
_STOPS: Final = ".,!?;:"
_STOP: Final = re.compile(rf"([{_STOPS}])(?=\s|$)")
_HAN_RUN: Final = re.compile(rf"[{reading.HAN}]+")


class Kokoro:
    """One voice of the model. ModelError when a file cannot be used."""

    def __init__(self, model: Path, vocabulary: Path, voices: Path, voice: str, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            self._options = onnxruntime.RunOptions()  # what a long sentence took is given back after it
            self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
            self._vocabulary: dict[str, int] = json.loads(vocabulary.read_text("utf-8"))["vocab"]
            with np.load(voices) as styles:
                self._style = styles[voice].astype(np.float32)  # [tokens, 1, 256]
        except (OSError, ValueError, KeyError, *RUNTIME_ERRORS) as error:
            raise ModelError(f"cannot load the voice {voice!r}: {error}; run `omni-watch models pull`") from error

    def speak(self, text: str, language: Language) -> Floats:
        """[n], -1..1 at RATE_HZ. ValueError: there is nothing to say."""
        return self.sound(phonemes_of(text, language))

    def sound(self, spelled: str) -> Floats:
        letters = "".join(letter for letter in spelled if letter in self._vocabulary)
        if not reading.is_readable(letters):
            raise ValueError("there is nothing to say")
        pieces = pieces_of(letters, TOKENS_MAX)
        return np.concatenate([_trimmed(self._run([self._vocabulary[each] for each in piece])) for piece in pieces])

    def _run(self, tokens: list[int]) -> Floats:
        (sound,) = self._session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": self._style[min(len(tokens), len(self._style)) - 1].reshape(1, -1),
                "speed": np.array([SPEED], np.float32),
            },
            self._options,
        )
        return np.asarray(sound, np.float32).ravel()


def pieces_of(letters: str, most: int) -> list[str]:
    """At most so many letters each; cut behind a stop when there is one, else between words, else anywhere."""
    pieces = []
    while len(letters) > most:
        head = letters[: most + 1]
        at = max(head.rfind(stop) for stop in (". ", ", ", "! ", "? ", "; ", ": ")) + 1
        at = at or head.rfind(" ") + 1 or most
        pieces.append(letters[:at].strip())
        letters = letters[at:].strip()
    return [piece for piece in [*pieces, letters] if reading.is_readable(piece)]


def phonemes_of(text: str, language: Language) -> str:
    """What the model reads: letters of `phonemes`, spaces and stops."""
    said = [_mandarin(part) if spoken == "zh" else _english(part) for spoken, part in reading.runs(text, language)]
    return " ".join(" ".join(said).split())


def _mandarin(text: str) -> str:
    words = reading.in_words(text).translate(STOPS)
    return _HAN_RUN.sub(lambda run: _syllables(run[0]), words)


def load_dictionaries() -> None:
    """What the first Chinese text would wait for a fifth of a second. Any thread."""
    _syllables("好")


@lru_cache(maxsize=1024)
def _syllables(run: str) -> str:
    from pypinyin import Style, lazy_pinyin
    from pypinyin.seg.mmseg import seg

    words = list(seg.cut(run))
    spelled = [
        lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True, v_to_u=True, tone_sandhi=True)
        for word in words
    ]
    return " ".join("".join(phonemes.of_pinyin(syllable) for syllable in each) for each in spelled)


def _english(text: str) -> str:
    """Clause by clause, since espeak-ng keeps no stops."""
    clauses = _STOP.split(text)  # clause, stop, clause, stop, ..., clause
    said = [_english_clause(clause) if number % 2 == 0 else clause for number, clause in enumerate(clauses)]
    return "".join(each if each in _STOPS else f" {each}" for each in said)


@lru_cache(maxsize=1024)
def _english_clause(text: str) -> str:
    """Without espeak-ng its words are left out: the rest is better than nothing."""
    if not reading.is_readable(text):
        return ""
    command = ["espeak-ng", "-q", "--ipa", "-v", "en-us", "--stdin"]
    try:
        ended = subprocess.run(command, input=text.encode(), capture_output=True, timeout=ESPEAK_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return phonemes.of_english(ended.stdout.decode(errors="replace"))


def _trimmed(sound: Floats) -> Floats:
    """Without the silence before and after."""
    loud = np.flatnonzero(np.abs(sound) > QUIET)
    if not loud.size:
        return sound
    edge = round(EDGE_S * RATE_HZ)
    return sound[max(0, int(loud[0]) - edge) : int(loud[-1]) + edge]
