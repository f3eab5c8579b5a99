"""What a person said, as our ears for words made it out. Times are seconds on the feed's timeline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omni_watch.domain.rules import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One way to write down what was said."""

    text: str
    language: Language
    confidence: float  # 0..1; how sure the recogniser is of these words, were they speech in this language


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechBegan:
    """Somebody speaks. A cough may be taken for it; then `Unheard` follows."""

    feed: str
    at_s: float  # when the voice set in


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEnded:
    """Nobody speaks any more: the voice was silent for as long as ends a sentence. `Heard` or `Unheard` follows."""

    feed: str
    start_s: float
    end_s: float  # when the voice fell silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What somebody said between two silences."""

    feed: str
    start_s: float
    end_s: float
    text: str
    language: Language
    confidence: float  # 0..1
    alternatives: tuple[Transcript, ...] = ()  # what else it may have been, the likelier first
    is_cut: bool = False  # it went on for longer than is recognised in one piece; the rest comes by itself


class UnheardCause(Enum):
    """Why a stretch of voice gave no words."""

    NO_WORDS = "no_words"  # a cough, a hum, music, or nothing that could be made out
    BEHIND = "behind"  # recognition was too far behind and let it go


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard:
    """A stretch of voice that gave no words."""

    feed: str
    start_s: float
    end_s: float
    cause: UnheardCause


Hearing = SpeechBegan | SpeechEnded | Heard | Unheard
