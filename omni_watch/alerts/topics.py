"""Remembers in the store which retained topics hold something of ours, so that they can be cleared when it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omni_watch.domain.errors import StoreError
from omni_watch.watch.ports import Observer, Store, Transaction

HOUSE: Final = "@house"  # owns what belongs to no task; no task has such an id


class TopicNotes:
    """Loop thread only. Without a store it remembers nothing beyond this run.

    A store that fails is reported and otherwise ignored: the worst that follows is a stale state on the broker.
    """

    def __init__(self, store: Store | None, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._owners: dict[str, str] = {}
        self._kept: set[str] = set()

    def mention(self, topic: str, owner: str) -> None:
        """`topic` will hold something of this task, or of the `HOUSE`."""
        self._owners[topic] = owner

    async def before_publishing(self, *topics: str) -> None:
        """Keep the topics, before the broker holds anything under them."""
        owners = {topic: self._owners[topic] for topic in topics if topic in self._owners and topic not in self._kept}
        if self._store is None or not owners:
            return
        try:
            await self._store.transact(lambda tx: _remember(tx, owners))
        except StoreError as error:
            self._observer.on("mqtt.topic_not_kept", topic=next(iter(owners)), why=str(error))
        else:
            self._kept.update(owners)

    async def after_clearing(self, *topics: str) -> None:
        """The broker holds nothing under them any more."""
        for topic in topics:
            self._owners.pop(topic, None)
            self._kept.discard(topic)
        if self._store is None or not topics:
            return
        try:
            await self._store.transact(lambda tx: _forget(tx, topics))
        except StoreError as error:
            self._observer.on("mqtt.topic_not_kept", topic=topics[0], why=str(error))

    async def orphans(self) -> list[str]:
        """Topics whose task is gone."""
        if self._store is None:
            return []
        try:
            return await self._store.transact(_orphans)
        except StoreError as error:
            self._observer.on("mqtt.topic_not_kept", topic="", why=str(error))
            return []


def _remember(tx: Transaction, owners: dict[str, str]) -> None:
    for topic, owner in owners.items():
        tx.topics.remember(topic, owner)


def _forget(tx: Transaction, topics: Sequence[str]) -> None:
    for topic in topics:
        tx.topics.forget(topic)


def _orphans(tx: Transaction) -> list[str]:
    kept = tx.topics.all().items()
    return [topic for topic, owner in kept if owner != HOUSE and tx.tasks.get(owner) is None]
