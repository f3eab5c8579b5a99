"""What a conversation needs to know of this house: its words, its feeds, how a task is made and would be watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from functools import cache
from threading import Lock

from omni_watch.app.engines import MINICPM, Choice, abilities, choose_engine, text_similarity
from omni_watch.app.wishes import TaskWish, task_of
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import Rulebook
from omni_watch.config.settings import FeedSettings, Settings
from omni_watch.config.speechbook import load_speechbook
from omni_watch.domain.decisions import Means
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Lesson
from omni_watch.duplex.embedded import planner as embedded
from omni_watch.duplex.minicpmo import planning as minicpmo
from omni_watch.watch import requests
from omni_watch.watch.asking import Limits
from omni_watch.watch.briefing import BriefedTask, Plan
from omni_watch.watch.conversing import Household
from omni_watch.watch.modes import modes
from omni_watch.watch.wording import Wording

PlanOf = Callable[[Task, Sequence[Lesson], AbstractSet[str]], Plan]


def household_of(
    settings: Settings,
    rulebook: Rulebook,
    cabinet: Cabinet,
    plan: PlanOf,
    *,
    set_by: str,
    new_id: Callable[[], str] = requests.new_task_id,
) -> Household:
    """The house of these settings; tasks are called by `new_id`. Reads the files of speech: a third of a second.

    Raises:
        ConfigError: one of them is wrong.
    """

    similarity = cache(lambda: text_similarity(cabinet))  # verifies 90 MB, for the few sentences that add a task

    def make(wording: Wording, limits: Limits, now: datetime) -> Task:
        wish = TaskWish(
            feeds=limits.feeds,
            repeat=limits.repeat,
            window=limits.window,
            expires_in=limits.until - now if limits.until is not None else None,
        )
        return task_of(
            wording,
            text=wording.text,
            task_id=new_id(),
            set_by=set_by,
            now=now,
            book=rulebook.phrasebook,
            similarity=similarity(),
            wish=wish,
        )

    return Household(
        book=load_speechbook(rulebook.phrasebook, settings.rules_dir),
        zone=settings.zone,
        feeds=tuple(feed.name for feed in settings.feeds),
        names=settings.ears.names,
        is_name_needed=settings.ears.is_name_needed and set_by == "voice",
        make=make,
        plan=lambda tx, task: plan(task, tx.lessons.of(task.id), modes(tx).deaf),
        set_by=set_by,
        quiet_hours=settings.voice.quiet_hours,
        new_id=new_id,
    )


class Households:
    """The house as conversations know it, made when it is first asked for and anew when its rules have changed. Making
    one takes seconds: for any thread but the loop's."""

    def __init__(self, make: Callable[[], Household]) -> None:
        self._make = make
        self._made: Household | None = None
        self._lock = Lock()

    def now(self) -> Household:
        with self._lock:
            self._made = self._made or self._make()
            return self._made

    def renew(self) -> None:
        """ConfigError when the rules or the words of speech cannot be read; then it stays as it was."""
        with self._lock:
            self._made = None if self._made is None else self._make()


class Planner:
    """How the engine of this house would watch for a task; no weights are read."""

    def __init__(self, settings: Settings, rulebook: Rulebook, cabinet: Cabinet, choice: Choice | None = None) -> None:
        """`choice`: the engine that watches; None: the one that a daemon would take now."""
        self._settings = settings
        self._rulebook = rulebook
        self._cabinet = cabinet
        self._choice = choice

    def plan(self, task: Task, lessons: Sequence[Lesson], deaf: AbstractSet[str] = frozenset()) -> Plan:
        """On the feed on which most can be done. `deaf`: feeds to which we are not to listen."""
        if task.reminder is not None:
            return Plan(task_id=task.id, means=(Means.CLOCK,), why=("nothing is watched: it is said at its time",))
        rule = self._rulebook.get(task.rule) if task.rule else None
        watching = [feed for feed in self._settings.feeds if task.watches(feed.name)]
        plans = [
            self._plan_on(feed, BriefedTask(task=task, rule=rule, lesson=_lesson_on(feed.name, lessons)), deaf)
            for feed in watching
        ]
        if not plans:
            plans = [self._plan_on(None, BriefedTask(task=task, rule=rule, lesson=lessons[0] if lessons else None))]
        return max(plans, key=lambda one: len(one.means))

    def _plan_on(self, feed: FeedSettings | None, briefed: BriefedTask, deaf: AbstractSet[str] = frozenset()) -> Plan:
        """By the engine that watches this house; None: on a feed with all senses."""
        has_camera, has_microphone = (True, True) if feed is None else (feed.video is not None, feed.audio is not None)
        is_deaf = feed is not None and feed.name in deaf
        if self._engine().kind == "embedded":
            able = abilities(self._cabinet)
            return embedded.plan(
                briefed, replace(able, has_camera=has_camera, has_microphone=has_microphone, is_deaf=is_deaf)
            )
        senses = minicpmo.FeedSenses(has_camera=has_camera, has_microphone=has_microphone, is_deaf=is_deaf)
        return minicpmo.plan(briefed, senses)

    def _engine(self) -> Choice:
        """One that is asked for by name is planned for without being looked at: looking at a checkpoint takes
        seconds."""
        if self._choice is None:
            is_asked = self._settings.engine.kind == MINICPM
            self._choice = Choice(MINICPM, "it is asked for") if is_asked else choose_engine(self._settings)
        return self._choice


def _lesson_on(feed: str, lessons: Sequence[Lesson]) -> Lesson | None:
    return next((lesson for lesson in lessons if lesson.feed == feed), None)
