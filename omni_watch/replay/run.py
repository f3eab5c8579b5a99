"""Walk a recording through the heartbeat, unit by unit, as fast as the machine goes.

Nothing here depends on the wall clock, and an alert is told before the next unit is taken: two replays of a
recording give the same alerts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from omni_watch.domain.alerts import Alert
from omni_watch.domain.units import Unit
from omni_watch.watch.heartbeat import Heartbeat
from omni_watch.watch.ports import Clock, Feed


class SteppedClock(Clock, Protocol):
    """A clock that stands still until it is told how far the recording is."""

    def advance_to(self, stream_s: float) -> None: ...


async def replay(
    feed: Feed,
    heartbeat: Heartbeat,
    *,
    clock: SteppedClock,
    settle: Callable[[], Awaitable[Sequence[Alert]]],
    hear: Callable[[Unit], Awaitable[None]] | None,
    tell: Callable[[], Awaitable[None]],
    pace: Callable[[Unit], Awaitable[None]] | None,
    on_unit: Callable[[Unit], None],
) -> list[Alert]:
    """The alerts of a recording, in order.

    `settle` does what time alone does to tasks (cooldowns, expiry, reminders) and is called before each unit; then
    `hear`, which does what people ask for in the recording. `tell` returns once every alert committed so far was
    delivered or given up. `pace` may hold each unit back, to replay at the speed of life.

    Raises:
        FeedError: nothing in the recording can be decoded.
        ModelError: the engine failed.
    """
    alerts: list[Alert] = []
    async for unit in feed.units():
        if pace is not None:
            await pace(unit)
        clock.advance_to(unit.end_s)
        told = [*await settle()]
        if hear is not None:
            await hear(unit)
        told += await heartbeat.beat(unit)
        if told:
            alerts += told
            await tell()
        on_unit(unit)
    return alerts
