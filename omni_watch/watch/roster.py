"""What one feed watches right now: its tasks, what the ledger knows of them, and the session that watches them.

`look` reads the store and notices what changed; a new session is then prepared on a thread of its own, while the old
one goes on, and handed over between two units. So neither a new task nor a refit ever stops the heart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import datetime

from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Rule
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Lesson
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.judge import Verdict
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Clock, DuplexModel, DuplexSession, Observer, Store, Transaction


class Roster:
    """The tasks, marks and session of one feed. Loop thread only."""

    def __init__(
        self,
        feed: str,
        *,
        store: Store,
        rules: Mapping[str, Rule],
        model: DuplexModel,
        fitting: Executor,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.feed = feed
        self.tasks: dict[str, Task] = {}
        self.marks: dict[str, Mark] = {}
        self._store = store
        self.rules = rules
        self._model = model
        self._fitting = fitting
        self._clock = clock
        self._observer = observer
        self._wanted = Briefing(feed=feed)
        self._session: DuplexSession | None = None
        self._prepared: DuplexSession | None = None
        self._preparing: asyncio.Task[None] | None = None

    async def look(self, now: datetime) -> None:
        """Read the store again; a changed briefing starts preparing a new session.

        Raises:
            StoreError: the store cannot be read; what was known before stays.
        """
        self.tasks, self.marks, briefing = await self._store.transact(lambda tx: self._read(tx, now))
        is_preparing = self._preparing is not None and not self._preparing.done()
        has_session = is_preparing or self._prepared is not None or self._session is not None
        if not has_session or not briefing.says_the_same_as(self._wanted):
            self._wanted = briefing
            if not is_preparing:
                self._preparing = asyncio.create_task(self._prepare(), name=f"session of {self.feed}")

    async def settled(self) -> None:
        """Return once the session for what was last looked at is ready.

        Raises:
            ModelError: it cannot be opened.
        """
        if self._preparing is not None:
            await self._preparing
        if self._session is None and self._prepared is None:
            raise ModelError(f"feed {self.feed}: no session could be opened; `omni-watch doctor` says what is missing")

    def take(self) -> tuple[DuplexSession, DuplexSession | None]:
        """The session to step now, and the one that it replaces (close it on the model thread), if any."""
        replaced = None
        if self._prepared is not None:
            replaced, self._session, self._prepared = self._session, self._prepared, None
        if self._session is None:
            raise ModelError(f"feed {self.feed}: asked for a session before any was opened")
        return self._session, replaced

    def lose(self) -> None:
        """The session failed: forget it, so that the next `look` opens a fresh one."""
        self._session = self._prepared = None

    def remember(self, verdict: Verdict) -> None:
        """Keep what a verdict changed, so that the next unit is judged by it."""
        self.tasks.update({task.id: task for task in verdict.tasks})
        self.marks.update({mark.task_id: mark for mark in verdict.marks})

    async def close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)

    def _read(self, tx: Transaction, now: datetime) -> tuple[dict[str, Task], dict[str, Mark], Briefing]:
        """On the store thread: what is watched on this feed now."""
        tasks = [task for task in tx.tasks.live() if task.watches(self.feed) and task.is_watched(now)]
        marks = tx.marks.of(self.feed)
        briefed = tuple(
            BriefedTask(
                task=task,
                rule=self.rules.get(task.rule) if task.rule else None,
                lesson=_lesson_for(self.feed, tx.lessons.of(task.id)),
                is_primed=task.id in marks and marks[task.id].is_primed,
            )
            for task in tasks
        )
        return {task.id: task for task in tasks}, marks, Briefing(feed=self.feed, tasks=briefed)

    async def _prepare(self) -> None:
        """Open sessions until the newest one serves what is wanted."""
        while True:
            wanted, before = self._wanted, self._prepared or self._session
            began_s = self._clock.stopwatch()
            try:
                session = await asyncio.get_running_loop().run_in_executor(
                    self._fitting, self._model.open, wanted, before
                )
            except ModelError as error:
                self._observer.on("session.failed", feed=self.feed, why=str(error))
                if self._session is None:
                    raise
                return
            self._prepared = session
            took_ms = round((self._clock.stopwatch() - began_s) * 1000)
            self._observer.on("session.opened", feed=self.feed, tasks=len(wanted.tasks), took_ms=took_ms)
            if wanted is self._wanted:
                return


def _lesson_for(feed: str, lessons: list[Lesson]) -> Lesson | None:
    """The lesson shown on this feed, else None: another camera's region means nothing here."""
    return next((lesson for lesson in lessons if lesson.feed == feed), None)
