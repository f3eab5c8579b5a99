"""Whose utterance it is, in what the model really says: complete, cut short, turned, promised, asked, and beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.config.rulebook import load_rulebook
from omni_watch.duplex.minicpmo.attribution import Attribution, Attributor
from omni_watch.duplex.minicpmo.prompts import PromptedTask, PromptLimits, compose
from omni_watch.watch.briefing import BriefedTask, Briefing
from tests.fakes.values import a_task

BOOK = load_rulebook()
TONGUES = BOOK.phrasebook.tongues


def briefed(task_id: str, text: str, rule: str = "", **changes: Any) -> BriefedTask:
    task = a_task(task_id, text=text, rule=rule or None, **changes)
    return BriefedTask(task=task, rule=BOOK.get(rule))


def prompted(*tasks: BriefedTask) -> tuple[PromptedTask, ...]:
    briefing = Briefing(feed="kitchen", tasks=tasks)
    return compose(briefing, tongues=TONGUES, count_tokens=len, limits=PromptLimits(tokens=100_000)).tasks


ENGLISH = prompted(
    briefed("kettle", "tell me when the kettle is full", "kettle_full"),
    briefed("alarm", "when the alarm rings tell me the game is over", "alarm_clock", message="The game is over."),
    briefed("ball", "tell me when the red ball falls off the table", message="The red ball falls off the table."),
    briefed("lift", "tell me when the elevator is here", "elevator_arrived", message="The elevator is here."),
)
CHINESE = prompted(
    briefed("kettle", "水满了提醒我", "kettle_full", language="zh", message="水满了"),
    briefed("lift", "等电梯到了的时候告诉我一声", "elevator_arrived", language="zh", message="电梯到了"),
    briefed("child", "小孩爬上沙发就叫我", language="zh", message="小孩爬上沙发"),
    briefed("dog", "狗叫了告诉我", "dog_barking", language="zh", message="狗叫了"),
)
KETTLES = prompted(
    briefed("left", "tell me when the left kettle is full", message="The left kettle is full."),
    briefed("right", "tell me when the right kettle is full", message="The right kettle is full."),
)


def attributed(utterance: str, tasks: Sequence[PromptedTask]) -> Attribution:
    return Attributor(tasks, TONGUES).attribute(utterance)


@pytest.mark.parametrize(
    ("utterance", "task_id"),
    [
        ("The kettle is full.", "kettle"),
        ("The kettle is full", "kettle"),
        ("Hey, your kettle is full!", "kettle"),
        ("The kettle is full now, you can turn off the tap.", "kettle"),
        ("It's 18:02 and the kettle is full.", "kettle"),
        ("The kettle has filled up.", "kettle"),
        ("The kettle is full, not boiling.", "kettle"),
        ("1. The kettle is full.", "kettle"),
        ("The game is over!", "alarm"),
        ("The alarm is ringing, the game is over.", "alarm"),
        ("Task 2 has happened.", "alarm"),
        ("The red ball falls off the table.", "ball"),
        ("Oh! The red ball is falling off the table!", "ball"),
        ("The elevator has arrived.", "lift"),
        ("The elevator doors are open.", "lift"),
    ],
)
def test_an_english_report_belongs_to_its_task(utterance: str, task_id: str) -> None:
    found = attributed(utterance, ENGLISH)
    assert found.task_id == task_id
    assert 0.5 < found.confidence <= 1.0


@pytest.mark.parametrize(
    ("utterance", "task_id"),
    [
        ("水满了。", "kettle"),
        ("水壶里的水已经满了。", "kettle"),
        ("水滿了", "kettle"),
        ("提醒您，水满了！", "kettle"),
        ("水满了，请关水龙头", "kettle"),
        ("水满了请不要再加了", "kettle"),
        ("电梯到了", "lift"),
        ("电梯门开了", "lift"),
        ("小孩爬上沙发了", "child"),
        ("快看，小孩爬上沙发了！", "child"),
        ("我听到狗在叫", "dog"),
        ("第四件事发生了", "dog"),
    ],
)
def test_a_chinese_report_belongs_to_its_task(utterance: str, task_id: str) -> None:
    assert attributed(utterance, CHINESE).task_id == task_id


@pytest.mark.parametrize(
    "utterance",
    [
        "The kettle is almost full.",
        "The kettle is not full yet.",
        "The kettle isn't full.",
        "The kettle is half full.",
        "The kettle is filling up.",
        "The kettle is boiling.",
        "The bucket is full.",
        "The smoke alarm is going off.",
        "The blue ball falls off the table.",
        "The red ball falls off the chair.",
        "The red ball is on the table.",
        "The elevator is coming.",
    ],
)
def test_what_is_nearly_the_case_is_a_comment(utterance: str) -> None:
    assert attributed(utterance, ENGLISH).task_id is None


@pytest.mark.parametrize(
    "utterance",
    ["水没满", "水快满了", "还没满呢", "水开了", "浴缸的水满了", "电梯还没到", "我看到电梯了", "小猫爬上沙发了"],
)
def test_what_is_nearly_the_case_in_chinese_is_a_comment(utterance: str) -> None:
    assert attributed(utterance, CHINESE).task_id is None


@pytest.mark.parametrize(
    "utterance",
    [
        "Is the kettle full?",
        "I'll tell you when the kettle is full.",
        "When the kettle is full, I will let you know.",
        "Okay, I will let you know as soon as the kettle is full.",
        "Shall I tell you that task 2 has happened?",
        "I am waiting for task 2.",
    ],
)
def test_a_question_or_a_promise_reports_nothing(utterance: str) -> None:
    assert attributed(utterance, ENGLISH).task_id is None


@pytest.mark.parametrize(
    "utterance", ["水满了吗？", "水满了吗", "好的，水满了我会告诉你", "好的，水满了提醒你", "水满了就告诉你"]
)
def test_a_question_or_a_promise_in_chinese_reports_nothing(utterance: str) -> None:
    assert attributed(utterance, CHINESE).task_id is None


@pytest.mark.parametrize(
    "utterance",
    [
        "",
        "   ",
        "…",
        "Mm-hm.",
        "Hello! How are you today?",
        "That looks like a cat.",
        "I see a kettle on the table.",
        "3, 2, 1, go!",
    ],
)
def test_chatter_is_a_comment(utterance: str) -> None:
    found = attributed(utterance, ENGLISH)
    assert found.task_id is None
    assert found.confidence <= 0.3


@pytest.mark.parametrize(
    "utterance", ["The kettle", "The kettle is", "The kettle is fu", "The red ball falls", "The game is"]
)
def test_an_utterance_cut_before_the_telling_word_is_not_yet_certain(utterance: str) -> None:
    assert attributed(utterance, ENGLISH).task_id is None


def test_an_utterance_that_grows_becomes_certain_at_its_telling_word_and_stays_so() -> None:
    attributor = Attributor(ENGLISH, TONGUES)
    units = [
        "Attention please, the kettl",
        "Attention please, the kettle is full no",
        "Attention please, the kettle is full now.",
    ]
    assert [attributor.attribute(text).task_id for text in units] == [None, "kettle", "kettle"]


def test_two_kettles_are_told_apart_by_the_word_that_differs() -> None:
    assert attributed("The left kettle is full.", KETTLES).task_id == "left"
    assert attributed("The kettle on the right is full now.", KETTLES).task_id == "right"


def test_what_fits_two_tasks_alike_is_a_comment() -> None:
    found = attributed("The kettle is full.", KETTLES)
    assert (found.task_id, found.confidence < 0.5) == (None, True)


@pytest.mark.parametrize(
    ("utterance", "first"),
    [("The elevator is here. The game is over.", "lift"), ("The kettle is full and the elevator is here.", "kettle")],
)
def test_an_utterance_that_reports_two_tasks_belongs_to_one_of_them(utterance: str, first: str) -> None:
    found = attributed(utterance, ENGLISH)
    assert (found.task_id, found.confidence) == (first, 1.0)


def test_a_number_decides_between_tasks_that_are_alike() -> None:
    twins = prompted(
        briefed("a", "tell me when the kettle is full", "kettle_full"),
        briefed("b", "tell me when the bedroom kettle is full", "kettle_full"),
    )
    assert attributed("The kettle is full.", twins).task_id is None
    assert attributed("2. The kettle is full.", twins).task_id == "b"
    assert attributed("Task 1: the kettle is full.", twins).task_id == "a"


def test_a_number_never_outweighs_words_that_say_another_task() -> None:
    assert attributed("2. The kettle is full.", ENGLISH).task_id == "kettle"


def test_a_clear_lead_is_surer_than_a_small_one() -> None:
    alone = attributed("The right kettle is full.", KETTLES[1:])
    among = attributed("The kettle on the right is full now.", KETTLES)
    assert alone.confidence == 1.0
    assert among.confidence < alone.confidence


def test_a_number_in_the_condition_must_be_the_number_that_is_said() -> None:
    floors = prompted(briefed("one", "tell me when the display shows floor 3", message="The display shows floor 3."))
    assert attributed("The display shows floor 3.", floors).task_id == "one"
    assert attributed("The display shows floor 4.", floors).task_id is None


def test_a_message_of_several_clauses_is_recognised_as_a_whole() -> None:
    tasks = prompted(briefed("tap", "tell me when the tub overflows", message="Turn off the tap, the tub is full."))
    assert attributed("Turn off the tap, the tub is full!", tasks).task_id == "tap"
    assert attributed("Turn off the light.", tasks).task_id is None


def test_a_task_in_a_language_nobody_described_is_still_recognised() -> None:
    tasks = prompted(briefed("de", "sag Bescheid", language="de", message="Der Wasserkessel ist voll."))
    assert attributed("Der Wasserkessel ist voll.", tasks).task_id == "de"
    assert attributed("Der Hund bellt.", tasks).task_id is None


def test_no_tasks_leave_every_utterance_a_comment() -> None:
    assert attributed("The kettle is full.", ()) == Attribution(task_id=None, confidence=0.0)


class SameThing:
    """Says that two texts mean the same when both are in one of its sets."""

    def __init__(self, *alike: set[str]) -> None:
        self._alike = alike

    def similarity(self, text: str, others: Sequence[str]) -> list[float]:
        return [0.9 if any({text, other} <= same for same in self._alike) else 0.1 for other in others]


def test_other_words_of_the_same_meaning_belong_to_the_task_when_meaning_can_be_compared() -> None:
    said = "The crimson ball dropped to the floor"
    meaning = SameThing({said, "The red ball falls off the table."})
    assert Attributor(ENGLISH, TONGUES).attribute(said).task_id is None
    found = Attributor(ENGLISH, TONGUES, meaning).attribute(said)
    assert (found.task_id, found.confidence) == ("ball", 0.9)


def test_meaning_that_is_as_near_to_a_contrast_decides_nothing() -> None:
    said = "Water stands at the brim of the vessel"
    meaning = SameThing({said, "The kettle is full.", "the bathtub is full"})
    assert Attributor(ENGLISH, TONGUES, meaning).attribute(said).task_id is None


def test_meaning_never_overrules_a_word_that_turns_the_sense() -> None:
    said = "The crimson ball never dropped to the floor"
    meaning = SameThing({said, "The red ball falls off the table."})
    assert Attributor(ENGLISH, TONGUES, meaning).attribute(said).task_id is None


@given(st.text(max_size=80))
def test_whatever_is_said_is_judged_within_bounds(utterance: str) -> None:
    for tasks in (ENGLISH, CHINESE):
        found = attributed(utterance, tasks)
        assert 0.0 <= found.confidence <= 1.0
        assert found.task_id is None or found.task_id == found.nearest
