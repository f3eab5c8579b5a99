"""One connection to an MQTT broker, from CONNECT to its end. It never reconnects: `mqtt.py` opens the next one.

A connection has its own paho client, so nothing half-sent survives into the next: what must arrive lies in the store.
paho's network thread only hands results over to the loop (`call_soon_threadsafe`); all state here belongs to the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from omni_watch.domain.errors import AlertRejected, ChannelError, ChannelUnavailable

MQTT_5: Final = MQTTProtocolVersion.MQTTv5
MQTT_3_1_1: Final = MQTTProtocolVersion.MQTTv311
PROTOCOL_NAMES: Final = {MQTT_5: "5", MQTT_3_1_1: "3.1.1"}

# Reason codes of MQTT 5 (OASIS standard, section 2.4)
FIRST_FAILURE: Final = 0x80
UNSUPPORTED_PROTOCOL_VERSION: Final = 0x84
NOT_ALLOWED: Final = frozenset({0x86, 0x87})  # bad user name or password; not authorised
NEVER_AGAIN: Final = frozenset({0x90, 0x95, 0x99})  # topic name invalid, packet too large, payload format invalid

PACKET_OVERHEAD: Final = 128  # bytes that a PUBLISH adds to topic and payload at most, with our properties
INCOMING_MAX: Final = 262_144  # bytes of one message that an MQTT 5 broker may send us; it drops what is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """Where the broker is, who we are, and how patient we are."""

    host: str = "localhost"
    port: int = 1883
    instance: str = "home"  # [a-z0-9][a-z0-9_-]{0,31}: all our topics lie below omni_watch/<instance>
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None  # None: the system's own authorities
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30  # a pulled cable is noticed after one and a half of these
    connect_limit_s: float = 10.0  # from dialling to CONNACK
    answer_limit_s: float = 10.0  # from PUBLISH or SUBSCRIBE to its acknowledgement
    expiry_s: float = 86_400.0  # how long after the decision an alert is still published; the message says how late
    message_expiry_s: int = 300  # how long the broker keeps an alert for a subscriber that is away (MQTT 5)
    retain_snapshot: bool = False  # a retained picture outlives its event on the broker


class PublishRefused(ChannelUnavailable):
    """The broker refused one message, but may accept it later: its access list can be mended while we wait."""


class ConnectRefused(ChannelUnavailable):
    """The broker answered, and said no. `wants_older`: because it does not speak MQTT 5."""

    def __init__(self, message: str, *, wants_older: bool = False) -> None:
        super().__init__(message)
        self.wants_older = wants_older


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message from the broker. The last two exist in MQTT 5 only, and whoever sent it chose them."""

    topic: str
    payload: bytes
    is_retained: bool
    response_topic: str | None = None
    correlation: bytes | None = None


OnMessage = Callable[[Incoming], None]  # called on the loop


class Connection:
    """Loop thread only, apart from the callbacks that say otherwise."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        protocol: MQTTProtocolVersion,
        on_message: OnMessage = lambda message: None,
        on_end: Callable[[], None] = lambda: None,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.protocol = protocol
        self.packet_max: int | None = None  # bytes, when the broker named a limit
        self._settings = settings
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._is_abandoned = False  # read by the dialling thread
        self._client = self._make_client(client_id, will)

    @property
    def is_open(self) -> bool:
        return self._opened.done() and not self._ended.done()

    async def open(self) -> None:
        """Dial and be accepted.

        Raises:
            ConnectRefused: the broker answered, and said no.
            ChannelUnavailable: there is no way to it, or it did not answer in time.
        """
        threading.Thread(target=self._dial, name="mqtt dial", daemon=True).start()
        try:
            async with asyncio.timeout(self._settings.connect_limit_s):
                await self._opened
        except TimeoutError as error:
            self.abort("no answer")
            raise ChannelUnavailable(
                f"{self._where} did not answer within {self._settings.connect_limit_s:g} s; is a broker running there?"
            ) from error
        except BaseException:
            self.abort("given up")
            raise

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        content_type: str | None = None,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> str:
        """Publish with QoS 1; the broker's acknowledgement, for people. `correlation` is sent in MQTT 5 only.

        The message goes out before the first await, so calls that are gathered keep their order.

        Raises:
            AlertRejected: this message can never be accepted.
            PublishRefused: not now: not allowed, over quota.
            ChannelUnavailable: the connection ended or the broker fell silent; the connection is then given up.
        """
        if self.packet_max is not None and len(topic) + len(payload) + PACKET_OVERHEAD > self.packet_max:
            raise AlertRejected(
                f"{topic}: {len(payload)} bytes are more than {self._where} accepts in one packet ({self.packet_max})"
            )
        properties = self._publish_properties(content_type, expiry_s, correlation)
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        (reason,) = await self._answer(info.rc, info.mid, f"publishing to {topic}")
        if reason.value >= FIRST_FAILURE:
            raise _refusal(topic, reason)
        return f"PUBACK {info.mid}" + ("" if reason.value == 0 else f", {reason.getName().lower()}")

    async def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1.

        Raises:
            PublishRefused: not allowed.
            ChannelUnavailable: the connection ended or the broker fell silent.
        """
        rc, mid = self._client.subscribe(topic, qos=1)
        if mid is None:
            raise ChannelUnavailable(f"subscribing to {topic}: the connection to {self._where} is gone")
        reasons = await self._answer(rc, mid, f"subscribing to {topic}")
        if any(reason.value >= FIRST_FAILURE for reason in reasons):
            raise PublishRefused(f"{self._where} does not let us subscribe to {topic}: {reasons[0]}")

    async def ended(self) -> str:
        """Wait for the end of the connection; why it ended."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Say goodbye, so that the broker does not publish the will."""
        self._client.disconnect()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.ended()
        self.abort("closed")

    def abort(self, why: str) -> None:
        """Cut the line. The broker will publish the will when it notices."""
        self._is_abandoned = True
        line = self._client.socket()
        if isinstance(line, socket.socket):
            with suppress(OSError):  # it was cut already
                # not `line.shutdown`, which for TLS would pull the session away under the network thread
                socket.socket.shutdown(line, socket.SHUT_RDWR)
        self._end(why)

    # --- parts ---

    @property
    def _where(self) -> str:
        return f"broker {self._settings.host}:{self._settings.port}"

    def _make_client(self, client_id: str, will: tuple[str, bytes] | None) -> Client:
        settings = self._settings
        clean = None if self.protocol is MQTT_5 else True  # in MQTT 5 CONNECT says it
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            protocol=self.protocol,
            reconnect_on_failure=False,
        )
        client.connect_timeout = settings.connect_limit_s / 2  # of TCP, and again of TLS
        if settings.user is not None:
            client.username_pw_set(settings.user, settings.password)
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_paho_message
        return client

    def _publish_properties(
        self, content_type: str | None, expiry_s: int | None, correlation: bytes | None
    ) -> Properties | None:
        if self.protocol is not MQTT_5:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if content_type is not None:
            properties.ContentType = content_type
            properties.PayloadFormatIndicator = int(content_type == "application/json")
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        if correlation is not None:
            properties.CorrelationData = correlation
        return properties

    def _connect_properties(self) -> Properties | None:
        if self.protocol is not MQTT_5:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = INCOMING_MAX
        return properties

    async def _answer(self, rc: MQTTErrorCode, mid: int, doing: str) -> list[ReasonCode]:
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or self._ended.done():
            why = self._ended.result() if self._ended.done() else rc.name
            raise ChannelUnavailable(f"{doing}: the connection to {self._where} is gone ({why})")
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._waiting[mid] = answer
        try:
            async with asyncio.timeout(self._settings.answer_limit_s):
                return await answer
        except TimeoutError as error:
            self.abort("the broker fell silent")
            raise ChannelUnavailable(
                f"{doing}: {self._where} did not acknowledge within {self._settings.answer_limit_s:g} s"
            ) from error
        finally:
            self._waiting.pop(mid, None)

    def _end(self, why: str) -> None:
        if self._ended.done():
            return
        self._ended.set_result(why)
        if not self._opened.done():
            self._opened.set_exception(ChannelUnavailable(f"{self._where}: the connection ended at once ({why})"))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelUnavailable(f"the connection to {self._where} ended: {why}"))
        self._let_go()
        self._on_end()

    def _let_go(self) -> None:
        """No callbacks, no circle of references: paho closes its sockets when its client is collected, so at once."""
        client = self._client
        client.on_connect = client.on_disconnect = client.on_publish = client.on_subscribe = client.on_message = None

    def _accepted(self, reason: ReasonCode, packet_max: int | None, qos_max: int) -> None:
        if self._opened.done():
            return
        if reason.value >= FIRST_FAILURE:
            wants_older = reason.value == UNSUPPORTED_PROTOCOL_VERSION and self.protocol is MQTT_5
            self._opened.set_exception(ConnectRefused(_why_refused(self._where, reason), wants_older=wants_older))
        elif qos_max < 1:
            self._opened.set_exception(
                ConnectRefused(f"{self._where} only takes messages without acknowledgement (QoS 0); allow QoS 1 there")
            )
        else:
            self.packet_max = packet_max
            self._opened.set_result(None)

    def _failed_to_dial(self, error: Exception) -> None:
        if not self._opened.done():
            failure = ChannelUnavailable(_why_unreachable(self._where, error))
            failure.__cause__ = error
            self._opened.set_exception(failure)
        self._end("never connected")

    def _answered(self, mid: int, reasons: list[ReasonCode]) -> None:
        answer = self._waiting.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reasons)

    # --- on paho's threads: hand over, nothing else ---

    def _dial(self) -> None:
        """TCP, TLS and CONNECT; they block, so they have a thread of their own. Then paho's network thread begins."""
        try:
            if self._settings.tls:
                self._client.tls_set_context(_tls_context(self._settings))
            # the first (and only) connect of a client starts clean, with session expiry 0: a command or alert that the
            # broker kept for us from before must not run today
            self._client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                properties=self._connect_properties(),
            )
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be encoded, an empty key file
            # without the frames it came through: they hold the socket of a failed TLS handshake open
            self._post(self._failed_to_dial, error.with_traceback(None))
            return
        if self._is_abandoned:
            self._client.disconnect()
        else:
            self._client.loop_start()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        packet_max = getattr(properties, "MaximumPacketSize", None)
        self._post(self._accepted, reason, packet_max, getattr(properties, "MaximumQoS", 2))

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._post(self._end, str(reason).lower())

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._post(self._answered, mid, [reason])

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._post(self._answered, mid, reasons)

    def _on_paho_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # from a broker that does not check
            return
        self._post(
            self._on_message,
            Incoming(
                topic=topic,
                payload=bytes(message.payload),
                is_retained=message.retain,
                response_topic=getattr(message.properties, "ResponseTopic", None),
                correlation=getattr(message.properties, "CorrelationData", None),
            ),
        )

    def _post(self, handle: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(handle, *arguments)


def _tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Certificates are always verified, with the host name; there is no switch for that."""
    context = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _refusal(topic: str, reason: ReasonCode) -> ChannelError:
    if reason.value in NEVER_AGAIN:
        return AlertRejected(f"the broker will never accept this message on {topic}: {reason}")
    return PublishRefused(
        f"the broker refused a message on {topic}: {reason}; allow our user to write to omni_watch/# there"
    )


def _why_refused(where: str, reason: ReasonCode) -> str:
    if reason.value in NOT_ALLOWED:
        return f"{where} refused us: {reason}; check mqtt.user and the password file"
    return f"{where} refused us: {reason}"


def _why_unreachable(where: str, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where}: its certificate is not trusted ({error.verify_message}); check mqtt.ca_file and the host name"
    if isinstance(error, ssl.SSLError):
        return f"{where}: TLS failed ({error.reason or error}); does it speak TLS on this port?"
    if isinstance(error, socket.gaierror):
        return f"{where}: no such host; check mqtt.host"
    if isinstance(error, TimeoutError):
        return f"{where} did not answer; is the host up and the port open?"
    if isinstance(error, ConnectionRefusedError):
        return f"{where}: nothing listens there; is the broker running?"
    return f"{where} cannot be reached: {error}"
