"""Keeps what Home Assistant is told of in step with the house: its hub, its feeds, its tasks.

Which topics hold something of ours is remembered in the store, so that a task that went while the broker was away, an
instance that was renamed or a form that was changed leaves nothing behind. When a person deletes a device in Home
Assistant, it is hidden there until the task is changed or somebody asks to see it; the task itself goes on. That is so
as well when it was deleted while we were not running: then the broker still holds the device's state, which was told
after its discovery, and no discovery. A broker that has lost both has lost its memory.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal, Protocol

from omni_watch.alerts.broker import Incoming, OnMessage
from omni_watch.alerts.messages import TopicNames
from omni_watch.alerts.topics import HOUSE
from omni_watch.domain.tasks import Task
from omni_watch.home_assistant.devices import feed_device, hub, task_device
from omni_watch.home_assistant.entities import Device
from omni_watch.home_assistant.messages import MIGRATE, discovery_messages, is_component_topic, node_of
from omni_watch.watch.ports import Observer, Store, Transaction

HIDDEN: Final = "home-assistant-hidden"  # the note: node -> digest of what was deleted there
STRANGERS_MAX: Final = 1000  # topics of ours that the broker held and we did not know; more wait for the next start
PAYLOAD_MAX: Final = 65_536  # bytes of a discovery message that we look into

BIRTH_PAUSE_S: Final = 3.0
_DICE: Final = random.SystemRandom()

DiscoveryForm = Literal["device", "component", "off"]


class Line(Protocol):
    """The part of the MQTT channel that discovery needs."""

    def listen(self, topics: str, on_message: OnMessage) -> None: ...
    def survey(self, filters: Sequence[str], on_held: Callable[[AbstractSet[str]], None]) -> None: ...
    def retain(self, topic: str, payload: bytes, *, owner: str = HOUSE, then: bytes | None = None) -> None: ...
    def clear(self, topic: str) -> None: ...
    def refresh(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    form: DiscoveryForm = "device"
    prefix: str = "homeassistant"  # where Home Assistant looks, and where it says that it has started


@dataclass(frozen=True, slots=True)
class _Shown:
    """One device as it should be seen."""

    messages: Mapping[str, bytes]  # by topic
    owner: str  # the task, or the house
    state: str  # the topic of its own state
    version: str  # changes when a person changes it


class Discovery:
    """Loop thread only. With the form "off" it only clears what an earlier run has left."""

    def __init__(
        self,
        line: Line,
        store: Store,
        topics: TopicNames,
        feeds: Sequence[str],
        *,
        settings: DiscoverySettings,
        observer: Observer,
        silent: AbstractSet[str] = frozenset(),
        on_change: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = _DICE.random,
    ) -> None:
        """`silent`: feeds that have no sound. `on_change`: it wants to `sync`. `jitter`: 0..1, of the pause after Home
        Assistant has started."""
        self._line = line
        self._store = store
        self._topics = topics
        self._feeds = feeds
        self._silent = silent
        self._settings = settings
        self._observer = observer
        self._on_change = on_change
        self._jitter = jitter
        self._birth: asyncio.TimerHandle | None = None  # when everything is told again
        self._told: dict[str, bytes] = {}  # what the broker was given, or is about to be, by topic
        self._emptied: Counter[str] = Counter()  # topics emptied by us, and not heard back yet
        self._hidden: dict[str, str] | None = None  # node -> version when it was deleted; None: not read yet
        self._hidden_kept: dict[str, str] = {}  # the same, as it is in the store
        self._known: Mapping[str, _Shown] = {}  # by node, whether or not they are hidden
        self._strangers: set[str] = set()
        self._remembered: AbstractSet[str] = frozenset()  # topics that an earlier run has filled
        self._held: AbstractSet[str] | None = None  # topics that the broker held when we came; None: not known
        if settings.form == "off":
            return
        line.listen(f"{settings.prefix}/status", self._on_status)
        levels = "device/+" if settings.form == "device" else "+/+/+"
        line.listen(f"{settings.prefix}/{levels}/config", self._on_discovery)
        line.survey((f"{settings.prefix}/{levels}/config", f"{topics.base}/#"), self._on_held)

    async def sync(self, tasks: Sequence[Task]) -> None:
        """Publish what is new or changed, clear what is gone; `tasks` are those to be shown.

        Raises:
            StoreError: the store cannot be read or written.
        """
        is_first = self._hidden is None
        if self._hidden is None:
            self._hidden = self._hidden_kept = await self._store.transact(_read_hidden)
            self._remembered = await self._store.transact(lambda tx: tx.topics.all().keys())
        devices = self._devices(tasks)
        self._hidden = {**self._hidden, **self._deleted_meanwhile(devices)}
        # a device that was changed since it was deleted shows itself again; one that is gone is forgotten
        hidden = {node: version for node, version in self._hidden.items() if self._is_still(node, version, devices)}
        await self._keep_hidden(hidden)
        shown = {
            topic: (payload, device.owner)
            for node, device in devices.items()
            if node not in hidden
            for topic, payload in device.messages.items()
        }
        if is_first:
            await self._clear_remembered(shown, {task.id for task in tasks})
        for topic, (payload, owner) in shown.items():
            if self._told.get(topic) != payload:
                self._line.retain(topic, payload, owner=owner)
        for topic in (self._told.keys() | self._strangers) - shown.keys():
            self._clear(topic)
        self._told = {topic: payload for topic, (payload, _) in shown.items()}
        self._known = devices
        self._strangers.clear()

    async def show(self, node: str | None = None) -> int:
        """Let Home Assistant see a device again that was deleted there (None: all of them); how many. The next `sync`
        publishes them."""
        hidden = self._hidden or {}
        kept = {} if node is None else {name: version for name, version in hidden.items() if name != node}
        await self._keep_hidden(kept)
        self._on_change()
        return len(hidden) - len(kept)

    # --- what should be there ---

    def _devices(self, tasks: Sequence[Task]) -> dict[str, _Shown]:
        """By node."""
        form, topics = self._settings.form, self._topics
        if form == "off":
            return {}
        devices = [
            (hub(topics), HOUSE, topics.hub_state, ""),
            *((self._feed_device(feed), HOUSE, topics.feed_state(feed), "") for feed in self._feeds),
            *((task_device(topics, task), task.id, topics.task_state(task.id), _version(task)) for task in tasks),
        ]
        prefix = self._settings.prefix
        return {
            device.node: _Shown(discovery_messages(device, form, prefix), owner, state, version)
            for device, owner, state, version in devices
        }

    def _feed_device(self, feed: str) -> Device:
        return feed_device(self._topics, feed, has_sound=feed not in self._silent)

    def _is_still(self, node: str, version: str, devices: Mapping[str, _Shown]) -> bool:
        return node in devices and devices[node].version == version

    async def _keep_hidden(self, hidden: dict[str, str]) -> None:
        self._hidden = hidden
        if hidden != self._hidden_kept:
            await self._store.transact(lambda tx: tx.notes.keep(HIDDEN, {"nodes": hidden}))
            self._hidden_kept = hidden

    async def _clear_remembered(self, shown: Mapping[str, Any], task_ids: AbstractSet[str]) -> None:
        """What an earlier run has left and nobody wants: of another instance name, form or prefix, of a feed or a task
        that is gone."""
        kept = await self._store.transact(lambda tx: tx.topics.all())
        left = [t for t, owner in kept.items() if t not in shown and self._is_left(t, owner, task_ids)]
        for topic in left:
            if self._is_of_another_form(topic) and node_of(topic, self._settings.prefix) not in (self._hidden or {}):
                # Home Assistant keeps the entity, its name and its history, and waits for its new topic
                self._emptied[topic] += 1
                self._line.retain(topic, MIGRATE, then=b"")
            else:
                self._clear(topic)

    def _is_left(self, topic: str, owner: str, task_ids: AbstractSet[str]) -> bool:
        own = self._topics
        if not topic.startswith(f"{own.base}/"):
            return True
        if owner != HOUSE:
            return owner not in task_ids
        return topic.startswith(f"{own.base}/feed/") and topic not in {own.feed_state(feed) for feed in self._feeds}

    def _is_of_another_form(self, topic: str) -> bool:
        prefix, form = self._settings.prefix, self._settings.form
        if form == "off" or node_of(topic, prefix) is None:
            return False
        return is_component_topic(topic, prefix) is (form == "device")

    def _clear(self, topic: str) -> None:
        self._emptied[topic] += 1
        self._line.clear(topic)

    # --- what others did ---

    def _on_held(self, held: AbstractSet[str]) -> None:
        """Before anything is told. What was to be shown and is not wanted there any more is taken back."""
        self._held = held
        if self._hidden is None:
            return
        for node in self._missing(self._known):
            self._hide(node)

    def _deleted_meanwhile(self, devices: Mapping[str, _Shown]) -> dict[str, str]:
        """Devices, with their versions, that were deleted there before the first look; asked for once."""
        if self._held is None or self._told:
            return {}
        return {node: devices[node].version for node in self._missing(devices)}

    def _missing(self, devices: Mapping[str, _Shown]) -> list[str]:
        """Those that an earlier run has told, of which the broker held the state and no discovery."""
        held = self._held or frozenset()
        if not any(node_of(topic, self._settings.prefix) for topic in held & self._remembered):
            return []  # a broker that lets us write there and not read shows none, and does not say so
        return [
            node
            for node, device in devices.items()
            if node not in (self._hidden or {})
            and device.state in held
            and not self._remembered.isdisjoint(device.messages)
            and held.isdisjoint(device.messages)
        ]

    def _on_status(self, message: Incoming) -> None:
        if message.payload == b"online" and not message.is_retained:
            self._observer.on("home_assistant.started")
            if self._birth is not None:
                self._birth.cancel()
            pause_s = BIRTH_PAUSE_S * self._jitter()  # so that not every device of a house speaks at once
            self._birth = asyncio.get_running_loop().call_later(pause_s, self._line.refresh)

    def _on_discovery(self, message: Incoming) -> None:
        topic = message.topic
        if not message.payload:
            self._on_emptied(topic)
        elif (
            message.is_retained
            and topic not in self._told
            and len(self._strangers) < STRANGERS_MAX
            and self._is_ours(message)
        ):
            self._strangers.add(topic)
            self._on_change()

    def _on_emptied(self, topic: str) -> None:
        """By us, or by Home Assistant because a person deleted the device there."""
        if self._emptied[topic] > 0:
            self._emptied[topic] -= 1
            return
        del self._emptied[topic]
        node = node_of(topic, self._settings.prefix)
        if node is None or topic not in self._told or self._hidden is None:
            return
        self._hide(node)

    def _hide(self, node: str) -> None:
        version = self._known[node].version if node in self._known else ""
        self._hidden = {**(self._hidden or {}), node: version}
        for other in [other for other in self._told if node_of(other, self._settings.prefix) == node]:
            del self._told[other]
            self._clear(other)
        self._observer.on("home_assistant.hidden", device=node)
        self._on_change()

    def _is_ours(self, message: Incoming) -> bool:
        """Whether it is of this very instance: the name of another may begin with ours."""
        if self._topics.instance not in message.topic or len(message.payload) > PAYLOAD_MAX:
            return False
        try:
            held = json.loads(message.payload)
            return bool(held["availability"][0]["topic"] == self._topics.availability)
        except (ValueError, RecursionError, LookupError, TypeError):
            return False


def _read_hidden(tx: Transaction) -> dict[str, str]:
    nodes = (tx.notes.get(HIDDEN) or {}).get("nodes", {})
    return {str(node): str(version) for node, version in nodes.items()}


def _version(task: Task) -> str:
    """Another one when a person has changed the task, not when it has merely happened."""
    asked = (task.text, task.message, task.feeds, task.repeat, task.priority, task.cooldown_s, task.window)
    return sha256(repr((*asked, task.expires_at, task.reminder)).encode()).hexdigest()[:16]
