"""Reminders in the real program: said at their time by a daemon that runs, and late by one that did not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.clips import write_quiet_clip
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess, kitchen

pytestmark = pytest.mark.models

ALERTS = "omni_watch/test/alert"


@pytest.fixture
def house(tmp_path: Path, own_broker: Broker, make_house: Callable[..., HouseProcess]) -> HouseProcess:
    """A kitchen in which nothing happens."""
    own_broker.start()
    return make_house(kitchen(write_quiet_clip(tmp_path / "kitchen.mp4"), own_broker.port))


async def test_what_was_asked_for_is_said_at_its_time_once_and_over_a_power_cut(
    house: HouseProcess, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    subscriber = listen(own_broker.port, ALERTS)
    house.start()
    await house.until_ready()
    said = house.ask("say", "in three seconds remind me to stir the soup")
    assert (said["deed"], said["is_done"]) == ("remind", True)
    assert said["reply"].endswith("Stir the soup.")
    await house.until(lambda: subscriber.on(ALERTS), "the reminder was not said")

    house.ask("say", "五秒后提醒我关火")
    house.ask("say", "in ten minutes remind me to sit down")
    house.kill()
    await asyncio.sleep(5)  # the time passes while nobody runs
    house.start()
    await house.until_ready()
    await house.until(lambda: len(subscriber.on(ALERTS)) == 2, "the reminder was not said after the power cut")
    assert house.stop() == 0

    told = [
        (message.json["text"], message.json["task_id"], message.json["feed_id"]) for message in subscriber.on(ALERTS)
    ]
    assert told[0] == ("Stir the soup.", *said["task_ids"], "")
    assert told[1][0] == "关火"
    listed = house.ask("task", "list")["tasks"]
    assert [task["text"] for task in listed] == ["in ten minutes remind me to sit down"]
    assert listed[0]["reminds_at"] is not None


def test_a_conversation_goes_on_over_two_commands(house: HouseProcess) -> None:
    for sentence in ("tell me every time the dog barks", "tell me when the doorbell rings"):
        assert house.ask("say", sentence)["deed"] == "add"
    question = house.ask("say", "stop watching it")
    assert question["is_question"]

    answer = house.ask("say", "the first one")
    assert (answer["deed"], answer["is_done"]) == ("cancel", True)
    assert [task["text"] for task in house.ask("task", "list")["tasks"]] == ["tell me when the doorbell rings"]
