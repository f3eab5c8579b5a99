"""The whole daemon on a broker: what is asked of it over MQTT, two of one name, and a kill in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clips import write_quiet_clip
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess, OwnRules, kitchen
from tests.fixtures_rtsp import RtspCamera

pytestmark = pytest.mark.models

BASE = "omni_watch/test"
CONFIG_EXIT = 78  # EX_CONFIG: the service manager does not start it again


def settings(camera: RtspCamera, broker: Broker) -> str:
    return f"""
[[feeds]]
name = "kitchen"
video = "{camera.url}"

[voice]
output = "off"

[mqtt]
enabled = true
host = "127.0.0.1"
port = {broker.port}
"""


async def test_a_house_is_asked_over_mqtt_and_keeps_its_word_through_a_kill(
    rtsp_camera: Callable[..., RtspCamera],
    own_broker: Broker,
    make_house: Callable[..., HouseProcess],
    listen: Callable[..., Subscriber],
) -> None:
    own_broker.start()
    camera = rtsp_camera("--sound", "none")
    house = make_house(settings(camera, own_broker))
    house.start()
    await house.until_ready()
    person = listen(own_broker.port, "#")
    request = {"v": 1, "id": "r1", "op": "task.add", "args": {"text": "tell me when the kettle is full"}}
    person.publish(f"{BASE}/request", json.dumps(request).encode())
    reply = await person.first_on(f"{BASE}/reply/r1", 30)
    assert reply.json["ok"], reply.json
    task_id = reply.json["result"]["task"]["task_id"]
    await person.first_on(f"homeassistant/device/omni_watch_test_t_{task_id}/config")
    person.publish(f"{BASE}/set/mute", b"ON")
    await person.until(lambda: any(message.json["mute"] for message in person.on(f"{BASE}/state")))

    second = make_house(settings(camera, own_broker))
    second.start()
    assert await second.until_ended() == CONFIG_EXIT
    assert "another Omni Watch named 'test' is on broker 127.0.0.1 already" in second.log_path.read_text()

    house.kill()
    await person.until(lambda: person.on(f"{BASE}/availability")[-1].payload == b"offline")
    person.messages.clear()
    house.start()
    await house.until_ready()
    person.publish(f"{BASE}/request", json.dumps(request).encode())
    again = await person.first_on(f"{BASE}/reply/r1", 30)
    assert again.payload == reply.payload, "done once, also across a kill"
    assert [task["id"] for task in house.ask("task", "list")["tasks"]] == [task_id]
    await person.until(lambda: any(message.json["mute"] for message in person.on(f"{BASE}/state")))
    assert house.stop() == 0
    await person.until(lambda: person.on(f"{BASE}/availability")[-1].payload == b"offline")


async def test_rules_that_are_read_again_are_those_of_the_conversation_too(
    tmp_path: Path, own_broker: Broker, make_house: Callable[..., HouseProcess], listen: Callable[..., Subscriber]
) -> None:
    own_broker.start()
    rules = OwnRules(tmp_path / "rules")
    clip = write_quiet_clip(tmp_path / "kitchen.mp4")
    house = make_house(kitchen(clip, own_broker.port) + rules.settings)
    house.start()
    await house.until_ready()
    person = listen(own_broker.port, f"{BASE}/#")

    async def ask(request_id: str, op: str, **args: str) -> Any:
        person.publish(f"{BASE}/request", json.dumps({"v": 1, "id": request_id, "op": op, "args": args}).encode())
        reply = (await person.first_on(f"{BASE}/reply/{request_id}", 30)).json
        assert reply["ok"], reply
        return reply["result"]

    asked = {"text": "tell me when the microwave is done"}
    before = (await ask("r1", "task.add", **asked))["task"]
    assert before["message"] == "The microwave is done."
    await ask("r2", "task.cancel", task_id=before["task_id"])

    rules.change("microwave_done", "The microwave is done.", "Your soup is hot.")
    house.hang_up()
    await house.until(lambda: len(house.events("ready")) == 2, "the rules were not read again")
    assert (await ask("r3", "task.add", **asked))["task"]["message"] == "Your soup is hot."
    (said,) = (await ask("r4", "say", text="tell me every time the microwave is done"))["task_ids"]
    assert (await ask("r5", "task.get", task_id=said))["task"]["message"] == "Your soup is hot."
