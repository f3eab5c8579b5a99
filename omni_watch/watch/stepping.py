"""The model thread: the one thread on which sessions are stepped and closed.

A unit that arrives while the model is busy waits; when the model is free again, all that wait go together, up to what
the engine packs into one step. Nobody ever waits for others to come, so a lone feed is stepped at once.

A step that hangs cannot be ended from outside. Its units then fail with an error that says so and that nothing mends,
so that the process ends in order and the service manager starts it anew; what is kept is kept.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from omni_watch.domain.decisions import Decision
from omni_watch.domain.errors import ModelError
from omni_watch.domain.units import Unit
from omni_watch.watch.ports import DuplexModel, DuplexSession, Step

TICK_S: Final = 1.0
STOP_S: Final = 3.0  # given to what runs when everything stops


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A session to be stepped with a unit, or (without one) to be closed, and who waits for that."""

    session: DuplexSession
    unit: Unit | None
    future: asyncio.Future[Any]


class ModelThread:
    """Steps the sessions of one engine. Loop thread only.

    `limit_s`: how long one call of the engine may take; None: for ever. It is counted in ticks of the loop, so that
    a machine that slept, or a process that was held, is not mistaken for a model that hangs.
    """

    def __init__(self, model: DuplexModel, *, limit_s: float | None = None) -> None:
        self._model = model
        self._limit_s = limit_s
        self._units: deque[_Asked] = deque()
        self._closings: deque[_Asked] = deque()
        self._running: Sequence[_Asked] = ()
        self._is_busy = False
        self._may_work_ahead = False
        self._broken: BaseException | None = None  # what ended the engine; every later step ends with it too
        self._idle = asyncio.Event()
        self._idle.set()
        self._tick: asyncio.TimerHandle | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def step(self, session: DuplexSession, unit: Unit) -> Decision:
        """The session's decision about its next unit.

        Raises:
            ModelError: retryable when a new session may work; not when the engine hangs.
        """
        decision: Decision = await self._ask(self._units, session, unit)
        return decision

    async def close_session(self, session: DuplexSession) -> None:
        """Free what a session holds, before the next step. ModelError: the engine hangs."""
        await self._ask(self._closings, session, None)

    async def rest(self) -> None:
        """Return once nothing is left to do, not even ahead: what comes next then meets the same state each time."""
        while self._is_busy and self._broken is None:
            await self._idle.wait()

    async def stop(self) -> None:
        """Let what runs end, within limits; the thread ends after it."""
        self._may_work_ahead = False
        with suppress(TimeoutError):  # a daemon thread keeps no process alive
            async with asyncio.timeout(STOP_S):
                await self._idle.wait()
        self._jobs.put(None)

    async def _ask(self, waiting: deque[_Asked], session: DuplexSession, unit: Unit | None) -> Any:
        asked = _Asked(session, unit, asyncio.get_running_loop().create_future())
        waiting.append(asked)
        self._go_on()
        return await asked.future

    def _go_on(self) -> None:
        """Give the thread its next job, if it is free and there is one."""
        if self._broken is not None:
            self._give_up(self._broken)
        elif self._is_busy:
            return
        elif self._closings:
            self._running = (self._closings.popleft(),)
            self._start(self._running[0].session.close, lambda _result: self._answer([None]))
        elif self._units:
            most = max(self._model.most_together, 1)
            self._running = tuple(self._units.popleft() for _ in range(min(most, len(self._units))))
            steps = [Step(asked.session, asked.unit) for asked in self._running if asked.unit is not None]
            self._start(lambda: self._model.step_together(steps), self._stepped)
        elif self._may_work_ahead:
            self._start(self._model.work_ahead, self._worked_ahead)

    def _stepped(self, results: Sequence[Decision | ModelError]) -> None:
        self._answer(results)
        self._may_work_ahead = True

    def _worked_ahead(self, has_more: bool) -> None:
        self._may_work_ahead = has_more

    def _answer(self, results: Sequence[Decision | ModelError | None]) -> None:
        for asked, result in zip(self._running, results, strict=True):
            if asked.future.done():  # who asked has gone
                continue
            if isinstance(result, ModelError):
                asked.future.set_exception(result)
            else:
                asked.future.set_result(result)
        self._running = ()

    def _give_up(self, error: BaseException) -> None:
        """Nothing will run any more: whoever waits is told why."""
        for asked in (*self._running, *self._units, *self._closings):
            if not asked.future.done():
                asked.future.set_exception(error)
        self._running = ()
        self._units.clear()
        self._closings.clear()

    def _start(self, job: Callable[[], Any], then: Callable[[Any], None]) -> None:
        loop = asyncio.get_running_loop()
        self._is_busy = True
        self._idle.clear()
        self._watch(loop, 0.0)

        def run() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = job()
            except BaseException as raised:  # noqa: BLE001 - raised again by whoever waits, on the loop thread
                error = raised
            try:
                loop.call_soon_threadsafe(self._ended, then, result, error)
            except RuntimeError:  # the loop was closed while a hanging step went on; nobody waits any more
                return

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="model", daemon=True)
            self._thread.start()
        self._jobs.put(run)

    def _ended(self, then: Callable[[Any], None], result: Any, error: BaseException | None) -> None:
        self._is_busy = False
        if self._tick is not None:
            self._tick.cancel()
        if self._broken is None:
            if error is None:
                then(result)
            else:
                self._broken = error
        self._idle.set()
        self._go_on()

    def _watch(self, loop: asyncio.AbstractEventLoop, waited_s: float) -> None:
        """Count what the job takes; at the limit everybody who waits is told."""
        if self._limit_s is None:
            return
        if waited_s >= self._limit_s:
            self._broken = ModelError(
                f"the model did not answer within {self._limit_s:g} s and cannot be stopped; omni-watch ends, so that "
                "it can be started anew; tasks and alerts are kept"
            )
            self._go_on()
            return
        tick_s = min(TICK_S, self._limit_s)
        self._tick = loop.call_later(tick_s, self._watch, loop, waited_s + tick_s)

    def _work(self) -> None:
        """The thread: jobs in order, until `stop`."""
        while (job := self._jobs.get()) is not None:
            job()


def one_by_one(steps: Sequence[Step]) -> list[Decision | ModelError]:
    """`step_together` of an engine that has nothing to gain from packing. Model thread only."""
    results: list[Decision | ModelError] = []
    for each in steps:
        try:
            results.append(each.session.step(each.unit))
        except ModelError as error:
            results.append(error)
    return results
