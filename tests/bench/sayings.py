"""Sentences in the voices of programs, spoken once and kept in a folder outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.alerts.mandarin import as_pinyin
from omni_watch.cabinet import Cabinet
from omni_watch.domain.rules import Language
from omni_watch.duplex.embedded.voices.kokoro import RATE_HZ, Kokoro
from tests.fakes.spoken import espeak, read_sound, resampled

Floats = NDArray[np.float32]
FOLDER: Final = Path(os.environ.get("OMNI_WATCH_BENCH") or Path.home() / ".cache" / "omni-watch-bench")
JOE: Final = "joe"
KOKORO_VOICES: Final = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Saying:
    """One sentence in one voice."""

    text: str
    language: Language
    voice: str  # Piper's, one of Kokoro's, or a name that espeak-ng knows

    @property
    def path(self) -> Path:
        key = hashlib.sha1(f"{self.voice} {self.text}".encode()).hexdigest()[:16]  # noqa: S324  a name for a file
        return FOLDER / "spoken" / f"{key}.wav"

    def sound(self) -> Floats:
        """[n] at 16 kHz, once it was spoken."""
        return read_sound(self.path)


def speak(sayings: Iterable[Saying], cabinet: Cabinet) -> None:
    """Have every sentence as a file."""
    (FOLDER / "spoken").mkdir(parents=True, exist_ok=True)
    missing = [saying for saying in dict.fromkeys(sayings) if not saying.path.exists()]
    joe = [saying for saying in missing if saying.voice == JOE]
    if joe:
        _speak_by_piper(joe, cabinet.path("voice-en"))
    for voice in KOKORO_VOICES:
        _speak_by_kokoro(voice, [saying for saying in missing if saying.voice == voice], cabinet)
    for saying in missing:
        if saying.voice not in {JOE, *KOKORO_VOICES}:
            spelled = as_pinyin(saying.text) if saying.language == "zh" else saying.text  # as our own voice does
            _write(saying.path, espeak(spelled, saying.voice))


def _speak_by_piper(sayings: Sequence[Saying], model: Path) -> None:
    """All in one run: opening the model takes longer than most sentences. Files are named after when they were made."""
    program = Path(sys.executable).with_name("piper")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "-m", str(model), "-d", folder]
        lines = "\n".join(saying.text for saying in sayings)
        subprocess.run(command, input=lines.encode(), check=True, capture_output=True)
        made = sorted(Path(folder).glob("*.wav"), key=lambda path: int(path.stem))
        for path, saying in zip(made, sayings, strict=True):
            shutil.move(path, saying.path)


def _speak_by_kokoro(voice: str, sayings: Sequence[Saying], cabinet: Cabinet) -> None:
    if not sayings:
        return
    model, vocabulary, voices = (cabinet.path(f"kokoro{part}") for part in ("", "-vocabulary", "-voices"))
    kokoro = Kokoro(model, vocabulary, voices, voice, threads=THREADS)
    for saying in sayings:
        _write(saying.path, resampled(kokoro.speak(saying.text, saying.language), RATE_HZ))


def _write(path: Path, sound: Floats) -> None:
    """Whole or not at all, so that a bench that was ended leaves no half sentence."""
    beside = path.with_suffix(f".{os.getpid()}")
    with wave.open(str(beside), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    beside.replace(path)
