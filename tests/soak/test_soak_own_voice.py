"""Ten minutes of its own alerts, played loud into the room it listens to: it obeys, hears and interrupts nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import cycle

import pytest

from tests.fixtures_house import HouseProcess
from tests.fixtures_pulse import Room

pytestmark = [pytest.mark.soak, pytest.mark.models]

MINUTES = 10
KITCHEN = """
[[feeds]]
name = "kitchen"
audio = "mic"

[voice]
volume = 1.0

[ears]
keep_heard = true

[log]
level = "debug"
"""
WATCHED = (
    "tell me every time the smoke alarm goes off",
    "tell me every time the dog barks",
    "tell me every time the microwave is done",
    "tell me every time somebody knocks",
)
SAID = (  # what would be a request, a dog or an alarm, were it a person's or a thing's
    "tell me when the kettle is full",
    "stop watching for the dog",
    "the dog barks, woof, woof",
    "beep, beep, beep, the oven is done",
    "tell me every time the doorbell rings",
    "got it, thank you",
    "be quiet until tomorrow",
    "somebody knocks at the door",
)


async def test_its_own_voice_is_no_request_no_event_and_no_person(
    room: Room, make_house: Callable[..., HouseProcess]
) -> None:
    house = make_house(KITCHEN, **room.environment)
    watched = [house.ask("task", "add", text)["task"]["id"] for text in WATCHED]
    house.start()
    await house.until_ready()
    await house.until(lambda: house.events("words.ready"), "it does not understand people", 60)
    ends_s, said = time.monotonic() + MINUTES * 60, 0
    for text in cycle(SAID):
        if time.monotonic() > ends_s:
            break
        reply = await asyncio.to_thread(house.ask, "say", f"in two seconds remind me that {text}")
        assert reply["is_done"], reply
        said += 1
        await house.until(lambda count=said: len(spoken(house)) >= count, "it was not said", 60)  # type: ignore[misc]
    print(f"{said} alerts in {MINUTES} minutes; stops {len(house.events('voice.gave_way'))}")
    tasks = {task["id"]: task for task in house.ask("task", "list", "--all")["tasks"]}
    assert house.events("words.understood") == [], "it did what itself said"
    assert house.events("voice.gave_way") == [], "it stopped for itself"
    assert [event for event in house.events("alert.queued") if event["task_id"] in watched] == []
    assert {tasks[task_id]["state"] for task_id in watched} == {"armed"}
    assert len(house.events("unit.skipped")) + len(house.events("unit.dropped")) == 0
    assert house.stop() == 0


def spoken(house: HouseProcess) -> list[object]:
    return [event for event in house.events("delivery.sent") if event["channel"] == "voice"]
