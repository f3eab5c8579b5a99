"""Which speech model: the one that knows every language, or a smaller English one when memory is short. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omni_watch.domain.rules import Language

SPARE_MB: Final = 150  # that the rest of the machine needs for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperFiles:
    """A model as it lies in the cabinet."""

    weights: Path
    config: Path
    tokenizer: Path
    vocabulary: Path

    @property
    def named(self) -> dict[str, Path]:
        """By the names that the library looks for in one folder."""
        return {
            "model.bin": self.weights,
            "config.json": self.config,
            "tokenizer.json": self.tokenizer,
            "vocabulary.txt": self.vocabulary,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechModel:
    """A Whisper model that the cabinet may have: its weights by `id`, the rest by `id` with a name behind it."""

    id: str
    peak_mb: int  # of the whole program with it; measured by bench_words
    is_multilingual: bool

    def files(self, find: Callable[[str], Path | None]) -> WhisperFiles | None:
        """Its files by a function from ids to paths; None when one is missing."""
        weights, config, tokenizer, vocabulary = (
            find(f"{self.id}{part}") for part in ("", "-config", "-tokenizer", "-vocabulary")
        )
        if weights is None or config is None or tokenizer is None or vocabulary is None:
            return None
        return WhisperFiles(weights=weights, config=config, tokenizer=tokenizer, vocabulary=vocabulary)


MODELS: Final = (  # the best first
    SpeechModel(id="whisper-base", peak_mb=400, is_multilingual=True),
    SpeechModel(id="whisper-tiny-en", peak_mb=320, is_multilingual=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenModel:
    """What will recognise, and what was passed over for it."""

    model: SpeechModel
    files: WhisperFiles
    passed_over: str = ""  # why not a better one, for people


def choose_model(find: Callable[[str], Path | None], free_mb: int, languages: Sequence[Language]) -> ChosenModel | str:
    """The best model that is here, fits into the memory that is free, and knows a language spoken here; else why
    there is none."""
    reasons: list[str] = []
    for model in MODELS:
        if not model.is_multilingual and "en" not in languages:
            reasons.append(f"{model.id} knows English only")
        elif model.peak_mb + SPARE_MB > free_mb:
            reasons.append(f"{model.id} needs {model.peak_mb + SPARE_MB} MB of memory, {free_mb} MB are free")
        elif (files := model.files(find)) is None:
            reasons.append(f"{model.id} is missing; run `omni-watch models pull`")
        else:
            return ChosenModel(model=model, files=files, passed_over="; ".join(reasons))
    return "; ".join(reasons)
