"""What the broker should know of the house besides alerts: the hub, each feed, each task, and how they are found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from omni_watch import __version__
from omni_watch.alerts.mqtt import MqttChannel
from omni_watch.home_assistant.devices import is_shown
from omni_watch.home_assistant.discovery import Discovery
from omni_watch.telemetry.status import FeedNumbers, HouseNumbers, StatusObserver
from omni_watch.watch.modes import Modes, modes
from omni_watch.watch.ports import Clock, Store, Transaction

EVERY_S: Final = 2.0  # the channel itself spaces what it really sends
ALERTS_LOOKED_AT: Final = 200  # for those of today; more are not counted
CLEAR_AFTER_S: Final = 1.0  # Home Assistant lets go of the entities first, or it warns of a state that is no JSON
SLOW_MS: Final = 1000.0  # a step that takes as long as the second that it decides


@dataclass(frozen=True, slots=True)
class Kept:
    """What of the hub's state comes from the store."""

    modes: Modes
    active: AbstractSet[str]  # tasks of which an alert is open
    alerts_at: Sequence[datetime]  # decided lately, newest first


class Publisher:
    """Loop thread only. Without a broker it does nothing."""

    def __init__(
        self,
        mqtt: MqttChannel | None,
        store: Store,
        status: StatusObserver,
        engine: str,
        *,
        clock: Clock,
        zone: str,
        discovery: Discovery | None = None,
    ) -> None:
        self._mqtt = mqtt
        self._store = store
        self._status = status
        self._engine = engine
        self._clock = clock
        self._zone = ZoneInfo(zone)
        self._discovery = discovery
        self._known: set[str] = set()
        self._kept = Kept(Modes(), frozenset(), ())

    async def run(self) -> None:
        """Publish the numbers again and again, until cancelled."""
        while self._mqtt is not None:
            numbers = self._status.numbers()
            self._publish_hub(self._mqtt, numbers)
            self._publish_feeds(self._mqtt, numbers)
            await asyncio.sleep(EVERY_S)

    async def publish_tasks(self) -> None:
        """Every task as it is now; those that are gone are cleared.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._mqtt is None:
            return
        now = self._clock.now()
        tasks, kept = await self._store.transact(lambda tx: (tx.tasks.all(), _kept(tx)))
        tasks = [task for task in tasks if is_shown(task, now)]
        if self._discovery is not None:
            await self._discovery.sync(tasks)
        for task in tasks:
            self._mqtt.publish_task_state(task, is_active=task.id in kept.active)
        known = {task.id for task in tasks}
        for task_id in self._known - known:
            asyncio.get_running_loop().call_later(CLEAR_AFTER_S, self._clear, task_id)
        self._known = known
        is_changed, self._kept = kept.modes != self._kept.modes, kept
        if is_changed:
            numbers = self._status.numbers()
            self._publish_hub(self._mqtt, numbers, is_awaited=True)
            self._publish_feeds(self._mqtt, numbers, is_awaited=True)

    def _clear(self, task_id: str) -> None:
        if self._mqtt is not None and task_id not in self._known:
            self._mqtt.clear_task(task_id)

    def _publish_feeds(self, mqtt: MqttChannel, numbers: HouseNumbers, *, is_awaited: bool = False) -> None:
        for name, feed in numbers.feeds.items():
            state = feed_state(feed, is_listening=name not in self._kept.modes.deaf)
            mqtt.publish_feed_state(name, state, is_awaited=is_awaited)

    def _publish_hub(self, mqtt: MqttChannel, numbers: HouseNumbers, *, is_awaited: bool = False) -> None:
        midnight = self._clock.now().astimezone(self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        state = hub_state(
            numbers,
            self._engine,
            self._kept.modes,
            alerts_today=sum(at >= midnight for at in self._kept.alerts_at),
            problems=[*problems(numbers), *mqtt.status.refused],
        )
        mqtt.publish_hub_state(state, is_awaited=is_awaited)


def _kept(tx: Transaction) -> Kept:
    active = frozenset(alert.task_id for alert, _ in tx.alerts.open_ones())
    return Kept(modes(tx), active, [alert.decided_at for alert in tx.alerts.recent(ALERTS_LOOKED_AT)])


def hub_state(
    numbers: HouseNumbers, engine: str, chosen: Modes, *, alerts_today: int, problems: Sequence[str]
) -> Mapping[str, Any]:
    return {
        "model": ("degraded" if _is_slow(numbers) else "ready") if numbers.is_ready else "loading",
        "engine": engine,
        "mute": chosen.is_muted,
        "mode": chosen.mode.value,
        "unit_ms": numbers.step_ms.get("p50"),
        "unit_ms_p95": numbers.step_ms.get("p95"),
        "queue": numbers.outbox_pending,
        "tasks_active": numbers.tasks_watched,
        "alerts_today": alerts_today,
        "units_missed": numbers.units_missed,
        "dropped_frames": numbers.frames_dropped,
        "problems": problems,
        "new_task": "",  # the text field of Home Assistant is empty again once its words were taken
        "version": __version__,
    }


def problems(numbers: HouseNumbers) -> list[str]:
    """What a person should look into, one sentence each."""
    found = [f"feed {name} is not live" for name, feed in numbers.feeds.items() if numbers.is_ready and not _live(feed)]
    if _is_slow(numbers):
        found.append("the model takes longer than a second for a second")
    return found


def feed_state(feed: FeedNumbers, *, is_listening: bool = True) -> Mapping[str, Any]:
    return {
        "online": _live(feed),
        "listen": is_listening,
        "level_dbfs": feed.level_dbfs if is_listening else None,
        "states": dict(feed.states),
        "fps": feed.fps,
        "last_frame_age_s": feed.last_frame_age_s,
        "lag_s": feed.lag_s,
        "reconnects": feed.reconnects,
    }


def _live(feed: FeedNumbers) -> bool:
    """What a person has switched off is no fault."""
    return bool(feed.states) and all(state in ("live", "off") for state in feed.states.values())


def _is_slow(numbers: HouseNumbers) -> bool:
    return numbers.step_ms.get("p50", 0.0) > SLOW_MS
