"""What the broker holds of ours when we come: what somebody has emptied while we were away shows by what is missing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from omni_watch.alerts.broker import Incoming, MqttSettings
from omni_watch.alerts.messages import TopicNames
from omni_watch.alerts.mqtt_check import connected
from omni_watch.domain.errors import ChannelError

LIMIT_S: Final = 2.0  # for the whole survey; a broker that is slower is not asked


async def held_topics(settings: MqttSettings, filters: Sequence[str]) -> frozenset[str] | None:
    """Topics under which the broker retains something now, on a connection of its own; None: it cannot be known."""
    end, token = TopicNames(settings.instance).check, secrets.token_hex(8).encode()
    held: set[str] = set()
    is_complete = asyncio.Event()

    def on_message(message: Incoming) -> None:
        if (message.topic, message.payload) == (end, token):
            is_complete.set()  # a broker sends what it retains before what is published later
        elif message.is_retained and message.payload:
            held.add(message.topic)

    with suppress(ChannelError, TimeoutError):
        async with asyncio.timeout(LIMIT_S):
            connection = await connected(settings, on_message)
            try:
                for topics in (*filters, end):
                    await connection.subscribe(topics)
                await connection.publish(end, token)
                await is_complete.wait()
            finally:
                await connection.close()
        return frozenset(held)
    return None
