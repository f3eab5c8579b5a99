"""What the blueprints let through, and what they ask of us: their own templates, rendered.

That Home Assistant accepts them as they are is checked by `tests/home_assistant/test_files.py`, where there is one.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jinja2 import Environment

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "home-assistant"
BLUEPRINTS: Final = FOLDER / "blueprints" / "automation" / "omni_watch"
NOON, NIGHT = datetime(2026, 11, 28, 12), datetime(2026, 11, 28, 23, 30)  # noqa: DTZ001 - the house's own clock


class Loader(yaml.SafeLoader):
    """YAML in which `!input x` is what the input x has by default."""


def _as_input(loader: Loader, node: yaml.ScalarNode) -> str:
    return f"<{loader.construct_scalar(node)}>"


Loader.add_constructor("!input", _as_input)


def blueprint(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load((BLUEPRINTS / name).read_text("utf-8"), Loader)  # noqa: S506 - a safe one
    return content


def rendered(template: str, **values: Any) -> str:
    environment = Environment()  # noqa: S701 - no HTML comes of it
    environment.filters["to_json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["float"] = lambda value, otherwise=0.0: float(value if value is not None else otherwise)
    return environment.from_string(template).render(values).strip()


def event(event_type: str = "alert", *, before: str = "2026-11-28T11:00:00", **attributes: Any) -> dict[str, Any]:
    """A trigger by an event entity that was in the state `before`."""
    given = {"event_type": event_type, "alert_id": "k3-1", "task_id": "k3", "priority": "normal", "spoken": False}
    to_state = {"state": "2026-11-28T12:00:00", "attributes": {**given, **attributes}}
    return {"id": "alert", "from_state": {"state": before}, "to_state": to_state}


def passes(name: str, trigger: dict[str, Any], now: datetime = NOON) -> bool:
    """Whether all conditions of the automation hold."""
    quiet = {"quiet_from": "22:30:00", "quiet_to": "07:00:00"}
    conditions = [condition["value_template"] for condition in blueprint(name)["conditions"]]
    return all(rendered(each, trigger=trigger, now=lambda: now, **quiet) == "True" for each in conditions)


@pytest.mark.parametrize("name", ["announce.yaml", "notify.yaml"])
def test_nothing_is_lost_and_nothing_is_told_again_after_a_restart(name: str) -> None:
    assert blueprint(name)["mode"] == "queued"
    assert passes(name, event())
    assert passes(name, event(before="unknown")), "the first alert of a new entity"
    assert not passes(name, event(before="unavailable")), "Home Assistant repeats the last one when we come back"
    assert not passes(name, event(before="2026-11-28T12:00:00")), "only an attribute changed"


def test_what_omni_watch_speaks_itself_is_not_announced() -> None:
    assert passes("announce.yaml", event(spoken=False))
    assert not passes("announce.yaml", event(spoken=True))


def test_what_nobody_shall_say_aloud_is_not_announced_either() -> None:
    assert passes("announce.yaml", event(hushed=False))
    assert not passes("announce.yaml", event(hushed=True))


def test_only_alerts_are_announced_and_only_while_they_are_fresh() -> None:
    assert passes("announce.yaml", event("repeat"))
    for other in ("acknowledged", "snoozed", "resolved", "expired", "cancelled", "error"):
        assert not passes("announce.yaml", event(other))
    assert passes("announce.yaml", event(late_s=59))
    assert not passes("announce.yaml", event(late_s=61))


def test_at_night_only_what_is_urgent_is_said() -> None:
    assert not passes("announce.yaml", event(), NIGHT)
    assert not passes("announce.yaml", event(), NOON.replace(hour=3))
    assert passes("announce.yaml", event(), NOON.replace(hour=7))
    assert passes("announce.yaml", event(priority="urgent"), NIGHT)


@pytest.mark.parametrize(
    ("button", "asked"),
    [
        ("OMNI_ACK", {"id": "ack-k3-1", "op": "alert.ack", "args": {"alert_id": "k3-1"}}),
        ("OMNI_SNOOZE", {"id": "snooze-k3-1", "op": "alert.snooze", "args": {"alert_id": "k3-1", "minutes": 10}}),
    ],
)
def test_a_button_asks_for_what_stands_on_it(button: str, asked: dict[str, Any]) -> None:
    pressed = {"id": "button", "event": {"data": {"action": f"{button}|k3-1"}}}
    choice = blueprint("notify.yaml")["actions"][0]["choose"][2]
    assert passes("notify.yaml", pressed)
    assert rendered(choice["conditions"][0]["value_template"], trigger=pressed) == "True"
    names, publish = choice["sequence"]

    variables = {name: rendered(each, trigger=pressed) for name, each in names["variables"].items()}
    payload = rendered(publish["data"]["payload"], minutes=10, **variables)

    assert json.loads(payload) == {"v": 1, "source": "phone", **asked}
    assert rendered(publish["data"]["topic"], instance="home") == "omni_watch/home/request"


def test_another_apps_button_is_none_of_ours() -> None:
    choice = blueprint("notify.yaml")["actions"][0]["choose"][2]

    for data in ({"action": "OPEN_GARAGE"}, {}):
        trigger = {"id": "button", "event": {"data": data}}
        assert rendered(choice["conditions"][0]["value_template"], trigger=trigger) != "True"


def test_a_notification_is_replaced_and_taken_away_by_its_task() -> None:
    told, over, _ = blueprint("notify.yaml")["actions"][0]["choose"]
    tag = told["sequence"][0]["variables"]["what_is_sent"]["tag"]

    assert rendered(tag, task_id="k3") == "omni_watch_k3"
    assert rendered(over["sequence"][0]["data"]["data"]["tag"], trigger=event("acknowledged")) == "omni_watch_k3"
    for event_type in ("acknowledged", "snoozed", "resolved", "expired", "cancelled"):
        assert rendered(over["conditions"][0]["value_template"], trigger=event(event_type)) == "True"
    assert rendered(over["conditions"][0]["value_template"], trigger=event("alert")) == "False"


def test_the_dashboard_names_entities_of_one_house() -> None:
    (view,) = yaml.safe_load((FOLDER / "dashboard.yaml").read_text("utf-8"))

    named = [word for word in json.dumps(view).replace('"', " ").split() if ".omni_watch_" in word and "*" not in word]
    assert named
    assert all(word.split(".")[1].startswith("omni_watch_home_") for word in named)


def test_the_dashboard_lists_each_task_on_a_line_of_its_own() -> None:
    (view,) = yaml.safe_load((FOLDER / "dashboard.yaml").read_text("utf-8"))
    (content,) = (
        card["content"] for section in view["sections"] for card in section["cards"] if card["type"] == "markdown"
    )
    ids = ["switch.omni_watch_kettle_enabled", "switch.omni_watch_dog_enabled"]

    environment = Environment()  # noqa: S701 - no HTML comes of it
    environment.tests["match"] = lambda text, pattern: re.match(pattern, text) is not None
    environment.globals |= {
        "integration_entities": lambda _name: [*ids, "sensor.omni_watch_home_reply"],
        "is_state": lambda entity_id, _state: "dog" in entity_id,
        "device_attr": lambda entity_id, _name: entity_id[18:21],
    }
    assert environment.from_string(content).render().split("\n") == ["", "- 👁 dog", "- ⏸ ket"]
    ids.clear()
    assert environment.from_string(content).render().strip() == "Nothing yet. Write below what you are waiting for."
