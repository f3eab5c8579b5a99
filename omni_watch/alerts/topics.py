"""Remembers in the store which retained topics hold a task's state, so that they can be cleared after it is gone."""

from __future__ import annotations

from omni_watch.domain.errors import StoreError
from omni_watch.watch.ports import Observer, Store, Transaction


class TopicNotes:
    """Loop thread only. Without a store it remembers nothing beyond this run.

    A store that fails is reported and otherwise ignored: the worst that follows is a stale state on the broker.
    """

    def __init__(self, store: Store | None, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._owners: dict[str, str] = {}
        self._kept: set[str] = set()

    def mention(self, topic: str, task_id: str) -> None:
        """`topic` will hold something of this task."""
        self._owners[topic] = task_id

    async def before_publishing(self, topic: str) -> None:
        """Keep the topic, before the broker holds anything under it."""
        owner = self._owners.get(topic)
        if self._store is None or owner is None or topic in self._kept:
            return
        try:
            await self._store.transact(lambda tx: tx.topics.remember(topic, owner))
        except StoreError as error:
            self._observer.on("mqtt.topic_not_kept", topic=topic, why=str(error))
        else:
            self._kept.add(topic)

    async def after_clearing(self, topic: str) -> None:
        """The broker holds nothing under it any more."""
        self._owners.pop(topic, None)
        self._kept.discard(topic)
        if self._store is None:
            return
        try:
            await self._store.transact(lambda tx: tx.topics.forget(topic))
        except StoreError as error:
            self._observer.on("mqtt.topic_not_kept", topic=topic, why=str(error))

    async def orphans(self) -> list[str]:
        """Topics whose task is gone."""
        if self._store is None:
            return []
        try:
            return await self._store.transact(_orphans)
        except StoreError as error:
            self._observer.on("mqtt.topic_not_kept", topic="", why=str(error))
            return []


def _orphans(tx: Transaction) -> list[str]:
    return [topic for topic, task_id in tx.topics.all().items() if tx.tasks.get(task_id) is None]
