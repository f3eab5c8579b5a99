"""The MQTT channel as discovery and requests see it, with a broker that is a dictionary; and a house to ask."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import topic_matches_sub

from omni_watch.alerts.broker import Incoming, OnMessage
from omni_watch.alerts.messages import TopicNames
from omni_watch.alerts.topics import HOUSE
from omni_watch.app.remote import house_for_mqtt
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.home_assistant.desk import Desk, Hands
from omni_watch.watch.ports import Store
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.talking_house import HOUSEHOLD

TOPICS = TopicNames("home")


@dataclass
class FakeLine:
    """Hands every message to whoever listens to its topic, at once; `is_away` refuses to publish."""

    held: dict[str, bytes] = field(default_factory=dict)  # what the broker retains
    published: list[tuple[str, bytes, bytes | None]] = field(default_factory=list)  # topic, payload, correlation
    log: list[tuple[str, bytes]] = field(default_factory=list)  # every change of what is held, in order
    refreshed: int = 0
    is_away: bool = False
    ears: dict[str, OnMessage] = field(default_factory=dict)
    surveyor: Callable[[AbstractSet[str]], None] | None = None  # is told what is held, by the test

    def listen(self, topics: str, on_message: OnMessage) -> None:
        self.ears[topics] = on_message

    def survey(self, filters: Sequence[str], on_held: Callable[[AbstractSet[str]], None]) -> None:
        self.surveyor = on_held

    def retain(self, topic: str, payload: bytes, *, owner: str = HOUSE, then: bytes | None = None) -> None:
        self.log.append((topic, payload))
        self.held[topic] = payload
        if then is not None:
            self.clear(topic)

    def clear(self, topic: str) -> None:
        self.log.append((topic, b""))
        self.held.pop(topic, None)
        self.arrive(topic, b"")

    def refresh(self) -> None:
        self.refreshed += 1

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        content_type: str = "",
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> None:
        if self.is_away:
            raise ChannelUnavailable("away")
        self.published.append((topic, payload, correlation))

    def arrive(self, topic: str, payload: bytes, *, is_retained: bool = False, **more: Any) -> None:
        message = Incoming(topic=topic, payload=payload, is_retained=is_retained, **more)
        for topics, ear in list(self.ears.items()):
            if topic_matches_sub(topics, topic):
                ear(message)

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload, _ in self.published if "/reply/" in topic]


ASKED_HOUSE = house_for_mqtt(HOUSEHOLD, similarity=None)


@dataclass
class AskedHouse:
    """A desk on a line and a store, with a clock that stands until it is moved."""

    store: Store
    clock: FakeClock
    line: FakeLine = field(default_factory=FakeLine)
    observer: FakeObserver = field(default_factory=FakeObserver)
    changes: int = 0
    hushes: int = 0
    picture: Callable[[str], Awaitable[bytes | None]] | None = None

    def __post_init__(self) -> None:
        hands = Hands(house=lambda: ASKED_HOUSE, on_change=self._changed, on_hush=self._hushed, picture=self.picture)
        self.desk = Desk(self.line, self.store, TOPICS, hands, clock=self.clock, observer=self.observer)

    def _changed(self) -> None:
        self.changes += 1

    def _hushed(self) -> None:
        self.hushes += 1

    async def serve(self) -> None:
        """Do all that waits."""
        while not self.desk._waiting.empty():
            await self.desk._serve(self.desk._waiting.get_nowait(), ASKED_HOUSE)

    async def ask(self, op: str, request_id: str | None = None, **args: Any) -> dict[str, Any]:
        """A request and its reply; time enough passes for it to be within the limits."""
        self.clock.advance(10)
        document: dict[str, Any] = {"v": 1, "op": op, "args": args}
        if request_id is not None:
            document["id"] = request_id
        return await self.send(TOPICS.request, json.dumps(document).encode())

    async def send(self, topic: str, payload: bytes, **more: Any) -> dict[str, Any]:
        before = len(self.line.replies)
        self.line.arrive(topic, payload, **more)
        await self.serve()
        replies = self.line.replies[before:]
        assert len(replies) == 1, replies
        return replies[0]
