"""A live feed: cameras and microphones that come and go, one unit a second whatever they do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from tenacity.wait import wait_base

from omni_watch.domain.units import Sense, Unit
from omni_watch.sensing.assembly import Assembly, OnSound
from omni_watch.sensing.capture import PAUSES, CaptureThread, Device, Mailbox
from omni_watch.sensing.switch import SoundSwitch
from omni_watch.watch.ports import Clock, FeedObserver

UNITS_WAITING_MAX: Final = 4
CLOSE_S: Final = 1.5  # a device that has not stopped by then is left to its thread, which ends with its timeout


class LiveFeed:
    """Implements `Feed` over devices. Loop thread only."""

    def __init__(
        self,
        name: str,
        devices: Sequence[Device],
        *,
        clock: Clock,
        observer: FeedObserver,
        frames_per_unit: int = 1,
        may_repeat: bool = False,
        pauses: wait_base = PAUSES,
        on_sound: OnSound | None = None,
        switch: SoundSwitch | None = None,
    ) -> None:
        """No two devices give the same sense. `may_repeat`: pictures may repeat for long (a clip, not a camera).
        `on_sound` and `switch`: see `Assembly`."""
        self.name = name
        self._clock = clock
        self._observer = observer
        self._frames_per_unit = frames_per_unit
        self._may_repeat = may_repeat
        self._arrived = asyncio.Event()
        self._mailbox = Mailbox(lambda: None)
        self._threads: list[CaptureThread] = []
        self._devices = devices
        self._pauses = pauses
        self._on_sound = on_sound
        self._switch = switch
        self._waiting: deque[Unit] = deque()
        self._changed = asyncio.Event()  # a unit waits, or the worker has ended
        self._worker: asyncio.Task[None] | None = None
        self._is_closed = False

    async def units(self) -> AsyncGenerator[Unit, None]:
        """Units in order, from the moment of the first call; call once. At most four wait for the caller.

        Raises:
            FeedError: (not retryable) a device can never work.
        """
        if self._is_closed:
            return
        worker = self._start()
        try:
            while True:
                while self._waiting:
                    yield self._waiting.popleft()
                if worker.done():
                    break
                self._changed.clear()
                await self._changed.wait()
            if not worker.cancelled():
                worker.result()
        finally:
            await self.close()

    async def close(self) -> None:
        self._is_closed = True
        for thread in self._threads:
            thread.stop()
        if self._worker is not None and self._worker is not asyncio.current_task():
            self._worker.cancel()
            await asyncio.wait([self._worker])
        threads, self._threads = self._threads, []
        if threads:
            await asyncio.gather(*(asyncio.to_thread(thread.join, CLOSE_S) for thread in threads))

    def _start(self) -> asyncio.Task[None]:
        self._mailbox = Mailbox(_waking(asyncio.get_running_loop(), self._arrived))
        self._threads = [CaptureThread(each, self._mailbox, self._clock, self._pauses) for each in self._devices]
        senses = frozenset[Sense]().union(*(device.senses for device in self._devices))
        assembly = Assembly(
            self.name,
            senses,
            origin_s=self._clock.monotonic(),
            observer=self._observer,
            frames_per_unit=self._frames_per_unit,
            may_repeat=self._may_repeat,
            on_sound=self._on_sound,
            switch=self._switch,
        )
        self._worker = asyncio.create_task(self._assemble(assembly), name=f"units of {self.name}")
        self._worker.add_done_callback(lambda _: self._changed.set())
        for thread in self._threads:
            thread.start()
        return self._worker

    async def _assemble(self, assembly: Assembly) -> None:
        """Make units until every device has ended."""
        try:
            while not assembly.is_over:
                await self._something(assembly.next_due_s)
                items, dropped = self._mailbox.take()
                for what, count in dropped.items():
                    self._observer.dropped(self.name, what, count)
                for unit in assembly.units(items, self._clock.monotonic()):
                    self._offer(unit)
        finally:
            assembly.end()

    async def _something(self, due_s: float) -> None:
        """Return when something has arrived, or at `due_s`."""
        try:
            async with asyncio.timeout(max(0.0, due_s - self._clock.monotonic())):
                await self._arrived.wait()
        except TimeoutError:
            pass
        self._arrived.clear()

    def _offer(self, unit: Unit) -> None:
        if len(self._waiting) == UNITS_WAITING_MAX:
            self._waiting.popleft()
            self._observer.dropped(self.name, "unit", 1)
        self._waiting.append(unit)
        self._changed.set()


def _waking(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    """Sets `event` from any thread; does nothing once the loop is closed, as a device may outlive it."""

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return wake
