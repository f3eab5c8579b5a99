"""What the commands need of the application. `omni_watch.app` gives it; tests use fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from omni_watch.app.doctor import Finding
from omni_watch.app.told import Told
from omni_watch.config.settings import Settings
from omni_watch.domain.regions import Region
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, WatchWindow
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.watch.briefing import Plan
from omni_watch.watch.conversing import Reply
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Observer

OnProgress = Callable[[float, float | None], None]  # seconds done, seconds in all (None: not known)
OnUnits = Callable[[int, int], None]  # units done, units in all


class House(Protocol):
    """Tasks, lessons and alerts of one house. Every call is one transaction.

    Each may raise RequestError (what was asked makes no sense; the message says what would) and StoreError.
    """

    settings: Settings

    def add_task(
        self,
        text: str,
        *,
        feeds: Sequence[str],
        repeat: Repeat | None,
        message: str | None,
        cooldown_s: float | None,
        window: WatchWindow | None,
        expires_in: timedelta | None,
        priority: Priority | None,
        set_by: str,
    ) -> Task:
        """Keep a new task; None leaves a choice to the rule that the words fit."""

    def tasks(self) -> Sequence[Task]:
        """Every task that was kept, oldest first."""

    def find(self, words: str) -> Task:
        """The task that an id, the beginning of one, or words of its text mean."""

    def say(self, sentence: str) -> Reply:
        """Do what a sentence asks, as if it had been spoken; the answer."""

    def plan(self, task: Task) -> Plan: ...
    def marks(self, task: Task) -> Sequence[Mark]: ...
    def lessons(self, task: Task) -> Sequence[Lesson]: ...
    def lacking(self, lesson: Lesson) -> Sequence[str]:
        """What keeps its pictures from being used, one sentence each; empty when nothing does."""

    def cancel(self, task_id: str) -> Task: ...
    def pause(self, task_id: str) -> Task: ...
    def resume(self, task_id: str) -> Task: ...
    def snooze(self, task_id: str, lasting: timedelta) -> Task: ...

    def teach_from_clip(
        self,
        task: Task,
        feed: str | None,
        clip: Path,
        times: Mapping[Label, Sequence[float]],
        region: Region | None,
        display_region: Region | None,
    ) -> Lesson:
        """Keep pictures of a clip as examples. `feed` None: the only camera that it can be for. FeedError, too."""

    def teach_live(
        self, task: Task, feed: str | None, label: Label, region: Region | None, display_region: Region | None
    ) -> Lesson:
        """Keep what the feed shows now as an example. FeedError when it shows nothing."""

    def forget_examples(self, task: Task, example_id: str | None, label: Label | None) -> int:
        """Forget one example, those of a label, or (neither given) all; how many."""

    def quiet(self) -> None:
        """End what companions are saying. RequestError when no daemon runs."""

    def deaf(self) -> frozenset[str]:
        """The feeds to which nobody wants us to listen."""

    def listen(self, feed: str, *, is_listening: bool) -> Sequence[Task]:
        """Take the sound of a feed or drop it, until this is changed; the tasks that can then not be watched.
        RequestError when there is no such feed, or it has no sound."""

    def alerts(self, limit: int, task_id: str | None = None) -> Sequence[Told]:
        """Newest first."""

    def acknowledge(self, alert_id: str | None) -> Told:
        """A person has taken note of this alert, or (None) of the last open one; how it is now."""

    def acknowledge_task(self, task_id: str) -> Sequence[Told]:
        """The same for all open alerts of a task."""


class Application(Protocol):
    """The doors of `omni_watch.app`."""

    def open_house(self, config_path: Path | None) -> AbstractContextManager[House]: ...

    def run_daemon(self, settings: Settings, observers: Sequence[Observer], console: Console | None) -> None:
        """Watch until a signal says stop; returns when all is kept and closed. Alerts are printed on `console`."""

    def replay(
        self,
        settings: Settings,
        clip: Path,
        *,
        tasks: Sequence[str],
        listens: bool,
        teach: Path | None,
        on_progress: OnProgress | None,
    ) -> Mapping[str, Any]:
        """Run a recording through the pipeline; the document that `replay --json` prints."""

    def run_demo(self, console: Console, folder: Path | None) -> Mapping[str, Any]: ...

    def diagnose(self, settings: Settings, *, is_quick: bool) -> Sequence[Finding]: ...

    def check_parity(self, folder: Path, *, dtype: str, device: str, on_progress: OnUnits | None) -> Mapping[str, Any]:
        """Hold a checkpoint against its recorded sessions; the document that `models parity --json` prints."""
