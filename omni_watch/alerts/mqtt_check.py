"""Tries the broker once, as the doctor does: connect, listen, publish, hear oneself, ask who has our name."""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from typing import Final

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
from omni_watch.alerts.claim import TOKEN_MAX, Claim
from omni_watch.alerts.messages import TopicNames
from omni_watch.domain.errors import ChannelUnavailable

TAKEN_LIMIT_S: Final = 1.0  # for whoever has our name to say so


async def check_broker(settings: MqttSettings, *, is_running: bool = False) -> str:
    """What works, in one line. Disturbs no running daemon: another client id, no will, a topic of its own.

    `is_running`: our daemon runs on this machine, and will say that it has our name.

    Raises:
        ChannelError: what does not work, and what to do.
    """
    topics = TopicNames(settings.instance)
    topic, token = topics.check, secrets.token_hex(8).encode()
    claim = Claim(secrets.token_hex(8), socket.gethostname()[:TOKEN_MAX])
    heard, answered = asyncio.Event(), asyncio.Event()

    def on_message(message: Incoming) -> None:
        if (message.topic, message.payload) == (topic, token):
            heard.set()
        elif message.topic == topics.claim and not message.is_retained:
            claim.hear(message.payload)  # what it would answer is not said: we want no name
            if claim.taken_by is not None:
                answered.set()

    connection = await connected(settings, on_message)
    try:
        await connection.subscribe(topic)
        await connection.publish(topic, token)
        await _until_heard(heard, settings, topic)
        await connection.subscribe(topics.claim)
        await connection.publish(topics.claim, claim.message())
        with suppress(TimeoutError):
            async with asyncio.timeout(TAKEN_LIMIT_S):
                await answered.wait()
    finally:
        await connection.close()
    if claim.taken_by is not None and not (is_running and claim.taken_by == claim.host):
        raise ChannelUnavailable(
            f"another Omni Watch named {settings.instance!r} is on broker {settings.host} already, "
            f"on {claim.taken_by}; give this one another house.instance"
        )
    return (
        f"{settings.host}:{settings.port} answers in MQTT {PROTOCOL_NAMES[connection.protocol]}"
        f"{' over TLS' if settings.tls else ''}; reading and writing below {TopicNames(settings.instance).base} work"
    )


async def connected(settings: MqttSettings, on_message: OnMessage) -> Connection:
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
