"""Ears for words, from the daemon's side: keeps the program that recognises, and never waits for it.

Sound that the program does not take in time is dropped, the oldest first, and told. A program that dies, or does not
answer, or works on one utterance for ever, is an error that may pass: who runs us starts us again. Nothing of what was
heard is kept here, written to a file or put into a log.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Hearing, Unheard, UnheardCause
from omni_watch.domain.rules import Language
from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.duplex.embedded.words.models import WhisperFiles
from omni_watch.duplex.embedded.words.wire import hearing_of, packed, sound_bytes
from omni_watch.watch.ports import Observer

PROGRAM: Final = "omni_watch.duplex.embedded.words.program"
WAITING_S: Final = 10.0  # of sound, over all feeds, while the program is busy or starts
TICK_S: Final = 1.0
LIMIT_TICKS: Final = 20  # without an answer, or with one utterance: half a minute of sound takes two seconds
START_TICKS: Final = 60  # on a slow disk
NICENESS: Final = 5
# one thread each, and no library looks for anything outside this machine
ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordSettings:
    """What the program is started with."""

    voice_activity: Path
    whisper: WhisperFiles
    languages: tuple[Language, ...]  # spoken here, the usual one first
    threads: int = 1
    niceness: int = NICENESS

    @property
    def argument(self) -> str:
        """See `program`."""
        whisper = {
            "weights": str(self.whisper.weights),
            "config": str(self.whisper.config),
            "tokenizer": str(self.whisper.tokenizer),
            "vocabulary": str(self.whisper.vocabulary),
        }
        return json.dumps(
            {
                "voice_activity": str(self.voice_activity),
                "whisper": whisper,
                "languages": self.languages,
                "threads": self.threads,
                "niceness": self.niceness,
            }
        )


class WordEars:
    """Implements `WordListener`. Loop thread only."""

    def __init__(
        self,
        settings: WordSettings,
        *,
        observer: Observer,
        command: Sequence[str] | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        """`command` and `tick_s` are for tests: another program, and less patience."""
        self.command = [*(command or (sys.executable, "-P", "-m", PROGRAM)), settings.argument]
        self._observer = observer
        self._tick_s = tick_s
        self._hot_words: Mapping[Language, Sequence[str]] = {}
        self._blocks: deque[tuple[str, float, Floats]] = deque()
        self._waiting_samples = 0
        self._dropped: dict[str, int] = {}  # samples since they were last told
        self._to_say: deque[bytes] = deque()
        self._last_mark = 0
        self._settling: dict[int, asyncio.Future[None]] = {}  # by mark: who waits until all was recognised
        self._unasked: deque[int] = deque()  # marks that the program was not told yet
        self._something = asyncio.Event()
        self.pid: int | None = None  # of the program while it runs
        self.waiting = 0  # utterances that wait to be recognised, as last told

    @property
    def waiting_s(self) -> float:
        """Seconds of sound that the program did not take yet."""
        return self._waiting_samples / SAMPLE_RATE_HZ

    def hear(self, feed: str, start_s: float, samples: Floats) -> None:
        self._blocks.append((feed, start_s, samples))
        self._waiting_samples += len(samples)
        while self.waiting_s > WAITING_S:
            oldest, _, lost = self._blocks.popleft()
            self._waiting_samples -= len(lost)
            self._dropped[oldest] = self._dropped.get(oldest, 0) + len(lost)
        self._something.set()

    def expect(self, hot_words: Mapping[Language, Sequence[str]]) -> None:
        words = {language: tuple(each) for language, each in hot_words.items()}
        if words != self._hot_words:
            self._hot_words = words
            if self.pid is not None:  # otherwise it is told when it starts
                self._send({"do": "expect", "words": words})

    async def settled(self) -> None:
        self._last_mark += 1
        mark = self._last_mark
        self._settling[mark] = done = asyncio.get_running_loop().create_future()
        self._unasked.append(mark)
        self._something.set()
        try:
            await done
        finally:
            del self._settling[mark]

    async def run(self, deliver: Callable[[Hearing], None]) -> None:
        process = await self._started()
        life = _Life(process, deliver, self._observer)
        self._to_say.clear()
        self._send({"do": "expect", "words": self._hot_words})
        try:
            async with asyncio.TaskGroup() as together:
                together.create_task(self._write(process), name="words-write")
                together.create_task(life.read(self), name="words-read")
                together.create_task(life.complaints_kept(), name="words-complaints")
                together.create_task(self._look_after(life), name="words-look-after")
        finally:
            self.pid, self.waiting = None, 0
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
                env=os.environ | ENVIRONMENT,
            )
        except OSError as error:
            raise ModelError(f"cannot start the program that recognises speech: {error}", can_retry=True) from error
        self.pid = process.pid
        return process

    def _send(self, message: Mapping[str, Any]) -> None:
        self._to_say.append(packed(message))
        self._something.set()

    async def _write(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - asked for above
        while True:
            await self._something.wait()
            self._something.clear()
            with suppress(ConnectionError):  # it died; whoever reads says so
                while self._to_say or self._blocks or self._unasked:
                    process.stdin.write(self._next_bytes())
                    await process.stdin.drain()

    def _next_bytes(self) -> bytes:
        if self._to_say:
            return self._to_say.popleft()
        if not self._blocks:
            return packed({"do": "settle", "mark": self._unasked.popleft()})
        feed, start_s, samples = self._blocks.popleft()
        self._waiting_samples -= len(samples)
        return packed({"do": "hear", "feed": feed, "at_s": start_s}, sound_bytes(samples))

    def is_settled(self, mark: int) -> None:
        """The program has recognised all that it was given before this mark. For `_Life`."""
        if (waiting := self._settling.get(mark)) is not None and not waiting.done():
            waiting.set_result(None)

    async def _look_after(self, life: _Life) -> None:
        """Tell what was dropped, and end a program that hangs. Counted in ticks, so that a machine that slept, or a
        process that was held, is not mistaken for one that hangs."""
        while True:
            await asyncio.sleep(self._tick_s)
            for feed, samples in self._dropped.items():
                self._observer.on("words.dropped", feed=feed, seconds=round(samples / SAMPLE_RATE_HZ, 1))
            self._dropped.clear()
            life.tick()
            self._send({"do": "ping"})


class _Life:
    """One life of the program, as seen from here."""

    def __init__(
        self, process: asyncio.subprocess.Process, deliver: Callable[[Hearing], None], observer: Observer
    ) -> None:
        self._process = process
        self._deliver = deliver
        self._observer = observer
        self._is_ready = False
        self._silent_ticks = 0
        self._job, self._job_ticks = 0, 0
        self._complaint = ""

    async def read(self, ears: WordEars) -> None:
        """Its messages until it ends, which it never does by itself."""
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        while line := await self._process.stdout.readline():
            self._silent_ticks = 0
            message = json.loads(line)
            match message["is"]:
                case "ready":
                    self._is_ready = True
                    self._observer.on("words.ready")
                case "alive":
                    ears.waiting = message["waiting"]
                    self._job_ticks = self._job_ticks if message["job"] == self._job else 0
                    self._job = message["job"]
                case "settled":
                    ears.is_settled(message["mark"])
                case "failed":
                    raise ModelError(message["why"], can_retry=message["can_retry"])
                case _:
                    self._tell(hearing_of(message))
        raise ModelError(f"the program that recognises speech ended: {await self._last_words()}", can_retry=True)

    def _tell(self, hearing: Hearing | None) -> None:
        if isinstance(hearing, Unheard) and hearing.cause is UnheardCause.BEHIND:
            self._observer.on("words.behind", feed=hearing.feed, seconds=round(hearing.end_s - hearing.start_s, 1))
        if hearing is not None:
            self._deliver(hearing)

    def tick(self) -> None:
        """ModelError: (retryable) it hangs."""
        self._silent_ticks += 1
        self._job_ticks += self._job != 0
        if not self._is_ready and self._silent_ticks >= START_TICKS:
            raise ModelError("the program that recognises speech did not start; it is ended", can_retry=True)
        if self._is_ready and self._silent_ticks >= LIMIT_TICKS:
            raise ModelError("the program that recognises speech does not answer; it is ended", can_retry=True)
        if self._job_ticks >= LIMIT_TICKS:
            raise ModelError("recognising one utterance does not come to an end; the program is ended", can_retry=True)

    async def complaints_kept(self) -> None:
        """The last line that it wrote for people."""
        assert self._process.stderr is not None  # noqa: S101 - asked for above
        while line := await self._process.stderr.readline():
            self._complaint = line.decode(errors="replace").strip() or self._complaint

    async def _last_words(self) -> str:
        status = await self._process.wait()
        await asyncio.sleep(0)
        return f"status {status}" + (f", {self._complaint}" if self._complaint else "")
