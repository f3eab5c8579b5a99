"""A daemon that is killed again and again, at any moment: nothing promised is lost, nothing is told as two things."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import synthetic_sounds as sounds
from tests.fakes.clips import write_clip, write_quiet_clip
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess, kitchen

pytestmark = pytest.mark.models

KILLS = 30
QUIET_S = 3.2  # just long enough to be found quiet
ALERTS = "omni_watch/test/alert"
TASKS = ("tell me every time the microwave is done", "微波炉每次好了都告诉我", "tell me when the kettle is full")


def beeping(path: Path) -> Path:
    """A clip that is quiet, then beeps four times; each daemon plays it from its beginning."""
    beeps = sounds.at_level(sounds.row(2000, 0.25, 0.25, 4), -15)
    noise = sounds.room_noise(12.0, 0.002, np.random.default_rng(3))
    track = sounds.mixed(noise, beeps, QUIET_S)

    def tone(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(track[np.minimum((at * 16_000).astype(int), len(track) - 1)], np.float64)

    return write_clip(path, seconds=12.0, tone=tone)


async def test_thirty_kills_lose_no_task_and_no_alert_and_tell_no_id_as_two_things(
    tmp_path: Path,
    own_broker: Broker,
    make_house: Callable[..., HouseProcess],
    listen: Callable[..., Subscriber],
) -> None:
    own_broker.start()
    clip = tmp_path / "kitchen.mp4"
    house = make_house(kitchen(beeping(clip), own_broker.port))
    ids = [house.ask("task", "add", words, "--cooldown", "1s")["task"]["id"] for words in TASKS]
    subscriber = listen(own_broker.port, ALERTS)
    moments = random.Random(11)
    committed: set[str] = set()
    for _ in range(KILLS):
        house.start()
        await house.until_ready()
        await asyncio.sleep(moments.uniform(0, QUIET_S + 1.8))  # the random moment is the test
        committed |= {event["alert_id"] for event in house.events("alert.queued")}
        house.kill()

    write_quiet_clip(clip)  # the last daemon only delivers: an alert of its own could be cut off by our stopping it
    house.start()
    await house.until_ready()
    await house.until(lambda: not _unfinished(house), "not everything was delivered", 60)
    assert house.stop() == 0

    kept = {alert["id"]: alert for alert in _alerts(house)}
    assert len(kept) >= KILLS // 6, "the kills came too early to prove anything"
    assert committed <= kept.keys(), "an alert that was committed is gone"
    told: dict[str, set[str]] = {}
    for message in subscriber.on(ALERTS):
        told.setdefault(message.json["alert_id"], set()).add(_content(message.json))
    assert told.keys() == kept.keys(), "every alert reached the subscriber, and nothing else did"
    assert all(len(contents) == 1 for contents in told.values()), "one id was told as two different alerts"
    assert [task["id"] for task in house.ask("task", "list", "--all")["tasks"]] == ids
    assert house.ask("db", "check")["is_sound"] is True


def _alerts(house: HouseProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = house.ask("alerts", "list", "--limit", "1000")["alerts"]
    return listed


def _unfinished(house: HouseProcess) -> list[str]:
    return [
        alert["id"]
        for alert in _alerts(house)
        for delivery in alert["deliveries"]
        if delivery["state"] in ("pending", "sending")
    ]


def _content(message: dict[str, Any]) -> str:
    """What an alert says, without what only tells when it was sent."""
    return repr({key: message[key] for key in ("task_id", "text", "decided_at", "condition_at", "fired_count")})
