"""What one feed's session is given: how it shall watch, what it needs of the model, and what else is around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from omni_watch.domain.rules import Language
from omni_watch.duplex.minicpmo.control import ControlSettings
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.stillness import StillnessGate
from omni_watch.watch.ports import Pronounce, TextSimilarity
from omni_watch.watch.tongues import Tongue

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.mind import Mind
    from omni_watch.duplex.minicpmo.opinion import Opinion
    from omni_watch.duplex.minicpmo.senses import Perceived
    from omni_watch.duplex.minicpmo.work import Work


class Ears(Protocol):
    """One feed's stream of perception; outlives its sessions. `senses.Senses` is one."""

    def perceive(self, sound: Tensor | None, frames: Sequence[Sequence[Tensor]] = ()) -> Work[Perceived]: ...


class Brain(Protocol):
    """What a session needs of the model. The engine's own is `engine.SharedBrain`; tests script one."""

    @property
    def voice(self) -> Tensor | None:
        """[m, H]: the voice that a companion speaks with itself; None where the daemon's voices speak for it."""

    def ears(self) -> Ears:
        """A fresh stream of perception."""

    def mind(self, presence: Presence) -> Mind:
        """A fresh memory, not yet told anything."""

    def pictures(self, rgb: NDArray[np.uint8]) -> Sequence[Tensor]:
        """A frame as the vision tower takes it: its overview, then its tiles."""

    def count_tokens(self, text: str) -> int: ...

    def examine(self, seconds: Sequence[Perceived], condition: str, tongue: Language) -> Work[Opinion]:
        """A second opinion on whether the condition has just come true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How one feed is watched."""

    presence: Presence = Presence.WATCH
    control: ControlSettings = field(default_factory=ControlSettings)
    context_tokens: int = 8192  # that the model was trained on
    carried_units: int = 16  # seconds that a fresh memory lives through first
    language: Language = "en"  # when no task says
    zone: tzinfo | None = None  # of the times that the model is told; None: the machine's


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a session needs besides the model."""

    tongues: Sequence[Tongue] = ()
    similarity: TextSimilarity | None = None
    wall: Callable[[float], datetime]  # aware time of a second on the feed's timeline
    tell: Callable[..., None] = lambda _event, **_fields: None  # an event and its fields; any thread
    eyelid: Callable[[], StillnessGate | None] = lambda: None  # a fresh one for a feed; None: every frame is looked at
    pronounce: Pronounce = lambda _sentence, _language: None
