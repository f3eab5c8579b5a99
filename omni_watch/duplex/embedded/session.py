"""One session of the embedded engine: hears and sees each unit once, asks every task's watchers, decides.

What a task remembers (its watchers and gates) is a `Vigil`. When a new briefing replaces a session, a vigil whose
task, rule and lesson did not change moves over whole, so that a new task never makes an old one forget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log

from omni_watch.domain.decisions import Decision, Listen, Means, Reading, Speak, Utterance
from omni_watch.domain.tasks import Task
from omni_watch.domain.units import Unit
from omni_watch.duplex.embedded.ears import Ears, EarsState
from omni_watch.duplex.embedded.watcher import Evidence, Heard, Watcher
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.deciding import Gate

CERTAIN = 0.999  # scores are clipped to this before the log-odds are taken


@dataclass(slots=True)
class Guard:
    """One means of one task: the watcher that scores it and the gate that its scores pass."""

    watcher: Watcher
    gate: Gate
    evidence: Evidence = field(default_factory=lambda: Evidence(score=None))
    has_just_happened: bool = False
    is_told: bool = False  # the occurrence that stands now was told, by this means or by another

    def step(self, unit: Unit, heard: Heard | None) -> None:
        self.evidence = self.watcher.step(unit, heard)
        self.gate, self.has_just_happened = self.gate.after(self.evidence.score, unit.start_s)
        self.is_told = self.is_told and self.gate.holds is True

    @property
    def margin(self) -> float | None:
        """Log-odds of the score above those of the alert threshold."""
        if self.evidence.score is None:
            return None
        return _log_odds(self.evidence.score) - _log_odds(self.gate.settings.on)

    def tell(self) -> None:
        """The occurrence is told now: this means must see it over before it may tell it again."""
        self.gate = self.gate.told()
        self.is_told = True


@dataclass(slots=True)
class Vigil:
    """Everything a session remembers about one task."""

    briefed: BriefedTask
    guards: tuple[Guard, ...]

    @property
    def task(self) -> Task:
        return self.briefed.task

    def step(self, unit: Unit, heard: Heard | None) -> tuple[Reading, Utterance | None]:
        for guard in self.guards:
            guard.step(unit, heard)
        speaking = [guard for guard in self.guards if guard.has_just_happened]
        if not speaking:
            return self._reading(), None
        was_told = any(guard.is_told for guard in self.guards)
        utterance = None if was_told else self._utterance(speaking, unit)
        for guard in self.guards:
            guard.tell()
        return self._reading(), utterance

    def _reading(self) -> Reading:
        seen = [guard for guard in self.guards if guard.evidence.score is not None]
        best = max(seen, key=lambda guard: guard.margin or 0.0, default=None)
        return Reading(
            task_id=self.task.id,
            score=best.evidence.score if best else None,
            margin=best.margin if best else None,
            holds=_any_of(guard.gate.holds for guard in self.guards),
            means=best.watcher.means if best else None,
        )

    def _utterance(self, speaking: Sequence[Guard], unit: Unit) -> Utterance:
        first = max(speaking, key=lambda guard: guard.evidence.score or 0.0)
        began = [guard.evidence.condition_at_s for guard in speaking if guard.evidence.condition_at_s is not None]
        began += [guard.gate.since_s for guard in speaking if not began and guard.gate.since_s is not None]
        return Utterance(
            text=self.task.message,
            task_id=self.task.id,
            confidence=first.evidence.score or 0.0,
            means=_unique([guard.watcher.means for guard in speaking]),
            condition_at_s=min([unit.end_s, *began]),
        )


class EmbeddedSession:
    """Implements `DuplexSession`. Model thread only, after `open` handed it out."""

    def __init__(self, briefing: Briefing, vigils: Sequence[Vigil], ears: Ears | None) -> None:
        self.briefing = briefing
        self._vigils = {vigil.task.id: vigil for vigil in vigils}
        self._ears = ears
        self._ears_state: EarsState | None = ears.start() if ears else None
        self._inherits_from: EmbeddedSession | None = None

    def inherit(self, after: EmbeddedSession) -> None:
        """Take over, at the first step, what `after` remembers of tasks that both have in common."""
        self._inherits_from = after

    def watches_alike(self, briefed: BriefedTask) -> bool:
        """Whether this session already watches the task in the same way, so that nothing need be fitted again."""
        own = next((task for task in self.briefing.tasks if task.task.id == briefed.task.id), None)
        return own is not None and (own.rule, own.lesson) == (briefed.rule, briefed.lesson)

    def step(self, unit: Unit) -> Decision:
        """One unit in, one decision out; milliseconds on one core."""
        self._take_over()
        heard = self._hear(unit)
        readings: list[Reading] = []
        utterances: list[tuple[Task, Utterance]] = []
        for vigil in self._vigils.values():
            reading, utterance = vigil.step(unit, heard)
            readings.append(reading)
            if utterance is not None:
                utterances.append((vigil.task, utterance))
        if not utterances:
            return Listen(readings=tuple(readings))
        utterances.sort(key=lambda pair: pair[0].priority.rank)
        return Speak(utterances=tuple(utterance for _, utterance in utterances), readings=tuple(readings))

    def close(self) -> None:
        self._vigils.clear()
        self._ears_state = None

    def _hear(self, unit: Unit) -> Heard | None:
        if self._ears is None or self._ears_state is None or not unit.is_heard:
            return None
        heard, self._ears_state = self._ears.hear(unit.audio, unit.start_s, self._ears_state)
        return heard

    def _take_over(self) -> None:
        before, self._inherits_from = self._inherits_from, None
        if before is None:
            return
        before._take_over()  # a chain of sessions that were never stepped
        if self._ears is before._ears and before._ears_state is not None:
            self._ears_state = before._ears_state
        for task_id, vigil in self._vigils.items():
            old = before._vigils.get(task_id)
            if old is not None:
                self._vigils[task_id] = _succeed(old, vigil)


def _succeed(old: Vigil, new: Vigil) -> Vigil:
    """The new vigil with what the old one remembers: all of it when it watches alike, else what its gates knew."""
    if (old.briefed.rule, old.briefed.lesson) == (new.briefed.rule, new.briefed.lesson):
        return Vigil(briefed=new.briefed, guards=old.guards)
    gates: Mapping[Means, Gate] = {guard.watcher.means: guard.gate for guard in old.guards}
    for guard in new.guards:
        known = gates.get(guard.watcher.means)
        if known is not None:
            guard.gate = known.under(guard.gate.settings)
    return new


def _any_of(holds: Iterable[bool | None]) -> bool | None:
    """True when any means holds, False when all that know say no, None when none knows."""
    known = [value for value in holds if value is not None]
    return any(known) if known else None


def _unique(means: Sequence[Means]) -> tuple[Means, ...]:
    return tuple(dict.fromkeys(means))


def _log_odds(score: float) -> float:
    clipped = min(max(score, 1 - CERTAIN), CERTAIN)
    return log(clipped / (1 - clipped))
