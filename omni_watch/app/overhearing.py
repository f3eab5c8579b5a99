"""What is said in a recording, in stream time: the daemon's ears and its conversation, and no clock but the stream's.

A replay is faster than life, so it waits for its ears after every unit; and it takes what they made out no sooner than
a house would have had it. So neither a fast machine nor a slow one changes what a replay tells.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.app.talking import Conversation
from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Heard, Hearing
from omni_watch.domain.units import SAMPLES_PER_UNIT, UNIT_S, Unit
from omni_watch.replay.report import Command
from omni_watch.telemetry.clock import StreamClock
from omni_watch.watch.ports import WordListener

# From the end of a sentence until it was understood and its task is watched for. Live, its words are there after 0.7 s
# (0.6 s of silence end a sentence; bench_words), and a session of the embedded engine is ready within the rest.
UNDERSTOOD_S: Final = 1.0


class Overhearing:
    """One recording's talk. Loop thread only."""

    def __init__(
        self,
        ears: WordListener,
        conversation: Conversation,
        clock: StreamClock,
        *,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        """`on_change`: called after each request that was carried out; what is watched may be something else."""
        self._ears = ears
        self._conversation = conversation
        self._clock = clock
        self._on_change = on_change
        self._heard: deque[Heard] = deque()  # that nothing could have been done about yet
        self._running: asyncio.Task[None] | None = None
        self.commands: list[Command] = []  # so far, in order

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """While the ears listen."""
        self._running = asyncio.create_task(self._ears.run(self._deliver), name="ears for words")
        try:
            yield
        finally:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def hear(self, unit: Unit) -> None:
        """Listen to the newest unit, and do what was asked for so long ago that a house would do it by this unit's end.

        Raises:
            ModelError: the ears failed. StoreError: what was asked for could not be carried out.
        """
        await self._listen(unit.feed, unit.end_s - UNIT_S, unit.audio)
        while self._heard and self._heard[0].end_s + UNDERSTOOD_S <= unit.end_s:
            await self._take(self._heard.popleft())

    async def end(self, feed: str, at_s: float) -> None:
        """After the last unit, which ended at `at_s`: what was just being said ends with it. As `hear`."""
        await self._listen(feed, at_s, np.zeros(SAMPLES_PER_UNIT, np.float32))
        while self._heard:
            heard = self._heard.popleft()
            self._clock.advance_to(max(heard.end_s + UNDERSTOOD_S, self._clock.monotonic()))
            await self._take(heard)

    def _deliver(self, hearing: Hearing) -> None:
        if isinstance(hearing, Heard):
            self._heard.append(hearing)

    async def _listen(self, feed: str, start_s: float, samples: NDArray[np.float32]) -> None:
        """Hand over some sound, and wait until the ears are done with it."""
        self._ears.expect(await self._conversation.hot_words())
        self._ears.hear(feed, start_s, samples)
        assert self._running is not None  # noqa: S101 - `running` is open
        settling = asyncio.ensure_future(self._ears.settled())
        try:
            await asyncio.wait((settling, self._running), return_when=asyncio.FIRST_COMPLETED)
            if not settling.done():
                await self._running  # it never ends but with an error
        except ExceptionGroup as group:
            failed = group.subgroup(ModelError)
            raise (failed.exceptions[0] if failed is not None else group) from group
        finally:
            settling.cancel()

    async def _take(self, heard: Heard) -> None:
        said = await self._conversation.hears(heard, self._clock.at(heard.end_s))
        if said is None:
            return
        now_s = self._clock.monotonic()
        self._conversation.spoken(heard.feed, self._clock.at(now_s))
        self.commands.append(
            Command(
                stream_s=now_s,
                ended_s=heard.end_s,
                heard=said.heard,
                language=said.language,
                op=said.op,
                task_ids=said.task_ids,
                reply=said.reply,
                is_done=said.is_done,
            )
        )
        await self._on_change()
