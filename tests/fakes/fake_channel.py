"""A `Channel` that does what a test tells it to, and the alerts to send through it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.decisions import Means
from omni_watch.domain.rules import Language, Priority
from tests.fakes.fake_clock import NOON


def alert(
    task_id: str = "kettle",
    occurrence: int = 1,
    *,
    text: str = "The kettle is full.",
    language: Language = "en",
    priority: Priority = Priority.NORMAL,
    decided_at: datetime = NOON,
) -> Alert:
    """One alert of the kitchen feed, decided 0.9 s after its condition came true."""
    return Alert(
        id=f"{task_id}-{occurrence}",
        task_id=task_id,
        task_text="Tell me when the kettle is full",
        feed="kitchen",
        text=text,
        language=language,
        priority=priority,
        occurrence=occurrence,
        confidence=0.93,
        means=(Means.TAUGHT,),
        stream_s=27.0,
        condition_at=decided_at - timedelta(seconds=0.9),
        decided_at=decided_at,
    )


def delivery(of: Alert, channel: str, *, lasting_s: float = 600.0, attempts: int = 1) -> Delivery:
    """As the relay hands it to a channel, its `attempts` counted."""
    return Delivery(
        alert_id=of.id,
        channel=channel,
        attempts=attempts,
        due_at=of.decided_at,
        expires_at=of.decided_at + timedelta(seconds=lasting_s),
    )


class FakeChannel:
    """Accepts everything, once `gate` is open, unless `troubles` holds errors to raise (one per call).

    `began` and `sent` list alert ids, `messages` what `send` was called with, in order.
    """

    def __init__(self, name: str = "fake", troubles: Sequence[Exception] = ()) -> None:
        self.name = name
        self.troubles = deque(troubles)
        self.gate = asyncio.Event()
        self.gate.set()
        self.began: list[str] = []
        self.sent: list[str] = []
        self.messages: list[Delivery] = []
        self.is_closed = False
        self._moved = asyncio.Condition()

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        self.began.append(alert.id)
        self.messages.append(delivery)
        await self._notify()
        await self.gate.wait()
        if self.troubles:
            raise self.troubles.popleft()
        self.sent.append(alert.id)
        await self._notify()
        return Receipt(channel=self.name, at=delivery.due_at, detail=f"try {delivery.attempts}")

    def expiry_s(self, priority: Priority) -> float:
        return 600.0

    async def close(self) -> None:
        self.is_closed = True

    async def until_began(self, count: int, deadline_s: float = 5.0) -> None:
        """Wait until `send` was called so many times in total."""
        async with asyncio.timeout(deadline_s), self._moved:
            await self._moved.wait_for(lambda: len(self.began) >= count)

    async def until_sent(self, count: int, deadline_s: float = 5.0) -> None:
        async with asyncio.timeout(deadline_s), self._moved:
            await self._moved.wait_for(lambda: len(self.sent) >= count)

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()
