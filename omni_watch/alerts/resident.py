"""A program that stays: started when it is first needed, asked for one sound at a time, mended when it breaks.

Starting a natural voice takes a second or two, and using one that is there a tenth of that. A program that dies is
started again, one that hangs is ended; whoever asks meanwhile is told at once, so that the next voice can read the
text. When nobody has asked for long it is ended, and its memory is the house's again.

Whoever asks may be cancelled at any time. What the program has begun, it ends: its answer is awaited and thrown away,
so question and answer never get out of step.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from omni_watch.alerts.wav import Sound
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.watch.ports import Observer

LIMIT_S: Final = 15.0  # for one sentence; the longest takes two
START_LIMIT_S: Final = 60.0  # for the first one, with the start and the model on a slow disk
IDLE_S: Final = 900.0  # after which it is ended
RESTS_S: Final = (0.0, 2.0, 10.0, 60.0)  # before each try to mend it; then only when somebody asks
WAITING_MAX: Final = 8  # who may wait for it; one more is told at once that it is busy
NICENESS: Final = 5  # as the ears for words: the heart goes first
CPUS: Final = 2  # a model library takes every core it is shown


class Dialect(Protocol):
    """How one kind of program is started and asked."""

    name: str
    warm_text: str  # short, and read by every model of this kind

    async def start(self) -> Process:
        """ChannelUnavailable: it cannot be run."""

    async def exchange(self, process: Process, text: str) -> Sound:
        """Ask, and wait for the answer.

        Raises:
            ChannelUnavailable: this text cannot be read; the program goes on.
            EOFError, ConnectionError, ValueError, KeyError: it has ended, or what it says makes no sense.
        """

    def ended(self) -> None:
        """Its process is gone: clear away what it left."""


class _BrokenError(ChannelUnavailable):
    """It died or hung, and is ended."""


class Resident:
    """One such program. Loop thread only."""

    def __init__(
        self,
        dialect: Dialect,
        observer: Observer,
        *,
        limit_s: float = LIMIT_S,
        idle_s: float = IDLE_S,
        rests_s: Sequence[float] = RESTS_S,
    ) -> None:
        """The numbers are for tests, which have less patience."""
        self._dialect = dialect
        self._observer = observer
        self._limit_s = limit_s
        self._idle_s = idle_s
        self._rests_s = tuple(rests_s)
        self._process: Process | None = None
        self._has_answered = False  # this process, at least once
        self._turn = asyncio.Lock()
        self._jobs: set[asyncio.Task[Sound]] = set()
        self._working: asyncio.Task[Any] | None = None  # the one whose turn it is
        self._mending: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Of the program while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def is_being_mended(self) -> bool:
        return self._mending is not None

    @property
    def is_at_work(self) -> bool:
        return self._working is not None

    async def ask(self, text: str) -> Sound:
        """The text, one line, as sound. A program that is not there is started first.

        Raises:
            ChannelUnavailable: it cannot read this, broke, is being mended, or is busy.
        """
        if self._is_closed:
            raise ChannelUnavailable(f"{self._dialect.name} is closed")
        if self._mending is not None:
            raise ChannelUnavailable(f"{self._dialect.name} is being started again")
        if len(self._jobs) >= WAITING_MAX:
            raise ChannelUnavailable(f"{self._dialect.name} is busy")
        return await self._finished(asyncio.create_task(self._asked(text), name=f"{self._dialect.name}-ask"))

    async def warm(self) -> None:
        """Have it ready. One that cannot be is told, and mended as far as that goes."""
        if self._process is None and not self._jobs:
            try:
                await self.ask(self._dialect.warm_text)
            except ChannelUnavailable as error:
                self._observer.on("voice.failed", voice=self._dialect.name, why=str(error))

    async def close(self) -> None:
        """End it, whatever it is doing."""
        self._is_closed = True
        tasks = [task for task in (*self._jobs, self._mending, self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end()

    async def _finished(self, job: asyncio.Task[Sound]) -> Sound:
        """The job's outcome. Whoever is cancelled takes a job along that waits, but not the one that is at work."""
        self._jobs.add(job)
        job.add_done_callback(self._forget)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            if job is not self._working:
                job.cancel()
            raise

    def _forget(self, job: asyncio.Task[Sound]) -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()  # heard here, in case nobody waits for it any more

    async def _asked(self, text: str) -> Sound:
        async with self._turn:
            if self._mending is not None:  # it broke while we waited
                raise ChannelUnavailable(f"{self._dialect.name} is being started again")
            try:
                return await self._exchange(text)
            except _BrokenError:
                self._mend()
                raise

    async def _exchange(self, text: str) -> Sound:
        """In its turn. ChannelUnavailable and _BrokenError."""
        self._working = asyncio.current_task()
        self._disarm()
        name = self._dialect.name
        try:
            process = self._process or await self._started()
            limit_s = self._limit_s if self._has_answered else max(self._limit_s, START_LIMIT_S)
            async with asyncio.timeout(limit_s):
                sound = await self._dialect.exchange(process, text)
            self._has_answered = True
        except TimeoutError as error:
            await self._end()
            raise _BrokenError(f"{name} was not done after {limit_s:g} s") from error
        except (EOFError, ConnectionError, ValueError, KeyError) as error:  # the last two: it talks nonsense
            await self._end()
            raise _BrokenError(f"{name} ended: {error or 'it did not say why'}") from error
        finally:
            self._working = None
            self._arm()
        return sound

    async def _started(self) -> Process:
        try:
            self._process = await self._dialect.start()
        except ChannelUnavailable as error:
            raise _BrokenError(str(error)) from error
        self._has_answered = False
        self._watching = asyncio.create_task(self._watch(self._process), name=f"{self._dialect.name}-watch")
        self._observer.on("voice.started", voice=self._dialect.name)
        return self._process

    async def _watch(self, process: Process) -> None:
        """A program that ends while nobody asks is started again. One that ends at work is told by the work."""
        await process.wait()
        if self._process is process and self._working is None:
            self._observer.on("voice.failed", voice=self._dialect.name, why=f"ended by itself ({process.returncode})")
            self._gone()
            self._mend()

    def _mend(self) -> None:
        if self._mending is None and not self._is_closed:
            self._mending = asyncio.create_task(self._mended(), name=f"{self._dialect.name}-mend")

    async def _mended(self) -> None:
        """Start it again, a few times."""
        try:
            for rest_s in self._rests_s:
                await asyncio.sleep(rest_s)
                try:
                    async with self._turn:
                        await self._exchange(self._dialect.warm_text)
                except ChannelUnavailable as error:
                    self._observer.on("voice.failed", voice=self._dialect.name, why=str(error))
                else:
                    return
        finally:
            self._mending = None

    def _arm(self) -> None:
        self._disarm()
        if self._process is not None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._rest)

    def _disarm(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rest(self) -> None:
        """Nobody has asked for long."""
        self._idle = None
        if self._process is not None and not self._jobs:
            self._observer.on("voice.rests", voice=self._dialect.name)
            process = self._process
            self._gone()
            _kill(process)  # nothing is lost; the loop collects it

    async def _end(self) -> None:
        process = self._process
        self._gone()
        if process is not None:
            _kill(process)
            await process.wait()

    def _gone(self) -> None:
        self._disarm()
        if self._process is not None:
            self._process = None
            self._dialect.ended()


def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()


async def started(
    name: str, command: Sequence[str], *, takes_stdout: bool, environment: dict[str, str] | None = None
) -> Process:
    """A program with pipes, a few cores and a low priority.

    Raises:
        ChannelUnavailable: it cannot be run.
    """
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        # a session of its own: Ctrl-C at a terminal stops us in order, not a voice in the middle of a word
        return await asyncio.create_subprocess_exec(
            *modest(command),
            stdin=pipe,
            stdout=pipe if takes_stdout else nowhere,
            stderr=pipe,
            start_new_session=True,
            env=os.environ | (environment or {}),
        )
    except OSError as error:
        raise ChannelUnavailable(f"{name}: cannot run {command[0]}: {error.strerror}; is it installed?") from error


def modest(command: Sequence[str]) -> list[str]:
    """The command at a low priority and on a few cores, as far as the machine has the means for it."""
    before: list[str] = []
    if nice := shutil.which("nice"):
        before += [nice, "-n", str(NICENESS)]
    cpus = sorted(os.sched_getaffinity(0))
    taskset = shutil.which("taskset")
    if len(cpus) > CPUS and taskset is not None:
        before += [taskset, "-c", ",".join(map(str, cpus[-CPUS:]))]
    return [*before, *command]
