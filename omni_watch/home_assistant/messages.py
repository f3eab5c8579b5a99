"""A device as the messages by which Home Assistant discovers it. Pure.

`device`: one message for the whole device (Home Assistant 2024.11 and later). `component`: one message for each entity,
for older releases. No `child_devices`: releases before 2026.11 refuse the whole message for it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from omni_watch import __version__
from omni_watch.alerts.messages import as_json
from omni_watch.home_assistant.entities import Device, Entity, Notify

Form = Literal["device", "component"]
QOS: Final = 1
MIGRATE: Final = as_json({"migrate_discovery": True})  # the entities stay; their discovery moves to another topic


def discovery_messages(device: Device, form: Form, prefix: str) -> dict[str, bytes]:
    """Topic -> payload, to be retained."""
    if form == "device":
        return {device_topic(prefix, device.node): as_json(_whole(device))}
    return {
        component_topic(prefix, device.node, entity): as_json(_single(device, entity))
        for entity in device.entities
        if is_for_old_ones(entity)
    }


def is_for_old_ones(entity: Entity) -> bool:
    """Whether releases that need the form `component` take it: 2024.3 warns of platforms that it does not know, and at
    each state of a time that has never been."""
    return not isinstance(entity, Notify) and getattr(entity, "device_class", None) != "timestamp"


def device_topic(prefix: str, node: str) -> str:
    return f"{prefix}/device/{node}/config"


def component_topic(prefix: str, node: str, entity: Entity) -> str:
    return f"{prefix}/{entity.platform}/{node}/{entity.key}/config"


def node_of(topic: str, prefix: str) -> str | None:
    """The device that a discovery topic of either form is about."""
    match topic.removeprefix(f"{prefix}/").split("/"):
        case ["device", node, "config"] | [_, node, _, "config"]:
            return node
        case _:
            return None


def is_component_topic(topic: str, prefix: str) -> bool:
    return node_of(topic, prefix) is not None and not topic.startswith(f"{prefix}/device/")


def _whole(device: Device) -> dict[str, Any]:
    return {
        "device": _device(device),
        "origin": _origin(),
        "availability": [one.payload() for one in device.availability],
        "qos": QOS,
        "components": {
            entity.key: {"platform": entity.platform, **_ids(device, entity), **entity.payload()}
            for entity in device.entities
        },
    }


def _single(device: Device, entity: Entity) -> dict[str, Any]:
    ids = _ids(device, entity)
    return {
        "device": _device(device),
        "origin": _origin(),
        "availability": [one.payload() for one in device.availability],
        "qos": QOS,
        **ids,
        "object_id": ids["default_entity_id"].split(".")[1],  # before 2025.10
        **entity.payload(),
    }


def _ids(device: Device, entity: Entity) -> dict[str, str]:
    return {"unique_id": f"{device.node}_{entity.key}", "default_entity_id": device.entity_id(entity)}


def _device(device: Device) -> dict[str, Any]:
    hangs_on = {} if device.via is None else {"via_device": device.via}
    return {
        "identifiers": [device.node],
        "name": device.name,
        "model": device.model,
        "manufacturer": "Omni Watch",
        **hangs_on,
    }


def _origin() -> dict[str, str]:
    return {"name": "Omni Watch", "sw_version": __version__}
