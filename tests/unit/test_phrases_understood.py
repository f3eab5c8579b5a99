"""Being strict, being called by name, and never failing, whatever is said."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_watch.config.speechbook import MOST_FREE_SLOTS
from omni_watch.watch.asking import Add, Answer, Cancel, Nothing, Remind, SayAgain
from omni_watch.watch.phrases import A_MOMENT, LONGEST_SPOKEN, understand
from omni_watch.watch.speech import MARKS
from omni_watch.watch.templates import most_slots
from tests.fakes.hearing import BOOK, NOW, TABLES, hearing

SENTENCES = [entry["say"] for table in TABLES.values() for entry in table["requests"]]
WORDS = sorted({word for sentence in SENTENCES for word in re.findall(r"[a-z']+|[^\sa-z]", sentence.lower())})


def test_when_our_name_is_needed_nothing_else_is_taken() -> None:
    strict = replace(hearing(), is_name_needed=True)

    assert isinstance(understand("tell me when the kettle is full", BOOK, strict).request, Nothing)
    for called in (
        "Omni, tell me when the kettle is full",
        "hey omni tell me when the kettle is full",
        "tell me when the kettle is full, omni",
    ):
        understood = understand(called, BOOK, strict)
        assert understood.is_named
        assert isinstance(understood.request, Add)
        assert understood.request.text == "tell me when the kettle is full"
        assert understood.request.condition == "the kettle is full"


def test_patterns_can_be_made_ready_before_anybody_speaks() -> None:
    assert BOOK.make_ready() > sum(len(speech.commands) for speech in BOOK.speeches)


def test_our_name_in_chinese_sentences_too() -> None:
    understood = understand("小欧，水开了叫我", BOOK, replace(hearing(), names=("Omni", "小欧"), is_name_needed=True))

    assert isinstance(understood.request, Add)
    assert understood.is_named


def test_a_name_is_not_heard_inside_another_word() -> None:
    assert not understand("omnibus, tell me when the kettle is full", BOOK, hearing()).is_named


def test_an_answer_needs_no_name() -> None:
    asked = replace(hearing("asked"), is_name_needed=True)

    assert understand("the second one", BOOK, asked).request == Answer(number=2)


def test_a_new_request_may_come_instead_of_an_answer() -> None:
    understood = understand("stop watching the kettle", BOOK, hearing("asked"))

    assert isinstance(understood.request, Cancel)


@pytest.mark.parametrize(("ago", "expected"), [(A_MOMENT, SayAgain), (A_MOMENT + timedelta(seconds=1), Nothing)])
def test_what_follows_up_on_us_is_ours_only_for_a_moment(ago: timedelta, expected: type) -> None:
    told = replace(hearing(), told_at=NOW - ago)

    assert isinstance(understand("say that again", BOOK, told).request, expected)


def test_what_is_not_being_watched_for_cannot_be_cancelled_by_chance() -> None:
    understood = understand("stop watching the news", BOOK, hearing())

    assert isinstance(understood.request, Nothing)
    assert "the news" in understood.why
    assert isinstance(understand("Omni, stop watching the news", BOOK, hearing()).request, Cancel)
    assert isinstance(understand("stop watching it", BOOK, hearing(tasks=())).request, Nothing)


def test_a_reminder_into_the_past_is_none() -> None:
    assert isinstance(understand("remind me yesterday to buy milk", BOOK, hearing()).request, Nothing)


def test_punctuation_capitals_and_hesitations_change_nothing() -> None:
    ways = [
        "Um, tell me when... the kettle is full!",
        "TELL ME WHEN THE KETTLE IS FULL",
        "  tell  me when the kettle is full ?",
    ]
    plain = [understand(way, BOOK, hearing()).request for way in ways[1:]]

    assert all(isinstance(request, Add) and request.condition.lower() == "the kettle is full" for request in plain)


def test_too_much_is_no_request() -> None:
    understood = understand("tell me when the kettle is full " * 20, BOOK, hearing())

    assert isinstance(understood.request, Nothing)
    assert str(LONGEST_SPOKEN) in understood.why


@settings(max_examples=300)
@given(
    sentence=st.one_of(
        st.text(max_size=LONGEST_SPOKEN),
        st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join),
        st.lists(st.sampled_from(WORDS), max_size=60).map("".join),
    ),
    after=st.sampled_from([None, "told", "spoken", "asked"]),
)
def test_whatever_is_said_is_understood_or_not_but_never_fails(sentence: str, after: str | None) -> None:
    request = understand(sentence, BOOK, hearing(after)).request

    if isinstance(request, Add):
        assert any(character.isalnum() for character in request.condition)
    if isinstance(request, Remind):
        assert request.at > NOW


def test_no_pattern_can_take_more_time_than_the_square_of_a_sentences_length() -> None:
    """By construction: no group is repeated without end, and at most two slots of one match hold any text. So the ways
    to match are the choices of one template, times the places where two texts may end."""
    forms = [form for speech in BOOK.speeches for form in speech.commands]
    free = [most_slots(form.node, lambda slot: slot not in MARKS) for form in forms]

    assert max(free) <= MOST_FREE_SLOTS == 2
    for form in forms:
        assert not re.search(r"\)(?:[*+]|\{\d+,\})", form.pattern.pattern), form.source
