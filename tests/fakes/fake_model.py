"""A `DuplexModel` that says what a script tells it to, unit by unit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from omni_watch.domain.decisions import Decision, Listen, Means
from omni_watch.domain.errors import ModelError
from omni_watch.domain.units import Unit
from omni_watch.watch.briefing import BriefedTask, Briefing, Plan
from omni_watch.watch.ports import DuplexSession, Step
from omni_watch.watch.stepping import one_by_one

Script = Callable[[Unit, Briefing], Decision]


class FakeSession:
    """One scripted session; remembers what it was shown and on which threads."""

    def __init__(self, briefing: Briefing, script: Script, after: DuplexSession | None) -> None:
        self.briefing = briefing
        self.after = after
        self.units: list[Unit] = []
        self.threads: set[str] = set()
        self.is_closed = False
        self._script = script

    def step(self, unit: Unit) -> Decision:
        assert not self.is_closed, "a closed session was stepped"
        self.units.append(unit)
        self.threads.add(threading.current_thread().name)
        return self._script(unit, self.briefing)

    def close(self) -> None:
        self.is_closed = True


class FakeModel:
    """Hands out `FakeSession`s; `may_open` holds the opening of all but the first until it is set."""

    name = "fake"
    most_together = 1

    def __init__(self, script: Script = lambda unit, briefing: Listen()) -> None:
        self.script = script
        self.sessions: list[FakeSession] = []
        self.may_open = threading.Event()
        self.may_open.set()
        self.fails_with: Exception | None = None
        self.batches: list[list[Step]] = []  # what each step served together

    def plan(self, briefed: BriefedTask) -> Plan:
        return Plan(task_id=briefed.task.id, means=(Means.MODEL,))

    def open(self, briefing: Briefing, after: DuplexSession | None = None) -> FakeSession:
        assert self.may_open.wait(10)
        if self.fails_with is not None:
            raise self.fails_with
        session = FakeSession(briefing, self.script, after)
        self.sessions.append(session)
        return session

    def step_together(self, steps: Sequence[Step]) -> list[Decision | ModelError]:
        self.batches.append(list(steps))
        return one_by_one(steps)

    def hush(self, feed: str) -> None:
        pass

    def work_ahead(self) -> bool:
        return False

    def close(self) -> None:
        pass
