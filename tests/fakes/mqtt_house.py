"""All of the daemon that speaks MQTT, without cameras or a model: channel, discovery, desk and publisher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from omni_watch.alerts.mqtt import MqttChannel, MqttSettings
from omni_watch.app.publishing import Publisher
from omni_watch.domain.tasks import Task
from omni_watch.home_assistant.desk import Desk, Hands
from omni_watch.home_assistant.discovery import Discovery, DiscoveryForm, DiscoverySettings
from omni_watch.store.thread import SqlStore
from omni_watch.telemetry.clock import SystemClock
from omni_watch.telemetry.status import StatusObserver
from omni_watch.watch.ports import Clock
from tests.fakes.fake_line import ASKED_HOUSE
from tests.fakes.fake_observer import FakeObserver


@dataclass
class MqttHouse:
    """Made by `running`."""

    channel: MqttChannel
    store: SqlStore
    publisher: Publisher
    discovery: Discovery
    desk: Desk
    status: StatusObserver
    observer: FakeObserver

    async def save(self, *tasks: Task) -> None:
        """Keep them, new or changed, and tell the broker."""
        for task in tasks:
            await self.store.transact(
                lambda tx, task=task: tx.tasks.save(task) if tx.tasks.get(task.id) else tx.tasks.add(task)  # type: ignore[misc]
            )
        await self.publisher.publish_tasks()

    async def task(self, task_id: str) -> Task:
        found = await self.store.transact(lambda tx: tx.tasks.get(task_id))
        assert found is not None
        return found

    async def until(self, fact: Callable[[], object], deadline_s: float = 10.0) -> None:
        async with asyncio.timeout(deadline_s):
            while not fact():  # noqa: ASYNC110  the fact rings no bell
                await asyncio.sleep(0.01)

    def kill(self) -> None:
        """As by SIGKILL: the line is cut without a goodbye."""
        assert self.channel._live is not None
        self.channel._live.abort("killed")


@asynccontextmanager
async def running(
    port: int,
    instance: str,
    store: SqlStore,
    *,
    form: DiscoveryForm = "device",
    prefix: str = "",
    clock: Clock | None = None,
    is_online: bool = True,
    has_numbers: bool = False,
    **options: Any,
) -> AsyncIterator[MqttHouse]:
    """A house whose kitchen is live, from its connection to its goodbye. `prefix`: of discovery; one of its own unless
    given. `is_online`: wait for the connection. `has_numbers`: it tells its numbers again and again."""
    clock, observer, ready = clock or SystemClock(), FakeObserver(), asyncio.Event()
    made = MqttSettings(
        host="127.0.0.1",
        port=port,
        instance=instance,
        **{"connect_limit_s": 2.0, "answer_limit_s": 2.0, **options},
    )
    channel = MqttChannel(made, clock=clock, observer=observer, store=store, on_ready=ready.set)
    changed = asyncio.Event()
    discovery = Discovery(
        channel,
        store,
        channel.topics,
        ["kitchen"],
        settings=DiscoverySettings(form=form, prefix=prefix or f"ha-{instance}"),
        observer=observer,
        on_change=changed.set,
        jitter=lambda: 0.0,
    )
    status = StatusObserver(clock)
    status.on("feed.state", feed="kitchen", sense="sight", state="live")
    publisher = Publisher(channel, store, status, "embedded", clock=clock, zone="UTC", discovery=discovery)
    hands = Hands(house=lambda: ASKED_HOUSE, on_change=changed.set, show=discovery.show)
    desk = Desk(channel, store, channel.topics, hands, clock=clock, observer=observer)

    async def look() -> None:
        while True:
            await changed.wait()
            changed.clear()
            await publisher.publish_tasks()

    await publisher.publish_tasks()
    works = (channel.run(), desk.run(), look(), *([publisher.run()] if has_numbers else []))
    workers = [asyncio.create_task(work) for work in works]
    try:
        if is_online:
            async with asyncio.timeout(10):
                await ready.wait()
        yield MqttHouse(channel, store, publisher, discovery, desk, status, observer)
    finally:
        await channel.close()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
