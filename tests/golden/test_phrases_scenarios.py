"""Whole scenes of adding, changing and cancelling, second by second: what must be told is, in time, and nothing else.

Kinds and windows after the task-management scores of proactive benchmarks (IPIBench, arXiv 2605.27074): a scene passes
only when every alert falls into its window, belongs to the right task, and no other was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_watch.domain.tasks import Task
from tests.fakes.talking_house import TalkingHouse

SCENES = yaml.safe_load((Path(__file__).parent / "scenarios.yaml").read_text("utf-8"))
KINDS = {"ADD", "MODIFY", "CANCEL", "MULTI", "REPEAT", "INTERLEAVE"}
EARLY_S, LATE_S = 0.5, 3.0  # around an event, within which its alert must fall
LASTS_S = 3  # how long an event's condition holds
LISTED_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """An alert that must be told: from `at_s`, about a task whose words hold `word`."""

    at_s: float
    word: str


def passes(wanted: Sequence[Wanted], told: Sequence[tuple[float, str]]) -> bool:
    """Whether each wanted alert was told in its window, one to one, and nothing else; `told` is (second, task text)."""
    left = list(told)
    for one in wanted:
        fitting = [each for each in left if -EARLY_S <= each[0] - one.at_s <= LATE_S and one.word in each[1]]
        if not fitting:
            return False
        left.remove(fitting[0])
    return not left


CUP, BOWL = "tell me when the cup is full", "tell me when the bowl is full"


@pytest.mark.parametrize(
    ("wanted", "told", "is_right"),
    [
        # change at 30 from cup to bowl, cup at 50, bowl at 70
        ([Wanted(70, "bowl")], [(71.0, BOWL)], True),
        ([Wanted(70, "bowl")], [(50.5, CUP), (71.0, BOWL)], False),
        # cancelled at 40, events at 20 and 60
        ([Wanted(20, "cup")], [(20.8, CUP)], True),
        ([Wanted(20, "cup")], [(20.8, CUP), (61.0, CUP)], False),
        ([Wanted(20, "cup")], [], False),
        # each time, at 10, 30 and 50
        ([Wanted(at, "cup") for at in (10, 30, 50)], [(10.4, CUP), (30.2, CUP)], False),
        ([Wanted(at, "cup") for at in (10, 30, 50)], [(10.4, CUP), (30.2, CUP), (50.9, CUP)], True),
        ([Wanted(at, "cup") for at in (10, 30, 50)], [(10.4, CUP), (30.2, CUP), (50.9, CUP), (51.5, CUP)], False),
        # two tasks must not be swapped
        ([Wanted(10, "cup"), Wanted(20, "bowl")], [(10.5, BOWL), (20.5, CUP)], False),
    ],
)
def test_a_scene_is_judged_rightly(wanted: list[Wanted], told: list[tuple[float, str]], is_right: bool) -> None:
    assert passes(wanted, told) is is_right


def test_every_kind_of_scene_is_there_in_both_languages() -> None:
    for language in ("en", "zh"):
        assert {scene["kind"] for scene in SCENES if scene["language"] == language} == KINDS


@pytest.mark.parametrize("scene", SCENES, ids=[f"{scene['kind']} {scene['name']}" for scene in SCENES])
def test_a_scene_passes(scene: Mapping[str, Any]) -> None:
    said: dict[float, str] = {float(at): sentence for at, sentence in scene["say"].items()}
    events: list[tuple[float, str]] = [(float(at), word) for at, word in scene["happens"]]
    replies: dict[float, str] = {}
    texts: dict[str, str] = {}

    def happening(task: Task, second: float) -> bool:
        return any(at <= second < at + LASTS_S and word in task.text for at, word in events)

    with TalkingHouse() as house:
        while house.second < scene["lasts_s"]:
            if house.second in said:
                reply = house.say(said[house.second])
                replies[house.second] = reply.text
                assert reply.is_done or reply.is_question or scene.get("silent") == house.second, said[house.second]
            texts |= {task.id: task.text for task in house.live}
            house.pass_seconds(1, happening)
        told = [(second, texts[task_id]) for second, task_id, _ in house.told]

    assert passes([Wanted(at, word) for at, word in scene["told"]], told), told
    for at, part in scene.get("replies", {}).items():
        assert part in replies[float(at)]


def test_what_is_added_is_listed_at_once() -> None:
    with TalkingHouse() as house:
        house.say("tell me when the cup is full")
        before = house.second
        assert "the cup is full" in house.say("what are you watching for").text
        assert house.second - before <= LISTED_WITHIN_S


def test_nothing_is_told_after_a_cancel_even_what_was_on_its_way() -> None:
    with TalkingHouse() as house:
        house.say("tell me every time the dog barks")
        house._tell = lambda: None  # type: ignore[method-assign] # every channel is away
        house.happen("dog")
        del house._tell
        house.say("stop watching the dog")
        house.pass_seconds(5)
        house.happen("dog")
        assert house.told == []
