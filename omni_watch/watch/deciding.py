"""From a score each second to "it has just happened": hysteresis, confirmation, re-arming. Pure.

A gate is small memory that a session keeps for each means of each task. Its three promises:
a condition that stood from the beginning is never told; one that is told needs `confirm_of` good seconds out of
`confirm_in`; and after telling it must be seen false for `rearm_s` before it can be told again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from omni_watch.domain.units import UNIT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """Thresholds on a score of 0..1."""

    on: float = 0.6  # at or above: speaks for the condition
    off: float = 0.4  # below: speaks against it; in between says nothing
    confirm_of: int = 2  # good seconds needed ...
    confirm_in: int = 2  # ... among the last so many seconds
    prime_s: float = 3.0  # seconds seen false before the first alert may come
    rearm_s: float = 10.0  # seconds seen false before the next alert may come


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One means of one task; `after` gives its next value."""

    settings: GateSettings
    votes: tuple[bool, ...] = ()  # the last `confirm_in` seconds that said anything, newest last
    false_s: float = 0.0  # how long it has been seen false without a break
    is_primed: bool = False
    holds: bool | None = None
    since_s: float | None = None  # feed timeline: start of the first good second of the present run

    @classmethod
    def fresh(cls, settings: GateSettings, *, is_primed: bool = False) -> Gate:
        return cls(settings=settings, is_primed=is_primed)

    def told(self) -> Gate:
        """The gate once this occurrence was told by somebody else: it must be seen false before it speaks."""
        return replace(self, is_primed=False, holds=True, false_s=0.0)

    def under(self, settings: GateSettings) -> Gate:
        """What this gate knows, under other settings; votes begin anew."""
        return replace(self, settings=settings, votes=(), since_s=None)

    def after(self, score: float | None, at_s: float) -> tuple[Gate, bool]:
        """The gate after one unit that began at `at_s`, and whether the condition has just been confirmed.

        `None` (the needed sense was a gap) changes nothing: an unseen second speaks neither for nor against.
        """
        if score is None:
            return self, False
        rules = self.settings
        good = score >= rules.on
        votes = (*self.votes, good)[-rules.confirm_in :]
        runs_on = any(self.votes[-max(rules.confirm_in - 1, 1) :])
        since_s = self.since_s if runs_on else at_s if good else None
        if score < rules.off:
            false_s = self.false_s + UNIT_S
            enough_s = rules.rearm_s if self.holds else rules.prime_s
            cleared = false_s >= enough_s
            return replace(
                self,
                votes=() if cleared else votes,  # what spoke for the last occurrence must not speak for the next
                false_s=false_s,
                is_primed=self.is_primed or cleared,
                holds=False if cleared else self.holds,
                since_s=None if cleared else since_s,
            ), False
        confirmed = good and sum(votes) >= rules.confirm_of
        has_just_happened = confirmed and self.is_primed and self.holds is not True
        return replace(
            self,
            votes=votes,
            false_s=0.0,
            is_primed=self.is_primed and not has_just_happened,
            holds=True if confirmed else self.holds,
            since_s=since_s,
        ), has_just_happened
