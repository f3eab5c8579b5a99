"""What the broker should know of the house besides alerts: the hub's numbers, each feed, each task."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from omni_watch import __version__
from omni_watch.alerts.mqtt import MqttChannel
from omni_watch.telemetry.status import FeedNumbers, HouseNumbers, StatusObserver
from omni_watch.watch.ports import Store

EVERY_S: Final = 2.0  # the channel itself spaces what it really sends


class Publisher:
    """Loop thread only. Without a broker it does nothing."""

    def __init__(self, mqtt: MqttChannel | None, store: Store, status: StatusObserver, engine: str) -> None:
        self._mqtt = mqtt
        self._store = store
        self._status = status
        self._engine = engine
        self._known: set[str] = set()

    async def run(self) -> None:
        """Publish the numbers again and again, until cancelled."""
        while self._mqtt is not None:
            numbers = self._status.numbers()
            self._mqtt.publish_hub_state(hub_state(numbers, self._engine))
            for name, feed in numbers.feeds.items():
                self._mqtt.publish_feed_state(name, feed_state(feed))
            await asyncio.sleep(EVERY_S)

    async def publish_tasks(self) -> None:
        """Every task as it is now; those that are gone are cleared.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._mqtt is None:
            return
        tasks = await self._store.transact(lambda tx: tx.tasks.all())
        for task in tasks:
            self._mqtt.publish_task_state(task)
        now = {task.id for task in tasks}
        for task_id in self._known - now:
            self._mqtt.clear_task(task_id)
        self._known = now


def hub_state(numbers: HouseNumbers, engine: str) -> Mapping[str, Any]:
    return {
        "model": "ready" if numbers.is_ready else "loading",
        "engine": engine,
        "unit_ms": numbers.step_ms.get("p50"),
        "unit_ms_p95": numbers.step_ms.get("p95"),
        "queue": numbers.outbox_pending,
        "tasks_active": numbers.tasks_watched,
        "units_missed": numbers.units_missed,
        "dropped_frames": numbers.frames_dropped,
        "version": __version__,
    }


def feed_state(feed: FeedNumbers) -> Mapping[str, Any]:
    return {
        "online": bool(feed.states) and all(state == "live" for state in feed.states.values()),
        "states": dict(feed.states),
        "fps": feed.fps,
        "last_frame_age_s": feed.last_frame_age_s,
        "lag_s": feed.lag_s,
        "reconnects": feed.reconnects,
    }
