"""The whole daemon and a person in the same room: asked aloud, it answers aloud, and keeps watching all the while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.duplex.embedded.words.models import MODELS
from omni_watch.duplex.embedded.words.recognizer import Recognizer
from tests.fakes import synthetic_sounds as sounds
from tests.fakes.spoken import in_a_room, piper, recorded, resampled
from tests.fixtures_house import HouseProcess
from tests.fixtures_pulse import Room

pytestmark = pytest.mark.models

Floats = NDArray[np.float32]
KITCHEN = """
[[feeds]]
name = "kitchen"
audio = "mic"

[ears]
keep_heard = true

[log]
level = "debug"
"""


@pytest.fixture
async def house(room: Room, make_house: Callable[..., HouseProcess]) -> HouseProcess:
    """A running house that was asked nothing yet, and hears."""
    living = make_house(KITCHEN, **room.environment)
    living.start()
    await living.until_ready()
    await living.until(lambda: living.events("words.ready"), "it does not understand people", 60)
    return living


def person(sentence: str, cabinet: Cabinet) -> Floats:
    """A sentence of a person in the room."""
    return in_a_room(piper(sentence, cabinet.path("voice-en")), np.random.default_rng(3))


async def say(room: Room, speech: Floats) -> None:
    await asyncio.to_thread(room.play_samples, speech)


async def understood(house: HouseProcess, count: int = 1) -> dict[str, Any]:
    """What the last of so many requests was understood as."""
    await house.until(lambda: len(house.events("words.understood")) >= count, "nothing was understood", 20)
    return house.events("words.understood")[count - 1]


def heard_lines(house: HouseProcess) -> list[dict[str, Any]]:
    path = house.folder / "state" / "heard.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def units_missed(house: HouseProcess) -> int:
    return len(house.events("unit.skipped")) + len(house.events("unit.dropped"))


async def test_a_request_is_confirmed_aloud_told_when_it_happens_and_acknowledged(
    house: HouseProcess, room: Room, cabinet: Cabinet
) -> None:
    with room.record() as answer:
        await say(room, person("Tell me when the microwave is done.", cabinet))
        request = await understood(house)
        await house.until(lambda: house.events("answer.spoken"), "no answer was heard", 20)
    (task,) = house.ask("task", "list")["tasks"]
    assert (request["op"], task["rule"], task["set_by"]) == ("add", "microwave_done", "voice")
    assert "microwave" in words_in(answer.samples, answer.rate_hz, cabinet)
    assert not house.events("words.understood")[1:], "it did what itself said"

    await house.until(lambda: house.ask("task", "show", task["id"])["marks"], "the task is not watched")
    beeps = sounds.at_level(sounds.row(2000, 0.4, 0.5, 4), -18)
    await say(room, np.asarray(np.concatenate([np.zeros(3200, np.float32), beeps]), np.float32))
    await house.until(lambda: delivered(house), "no alert was heard", 30)
    await say(room, person("Got it.", cabinet))
    assert (await understood(house, 2))["op"] == "acknowledge"
    assert units_missed(house) == 0
    assert [line["op"] for line in heard_lines(house) if line["op"]] == ["add", "acknowledge"]
    assert house.stop() == 0


async def test_a_mandarin_request_is_answered_in_mandarin(house: HouseProcess, room: Room) -> None:
    await say(room, in_a_room(recorded("elevator"), np.random.default_rng(5)))
    request = await understood(house)
    (task,) = house.ask("task", "list")["tasks"]
    assert (request["op"], request["language"], task["rule"]) == ("add", "zh", "elevator_arrived")
    await house.until(lambda: house.events("answer.spoken"), "no answer was heard", 30)
    assert house.stop() == 0


def delivered(house: HouseProcess) -> bool:
    return any(event["channel"] == "voice" for event in house.events("delivery.sent"))


def words_in(samples: Floats, rate_hz: int, cabinet: Cabinet) -> str:
    """What a recogniser makes of a recording."""
    files = MODELS[0].files(cabinet.find)
    assert files is not None
    transcripts = Recognizer(files, ("en", "zh")).recognize(resampled(samples, rate_hz), {})
    return transcripts[0].text.lower() if transcripts else ""
