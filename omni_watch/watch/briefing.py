"""What the model is told to watch for on one feed."""

from __future__ import annotations

from dataclasses import dataclass

from omni_watch.domain.decisions import Means
from omni_watch.domain.rules import Rule
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Lesson


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefedTask:
    """One task with everything that helps to judge it."""

    task: Task
    rule: Rule | None = None
    lesson: Lesson | None = None
    is_primed: bool = False  # the condition was seen false since the task was set or last told, by an earlier session

    @property
    def gist(self) -> tuple[object, ...]:
        """What a model must be told anew when it changes; a task's counters and cooldowns are not part of it."""
        task = self.task
        return (task.id, task.text, task.message, task.language, task.repeat, task.priority, self.rule, self.lesson)


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """The tasks of one session, oldest first."""

    feed: str
    tasks: tuple[BriefedTask, ...] = ()

    def says_the_same_as(self, other: Briefing) -> bool:
        """Whether a session opened for `other` serves this briefing as well."""
        return self.feed == other.feed and [t.gist for t in self.tasks] == [t.gist for t in other.tasks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How an engine will watch for one task, and why; shown by `omni-watch task show`."""

    task_id: str
    means: tuple[Means, ...] = ()  # empty: cannot be watched until somebody shows it
    why: tuple[str, ...] = ()  # one sentence for each means used or not to be had
    ask: str = ""  # what a person should do so that it can be watched (better); in the task's language

    @property
    def is_blind(self) -> bool:
        """True when no means fits, so that the task cannot be watched yet."""
        return not self.means
