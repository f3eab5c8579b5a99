"""A `House` kept in memory, and an `Application` that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from omni_watch.app.doctor import Finding
from omni_watch.app.told import Told
from omni_watch.cli.ports import House, OnProgress, OnUnits
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.alerts import AlertState
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import RequestError
from omni_watch.domain.regions import Region
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.watch.asking import Nothing, Request, Understood
from omni_watch.watch.briefing import Plan
from omni_watch.watch.conversing import Reply, Talking
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Observer
from tests.fakes.fake_clock import NOON


class FakeHouse:
    """Implements `House`; time stands at noon."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kept: dict[str, Task] = {}
        self.taught: dict[str, Lesson] = {}
        self.told: list[Told] = []
        self.ledger: list[Mark] = []
        self.heard: list[str] = []
        self.answers: dict[str, Request] = {}
        self.was_hushed = False
        self.not_heard: set[str] = set()

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
        if not text.strip():
            raise RequestError("the request has no words; say what to watch for")
        task = Task(
            id=f"task{len(self.kept) + 1}",
            text=text,
            language="en",
            message=message or "It has happened.",
            set_by=set_by,
            set_at=NOON,
            feeds=tuple(feeds),
            repeat=repeat or Repeat.ONCE,
            priority=priority or Priority.NORMAL,
            cooldown_s=30.0 if cooldown_s is None else cooldown_s,
            window=window,
            expires_at=NOON + expires_in if expires_in else None,
        )
        self.kept[task.id] = task
        return task

    def tasks(self) -> list[Task]:
        return list(self.kept.values())

    def find(self, words: str) -> Task:
        for task in self.kept.values():
            if words in (task.id, task.text) or words in task.text.split():
                return task
        raise RequestError(f"no task is called {words!r}; no task is being watched")

    def say(self, sentence: str) -> Reply:
        self.heard.append(sentence)
        request = self.answers.get(sentence, Nothing())
        is_done = not isinstance(request, Nothing)
        return Reply(
            text="Okay." if is_done else "Nothing in that was meant for me.",
            language="en",
            deed=type(request).__name__.lower(),
            is_done=is_done,
            understood=Understood(request=request, language="en", why="a form" if is_done else "no known form"),
            talking=Talking(),
        )

    def plan(self, task: Task) -> Plan:
        if task.id in self.taught or "kettle" not in task.text:
            return Plan(task_id=task.id, means=(Means.TAUGHT,), why=("it was shown before and after",))
        return Plan(task_id=task.id, why=("it makes no sound",), ask="Show me what full looks like.")

    def marks(self, task: Task) -> list[Mark]:
        return [mark for mark in self.ledger if mark.task_id == task.id]

    def lacking(self, lesson: Lesson) -> list[str]:
        shown = {example.label for example in lesson.examples}
        return ["'empty' was shown but not 'full'; show both"] if shown == {Label.EMPTY} else []

    def lessons(self, task: Task) -> list[Lesson]:
        return [self.taught[task.id]] if task.id in self.taught else []

    def cancel(self, task_id: str) -> Task:
        return self._keep(self.kept[task_id].to(TaskState.CANCELLED))

    def pause(self, task_id: str) -> Task:
        return self._keep(self.kept[task_id].to(TaskState.PAUSED))

    def resume(self, task_id: str) -> Task:
        return self._keep(self.kept[task_id].to(TaskState.ARMED))

    def snooze(self, task_id: str, lasting: timedelta) -> Task:
        return self._keep(replace(self.kept[task_id], snoozed_until=NOON + lasting))

    def teach_from_clip(
        self,
        task: Task,
        feed: str | None,
        clip: Path,
        times: Mapping[Label, Sequence[float]],
        region: Region | None,
        display_region: Region | None,
    ) -> Lesson:
        shown = [(label, f"clip {clip.name} at {second:g} s") for label, seconds in times.items() for second in seconds]
        return self._teach(task, feed or "kitchen", shown, region, display_region)

    def teach_live(
        self, task: Task, feed: str | None, label: Label, region: Region | None, display_region: Region | None
    ) -> Lesson:
        return self._teach(task, feed or "kitchen", [(label, f"feed {feed}")], region, display_region)

    def forget_examples(self, task: Task, example_id: str | None, label: Label | None) -> int:
        before = self.taught[task.id].examples
        kept = tuple(
            example
            for example in before
            if (example_id or label) and example.id != example_id and example.label is not label
        )
        self.taught[task.id] = replace(self.taught[task.id], examples=kept)
        return len(before) - len(kept)

    def quiet(self) -> None:
        self.was_hushed = True

    def alerts(self, limit: int, task_id: str | None = None) -> list[Told]:
        return [told for told in self.told if task_id in (None, told.alert.task_id)][:limit]

    def acknowledge(self, alert_id: str | None) -> Told:
        meant = next((told for told in self.told if alert_id in (None, told.alert.id)), None)
        if meant is None:
            raise RequestError(f"there is no alert {alert_id!r}")
        return replace(meant, course=meant.course.to(AlertState.ACKNOWLEDGED, at=NOON, by="cli"))

    def acknowledge_task(self, task_id: str) -> list[Told]:
        return [self.acknowledge(told.alert.id) for told in self.alerts(99, task_id)]

    def _keep(self, task: Task) -> Task:
        self.kept[task.id] = task
        return task

    def _teach(
        self,
        task: Task,
        feed: str,
        shown: Sequence[tuple[Label, str]],
        region: Region | None,
        display_region: Region | None,
    ) -> Lesson:
        before = self.taught.get(task.id, Lesson(task_id=task.id, feed=feed))
        examples = [
            Example(id=f"e{len(before.examples) + at}", label=label, jpeg=b"", taken_at=NOON, origin=origin)
            for at, (label, origin) in enumerate(shown, start=1)
        ]
        lesson = replace(before, region=region, display_region=display_region, examples=(*before.examples, *examples))
        self.taught[task.id] = lesson
        return lesson

    def deaf(self) -> frozenset[str]:
        return frozenset(self.not_heard)

    def listen(self, feed: str, *, is_listening: bool) -> list[Task]:
        (self.not_heard.discard if is_listening else self.not_heard.add)(feed)
        return [] if is_listening else list(self.kept.values())


class FakeApplication:
    """Implements `Application`. What it answers is set by the test."""

    def __init__(self, house: FakeHouse) -> None:
        self.house = house
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.findings: list[Finding] = []
        self.replayed: dict[str, Any] = {}
        self.parity: dict[str, Any] = {}
        self.error: Exception | None = None
        self.daemon: Callable[[Settings, Sequence[Observer]], None] = lambda settings, observers: None

    @contextmanager
    def open_house(self, config_path: Path | None) -> Iterator[House]:
        self._ask("open_house", config_path=config_path)
        yield self.house

    def run_daemon(self, settings: Settings, observers: Sequence[Observer], console: Console | None) -> None:
        self._ask("run_daemon", settings=settings)
        self.daemon(settings, observers)

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
        is_progress_wanted = on_progress is not None
        self._ask(
            "replay",
            clip=clip,
            tasks=tuple(tasks),
            listens=listens,
            teach=teach,
            is_progress_wanted=is_progress_wanted,
        )
        if on_progress is not None:
            on_progress(27.0, 40.0)
        return self.replayed

    def run_demo(self, console: Console, folder: Path | None) -> Mapping[str, Any]:
        self._ask("run_demo", folder=folder)
        console.print("the kettle is filling")
        return {"alerts": 1}

    def diagnose(self, settings: Settings, *, is_quick: bool) -> Sequence[Finding]:
        self._ask("diagnose", is_quick=is_quick)
        return self.findings

    def check_parity(self, folder: Path, *, dtype: str, device: str, on_progress: OnUnits | None) -> Mapping[str, Any]:
        self._ask("check_parity", folder=folder, dtype=dtype, device=device, is_progress_wanted=on_progress is not None)
        if on_progress is not None:
            on_progress(54, 216)
        return self.parity

    def _ask(self, what: str, **how: Any) -> None:
        self.asked.append((what, how))
        if self.error is not None:
            raise self.error


def fake_application(home: Path) -> FakeApplication:
    """An application whose house has the settings that an empty home folder gives, in Madrid's time."""
    settings = replace(read_settings(environment={"HOME": str(home)}), zone="Europe/Madrid", instance="home")
    return FakeApplication(FakeHouse(settings))
