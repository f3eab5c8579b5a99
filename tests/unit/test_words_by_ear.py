"""Conditions by ear: what only sounds like a rule's words is taken for them, and nothing else is."""

from __future__ import annotations

import pytest

from omni_watch.watch.asking import Add
from omni_watch.watch.by_ear import fits_a_rule, put_right
from omni_watch.watch.phrases import understand
from tests.fakes.hearing import BOOK, hearing


def request(sentence: str) -> Add:
    found = understand(sentence, BOOK, hearing(tasks=())).request
    assert isinstance(found, Add)
    return found


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ("随慢了提醒我", "水满了提醒我"),
        ("店梯来了叫我", "电梯来了叫我"),
        ("狗教了告诉我", "狗叫了告诉我"),
        ("门零响了通知我", "门铃响了通知我"),
        ("保保哭了马上告诉我", "宝宝哭了马上告诉我"),
        ("手机想了提醒我", "手机响了提醒我"),
    ],
)
def test_what_sounds_like_a_rules_words_is_taken_for_them(heard: str, said: str) -> None:
    assert not fits_a_rule(request(heard), "zh", BOOK.book)
    assert put_right(heard, request(heard), "zh", BOOK.book) == said
    assert fits_a_rule(request(said), "zh", BOOK.book)


@pytest.mark.parametrize(
    "heard",
    [
        "饭好了叫我",
        "水凉了告诉我",
        "杯子满了告诉我",
        "浴缸满了告诉我",
        "水没满告诉我",
        "灯亮了告诉我",
        "雨停了告诉我",
        "Tell me when the cattle is full",
    ],
)
def test_a_wish_of_its_own_stays_what_it_is(heard: str) -> None:
    asked = request(heard)
    language = "en" if heard.isascii() else "zh"
    assert not fits_a_rule(asked, language, BOOK.book)
    assert put_right(heard, asked, language, BOOK.book) is None
