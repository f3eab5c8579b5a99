"""An `Observer` that remembers."""

from __future__ import annotations

from typing import Any

from omni_watch.domain.units import FeedState, Sense


class FakeObserver:
    """Implements `Observer` and `FeedObserver`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def on(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def feed_state(self, feed: str, sense: Sense, state: FeedState, detail: str = "") -> None:
        self.on("feed.state", feed=feed, sense=sense.value, state=state.value, detail=detail)

    def dropped(self, feed: str, what: str, count: int) -> None:
        self.on(f"{what}.dropped", feed=feed, count=count)

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]
