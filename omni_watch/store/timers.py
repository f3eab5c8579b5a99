"""Wake-ups that survive restarts and clock changes: APScheduler on the same SQLite file.

The truth stays in the task rows; a timer only says "look now", so one that comes twice or late does no harm. Timers
have a connection and a thread of their own; the thread does nothing but hand a timer's name to the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_RUNNING
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger
from sqlalchemy.exc import SQLAlchemyError

from omni_watch.domain.errors import StoreError
from omni_watch.domain.tasks import Task
from omni_watch.store.database import engine_for
from omni_watch.store.faults import store_error, translated
from omni_watch.store.rows import TIMERS
from omni_watch.watch.judge import next_look
from omni_watch.watch.ports import Clock, Observer

T = TypeVar("T")

TASKS: Final = "tasks"  # the timer that `sync` sets
NAP_MAX_S: Final = 30.0  # a clock that was set forward is noticed after so long at most
RETRY_S: Final = 10.0  # after the database could not be read or written


def timer(name: str) -> str:
    """What every stored row names as its target; `_LoopExecutor` calls it and rings with what it returns."""
    return name


class Every(BaseTrigger):  # type: ignore[misc]
    """So many seconds after it was last noticed. Unlike an interval trigger it never counts up the times that were
    missed, which after a clock without battery found the right year would be millions."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        return now + timedelta(seconds=self.seconds)

    def __getstate__(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def __setstate__(self, state: dict[str, float]) -> None:
        self.seconds = state["seconds"]


class Timers:
    """Named wake-ups for the loop. Open the store first: it makes the table. Loop thread only.

    `on_wake` is called on the loop with the timer's name. Every method raises StoreError when the database cannot be
    written; while it cannot be read, timers wait and the observer is told. `nap_s` is the longest that a clock set
    forward goes unnoticed.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_wake: Callable[[str], None],
        clock: Clock,
        observer: Observer,
        nap_s: float = NAP_MAX_S,
    ) -> None:
        self._path = path
        self._on_wake = on_wake
        self._observer = observer
        self._clock = clock
        self._nap_s = nap_s
        self._looks_at: datetime | None = None  # what `sync` set last
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="timers")
        self._scheduler: _PatientScheduler | None = None

    async def start(self) -> None:
        """Begin; what came due while nobody ran rings at once."""
        loop = asyncio.get_running_loop()
        engine = engine_for(self._path)
        scheduler = _PatientScheduler(
            now=self._clock.now,
            nap_s=self._nap_s,
            on_trouble=lambda why: loop.call_soon_threadsafe(partial(self._observer.on, "timers.failed", why=why)),
            name=str(self._path),
            jobstores={"default": SQLAlchemyJobStore(engine=engine, tablename=TIMERS.name)},
            executors={"default": _LoopExecutor(lambda name: loop.call_soon_threadsafe(self._ring, name))},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            jobstore_retry_interval=RETRY_S,
            timezone=UTC,
        )
        self._scheduler = scheduler  # before it starts: what is overdue rings while we still wait for `start`
        try:
            await self._write(scheduler.start)
        except StoreError:
            self._scheduler = None
            engine.dispose()
            raise

    async def wake_at(self, name: str, when: datetime) -> None:
        """Ring once at `when` (aware), or at once when that is past; replaces the timer of that name."""
        scheduler = self._running()
        await self._write(lambda: scheduler.set(name, DateTrigger(when, timezone=UTC)))

    async def every(self, name: str, seconds: float) -> None:
        """Ring again and again; one that was set before with the same interval goes on where it was."""
        scheduler = self._running()
        await self._write(lambda: scheduler.keep_every(name, seconds))

    async def cancel(self, name: str) -> None:
        """No error when there is none."""
        scheduler = self._running()
        await self._write(lambda: scheduler.drop(name))

    async def sync(self, tasks: Iterable[Task], now: datetime, *others: datetime | None) -> None:
        """Set the one wake-up `TASKS` to when time alone will next change a task or its being watched, or to the first
        of `others` (aware)."""
        looks = (next_look(tasks, now), *others)
        when = min((look for look in looks if look is not None), default=None)
        if when == self._looks_at:
            return
        if when is None:
            await self.cancel(TASKS)
        else:
            await self.wake_at(TASKS, when)
        self._looks_at = when

    async def close(self) -> None:
        """Nothing rings after this; what is set stays set. May be called twice."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            await self._write(scheduler.shutdown)
        self._thread.shutdown(wait=False)

    def _ring(self, name: str) -> None:
        if self._scheduler is None:
            return
        if name == TASKS:
            self._looks_at = None
        self._on_wake(name)

    def _running(self) -> _PatientScheduler:
        if self._scheduler is None:
            raise StoreError(f"the timers of {self._path} were asked for something before they were started")
        return self._scheduler

    async def _write(self, call: Callable[[], T]) -> T:
        """Not on the loop: a slow disk must not stop the heart."""

        def guarded() -> T:
            with translated(self._path):
                return call()

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)


class _PatientScheduler(BackgroundScheduler):  # type: ignore[misc]
    """APScheduler that notices changed clocks, and outlives a database that cannot be used for a while: by itself its
    thread ends when a due job cannot be taken off the list."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        nap_s: float,
        on_trouble: Callable[[str], object],
        name: str,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._nap_s = nap_s
        self._pass = Lock()  # held while one look at the list goes on
        self._now = now
        self._on_trouble = on_trouble
        self._name = name

    def set(self, name: str, trigger: BaseTrigger) -> None:
        self.add_job(timer, trigger, args=(name,), id=name, replace_existing=True)

    def keep_every(self, name: str, seconds: float) -> None:
        job = self.get_job(name)
        if job is None or not isinstance(job.trigger, Every) or job.trigger.seconds != seconds:
            self.set(name, Every(seconds))

    def drop(self, name: str) -> None:
        try:
            self.remove_job(name)
        except JobLookupError:  # it rang meanwhile, or was never set
            return

    def shutdown(self, wait: bool = True) -> None:
        self.pause()
        with self._pass:  # APScheduler fails to take a job that rang off the list once it is told to stop
            pass
        super().shutdown(wait)

    def _process_jobs(self) -> float:
        try:
            with self._pass:
                if self.state == STATE_RUNNING:
                    self._pull_back()
                nap_s = super()._process_jobs()
        except SQLAlchemyError as error:
            self._on_trouble(str(store_error(error, self._name)))
            return min(RETRY_S, self._nap_s)
        return self._nap_s if nap_s is None else min(nap_s, self._nap_s)

    def _pull_back(self) -> None:
        """After the clock was set back, `Every` timers lie too far ahead."""
        now = self._now()
        for job in self.get_jobs():
            if isinstance(job.trigger, Every) and job.next_run_time > now + timedelta(seconds=job.trigger.seconds):
                self.set(job.id, job.trigger)


class _LoopExecutor(BaseExecutor):  # type: ignore[misc]
    """Runs a due job by ringing, on the scheduler's own thread: it takes microseconds."""

    def __init__(self, ring: Callable[[str], object]) -> None:
        super().__init__()
        self._ring = ring

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._ring(job.func(*job.args))
        self._run_job_success(job.id, [])
