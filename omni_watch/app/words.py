"""Ears for words, from model files to a listener. What is missing or does not fit is an ability less, said aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omni_watch.cabinet import Cabinet
from omni_watch.domain.rules import Language
from omni_watch.duplex.embedded.words.ears import WordEars, WordSettings
from omni_watch.duplex.embedded.words.models import choose_model
from omni_watch.watch.ports import Observer, WordListener

LANGUAGES: Final = ("en", "zh")  # that people are understood in
MEMINFO: Final = Path("/proc/meminfo")
AMPLE_MB: Final = 1 << 20  # where nobody says how much is free


@dataclass(frozen=True, slots=True)
class Deaf:
    """No ears for words, and why."""

    why: str


def open_word_ears(
    cabinet: Cabinet, languages: Sequence[Language], observer: Observer, *, free_mb: int | None = None
) -> WordListener | Deaf:
    """A listener with the best model that is here and fits; `run` starts it. Verifies the files: half a second.

    Raises:
        ModelError: a file is there with other bytes than expected.
    """
    voice_activity = cabinet.find("silero-vad")
    if voice_activity is None:
        return Deaf("silero-vad is missing; run `omni-watch models pull`")
    chosen = choose_model(cabinet.find, free_memory_mb() if free_mb is None else free_mb, languages)
    if isinstance(chosen, str):
        return Deaf(chosen)
    observer.on("words.model", model=chosen.model.id, instead_because=chosen.passed_over)
    known = tuple(languages) if chosen.model.is_multilingual else ("en",)
    return WordEars(
        WordSettings(voice_activity=voice_activity, whisper=chosen.files, languages=known), observer=observer
    )


def spoken_languages(usual: Language) -> tuple[Language, ...]:
    """Those that people are understood in, the usual one of the house first."""
    return (usual, *(each for each in LANGUAGES if each != usual))


def free_memory_mb(meminfo: Path = MEMINFO) -> int:
    """What programs may still take without anything being swapped out, in MB."""
    try:
        lines = meminfo.read_text("ascii").splitlines()
    except OSError:
        return AMPLE_MB
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) // 1024 if found else AMPLE_MB
