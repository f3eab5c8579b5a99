"""Rule: a reusable condition, shipped as data in rules/ and parsed by `omni_watch.config.rulebook`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum

Language = str  # "en" or "zh": the languages that rules are written in; a third one is data


class Repeat(Enum):
    """For how many occurrences a task asks."""

    ONCE = "once"
    EACH = "each"


class Priority(Enum):
    LOW = "low"
    NORMAL = "normal"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """0 is told first."""
        return {Priority.URGENT: 0, Priority.NORMAL: 1, Priority.LOW: 2}[self]


class SightKind(Enum):
    """What showing a condition to the camera can teach."""

    NONE = "none"  # a sound; pictures say nothing
    STATE = "state"  # looks like this before, like that after
    LEVEL = "level"  # rises or falls between empty and full


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayCue:
    """Text on a display that means the condition came true."""

    texts: tuple[str, ...] = ()  # compared without case, spaces and look-alike characters
    countdown: bool = False  # the display counts down first; only then do the texts count
    last_of_countdown: bool = False  # also true when a countdown seen on the way reaches its last value (floor 1, 0:00)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTuning:
    """How a language model's wish to speak is weighed for this condition; None leaves it to the settings."""

    bias: float | None = None  # logits: above 0 it is told more readily, below less
    confirm_of: int | None = None  # seconds that must speak for it ...
    confirm_in: int | None = None  # ... among the last so many
    second_opinion: bool | None = None  # ask a short yes-or-no question before it is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """How an urgent alert that nobody takes note of is told again."""

    every_s: float = 60.0  # seconds after it was last told
    times: int = 5  # how often; then it expires
    louder_after: int = 1  # told so often, each further time is louder
    every_channel_after: int = 2  # told so often, it goes to every channel, also to those that had given up

    def tuned(self, tuning: EscalationTuning) -> Escalation:
        """With what a rule says of its own."""
        return replace(self, **{name: value for name, value in asdict(tuning).items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationTuning:
    """How alerts of one rule escalate, once they are urgent; None leaves it to the settings."""

    every_s: float | None = None
    times: int | None = None
    louder_after: int | None = None
    every_channel_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One household condition in every language we ship."""

    id: str  # file name without .yaml, [a-z0-9_]+
    phrases: Mapping[Language, tuple[str, ...]]  # ways to say that it has happened; `watch.wording` matches them
    names: Mapping[Language, tuple[str, ...]]  # the thing itself: kettle, 水壶
    message: Mapping[Language, str]  # the completed state, as it is told
    ask: Mapping[Language, str]  # "show me what full looks like"; said when no means fits
    contrasts: Mapping[Language, tuple[str, ...]] = field(default_factory=dict)  # what is easily mistaken for it
    sounds: tuple[str, ...] = ()  # household sound groups of the embedded engine that mean it has happened
    beeps: int = 0  # a row of at least so many like beeps means it has happened; 0: beeps say nothing
    display: DisplayCue = field(default_factory=DisplayCue)
    sight: SightKind = SightKind.NONE
    repeat: Repeat = Repeat.ONCE  # when the person's words do not say
    priority: Priority = Priority.NORMAL
    cooldown_s: float = 30.0  # after an alert that was told, for `each`
    rearm_s: float = 10.0  # how long the condition must be seen false before it may be told again
    model: ModelTuning = field(default_factory=ModelTuning)
    escalation: EscalationTuning = field(default_factory=EscalationTuning)
