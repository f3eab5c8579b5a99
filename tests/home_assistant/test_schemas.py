"""Our discovery messages against the schemas of a real Home Assistant."""

from __future__ import annotations

import json

import pytest

from omni_watch.alerts.messages import TopicNames
from omni_watch.home_assistant.devices import feed_device, hub, task_device
from omni_watch.home_assistant.messages import Form, discovery_messages
from tests.fakes.values import a_task
from tests.home_assistant.hass import inside, script

pytestmark = pytest.mark.home_assistant

TOPICS = TopicNames("home")
DEVICE_FORM_SINCE = (2024, 11)


def version() -> tuple[int, ...]:
    return tuple(int(part) for part in inside("python", script("validate.py"), given="{}").split()[0].split(".")[:2])


@pytest.mark.parametrize("form", ["device", "component"])
def test_no_message_has_a_key_or_value_that_home_assistant_does_not_know(form: Form) -> None:
    release = version()
    if form == "device" and release < DEVICE_FORM_SINCE:
        pytest.skip(f"Home Assistant {release} does not know whole devices")
    devices = (hub(TOPICS), feed_device(TOPICS, "kitchen"), task_device(TOPICS, a_task("k3")))
    messages = {
        topic: json.loads(payload)
        for device in devices
        for topic, payload in discovery_messages(device, form, "homeassistant").items()
    }
    # the form for old releases names an entity as both old and new ones want it; `options` came with 2024.11
    passed_over = [] if form == "device" else ["object_id", "default_entity_id"]
    passed_over += ["sensor.options"] if release < DEVICE_FORM_SINCE else []
    found = inside("python", script("validate.py"), *passed_over, given=json.dumps(messages)).splitlines()[1:]
    assert [line for line in found if line] == []
