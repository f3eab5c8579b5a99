"""The switch that keeps the whole daemon from listening, over a real broker: what is heard, what is not, what lasts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import synthetic_sounds as sounds
from tests.fakes.clips import write_clip
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess, OwnRules, kitchen

pytestmark = pytest.mark.models

BASE = "omni_watch/test"
STATE, ALERT = f"{BASE}/feed/kitchen/state", f"{BASE}/alert"
EVERY_S = 8.0  # the microwave of the clip beeps; a real one does not beep again for long, and the rule counts on that
MICROWAVE = "tell me when the microwave is done"


def beeping(path: Path) -> Path:
    """A clip in which a microwave beeps again and again."""
    beeps = sounds.at_level(sounds.row(2000, 0.25, 0.25, 4), -15)
    once = sounds.mixed(sounds.room_noise(EVERY_S, 0.002, np.random.default_rng(3)), beeps, 4.0)

    def tone(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(once[(at * 16_000).astype(int) % len(once)], np.float64)

    return write_clip(path, seconds=200.0, paint=lambda at_s: 60 + int(at_s) % 100, tone=tone)


def state_of(person: Subscriber) -> dict[str, Any]:
    """What the broker was told last of the kitchen."""
    told = person.on(STATE)
    return told[-1].json if told else {}


async def test_what_is_switched_off_is_heard_by_nobody_until_it_is_switched_on(
    tmp_path: Path, own_broker: Broker, make_house: Callable[..., HouseProcess], listen: Callable[..., Subscriber]
) -> None:
    own_broker.start()
    rules = OwnRules(tmp_path / "rules")
    rules.change("microwave_done", "rearm_s: 20", "rearm_s: 3")
    house = make_house(kitchen(beeping(tmp_path / "kitchen.mp4"), own_broker.port) + rules.settings)
    house.ask("task", "add", MICROWAVE)
    off = house.ask("listen", "kitchen", "off")
    assert off["listens"] == {"kitchen": False}
    person = listen(own_broker.port, f"{BASE}/#")

    # off from the first sample on
    house.start()
    await house.until_ready()
    await house.until(lambda: state_of(person).get("fps"), "the kitchen is not told")
    assert state_of(person)["states"] == {"sight": "live", "hearing": "off"}
    assert (state_of(person)["online"], state_of(person)["listen"]) == (True, False)
    since = len(person.on(STATE))
    await house.until(lambda: len(person.on(STATE)) > since, "a row of beeps", 20)  # told each ten seconds
    assert person.on(ALERT) == []
    assert {message.json["level_dbfs"] for message in person.on(STATE)} == {None}, "not one sample was taken"

    # on
    person.publish(f"{BASE}/feed/kitchen/set/listen", b"ON")
    await house.until(lambda: state_of(person)["listen"], "it was not switched on", 5)
    await house.until(lambda: person.on(ALERT), "the microwave was not heard")
    assert person.on(ALERT)[0].json["text"] == "The microwave is done."
    await house.until(lambda: state_of(person)["level_dbfs"], "the kitchen has no level", 15)
    assert -70 < state_of(person)["level_dbfs"] < -10
    assert state_of(person)["states"]["hearing"] == "live"

    # off again, and through a kill
    person.publish(f"{BASE}/feed/kitchen/set/listen", b"OFF")
    await house.until(lambda: not state_of(person)["listen"], "it was not switched off", 5)
    answer = person.on(f"{BASE}/reply/command")[-1].json
    assert answer["result"]["message"] == "kitchen is not listened to"
    house.kill()
    person.messages.clear()
    house.ask("task", "add", MICROWAVE)
    house.start()
    await house.until_ready()
    await house.until(lambda: len(person.on(STATE)) >= 2, "the kitchen is not told", 30)
    assert {message.json["listen"] for message in person.on(STATE)} == {False}
    assert {message.json["level_dbfs"] for message in person.on(STATE)} == {None}
    assert person.on(ALERT) == []
    assert house.ask("listen")["listens"] == {"kitchen": False}
