"""Mandarin by ear: what sounds alike, which of several things was meant, and words put right in a sentence."""

from __future__ import annotations

import pytest

from omni_watch.watch.pinyin import LEAST_LIKENESS, likeness, meant, repaired, syllables

COMMANDS = {
    "kettle": ("水壶满了告诉我", "水满了提醒我"),
    "elevator": ("电梯到了提醒我", "电梯来了叫我"),
    "dog": ("狗叫了告诉我",),
    "microwave": ("微波炉好了叫我",),
    "baby": ("宝宝哭了马上告诉我",),
    "what": ("你在看什么",),
    "quiet": ("别说了", "安静"),
}


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("水壶满了", "shui hu man le"),
        ("水壺滿了。", "shui hu man le"),
        ("10分钟", "shi fen zhong"),
        ("25度", "er shi wu du"),
        ("105", "yi bai ling wu"),
        ("2026年", "er qian ling er shi liu nian"),
        ("007", "ling ling qi"),
        ("0", "ling"),
        ("110", "yi bai yi shi"),
        ("12345", "yi er san si wu"),
        ("MAX 线", "max xian"),
        ("？！", ""),
    ],
)
def test_a_text_is_spelled_as_it_is_read(text: str, spelled: str) -> None:
    assert " ".join(syllables(text)) == spelled


@pytest.mark.parametrize(
    ("heard", "said"),
    [("水湖滿了告訴我", "水壶满了告诉我"), ("電梯到了", "电梯到了"), ("10分鐘", "十分钟")],
)
def test_other_characters_with_the_same_sounds_are_the_same(heard: str, said: str) -> None:
    assert likeness(heard, said) == 1.0


@pytest.mark.parametrize(
    ("heard", "near", "far"),
    [
        ("四", "十", "六"),  # s and sh are mixed up in half of the country
        ("宾", "兵", "办"),
        ("老", "脑", "跑"),
        ("电梯到了", "电梯倒了", "水壶满了"),
    ],
)
def test_sounds_that_are_easily_mixed_up_are_nearer_than_others(heard: str, near: str, far: str) -> None:
    assert likeness(heard, near) > likeness(heard, far)
    assert likeness(heard, near) == likeness(near, heard)


def test_nothing_is_like_no_words_at_all() -> None:
    assert likeness("", "水壶") == likeness("……", "水壶") == 0.0


@pytest.mark.parametrize(
    ("heard", "meaning"),
    [
        ("水湖滿了告訴我", "kettle"),
        ("睡壶慢了告诉我", "kettle"),
        ("电体到了提醒我", "elevator"),
        ("店梯来了叫我", "elevator"),
        ("构叫了告诉我", "dog"),
        ("微播炉好了叫我", "microwave"),
        ("宝宝哭了马上高速我", "baby"),
        ("你再看什么", "what"),
        ("按静", "quiet"),
    ],
)
def test_what_was_meant_is_found_by_its_sound(heard: str, meaning: str) -> None:
    found = meant(heard, COMMANDS)
    assert found is not None
    assert found.meaning == meaning
    assert found.likeness >= LEAST_LIKENESS


@pytest.mark.parametrize("heard", ["今天天气怎么样", "告诉我", "", "谢谢观看", "我要去买菜"])
def test_what_is_like_nothing_we_know_means_nothing(heard: str) -> None:
    assert meant(heard, COMMANDS) is None


def test_between_two_that_are_nearly_as_like_nothing_is_chosen() -> None:
    alike = {"four": ("四点叫我",), "ten": ("十点叫我",)}
    assert meant("是点叫我", alike) is None
    assert meant("四点叫我", {"one": ("四点叫我",), "other": ("寺点叫我",)}) is None, "they sound the same"
    assert meant("四点叫我", {"one": ("四点叫我", "寺点叫我"), "nothing": ()}) is not None, "two ways to say one thing"


def test_nothing_is_meant_where_nothing_can_be() -> None:
    assert meant("水壶满了", {}) is None


WORDS = ("水壶", "热水壶", "电梯", "微波炉", "烟雾报警器", "狗", "水")


@pytest.mark.parametrize(
    ("heard", "right"),
    [
        ("水湖满了告诉我", "水壶满了告诉我"),
        ("請在水壺滿了的時候告訴我", "請在水壶滿了的時候告訴我"),
        ("热水湖满了", "热水壶满了"),
        ("热水壶满了", "热水壶满了"),
        ("电体到了,微播炉好了", "电梯到了,微波炉好了"),
        ("烟雾报警器响了", "烟雾报警器响了"),
        ("yan wu 烟物报警器响了", "yan wu 烟雾报警器响了"),
        ("tell me 水湖 please", "tell me 水壶 please"),
        ("狗叫了", "狗叫了"),
        ("够了", "够了"),  # one character sounds like too many others
        ("睡觉了", "睡觉了"),
        ("今天天气很好", "今天天气很好"),
        ("", ""),
    ],
)
def test_words_we_know_replace_what_only_sounds_like_them(heard: str, right: str) -> None:
    assert repaired(heard, WORDS) == right


def test_a_sentence_that_is_right_stays_as_it_is_whatever_the_order_of_the_words() -> None:
    for words in (WORDS, tuple(reversed(WORDS))):
        assert repaired("水壶满了,电梯到了", words) == "水壶满了,电梯到了"
