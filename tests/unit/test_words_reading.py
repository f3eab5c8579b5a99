"""A sentence is taken apart into what should happen, what to say then, and whether each time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.errors import RequestError
from omni_watch.domain.rules import Repeat
from omni_watch.watch.choosing import choose, message_for
from omni_watch.watch.wording import LONGEST_SENTENCE, Wording, read

PHRASEBOOK = load_rulebook().phrasebook
TONGUES = PHRASEBOOK.tongues
EACH, ONCE = Repeat.EACH, Repeat.ONCE

FRAMES = [
    ("tell me when the tea is cold", "the tea is cold", None, None),
    ("Could you please let me know as soon as the tea is cold?", "the tea is cold", None, None),
    ("hey, can you ping me once the tea is cold, thanks", "the tea is cold", None, None),
    ("when the tea is cold let me know", "the tea is cold", None, None),
    ("When the tea is cold, tell me about it", "the tea is cold", None, None),
    ("the tea is cold, tell me", "the tea is cold", None, None),
    ("watch for a parrot", "a parrot", None, None),
    ("the tea is cold", "the tea is cold", None, None),
    ("tell me every time the cat jumps", "the cat jumps", None, EACH),
    ("whenever the cat jumps, let me know", "the cat jumps", None, EACH),
    ("always tell me when the cat jumps", "the cat jumps", None, EACH),
    ("tell me the next time the cat jumps", "the cat jumps", None, ONCE),
    ("tell me when the cat jumps, just once", "the cat jumps", None, ONCE),
    ("when the alarm rings, tell me the game is over", "the alarm rings", "The game is over.", None),
    ("when the alarm rings tell me the game is over", "the alarm rings", "The game is over.", None),
    ("When the alarm rings, say: time for bed!", "the alarm rings", "Time for bed.", None),
    ("tell me the game is over when the alarm rings", "the alarm rings", "The game is over.", None),
    ("when the timer rings tell me that my cake is ready", "the timer rings", "Your cake is ready.", None),
    ("when the timer rings say my cake is ready", "the timer rings", "My cake is ready.", None),
    ("remind me to close the tap when the tub is full", "the tub is full", "Close the tap.", None),
    ("every time the cat jumps say get down", "the cat jumps", "Get down.", EACH),
    ("水满了提醒我", "水满了", None, None),
    ("电梯到了告诉我一声", "电梯到了", None, None),
    ("等电梯到了的时候，请通知我一下。", "电梯到了", None, None),
    ("如果猫上桌了就告诉我", "猫上桌了", None, None),
    ("告诉我什么时候水满了", "水满了", None, None),
    ("帮我盯着电梯", "电梯", None, None),
    ("每次狗叫都告诉我", "狗叫", None, EACH),
    ("狗每次叫都告诉我", "狗叫", None, EACH),
    ("每当狗叫的时候就提醒我一下", "狗叫", None, EACH),
    ("下次狗叫的时候告诉我", "狗叫", None, ONCE),
    ("闹钟响了就说游戏结束", "闹钟响了", "游戏结束", None),
    ("闹钟响了告诉我游戏结束了", "闹钟响了", "游戏结束了", None),
    ("鬧鐘響了就說遊戲結束", "鬧鐘響了", "遊戲結束", None),
    ("水 满 了 提醒 我", "水满了", None, None),
    ("tell me when 电梯到了", "电梯到了", None, None),
]


@pytest.mark.parametrize(("sentence", "condition", "message", "repeat"), FRAMES, ids=[frame[0] for frame in FRAMES])
def test_a_request_is_taken_apart(sentence: str, condition: str, message: str | None, repeat: Repeat | None) -> None:
    wording = read(sentence, TONGUES)
    assert (wording.condition.removesuffix("就"), wording.message, wording.repeat) == (condition, message, repeat)


def test_the_language_is_that_of_the_request() -> None:
    assert read("tell me when 电梯到了", TONGUES).language == "en"
    assert read("kettle满了告诉我", TONGUES).language == "zh"
    assert read("the kettle is full", TONGUES).language == "en"
    assert read("水满了", TONGUES).language == "zh"


def test_a_condition_in_the_other_language_still_chooses() -> None:
    choice = choose(read("tell me when 电梯到了", TONGUES), PHRASEBOOK)
    assert choice.rule == "elevator_arrived"


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("tell me when my tea is cold", "Your tea is cold."),
        ("tell me when the tea is cold", "The tea is cold."),
        ("猫上桌了告诉我", "猫上桌了"),
        ("我的猫上桌了告诉我", "你的猫上桌了"),
    ],
)
def test_with_no_rule_the_condition_becomes_the_message(sentence: str, message: str) -> None:
    wording = read(sentence, TONGUES)
    assert message_for(choose(wording, PHRASEBOOK), wording, PHRASEBOOK) == message


@pytest.mark.parametrize("sentence", ["", "   ", "?!", "。。。", "\x00\x01"])
def test_a_request_for_nothing_is_refused_with_an_example(sentence: str) -> None:
    with pytest.raises(RequestError, match="tell me when the kettle is full"):
        read(sentence, TONGUES)


def test_a_request_that_is_too_long_is_refused_with_the_limit() -> None:
    with pytest.raises(RequestError, match=f"has 6000 characters; at most {LONGEST_SENTENCE}"):
        read("when a " + "b" * 5993, TONGUES)


def test_two_things_at_once_choose_none() -> None:
    choice = choose(read("tell me when the dog barks and the baby cries", TONGUES), PHRASEBOOK)
    assert choice.rule is None


def test_braces_in_a_request_are_only_words() -> None:
    wording = read("tell me when {rule} %s {0} shows", TONGUES)
    assert "{rule} %s {0}" in choose(wording, PHRASEBOOK).why


PIECES = st.sampled_from(
    [
        "tell me",
        "when",
        "every time",
        "say",
        "that",
        "the kettle is full",
        ",",
        "告诉我",
        "每次",
        "就说",
        "水满了",
        "等",
        "的时候",
        "?",
        " ",
    ]
)


@example(sentence="İ")
@given(st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=25).map(" ".join)))
def test_any_text_is_read_or_refused_and_quickly(sentence: str) -> None:
    started = time.process_time()
    try:
        wording = read(sentence, TONGUES)
    except RequestError:
        return
    choice = choose(wording, PHRASEBOOK)
    assert isinstance(wording, Wording)
    assert wording.condition
    assert message_for(choice, wording, PHRASEBOOK)
    assert time.process_time() - started < 2.0


@given(st.sampled_from(FRAMES), st.sampled_from(["", " ", "  "]), st.sampled_from(["", ".", "!", "。", "？", " …"]))
def test_spaces_and_final_marks_change_nothing(
    frame: tuple[str, str, str | None, Repeat | None], pad: str, end: str
) -> None:
    plain, dressed = read(frame[0], TONGUES), read(f"{pad}{frame[0].rstrip('?!。.')}{end}{pad}", TONGUES)
    assert dressed.condition == plain.condition
    assert dressed.repeat == plain.repeat
