"""The embedded CPU engine: the default on a machine with no GPU and no weights to fetch from a hub.

It hears household sounds and rows of beeps without teaching, reads displays in a marked region, and sees what it was
shown. It does not understand pictures or sentences: which means serve a task is decided by the rule that the task's
words chose, and a task that fits none is blind until somebody shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omni_watch.domain.decisions import Decision, Means
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Rule
from omni_watch.duplex.embedded.ears import Ears
from omni_watch.duplex.embedded.eyes import Eyes
from omni_watch.duplex.embedded.planner import Abilities, plan
from omni_watch.duplex.embedded.session import EmbeddedSession, Guard, Vigil
from omni_watch.duplex.embedded.sight import watchers_for
from omni_watch.duplex.embedded.sounding import BeepWatcher, SoundWatcher
from omni_watch.duplex.embedded.watcher import Watcher
from omni_watch.watch.briefing import BriefedTask, Briefing, Plan
from omni_watch.watch.deciding import Gate
from omni_watch.watch.ports import DuplexSession, Step
from omni_watch.watch.stepping import one_by_one


class EmbeddedEngine:
    """Implements `DuplexModel`. Its models are shared by all feeds and safe to use from several threads."""

    name = "embedded"
    most_together = 1  # a step takes milliseconds; together the first would wait for the last

    def __init__(self, *, ears: Ears | None, eyes: Eyes, abilities: Abilities) -> None:
        self._ears = ears
        self._eyes = eyes
        self._abilities = abilities

    def plan(self, briefed: BriefedTask) -> Plan:
        return plan(briefed, self._abilities)

    def open(self, briefing: Briefing, after: DuplexSession | None = None) -> EmbeddedSession:
        """Fit what was taught and build each task's watchers; seconds when there is something to fit.

        A task that `after` watches in the same way is not fitted again.

        Raises:
            ModelError: an example's picture cannot be read.
        """
        before = after if isinstance(after, EmbeddedSession) else None
        vigils = [self._vigil(briefed, before) for briefed in briefing.tasks]
        session = EmbeddedSession(briefing, vigils, self._ears)
        if before is not None:
            session.inherit(before)
        return session

    def step_together(self, steps: Sequence[Step]) -> Sequence[Decision | ModelError]:
        return one_by_one(steps)

    def work_ahead(self) -> bool:
        """All is made ready by `open`."""
        return False

    def hush(self, feed: str) -> None:
        """This engine has no voice."""

    def close(self) -> None:
        """Nothing is held beyond the Python objects."""

    def _vigil(self, briefed: BriefedTask, before: EmbeddedSession | None) -> Vigil:
        if before is not None and before.watches_alike(briefed):
            return Vigil(briefed=briefed, guards=())  # filled at the first step, from `before`
        means = self.plan(briefed).means
        watchers = [watcher for watcher in self._watchers(briefed) if watcher.means in means]
        guards = (Guard(watcher, _gate(watcher, briefed)) for watcher in watchers)
        return Vigil(briefed=briefed, guards=tuple(guards))

    def _watchers(self, briefed: BriefedTask) -> list[Watcher]:
        watchers: list[Watcher] = []
        if briefed.rule is not None and self._ears is not None:
            watchers += _listeners(briefed.rule)
        if briefed.lesson is not None:
            watchers += watchers_for(briefed.lesson, briefed.rule, self._eyes)
        return watchers


def _listeners(rule: Rule) -> list[Watcher]:
    listeners: list[Watcher] = []
    if rule.sounds:
        listeners.append(SoundWatcher(rule.sounds))
    if rule.beeps:
        listeners.append(BeepWatcher(rule.beeps))
    return listeners


def _gate(watcher: Watcher, briefed: BriefedTask) -> Gate:
    """The watcher's own gate; a rule says how long a sound must be over before it is another one."""
    settings = watcher.gate
    if briefed.rule is not None and watcher.means in (Means.SOUND, Means.BEEPS):
        settings = replace(settings, rearm_s=briefed.rule.rearm_s)
    return Gate.fresh(settings, is_primed=briefed.is_primed)
