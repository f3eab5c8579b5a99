"""The whole daemon in a small real house: an RTSP camera, a room with microphone and loudspeaker, a Mosquitto."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import synthetic_sounds as sounds
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess
from tests.fixtures_pulse import Room
from tests.fixtures_rtsp import RtspCamera

pytestmark = pytest.mark.models

ALERTS = "omni_watch/test/alert"
TASK = "tell me every time the microwave is done"


def microwave() -> NDArray[np.float32]:
    """Four long beeps, in a room."""
    rng = np.random.default_rng(7)
    beeps = sounds.row(2000, 0.4, 0.5, 4)
    noise = sounds.room_noise(len(beeps) / sounds.RATE + 1, 0.002, rng)
    return np.asarray(sounds.mixed(noise, sounds.at_level(beeps, -18), 0.5), np.float32)


def settings(camera: RtspCamera, broker: Broker) -> str:
    return f"""
[[feeds]]
name = "kitchen"
video = "{camera.url}"
audio = "mic"

[mqtt]
enabled = true
host = "127.0.0.1"
port = {broker.port}

[log]
level = "debug"
"""


@pytest.fixture
def camera(rtsp_camera: Callable[..., RtspCamera]) -> RtspCamera:
    """The kitchen's, which has no microphone of its own."""
    return rtsp_camera("--sound", "none")


@pytest.fixture
async def house(
    room: Room,
    camera: RtspCamera,
    own_broker: Broker,
    make_house: Callable[..., HouseProcess],
) -> HouseProcess:
    """A running house that waits for the microwave."""
    own_broker.start()
    living = make_house(settings(camera, own_broker), **room.environment)
    living.ask("task", "add", TASK, "--cooldown", "1s")
    living.start()
    await living.until_ready()
    await both_senses_live(living)
    return living


async def both_senses_live(living: HouseProcess) -> None:
    """Wait until it sees and hears, and has found the kitchen quiet: nothing that stands from the start is told."""

    def live() -> bool:
        last = {event["sense"]: event["state"] for event in living.events("feed.state")}
        return last == {"sight": "live", "hearing": "live"}

    await living.until(live, "camera and microphone are not live")
    await living.until(lambda: is_found_quiet(living), "the kitchen was not found quiet")


def is_found_quiet(living: HouseProcess) -> bool:
    return any(mark["is_primed"] for mark in living.ask("task", "show", TASK)["marks"])


async def test_beeps_in_the_room_become_one_message_with_a_picture_and_one_sentence_in_the_room(
    house: HouseProcess, room: Room, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    subscriber = listen(own_broker.port, "omni_watch/test/#")
    with room.record() as heard:
        await asyncio.to_thread(room.play_samples, microwave())
        message = await subscriber.first_on(ALERTS, 20)
        await house.until(lambda: spoken(house), "nobody spoke")

    alert = message.json
    assert alert["text"] == "The microwave is done."
    assert alert["feed_id"] == "kitchen"
    assert (alert["v"], alert["event_type"], alert["snapshot"]) == (1, "alert", True)
    assert subscriber.on("omni_watch/test/snapshot")[0].payload.startswith(b"\xff\xd8"), "a JPEG"
    assert len(subscriber.on(ALERTS)) == 1
    (kept,) = house.ask("alerts", "list")["alerts"]
    assert {each["channel"]: each["state"] for each in kept["deliveries"]} == {"mqtt": "sent", "voice": "sent"}
    assert 0.5 < seconds_of_sound_after_the_beeps(heard.samples, heard.rate_hz) < 6
    assert house.stop() == 0


async def test_a_camera_that_dies_and_comes_back_stops_nothing(
    house: HouseProcess,
    room: Room,
    own_broker: Broker,
    listen: Callable[..., Subscriber],
    camera: RtspCamera,
) -> None:
    subscriber = listen(own_broker.port, ALERTS)
    camera.kill()
    await house.until(lambda: state_of_sight(house) == "waiting", "the loss was not noticed", 40)
    await asyncio.to_thread(room.play_samples, microwave())
    await house.until(lambda: house.events("alert.queued"), "no alert", 20)
    await subscriber.first_on(ALERTS, 20)

    camera.start()
    await house.until(lambda: state_of_sight(house) == "live", "the camera did not come back", 90)
    assert house.stop() == 0


async def test_what_happens_while_the_broker_is_away_is_told_once_when_it_is_back(
    house: HouseProcess, room: Room, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    own_broker.kill()
    await house.until(lambda: house.events("mqtt.offline"), "the loss was not noticed")
    await asyncio.to_thread(room.play_samples, microwave())
    await house.until(lambda: house.events("alert.queued"), "no alert")

    own_broker.start()
    subscriber = listen(own_broker.port, ALERTS)
    await subscriber.first_on(ALERTS, 70)
    await house.until(lambda: not pending(house), "not delivered")
    assert len(subscriber.on(ALERTS)) == 1
    assert house.stop() == 0


def spoken(house: HouseProcess) -> bool:
    return any(event["channel"] == "voice" for event in house.events("delivery.sent"))


def pending(house: HouseProcess) -> bool:
    return any(
        delivery["state"] in ("pending", "sending")
        for alert in house.ask("alerts", "list")["alerts"]
        for delivery in alert["deliveries"]
    )


def state_of_sight(house: HouseProcess) -> str:
    states = [event["state"] for event in house.events("feed.state") if event["sense"] == "sight"]
    return str(states[-1]) if states else ""


def seconds_of_sound_after_the_beeps(samples: NDArray[np.float32], rate_hz: int) -> float:
    """How long somebody spoke: loud stretches of 50 ms that are no pure 2 kHz tone."""
    size = rate_hz // 20
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    hertz = np.fft.rfftfreq(size, 1 / rate_hz)
    tone = spectrum[:, (hertz > 1900) & (hertz < 2100)].sum(axis=1) / (spectrum.sum(axis=1) + 1e-12)
    loud = np.sqrt((frames**2).mean(axis=1)) > 0.02
    return float((loud & (tone < 0.5)).sum() * 0.05)


def test_a_house_that_is_asked_nothing_says_what_it_would_need(
    make_house: Callable[..., HouseProcess], tmp_path: Path
) -> None:
    living = make_house('[[feeds]]\nname = "hall"\nvideo = "rtsp://127.0.0.1:9/none"\n')
    added = living.ask("task", "add", "tell me when the parcel lies on the step")
    shown = living.ask("task", "show", json.loads(json.dumps(added))["task"]["id"])
    assert "show me" in json.dumps(shown).lower()


async def test_what_a_camera_shows_can_be_taught_live_with_the_daemon_and_without_it(
    camera: RtspCamera, make_house: Callable[..., HouseProcess]
) -> None:
    living = make_house(f'[[feeds]]\nname = "kitchen"\nvideo = "{camera.url}"\n[voice]\noutput = "off"\n')
    task_id = living.ask("task", "add", "tell me when the door is open")["task"]["id"]
    place = ("--feed", "kitchen", "--region", "0.2,0.2,0.5,0.5")
    await asyncio.to_thread(living.ask, "teach", task_id, *place, "--label", "not-yet")

    living.start()
    await living.until_ready()
    await living.until(lambda: state_of_sight(living) == "live", "the camera is not live")
    await asyncio.to_thread(living.ask, "teach", task_id, *place, "--label", "done")
    (lesson,) = living.ask("teach", task_id, "--list")["lessons"]
    assert sorted(example["label"] for example in lesson["examples"]) == ["done", "not_yet"]
    await living.until(lambda: len(living.events("session.opened")) > 1, "what was taught did not reach the engine")
    assert living.ask("task", "show", task_id)["plan"]["means"] == ["taught"]
    assert living.stop() == 0
