"""Runs inside Home Assistant's own environment: holds discovery messages against its schemas, strictly.

Home Assistant itself drops what it does not know from a discovery message; the schemas of its YAML configuration are
the same ones without that mercy. Reads {topic: message} from standard input; prints its version, then problems, one a
line.

    python validate.py [KEY OR PLATFORM.KEY TO PASS OVER]... < messages.json
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from homeassistant.const import __version__
from homeassistant.core import HomeAssistant

SHARED = ("device", "origin", "availability", "availability_mode", "qos")


def components(topic: str, message: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(platform, whole configuration) of each entity of a message in either form."""
    if "components" not in message:
        yield topic.split("/")[-4], message
        return
    shared = {key: message[key] for key in SHARED if key in message}
    for component in message["components"].values():
        own = dict(component)
        yield own.pop("platform"), {**shared, **own}


def problems_of(topic: str, message: dict[str, Any], passed_over: set[str]) -> Iterator[str]:
    for platform, config in components(topic, message):
        try:
            module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
        except ImportError:
            yield f"{topic}: there is no platform {platform}"
            continue
        try:
            module.PLATFORM_SCHEMA_MODERN(
                {key: value for key, value in config.items() if not {key, f"{platform}.{key}"} & passed_over}
            )
        except Exception as error:  # noqa: BLE001 - which of two schema libraries raises depends on the release
            yield f"{topic}: {platform} {config.get('unique_id')}: {error}"
    if "components" in message:
        schemas = importlib.import_module("homeassistant.components.mqtt.schemas")
        try:
            schemas.DEVICE_DISCOVERY_SCHEMA(copy.deepcopy(message))
        except Exception as error:  # noqa: BLE001
            yield f"{topic}: {error}"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        HomeAssistant(folder)  # templates are only checked while there is one
        messages = json.load(sys.stdin)
        print(__version__)
        for topic, message in messages.items():
            for problem in problems_of(topic, message, set(sys.argv[1:])):
                print(problem)


if __name__ == "__main__":
    asyncio.run(main())
