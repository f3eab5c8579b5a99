"""Alerts and states to an MQTT broker, for ever: connects, tells, and comes back by itself.

An alert counts as told when the broker acknowledged its message. Nothing is queued here for a broker that is away:
the outbox keeps alerts, `RetainedStates` keeps the newest states. What is asked of the house over MQTT and Home
Assistant's discovery are elsewhere; here they `listen`, `retain` and `publish`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from paho.mqtt.client import topic_matches_sub

from omni_watch.alerts.broker import (
    MQTT_3_1_1,
    MQTT_5,
    PROTOCOL_NAMES,
    Connection,
    ConnectRefused,
    Incoming,
    MqttSettings,
    OnMessage,
    PublishRefused,
)
from omni_watch.alerts.claim import TOKEN_MAX, Claim
from omni_watch.alerts.messages import OFFLINE, ONLINE, Speaking, TopicNames, alert_object, as_json, task_object
from omni_watch.alerts.retained import RetainedStates
from omni_watch.alerts.survey import held_topics
from omni_watch.alerts.topics import HOUSE, TopicNotes
from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.errors import AlertRejected, ChannelError, ChannelUnavailable, ConfigError
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task
from omni_watch.watch.ports import Clock, Observer, Snapshots, Store

__all__ = ["MqttChannel", "MqttSettings", "MqttStatus"]

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
ALERT_SPACING_S: Final = 0.25  # Home Assistant automations in mode `single` lose one of two nearer to each other
DIAGNOSTICS_SPACING_S: Final = 10.0  # its recorder keeps every state it is sent
HUB_REFRESH_S: Final = 60.0
GOODBYE_S: Final = 2.0
TOGETHER: Final = 16  # retained messages that go out before the first is acknowledged
ECHO_LIMIT_S: Final = 1.0  # for our claim on our name to come back; a broker may forbid it without a word
TAKEN_LIMIT_S: Final = 1.0  # for another house of this name to say that it has it
DIAL_SLACK_S: Final = 1.0  # a sender waits so much longer than one attempt may take, to learn how it ended
JSON: Final = "application/json"
JPEG: Final = "image/jpeg"
_DICE: Final = random.SystemRandom()

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttStatus:
    """What a person may want to know about the connection."""

    is_online: bool = False
    protocol: str = ""  # "5" or "3.1.1" while online
    problem: str = ""  # why it is not online, in words
    refused: tuple[str, ...] = ()  # what the broker did not let us do on this connection


class NameTaken(ChannelUnavailable):
    """Another house on this broker has our name."""


class MqttChannel:
    """Implements `Channel`. Loop thread only.

    `speaking` says who tells an alert of a priority aloud. `on_ready` is called at each successful connection, so that
    what waits is sent at once. `store` remembers which topics hold a task's state, so that they are cleared although
    the task went while the broker was away.
    """

    name = "mqtt"

    def __init__(
        self,
        settings: MqttSettings,
        *,
        clock: Clock,
        observer: Observer,
        snapshots: Snapshots | None = None,
        store: Store | None = None,
        speaking: Callable[[Priority], Speaking] = lambda _priority: Speaking(),
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.topics = TopicNames(settings.instance)
        self.status = MqttStatus(problem="not connected yet")
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._snapshots = snapshots
        self._speaking = speaking
        self._on_ready = on_ready
        self._client_id = f"omni_watch-{settings.instance}-{secrets.token_hex(6)}"
        self._protocol = MQTT_5
        self._states = RetainedStates()
        self._notes = TopicNotes(store, observer)
        self._live: Connection | None = None  # set while we are online
        self._is_closed = False
        self._changed = asyncio.Event()  # there is something to publish, or the connection ended
        self._prodded = asyncio.Event()  # dial now
        self._has_lost_availability = False
        self._attempt: asyncio.Future[None] | None = None  # done when the next connection has succeeded or failed
        self._idle = asyncio.Event()  # `run` is not running
        self._idle.set()
        self._pacing = asyncio.Lock()
        self._last_alert_s: float | None = None
        self._newest_told: Alert | None = None
        self._ears: dict[str, OnMessage] = {}  # by what they subscribe to
        self._survey: tuple[Sequence[str], Callable[[AbstractSet[str]], None]] | None = None  # until it is made
        self._claim = Claim(secrets.token_hex(8), socket.gethostname()[:TOKEN_MAX])
        self._found: bytes | None = None  # the availability that the broker held when we connected
        self._heard_claim = asyncio.Event()
        self._was_online = False  # on an earlier connection
        self._connection: Connection | None = None  # set from its opening to its end
        self._answering: asyncio.Task[None] | None = None  # one at a time; a claim meanwhile is not answered

    # --- the channel ---

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        """Publish it on the alert's two topics, with its picture when it tells what has happened; return once the
        broker has acknowledged the first.

        Raises:
            ChannelUnavailable: no broker, it did not acknowledge in time, or it does not let us (a person can mend its
                access list while we keep trying, so that is not for good).
            AlertRejected: the broker can never take this message.
        """
        connection = await self._online()
        shown = self._snapshots if delivery.transition.is_telling else None
        jpeg = None if shown is None else await shown.load(alert.id)
        async with self._pacing:
            await self._keep_spacing()
            self._last_alert_s = self._clock.monotonic()
        body = self._body(alert, delivery, has_snapshot=jpeg is not None)
        told, *others = await asyncio.gather(
            self._publish_alert(connection, self.topics.alert, body),
            self._publish_alert(connection, self.topics.task_alert(alert.task_id), body),
            *([] if jpeg is None else [self._publish_snapshot(connection, jpeg)]),
            return_exceptions=True,
        )
        for outcome in (told, *others):
            self._note(outcome)
        if isinstance(told, BaseException):
            raise told
        self._remember_as_last(alert, body)
        return Receipt(channel=self.name, at=self._clock.now(), detail=told)

    def expiry_s(self, priority: Priority) -> float:
        return self._settings.expiry_s

    async def close(self) -> None:
        """Let `run` say `offline`, then goodbye, and end. It does not wait for one that is being dialled."""
        self._is_closed = True
        self._changed.set()
        self._prodded.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._idle.wait()

    # --- states ---

    def publish_hub_state(self, state: Mapping[str, Any], *, is_awaited: bool = False) -> None:
        """What the whole device is doing; `is_awaited`: a person looks for the change. ValueError: not JSON."""
        self._notes.mention(self.topics.hub_state, HOUSE)
        spacing_s = 0.0 if is_awaited else DIAGNOSTICS_SPACING_S
        self._put(self.topics.hub_state, {"v": 1, **state}, spacing_s, HUB_REFRESH_S)

    def publish_feed_state(self, feed: str, state: Mapping[str, Any], *, is_awaited: bool = False) -> None:
        """How one feed is; `is_awaited` as above. ValueError: not JSON, or no name for a topic."""
        topic = self.topics.feed_state(feed)
        self._notes.mention(topic, HOUSE)
        self._put(topic, {"v": 1, **state}, 0.0 if is_awaited else DIAGNOSTICS_SPACING_S)

    def publish_task_state(self, task: Task, *, is_active: bool = False) -> None:
        """How one task is; call it at each change, and for every task at the start."""
        topic = self.topics.task_state(task.id)
        self._notes.mention(topic, task.id)
        self._put(topic, task_object(task, is_active=is_active))

    def clear_task(self, task_id: str) -> None:
        """The task was deleted: the broker should hold nothing of it."""
        self.clear(self.topics.task_state(task_id))

    # --- for others who speak over this connection ---

    def listen(self, topics: str, on_message: OnMessage) -> None:
        """Hand on what arrives on `topics` (a filter), from the next connection on. A broker that forbids it is shown
        in `status`."""
        self._ears[topics] = on_message

    def survey(self, filters: Sequence[str], on_held: Callable[[AbstractSet[str]], None]) -> None:
        """At the first connection, before anything is told: under which topics the broker held something already. Where
        that cannot be known, nobody is told."""
        self._survey = (filters, on_held)

    def retain(self, topic: str, payload: bytes, *, owner: str = HOUSE, then: bytes | None = None) -> None:
        """Let the broker hold `payload`, from now on and for whatever broker comes, before any state goes out; `owner`
        is the task that it is about. `then`: what it should hold after that."""
        self._notes.mention(topic, owner)
        self._states.put(topic, payload, is_first=True, then=then)
        self._changed.set()

    def clear(self, topic: str) -> None:
        """Let the broker hold nothing there."""
        self._states.clear(topic)
        self._changed.set()

    def refresh(self) -> None:
        """Tell everything again: discovery, states, `online`."""
        self._states.connected()
        self._has_lost_availability = True
        self._changed.set()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        content_type: str = JSON,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish one message that nobody keeps.

        Raises:
            ChannelUnavailable: we are not online, or not allowed. AlertRejected: the broker can never take it.
        """
        if self._live is None:
            raise ChannelUnavailable(self.status.problem)
        try:
            await self._live.publish(
                topic, payload, content_type=content_type, expiry_s=expiry_s, correlation=correlation
            )
        except (PublishRefused, AlertRejected) as refusal:
            self._note(refusal)
            raise

    def _put(
        self, topic: str, state: Mapping[str, Any], spacing_s: float = 0.0, refresh_s: float | None = None
    ) -> None:
        self._put_bytes(topic, as_json(state), spacing_s, refresh_s)

    def _put_bytes(self, topic: str, payload: bytes, spacing_s: float = 0.0, refresh_s: float | None = None) -> None:
        self._states.put(topic, payload, spacing_s=spacing_s, refresh_s=refresh_s)
        self._changed.set()

    # --- the worker ---

    async def run(self) -> None:
        """Stay connected until `close` or cancellation.

        Raises:
            ConfigError: another house has our name, and had it before we were ever online.
        """
        self._idle.clear()
        try:
            for topic in await self._notes.orphans():
                self._states.clear(topic)
            await self._stay_connected()
        finally:
            self._settle_attempt()
            self._idle.set()

    async def _stay_connected(self) -> None:
        failures = 0
        while not self._is_closed:
            self._prodded.clear()
            try:
                await self._session()
                failures = 1
            except ChannelUnavailable as error:
                if isinstance(error, NameTaken) and not self._was_online:
                    self._failed(str(error))
                    raise ConfigError(str(error)) from error
                if isinstance(error, ConnectRefused) and error.wants_older:
                    self._protocol = MQTT_3_1_1
                    self._observer.on("mqtt.older_protocol", protocol=PROTOCOL_NAMES[MQTT_3_1_1])
                    continue
                failures += 1
                self._failed(str(error))
            if not self._is_closed:
                await self._wait(self._prodded, pause_s(failures, _DICE.random()))

    async def _session(self) -> None:
        """One connection, from dialling to its end.

        Raises:
            ChannelUnavailable: it never came to be of use.
        """
        connection = Connection(
            self._settings,
            client_id=self._client_id,
            protocol=self._protocol,
            on_message=self._on_message,
            on_end=self._changed.set,
            will=(self.topics.availability, OFFLINE),
        )
        await connection.open()
        self._connection, self._found = connection, None
        try:
            await self._begin(connection)
            await self._serve(connection)
            self._require_name()
        except NameTaken:
            await connection.close()  # so that the will does not say `offline` of the other house
            raise
        finally:
            self._live = self._connection = None
            if self._answering is not None:
                self._answering.cancel()
            if self._is_closed:
                await self._say_goodbye(connection)
            connection.abort("given up")
        self._was_online = True
        why = await connection.ended()
        self.status = MqttStatus(problem=f"the connection was lost: {why}")
        self._observer.on("mqtt.offline", why=why)

    async def _say_goodbye(self, connection: Connection) -> None:
        with suppress(ChannelError, TimeoutError):  # then the will says it for us
            async with asyncio.timeout(GOODBYE_S / 2):
                await connection.publish(self.topics.availability, OFFLINE, retain=True)
        await connection.close()

    async def _begin(self, connection: Connection) -> None:
        """Listen, tell every state, then say that we are there: in this order, so that nobody sees old states."""
        self.status = replace(self.status, refused=())
        self._states.connected()
        self._note(await _outcome(connection.subscribe(self.topics.availability)))
        await self._claim_name(connection)
        for topics in self._ears:
            self._note(await _outcome(connection.subscribe(topics)))
        await self._look_at_what_is_held()
        await self._publish_due(connection)
        await self._say_online(connection)
        self._live = connection
        protocol = PROTOCOL_NAMES[connection.protocol]
        self.status = MqttStatus(is_online=True, protocol=protocol, refused=self.status.refused)
        self._observer.on("mqtt.online", protocol=protocol)
        self._settle_attempt()
        self._on_ready()

    async def _look_at_what_is_held(self) -> None:
        survey, self._survey = self._survey, None
        held = None if survey is None else await held_topics(self._settings, survey[0])
        if survey is not None and held is not None:
            survey[1](held)

    async def _serve(self, connection: Connection) -> None:
        """Publish states as they change, until the connection ends."""
        with suppress(ChannelUnavailable):  # it ended while something was being published
            while connection.is_open and not self._is_closed and self._claim.taken_by is None:
                self._changed.clear()
                await self._publish_due(connection)
                if self._has_lost_availability:
                    await self._say_online(connection)
                await self._wait(self._changed, self._states.wait_s(self._clock.monotonic()))

    async def _publish_due(self, connection: Connection) -> None:
        due = self._states.due(self._clock.monotonic())
        await self._notes.before_publishing(*(topic for topic, payload in due if payload))
        for some in _pieces(due, TOGETHER):
            outcomes = await asyncio.gather(
                *(
                    _outcome(connection.publish(topic, payload, retain=True, content_type=JSON if payload else None))
                    for topic, payload in some
                ),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException) and not isinstance(outcome, PublishRefused | AlertRejected):
                    raise outcome
                self._note(outcome)
            for topic, payload in some:
                self._states.settle(topic, payload, self._clock.monotonic())
            refused = (isinstance(outcome, ChannelError) for outcome in outcomes)
            cleared = [topic for (topic, payload), no in zip(some, refused, strict=True) if not payload and not no]
            await self._notes.after_clearing(*cleared)

    async def _say_online(self, connection: Connection) -> None:
        self._has_lost_availability = False
        self._notes.mention(self.topics.availability, HOUSE)
        await self._notes.before_publishing(self.topics.availability)
        self._note(await _outcome(connection.publish(self.topics.availability, ONLINE, retain=True)))

    async def _claim_name(self, connection: Connection) -> None:
        """Ask whether another house has our name; a second or two when it looks so, else one round trip.

        Raises:
            NameTaken: it has.
        """
        self._claim = replace(self._claim, is_echoed=False, has_rival=False, taken_by=None)
        claim, self._heard_claim = self._claim, asyncio.Event()
        outcomes = [
            await _outcome(connection.subscribe(self.topics.claim)),
            await _outcome(connection.publish(self.topics.claim, claim.message(), content_type=JSON)),
        ]
        if any(isinstance(outcome, ChannelError) for outcome in outcomes):  # then nobody can know
            return
        await self._until_claim(lambda: claim.is_echoed, ECHO_LIMIT_S)
        if self._found == ONLINE or claim.has_rival:
            await self._until_claim(lambda: claim.taken_by is not None, TAKEN_LIMIT_S)
        self._require_name()

    async def _until_claim(self, fact: Callable[[], bool], limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not fact():
                    self._heard_claim.clear()
                    await self._heard_claim.wait()

    def _require_name(self) -> None:
        if self._claim.taken_by is not None:
            raise NameTaken(
                f"another Omni Watch named {self._settings.instance!r} is on broker {self._settings.host} already, "
                f"on {self._claim.taken_by}; give this one another house.instance"
            )

    def _on_message(self, message: Incoming) -> None:
        if message.topic == self.topics.availability:
            self._on_availability(message)
        elif message.topic == self.topics.claim:
            self._on_claim(message)
        else:
            for topics, ear in self._ears.items():
                if topic_matches_sub(topics, message.topic):
                    ear(message)

    def _on_availability(self, message: Incoming) -> None:
        """An `offline` under our own name while we are here: an older connection's will came late. Contradict it."""
        if message.is_retained:
            self._found = message.payload
        elif message.payload == OFFLINE and not self._is_closed:
            self._has_lost_availability = True
            self._changed.set()

    def _on_claim(self, message: Incoming) -> None:
        if message.is_retained:
            return
        answer = self._claim.hear(message.payload)
        self._heard_claim.set()
        if answer is not None and self._answering is None:
            self._answering = asyncio.create_task(self._answer_claim(answer), name="claim")
        if self._claim.taken_by is not None:
            self._changed.set()

    async def _answer_claim(self, answer: bytes) -> None:
        try:
            connection = self._connection
            if connection is not None:
                with suppress(ChannelError):
                    await connection.publish(self.topics.claim, answer, content_type=JSON)
        finally:
            self._answering = None

    def _failed(self, why: str) -> None:
        if why != self.status.problem:  # else it was told before
            self._observer.on("mqtt.unreachable", why=why)
        self.status = MqttStatus(problem=why)
        self._settle_attempt()

    async def _wait(self, event: asyncio.Event, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    # --- parts of sending ---

    async def _online(self) -> Connection:
        """The connection; when there is none, what the next attempt brings."""
        if self._live is None and not self._is_closed:
            self._prodded.set()
            self._attempt = self._attempt or asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.connect_limit_s + DIAL_SLACK_S):
                    await asyncio.shield(self._attempt)
        if self._live is None:
            raise ChannelUnavailable("closed" if self._is_closed else self.status.problem)
        return self._live

    def _settle_attempt(self) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(None)
        self._attempt = None

    async def _keep_spacing(self) -> None:
        if self._last_alert_s is not None:
            await asyncio.sleep(max(0.0, self._last_alert_s + ALERT_SPACING_S - self._clock.monotonic()))

    def _body(self, alert: Alert, delivery: Delivery, *, has_snapshot: bool) -> bytes:
        now, speaking = self._clock.now(), self._speaking(alert.priority)
        return as_json(alert_object(alert, delivery, published_at=now, speaking=speaking, snapshot=has_snapshot))

    async def _publish_alert(self, connection: Connection, topic: str, body: bytes) -> str:
        return await connection.publish(topic, body, content_type=JSON, expiry_s=self._settings.message_expiry_s)

    async def _publish_snapshot(self, connection: Connection, jpeg: bytes) -> str:
        return await connection.publish(
            self.topics.snapshot, jpeg, retain=self._settings.retain_snapshot, content_type=JPEG
        )

    def _remember_as_last(self, alert: Alert, body: bytes) -> None:
        """An urgent alert may overtake older ones; the last one is the one that was decided last."""
        if self._newest_told is None or alert.decided_at >= self._newest_told.decided_at:
            self._newest_told = alert
            self._notes.mention(self.topics.last_alert, HOUSE)
            self._put_bytes(self.topics.last_alert, body)

    def _note(self, outcome: object) -> None:
        """Show what the broker does not let us do, once per connection."""
        if isinstance(outcome, PublishRefused | AlertRejected) and str(outcome) not in self.status.refused:
            self.status = replace(self.status, refused=(*self.status.refused, str(outcome)))
            self._observer.on("mqtt.refused", why=str(outcome))


async def _outcome(publishing: Awaitable[object]) -> object:
    """What was acknowledged, or the refusal; ChannelUnavailable when the connection is no more."""
    try:
        return await publishing
    except (PublishRefused, AlertRejected) as refusal:
        return refusal


def _pieces(all_of_them: Sequence[T], size: int) -> list[Sequence[T]]:
    return [all_of_them[at : at + size] for at in range(0, len(all_of_them), size)]


def pause_s(failures: int, jitter: float) -> float:
    """Seconds before the next attempt after so many failures in a row: 1, 2, 4, … 60, half of it at random."""
    return float(min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30), LONGEST_PAUSE_S) * (0.5 + 0.5 * jitter))
