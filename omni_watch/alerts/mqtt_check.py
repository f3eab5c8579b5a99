"""Tries the broker once, as the doctor does: connect, listen, publish, hear oneself."""

from __future__ import annotations

import asyncio
import secrets

from omni_watch.alerts.broker import (
    MQTT_3_1_1,
    MQTT_5,
    PROTOCOL_NAMES,
    Connection,
    ConnectRefused,
    Incoming,
    MqttSettings,
    OnMessage,
)
from omni_watch.alerts.messages import TopicNames
from omni_watch.domain.errors import ChannelUnavailable


async def check_broker(settings: MqttSettings) -> str:
    """What works, in one line. Disturbs no running daemon: another client id, no will, a topic of its own.

    Raises:
        ChannelError: what does not work, and what to do.
    """
    topic = TopicNames(settings.instance).check
    token = secrets.token_hex(8).encode()
    heard = asyncio.Event()

    def on_message(message: Incoming) -> None:
        if (message.topic, message.payload) == (topic, token):
            heard.set()

    connection = await _connected(settings, on_message)
    try:
        await connection.subscribe(topic)
        await connection.publish(topic, token)
        await _until_heard(heard, settings, topic)
    finally:
        await connection.close()
    return (
        f"{settings.host}:{settings.port} answers in MQTT {PROTOCOL_NAMES[connection.protocol]}"
        f"{' over TLS' if settings.tls else ''}; reading and writing below {TopicNames(settings.instance).base} work"
    )


async def _connected(settings: MqttSettings, on_message: OnMessage) -> Connection:
    """In MQTT 5, or in 3.1.1 where the broker is older."""
    client_id = f"omni_watch-{settings.instance}-check-{secrets.token_hex(4)}"
    connection = Connection(settings, client_id=client_id, protocol=MQTT_5, on_message=on_message)
    try:
        await connection.open()
    except ConnectRefused as error:
        if not error.wants_older:
            raise
        connection = Connection(settings, client_id=client_id, protocol=MQTT_3_1_1, on_message=on_message)
        await connection.open()
    return connection


async def _until_heard(heard: asyncio.Event, settings: MqttSettings, topic: str) -> None:
    try:
        async with asyncio.timeout(settings.answer_limit_s):
            await heard.wait()
    except TimeoutError as error:  # in 3.1.1 a broker that forbids a topic says nothing
        raise ChannelUnavailable(
            f"the broker took a message on {topic} and did not pass it on; "
            f"allow our user to read and write {TopicNames(settings.instance).base}/# in its access list"
        ) from error
