"""One observer made of several."""

from __future__ import annotations

from typing import Any

from omni_watch.domain.units import FeedState, Sense
from omni_watch.watch.ports import Observer


class Observers:
    """Implements `Observer` and `FeedObserver`: tells each of its observers, in order. Loop thread only."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on(self, event: str, **fields: Any) -> None:
        for observer in self._observers:
            observer.on(event, **fields)

    def feed_state(self, feed: str, sense: Sense, state: FeedState, detail: str = "") -> None:
        self.on("feed.state", feed=feed, sense=sense.value, state=state.value, detail=detail)

    def dropped(self, feed: str, what: str, count: int) -> None:
        self.on(f"{what}.dropped", feed=feed, count=count)
