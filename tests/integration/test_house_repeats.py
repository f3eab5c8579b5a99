"""An alert that nobody acknowledges, in the real program with a real broker: told again, and ended by one word."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from omni_watch.domain.rhythms import Reminder
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task
from omni_watch.store.database import open_store
from omni_watch.watch import requests
from tests.fakes.clips import write_quiet_clip
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess, kitchen

pytestmark = pytest.mark.models

ALERTS = "omni_watch/test/alert"
LAST = "omni_watch/test/last_alert"
EVERY_S = 1.0
KILLS = 4

Build = Callable[..., HouseProcess]


@pytest.fixture
def build(tmp_path: Path, own_broker: Broker, make_house: Callable[..., HouseProcess]) -> Build:
    """A kitchen in which nothing happens; urgent alerts are repeated each second."""
    own_broker.start()
    clip = write_quiet_clip(tmp_path / "kitchen.mp4")

    def made(voice: str = 'output = "off"', times: int = 100) -> HouseProcess:
        escalation = f"[escalation]\nevery_s = {EVERY_S}\ntimes = {times}\n"
        return make_house(kitchen(clip, own_broker.port, voice=voice) + escalation)

    return made


def remind(house: HouseProcess, task_id: str, priority: Priority = Priority.URGENT) -> None:
    """An alert that is decided as soon as a daemon looks: the time is its condition."""
    now = datetime.now(UTC)
    task = Task(
        id=task_id,
        text=f"remind me of {task_id}",
        language="en",
        message=f"Look at the {task_id}!",
        set_by="cli",
        set_at=now,
        repeat=Repeat.ONCE,
        priority=priority,
        cooldown_s=0.0,
        reminder=Reminder(at=now),
    )
    with open_store(house.folder / "state" / "omni-watch.db") as store:
        store.transact(lambda tx: requests.add_task(tx, task=task))


def told(subscriber: Subscriber) -> list[tuple[str, int]]:
    """What came over the broker: the transition, and how often it had been told again by then."""
    return [(message.json["event_type"], message.json["repeat"]) for message in subscriber.on(ALERTS)]


def alert_of(house: HouseProcess, task_id: str) -> dict[str, Any]:
    return next(alert for alert in house.ask("alerts", "list")["alerts"] if alert["task_id"] == task_id)


async def test_an_urgent_alert_is_told_again_and_again_until_somebody_takes_note_of_it(
    build: Build, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    house, subscriber = build(), listen(own_broker.port, "omni_watch/test/#")
    house.start()
    await house.until_ready()
    remind(house, "smoke")
    await house.until(lambda: ("repeat", 3) in told(subscriber), "it was not told again")

    (noted,) = house.ask("alerts", "ack")["alerts"]
    assert (noted["id"], noted["state"], noted["closed_by"]) == ("smoke-1", "acknowledged", "cli")
    await house.until(lambda: ("acknowledged", noted["repeats"]) in told(subscriber), "nobody was told that it is over")
    await asyncio.sleep(2.5 * EVERY_S)  # the time in which it would have been told again

    repeats = noted["repeats"]
    assert told(subscriber) == [
        ("alert", 0),
        *(("repeat", number) for number in range(1, repeats + 1)),
        ("acknowledged", repeats),
    ]
    assert {message.json["alert_id"] for message in subscriber.on(ALERTS)} == {"smoke-1"}
    assert subscriber.on(LAST)[-1].json["event_type"] == "acknowledged", "who looks later sees that it is over"
    assert subscriber.on("omni_watch/test/task/smoke/alert")[-1].json["event_type"] == "acknowledged"
    assert house.ask("alerts", "ack", "smoke-1")["alerts"][0]["state"] == "acknowledged", "again is no mistake"
    assert house.stop() == 0


async def test_kills_neither_lose_nor_double_a_repeat(
    build: Build, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    house, subscriber = build(), listen(own_broker.port, ALERTS)
    house.ask("task", "list")  # makes the house's database
    remind(house, "smoke")
    moments = random.Random(5)
    for _ in range(KILLS):
        house.start()
        await house.until_ready()
        await asyncio.sleep(moments.uniform(0, 2 * EVERY_S))  # the random moment is the test
        house.kill()
    house.start()
    await house.until_ready()
    before = alert_of(house, "smoke")["repeats"]
    await house.until(lambda: ("repeat", before + 1) in told(subscriber), "it was not told again after the last kill")
    house.ask("task", "ack", "smoke")
    await house.until(lambda: told(subscriber)[-1][0] == "acknowledged", "nobody was told that it is over")
    assert house.stop() == 0

    alert = alert_of(house, "smoke")
    assert alert["repeats"] >= KILLS // 2, "the kills came too early to prove anything"
    numbers = [delivery["number"] for delivery in alert["deliveries"]]
    assert numbers == list(range(alert["repeats"] + 2)), "each repeat was decided once, and then its end"
    came = list(dict.fromkeys(told(subscriber)))  # what was being sent at a kill may come twice, under the same name
    sent = [d["number"] for d in alert["deliveries"] if d["transition"] != "acknowledged" and d["state"] == "sent"]
    assert [number for transition, number in came if transition != "acknowledged"] == sent
    assert came[-1] == ("acknowledged", alert["repeats"])


async def test_that_it_is_over_is_told_when_the_broker_is_back(
    build: Build, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    house, subscriber = build(), listen(own_broker.port, ALERTS)
    house.start()
    await house.until_ready()
    remind(house, "smoke")
    await house.until(lambda: told(subscriber), "it was not told")
    own_broker.kill()
    house.ask("alerts", "ack")
    house.kill()
    own_broker.start()
    await asyncio.to_thread(subscriber.until_ready)
    house.start()
    await house.until(lambda: told(subscriber)[-1][0] == "acknowledged", "what became of it was lost")
    assert house.stop() == 0


async def test_one_that_nobody_takes_note_of_expires_and_a_normal_one_is_told_once(
    build: Build, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    house, subscriber = build(times=2), listen(own_broker.port, ALERTS)
    house.start()
    await house.until_ready()
    remind(house, "soup", Priority.NORMAL)
    remind(house, "smoke")
    await house.until(lambda: ("expired", 2) in told(subscriber), "it did not expire")
    assert house.stop() == 0

    of_smoke = [message.json["event_type"] for message in subscriber.on(ALERTS) if message.json["task_id"] == "smoke"]
    assert of_smoke == ["alert", "repeat", "repeat", "expired"]
    assert len([message for message in subscriber.on(ALERTS) if message.json["task_id"] == "soup"]) == 1
    assert alert_of(house, "soup")["state"] == "open"


async def test_in_quiet_hours_only_what_is_urgent_is_spoken_and_the_rest_comes_as_messages(
    build: Build, own_broker: Broker, listen: Callable[..., Subscriber]
) -> None:
    now = datetime.now(UTC)
    hours = f"{now - timedelta(hours=2):%H:%M}-{now + timedelta(hours=2):%H:%M}"  # of this house, whose zone is UTC
    house = build(f'output = "file"\nquiet_hours = "{hours}"')
    subscriber, spoken = listen(own_broker.port, ALERTS), house.folder / "state" / "spoken"
    house.start()
    await house.until_ready()
    remind(house, "soup", Priority.NORMAL)
    remind(house, "smoke")
    await house.until(lambda: list(spoken.glob("smoke-1-repeat*.wav")), "the urgent one was not spoken again")
    await house.until(lambda: house.events("delivery.dead"), "the normal one was not let go")
    assert house.stop() == 0

    assert not (spoken / "soup-1.wav").exists()
    by = {delivery["channel"]: delivery for delivery in alert_of(house, "soup")["deliveries"]}
    assert by["mqtt"]["state"] == "sent"
    assert by["voice"]["detail"].startswith("quiet hours, until ")
    assert "soup-1" in {message.json["alert_id"] for message in subscriber.on(ALERTS)}
