from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.rules import DisplayCue
from omni_watch.duplex.embedded.displays import Countdown, DisplayWatcher, means, number, plain
from omni_watch.duplex.embedded.eyes import Picture, Text, decode
from tests.scenes import places

END = DisplayCue(texts=("End", "Done", "0:00"), countdown=True)


class FakeReader:
    """Reads what it was told to, in order; a text in brackets is hardly readable."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.reads = 0

    def read(self, picture: Picture) -> Text:
        text = self.texts[self.reads]
        self.reads += 1
        return Text(text=text.strip("()"), confidence=0.2 if text.startswith("(") else 0.95)


def scores(cue: DisplayCue, texts: Sequence[str]) -> list[float | None]:
    watcher = DisplayWatcher(places.DISPLAY, cue, FakeReader(texts))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (places.HIGH, places.WIDE, 3)).astype(np.uint8) for _ in texts]
    return [watcher.step(places.unit(picture, i), None).score for i, picture in enumerate(pictures)]


def test_the_end_after_a_countdown_is_true() -> None:
    assert scores(END, ["0:03", "0:02", "0:01", "End", "End"]) == [0, 0, 0, 1, 1]


def test_the_same_text_without_a_countdown_is_not() -> None:
    assert scores(END, ["12:45", "End", "End", "12:46"]) == [0, 0, 0, 0]


def test_a_clock_and_the_setting_of_a_time_are_no_countdown() -> None:
    assert scores(END, ["12:45", "0:10", "0:20", "0:30", "5:00", "0:00"])[-1] == 0


def test_a_misread_second_does_not_break_a_countdown() -> None:
    assert scores(END, ["0:09", "0:08", "88", "0:06", "0:05", "End"])[-1] == 1


def test_what_cannot_be_read_says_nothing() -> None:
    assert scores(END, ["0:03", "(0:02)", "", "0:00"])[1:3] == [None, None]


def test_texts_alone_do_for_a_cue_without_a_countdown() -> None:
    assert scores(DisplayCue(texts=("End",)), ["1:24", "End"]) == [0, 1]


def test_a_floor_that_counts_down_to_one_is_the_last() -> None:
    cue = DisplayCue(last_of_countdown=True)
    assert scores(cue, ["3", "3", "2", "2", "1", "1"]) == [0, 0, 0, 0, 1, 1]
    assert scores(cue, ["1", "1", "2"]) == [0, 0, 0]


def test_an_unchanged_display_is_read_once() -> None:
    reader = FakeReader(["12:45"])
    watcher = DisplayWatcher(places.DISPLAY, END, reader)
    picture = places.shot(places.display("1245"))
    assert [watcher.step(places.unit(picture, i), None).detail for i in range(3)] == ["reads 12:45"] * 3
    assert reader.reads == 1


@pytest.mark.parametrize(
    ("read", "wanted", "same"),
    [
        ("End", "End", True),
        ("E n d", "end", True),
        ("Fnd", "End", True),  # one slip
        ("En", "End", True),
        ("D0NE", "Done", True),
        ("0:O0", "0:00", True),
        ("0:01", "0:00", False),  # one character off, and another second
        ("00", "0:00", False),
        ("Eat", "End", False),
        ("8", "End", False),
        ("endless", "End", False),
    ],
)
def test_which_readings_are_the_wanted_text(read: str, wanted: str, same: bool) -> None:
    assert means(plain(read), plain(wanted)) is same


@pytest.mark.parametrize(
    ("text", "value"),
    [("0:07", 7), ("1:30", 90), ("0130", 90), ("7", 7), ("1:02:03", 3723), ("l:O5", 65), ("End", None), ("", None)],
)
def test_which_number_a_display_shows(text: str, value: int | None) -> None:
    assert number(plain(text)) == value


@given(start=st.integers(11, 5000), gaps=st.lists(st.integers(1, 5), min_size=3, max_size=20))
def test_whatever_goes_down_with_the_time_is_a_countdown(start: int, gaps: list[int]) -> None:
    countdown, at_s = Countdown(), 0.0
    countdown = countdown.after(start, at_s)
    for gap in gaps:
        at_s += gap
        countdown = countdown.after(max(0, start - round(at_s)), at_s)
    assert countdown.is_one


@given(values=st.lists(st.integers(0, 6000), max_size=30).map(sorted))
def test_what_never_goes_down_is_no_countdown(values: list[int]) -> None:
    countdown = Countdown()
    for second, value in enumerate(values):
        countdown = countdown.after(value, float(second))
    assert not countdown.is_one


def test_repeated_classes_are_one_character_unless_a_blank_parts_them() -> None:
    steps = [1, 1, 0, 1, 2, 2, 0]
    assert decode(np.eye(3, dtype=np.float32)[steps], ["", "7", ":"]).text == "77:"
    assert decode(np.eye(3, dtype=np.float32)[[0, 0]], ["", "7", ":"]) == Text(text="", confidence=0.0)
