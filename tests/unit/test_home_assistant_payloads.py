"""Discovery messages, held against what Home Assistant knows.

The tables are facts read from its releases 2024.3.3 and 2026.11.0; `make test-ha` asks the real schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, timedelta
from typing import Any, get_args

import pytest

from omni_watch.alerts.messages import TopicNames
from omni_watch.domain.rhythms import Reminder
from omni_watch.domain.tasks import TaskState
from omni_watch.home_assistant import entities
from omni_watch.home_assistant.devices import LINGERS, feed_device, hub, is_shown, task_device
from omni_watch.home_assistant.entities import Device, Entity
from omni_watch.home_assistant.messages import Form, discovery_messages, is_component_topic, node_of
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_task

AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
DEVICE = {
    "identifiers", "connections", "manufacturer", "model", "model_id", "name", "hw_version", "sw_version",
    "serial_number", "via_device", "suggested_area", "configuration_url",
}  # fmt: skip
ORIGIN = {"name", "sw_version", "support_url"}
WHOLE = {
    "device", "origin", "components", "availability", "availability_mode", "availability_topic",
    "availability_template", "payload_available", "payload_not_available", "state_topic", "command_topic", "qos",
    "encoding",
}  # fmt: skip
SHARED = {
    "availability", "availability_mode", "availability_template", "availability_topic", "default_entity_id", "device",
    "enabled_by_default", "encoding", "entity_category", "icon", "json_attributes_template", "json_attributes_topic",
    "name", "origin", "payload_available", "payload_not_available", "qos", "unique_id",
}  # fmt: skip
COMMANDED = {"command_topic", "command_template", "retain"}
OWN = {
    "binary_sensor": {"device_class", "expire_after", "force_update", "off_delay", "payload_off", "payload_on",
                      "state_topic", "value_template"},
    "button": {*COMMANDED, "device_class", "payload_press"},
    "event": {"device_class", "event_types", "state_topic", "value_template"},
    "image": {"content_type", "image_encoding", "image_topic", "url_template", "url_topic"},
    "notify": COMMANDED,
    "select": {*COMMANDED, "optimistic", "options", "state_topic", "value_template"},
    "sensor": {"device_class", "expire_after", "force_update", "last_reset_value_template", "options", "state_class",
               "state_topic", "suggested_display_precision", "unit_of_measurement", "value_template"},
    "switch": {"command_topic", "retain", "device_class", "optimistic", "payload_off", "payload_on", "state_off",
               "state_on", "state_topic", "value_template"},
    "text": {*COMMANDED, "max", "min", "mode", "optimistic", "pattern", "state_topic", "value_template"},
}  # fmt: skip
NEEDED = {
    "binary_sensor": {"state_topic"},
    "button": {"command_topic"},
    "event": {"state_topic", "event_types"},
    "image": {"image_topic"},
    "notify": {"command_topic"},
    "select": {"command_topic", "options"},
    "sensor": {"state_topic"},
    "switch": {"command_topic"},
    "text": {"command_topic"},
}
DEVICE_CLASSES = {
    "binary_sensor": {"connectivity", "problem"},
    "sensor": {"duration", "enum", "timestamp"},
}
UNITS = {"duration": {"ms", "s", "min", "h", "d"}, "": {"dBFS"}}
NEW_IN_2024_11 = {"options"}  # of sensors, over MQTT

TOPICS = TopicNames("home")
TASK = a_task("k3", text="Tell me when the kettle is full")
DEVICES = (hub(TOPICS), feed_device(TOPICS, "front-door"), task_device(TOPICS, TASK))


def whole(device: Device) -> dict[str, Any]:
    (payload,) = discovery_messages(device, "device", "homeassistant").values()
    message: dict[str, Any] = json.loads(payload)
    return message


def components() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(device, key, component)"""
    for device in DEVICES:
        for key, component in whole(device)["components"].items():
            yield device.node, key, component


@pytest.mark.parametrize(("node", "key", "component"), list(components()), ids=lambda one: one if one is str else None)
def test_a_component_has_only_keys_that_home_assistant_knows(node: str, key: str, component: dict[str, Any]) -> None:
    platform = component.pop("platform")
    unknown = component.keys() - SHARED - OWN[platform]
    assert not unknown, f"{node} {key}: {unknown}"
    assert NEEDED[platform] <= component.keys()
    assert component["unique_id"] == f"{node}_{key}"
    for one in component.get("availability", ()):
        assert one.keys() <= AVAILABILITY
    if device_class := component.get("device_class"):
        assert device_class in DEVICE_CLASSES[platform]
    if unit := component.get("unit_of_measurement"):
        assert unit in UNITS[component.get("device_class", "")]
    if component.get("device_class") == "enum":
        assert component["options"]
        assert "state_class" not in component, "Home Assistant refuses an enum with a state class"


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.model)
def test_a_device_has_only_keys_that_home_assistant_knows(device: Device) -> None:
    message = whole(device)
    assert message.keys() <= WHOLE
    assert message["device"].keys() <= DEVICE
    assert message["origin"].keys() <= ORIGIN
    assert {"name"} <= message["origin"].keys(), "without an origin the whole message is refused"
    assert "child_devices" not in message, "releases before 2026.11 refuse the whole message for it"


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.model)
def test_each_entity_has_a_message_of_its_own_for_old_releases(device: Device) -> None:
    messages = discovery_messages(device, "component", "homeassistant")
    for topic, payload in messages.items():
        prefix, platform, node, key, config = topic.split("/")
        assert (prefix, node, config) == ("homeassistant", device.node, "config")
        message = json.loads(payload)
        unknown = message.keys() - SHARED - OWN[platform] - {"object_id"}
        assert not unknown
        assert message["unique_id"] == f"{device.node}_{key}"
        assert message["default_entity_id"] == f"{platform}.{message['object_id']}"
    assert not any("/notify/" in topic for topic in messages), "2024.3 warns of a platform that it does not know"


def test_every_field_of_our_entities_is_a_key_of_its_platform() -> None:
    ours = {"key"}
    for value in vars(entities).values():
        if isinstance(value, type) and issubclass(value, Entity) and "platform" in value.__dict__:
            named = {field.name for field in fields(value)} - ours
            assert named <= SHARED | OWN[value.platform], value


@pytest.mark.parametrize("form", get_args(Form))
def test_ids_do_not_follow_the_words(form: Form) -> None:
    renamed = replace(TASK, text="水壶满了告诉我")
    before = discovery_messages(task_device(TOPICS, TASK), form, "homeassistant")
    after = discovery_messages(task_device(TOPICS, renamed), form, "homeassistant")
    assert before.keys() == after.keys()
    for topic in before:
        old, new = json.loads(before[topic]), json.loads(after[topic])
        assert new["device"].pop("name") == "水壶满了告诉我"
        old["device"].pop("name")
        assert old == new


def test_entity_ids_are_those_that_automations_will_use() -> None:
    ids = {component["default_entity_id"] for _, _, component in components()}
    assert {
        "event.omni_watch_home_alert",
        "sensor.omni_watch_home_last_alert",
        "switch.omni_watch_home_mute",
        "select.omni_watch_home_mode",
        "notify.omni_watch_home_say",
        "image.omni_watch_home_snapshot",
        "binary_sensor.omni_watch_home_front_door_online",
        "switch.omni_watch_k3_enabled",
        "event.omni_watch_k3_alert",
        "button.omni_watch_k3_ack",
    } <= ids


def test_no_state_grows_beyond_what_home_assistant_keeps() -> None:
    long = a_task(text="tell me when " + "the kettle " * 40 + "{{ 1 + 1 }}")
    device = task_device(TOPICS, long)
    assert len(device.name) <= 60
    sensors = [component for _, _, component in components() if component["platform"] == "sensor"]
    for component in sensors:
        if ".text" in component["value_template"] or ".message" in component["value_template"]:
            assert "[:250]" in component["value_template"]


def test_a_task_is_shown_while_it_lives_and_a_day_after_it_has_happened() -> None:
    done = replace(TASK, state=TaskState.DONE, last_told_at=NOON)
    assert is_shown(TASK, NOON)
    assert is_shown(replace(TASK, state=TaskState.PAUSED), NOON)
    assert is_shown(done, NOON + LINGERS - timedelta(seconds=1))
    assert not is_shown(done, NOON + LINGERS)
    assert not is_shown(replace(TASK, state=TaskState.CANCELLED), NOON)
    assert not is_shown(replace(TASK, state=TaskState.EXPIRED), NOON)


def test_a_reminder_is_a_device_too() -> None:
    reminder = replace(TASK, reminder=Reminder(at=NOON.astimezone(UTC)))
    assert whole(task_device(TOPICS, reminder))["device"]["model"] == "reminder"


def test_the_device_of_a_topic_can_be_read_from_it() -> None:
    for form in get_args(Form):
        for device in DEVICES:
            for topic in discovery_messages(device, form, "homeassistant"):
                assert node_of(topic, "homeassistant") == device.node
                assert is_component_topic(topic, "homeassistant") is (form == "component")
    assert node_of("omni_watch/home/availability", "homeassistant") is None
    assert node_of("homeassistant/status", "homeassistant") is None
