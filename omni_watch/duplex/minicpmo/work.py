"""What a dialogue asks of the shared weights, as values: so that several feeds are served by one forward.

A piece of inference that belongs to one feed (perceive a second, decide, say something) is a generator, `Work`: it
yields a request, is resumed with the answer, and returns its result. `weights.run_together` gathers what all the works
of a moment ask for, answers like requests in one packed forward, and resumes them. One feed alone is the case n = 1;
there is no second code path.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.cache import KeyValueCache
    from omni_watch.duplex.minicpmo.hearing import HearingMemory
    from omni_watch.duplex.minicpmo.speech import SpeechMemory

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class See:
    """Encode pictures. Answered with one [num_queries, H] for each."""

    pictures: Sequence[Tensor]  # [3, h, w] float32, normalised, h and w multiples of the patch size


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Hear:
    """Encode one unit's mel frames, appending to the memory. Answered with [10, H]."""

    mel: Tensor  # [num_mel_bins, T]
    memory: HearingMemory


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Feed:
    """Append to a language model's cache. Answered with `Fed`."""

    embeddings: Tensor  # [L, H], L >= 1
    cache: KeyValueCache
    wants_logits: bool = True  # of the last position; when False, Fed.logits is None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fed:
    hidden: Tensor  # [H], after the final norm, at the last position
    logits: Tensor | None  # [vocab_size], float32


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Say:
    """Speech codes for what was said in one unit. Answered with `speech.Said`."""

    token_ids: Sequence[int]
    hidden: Sequence[Tensor]  # [H] each, one for each token
    ends_turn: bool
    memory: SpeechMemory


Request: TypeAlias = See | Hear | Feed | Say
Work: TypeAlias = Generator[Request, Any, T]
