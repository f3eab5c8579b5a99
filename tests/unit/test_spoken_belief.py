"""What a recogniser writes when nobody spoke is not believed; what people say is."""

from __future__ import annotations

from typing import Any

import pytest

from omni_watch.duplex.embedded.words.belief import Decoded, is_believed, is_parroted, repetition
from tests.fakes.spoken import COMMANDS_ZH, SENTENCES

HOT_WORDS = ("kettle", "microwave", "washing machine", "doorbell", "烟雾报警器")


def decoded(text: str, **changes: Any) -> Decoded:
    values: dict[str, Any] = {"mean_log_probability": -0.3, "no_speech": 0.1, "is_endless": False, "length_s": 2.5}
    return Decoded(text=text, **{**values, **changes})


@pytest.mark.parametrize("text", [*SENTENCES, *COMMANDS_ZH.values(), "Thank you.", "stop", "No."])
def test_what_people_say_is_believed(text: str) -> None:
    assert is_believed(decoded(text), HOT_WORDS)


@pytest.mark.parametrize("text", ["", "...", "♪♪", "you", "Thanks for watching!", "谢谢观看", "Bye."])
def test_what_stands_under_silent_films_is_not(text: str) -> None:
    assert not is_believed(decoded(text))


def test_doubtful_words_over_what_is_hardly_speech_are_not() -> None:
    assert is_believed(decoded("be quiet", mean_log_probability=-1.2))
    assert is_believed(decoded("be quiet", no_speech=0.9))
    assert not is_believed(decoded("be quiet", mean_log_probability=-1.2, no_speech=0.9))
    assert not is_believed(decoded("be quiet", mean_log_probability=-2.0))


def test_the_same_again_and_again_is_not() -> None:
    assert not is_believed(decoded("the kettle, " * 20, length_s=20.0))
    assert not is_believed(decoded("the kettle", is_endless=True))
    assert not is_believed(decoded("衫衫, 烟雾, 烟雾, 烟雾, 烟雾"))
    assert is_believed(decoded("No, no, no!"))
    assert repetition("") == 0.0


def test_more_than_anybody_can_say_in_the_time_is_not() -> None:
    assert not is_believed(decoded("tell me when the kettle in the kitchen is full", length_s=0.5))


@pytest.mark.parametrize(
    ("said", "parroted"),
    [
        ("kettle microwave washing machine", True),
        ("washing machine doorbell", True),
        ("washing machine", False),  # that may be said
        ("kettle", False),
        ("kettle doorbell microwave", True),
        ("烟雾 烟雾 烟雾报警器", True),
        ("烟雾 响 了", False),
        ("the kettle microwave washing machine", False),
    ],
)
def test_hints_that_come_back_and_nothing_else_are_not(said: str, parroted: bool) -> None:
    assert is_parroted(said.split(), HOT_WORDS) is parroted
    assert is_believed(decoded(said), HOT_WORDS) is not parroted
