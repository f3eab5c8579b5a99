"""The decision between listening and speaking is ours: read every second, weighed, confirmed, never drawn.

The model's wish to speak is one number, its *margin*: logit(speak) - logit(listen). Published code draws a token from
the whole vocabulary instead, so the same second may alert or not, and scales the logit by a factor, which does the
opposite for a negative one; we add a bias in logits, which means the same for every model and moment.

One second proves little (a false alert a day allows one wrong second in 86,400), so a wish is weighed for the task that
its words turn out to be about: `Guard` turns the margin into a score and hands it to the task's gate, which confirms,
re-arms and remembers (`watch.deciding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite
from typing import TYPE_CHECKING, Final, Self

import torch

from omni_watch.domain.decisions import Means, Reading
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import ModelTuning
from omni_watch.domain.units import GapCause, Unit
from omni_watch.duplex.minicpmo.planning import needed_senses
from omni_watch.watch.briefing import BriefedTask
from omni_watch.watch.deciding import Gate, GateSettings

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.dialogue import Moment

REARM_S: Final = 10.0  # for a task without a rule, as rules have it by default


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """How a margin becomes a decision. Logits, after the bias; seconds."""

    bias: float = 0.0  # added to the margin: above 0 speaks more readily
    arm: float = 0.0  # at or above: speaks for an alert
    release: float = -1.0  # below: speaks against it; in between says nothing
    confirm_of: int = 2  # seconds that must speak for it ...
    confirm_in: int = 3  # ... among the last so many
    second_opinion: bool = False  # a short question must agree before it is told

    def __post_init__(self) -> None:
        if self.release > self.arm or not 1 <= self.confirm_of <= self.confirm_in:
            raise ValueError(
                f"release {self.release}, arm {self.arm}, confirm {self.confirm_of} of {self.confirm_in}; "
                "expected release <= arm and 1 <= confirm_of <= confirm_in"
            )

    def tuned(self, tuning: ModelTuning) -> Self:
        """These settings with what a rule says instead."""
        confirm_of = self.confirm_of if tuning.confirm_of is None else tuning.confirm_of
        confirm_in = self.confirm_in if tuning.confirm_in is None else tuning.confirm_in
        return replace(
            self,
            bias=self.bias if tuning.bias is None else tuning.bias,
            confirm_of=confirm_of,
            confirm_in=max(confirm_in, confirm_of),
            second_opinion=self.second_opinion if tuning.second_opinion is None else tuning.second_opinion,
        )

    def gate(self, rearm_s: float) -> GateSettings:
        return GateSettings(
            on=probability(self.arm),
            off=probability(self.release),
            confirm_of=self.confirm_of,
            confirm_in=self.confirm_in,
            rearm_s=rearm_s,
        )


def probability(logit: float) -> float:
    """0..1; equal logits give equal values, so that a margin at the threshold reaches it."""
    return 1 / (1 + exp(-logit)) if logit >= 0 else exp(logit) / (1 + exp(logit))


def read_margins(moments: Sequence[Moment], *, speak: int, listen: int) -> list[float]:
    """logit(speak) - logit(listen) of several feeds at once. Waits for the device, once for all of them.

    A margin that is no number stays one (see `checked`): it is one feed's trouble.
    """
    if not moments:
        return []
    chosen = torch.stack([moment.logits[[speak, listen]] for moment in moments]).float()
    margins: list[float] = (chosen[:, 0] - chosen[:, 1]).tolist()
    return margins


def checked(margin: float) -> float:
    """The margin.

    Raises:
        ModelError: (retryable) it is no number: a half-precision overflow or a broken memory; a new session may work.
    """
    if not isfinite(margin):
        raise ModelError(
            f"the model's wish to speak is {margin}; expected a number; its session begins anew", can_retry=True
        )
    return margin


@dataclass(slots=True)
class Guard:
    """One task of a session: how the margin is weighed for it, and what its gate remembers."""

    briefed: BriefedTask
    control: ControlSettings
    gate: Gate
    margin: float | None = None  # of the last unit, in logits above the threshold

    @classmethod
    def of(cls, briefed: BriefedTask, settings: ControlSettings, *, confirms: bool = True) -> Self:
        """`confirms`: off where the model's own words are the decision (companion)."""
        control = settings if briefed.rule is None else settings.tuned(briefed.rule.model)
        if not confirms:
            control = replace(control, confirm_of=1, confirm_in=1, second_opinion=False)
        rearm_s = REARM_S if briefed.rule is None else briefed.rule.rearm_s
        return cls(briefed, control, Gate.fresh(control.gate(rearm_s), is_primed=briefed.is_primed))

    @property
    def task_id(self) -> str:
        return self.briefed.task.id

    @property
    def score(self) -> float:
        """0..1, of the last unit."""
        return 0.0 if self.margin is None else probability(self.margin + self.control.arm)

    @property
    def is_for(self) -> bool:
        """Whether the last margin speaks for an alert, if the words are about this task."""
        return self.margin is not None and self.margin >= 0

    @property
    def is_quiet(self) -> bool:
        """Nothing is being confirmed."""
        return not any(self.gate.votes)

    def weigh(self, margin: float) -> None:
        """Take note of a unit's margin."""
        self.margin = margin + self.control.bias - self.control.arm

    def listened(self, unit: Unit) -> None:
        """The model kept silent. That speaks against the condition only if it could have been seen or heard."""
        needed = needed_senses(self.briefed.rule)
        if not any(gap.sense in needed and gap.cause is not GapCause.ABSENT for gap in unit.gaps):
            self.gate, _ = self.gate.after(self.score, unit.start_s)

    def spoken_for(self, unit: Unit, score: float | None = None) -> bool:
        """The words were about this task; whether it has thereby just happened and is to be told."""
        self.gate, has_just_happened = self.gate.after(self.score if score is None else score, unit.start_s)
        return has_just_happened

    def would_tell(self, unit: Unit) -> bool:
        """Whether words about this task would now be told."""
        return self.is_for and self.gate.after(self.score, unit.start_s)[1]

    def doubted(self) -> None:
        """A second opinion disagreed: what spoke for the condition so far does not count."""
        self.gate = replace(self.gate, votes=(), since_s=None)

    def inherit(self, before: Guard) -> None:
        """Go on from what an earlier session's guard of the same task knows."""
        alike = before.gate.settings == self.gate.settings
        self.gate = before.gate if alike else before.gate.under(self.gate.settings)

    def reading(self) -> Reading:
        return Reading(
            task_id=self.task_id,
            score=None if self.margin is None else self.score,
            margin=self.margin,
            holds=self.gate.holds,
            means=Means.MODEL,
        )
