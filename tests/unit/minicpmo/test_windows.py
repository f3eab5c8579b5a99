"""What is given up of a dialogue's memory when there is too much of it, and what is carried over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.windows import Basic, Context, Layout, Off, Window, carry_over, give_up
from tests.fakes.fake_language import FakeCache, FakeLanguage, rows

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.cache import KeyValueCache

PREFIX, SUFFIX, MARKER = [10, 11, 12], [13], [14, 15]


@pytest.fixture(scope="module")
def tokens(tiny_folder: Path) -> Tokens:
    return Tokens.read(tiny_folder)


class Past:
    """A dialogue's cache and its account, with units of one length whose rows are numbered 100, 101 and so on."""

    def __init__(self, tokens: Tokens, *, units: int = 0, length: int = 5) -> None:
        self.tokens = tokens
        self.language = FakeLanguage(tokens)
        self.layout = Layout(prefix=len(PREFIX), marker=tuple(MARKER), suffix=tuple(SUFFIX))
        self.cache = FakeCache(PREFIX + SUFFIX)
        for _ in range(units):
            self.live(length)

    def live(self, length: int, said: tuple[int, ...] = (), text: str | None = None) -> None:
        self.cache.rows += [100 + self.layout.begun] * length
        shown = self.tokens.decode(said) if text is None else text
        self.layout.add(length=length, said=said, text=shown, is_listen=not (said or shown))

    def slide(self, window: Window, **options: bool) -> None:
        count = window.excess(self.layout, self.cache.length)
        cache = cast("KeyValueCache", self.cache)
        self.language.run(
            give_up(
                window,
                self.layout,
                count,
                cache=cache,
                tokens=self.tokens,
                embed=self.language.embed,
                **options,
            )
        )

    @property
    def indices(self) -> list[int]:
        return [unit.index for unit in self.layout.units]


def units_rows(indices: Iterator[int] | range, length: int = 5) -> list[int]:
    return [100 + index for index in indices for _ in range(length)]


class TestOff:
    def test_nothing_is_given_up_however_long_it_gets(self, tokens: Tokens) -> None:
        past = Past(tokens, units=50)

        assert Off().excess(past.layout, past.cache.length) == 0


class TestBasic:
    def test_at_the_high_mark_everything_stays(self, tokens: Tokens) -> None:
        past = Past(tokens, units=8)  # 44 positions

        assert Basic(high=44, low=20).excess(past.layout, past.cache.length) == 0

    def test_above_the_high_mark_the_oldest_units_go_until_the_low_mark_is_met(self, tokens: Tokens) -> None:
        past = Past(tokens, units=8)

        past.slide(Basic(high=43, low=24))

        assert past.cache.rows == PREFIX + SUFFIX + units_rows(range(4, 8))  # 24 positions
        assert past.indices == [4, 5, 6, 7]
        assert past.layout.cut == 20

    def test_a_prompt_above_the_low_mark_stays_whole(self, tokens: Tokens) -> None:
        past = Past(tokens, units=3)

        past.slide(Basic(high=4, low=2))

        assert past.cache.rows == PREFIX + SUFFIX
        assert past.indices == []

    def test_what_went_is_not_carried_over_and_costs_no_forward(self, tokens: Tokens) -> None:
        past = Past(tokens)
        past.live(9, said=(257, 280))
        past.live(5)

        past.slide(Basic(high=12, low=9))

        assert past.layout.carried == ()
        assert past.language.requests == []

    def test_marks_the_wrong_way_round_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"high 10, low 20; expected 0 < low <= high"):
            Basic(high=10, low=20)


class TestContext:
    def test_units_beyond_the_number_go_oldest_first(self, tokens: Tokens) -> None:
        past = Past(tokens, units=7)

        past.slide(Context(max_units=4))

        assert past.cache.rows == PREFIX + SUFFIX + units_rows(range(3, 7))

    def test_listening_units_leave_nothing_behind_and_cost_no_forward(self, tokens: Tokens) -> None:
        past = Past(tokens, units=7)

        past.slide(Context(max_units=4))

        assert past.layout.carried == ()
        assert past.language.requests == []

    def test_words_of_a_unit_that_goes_are_carried_into_the_prompt(self, tokens: Tokens) -> None:
        past = Past(tokens)
        past.live(5, said=(257, 280, tokens.turn_eos))
        past.live(5)

        past.slide(Context(max_units=1))

        assert past.cache.rows == [*PREFIX, *MARKER, 257, 280, *SUFFIX, *units_rows(range(1, 2))]
        assert past.layout.carried == (*MARKER, 257, 280)
        assert past.layout.prompt == 8
        assert [rows(feed) for feed in past.language.feeds] == [[*MARKER, 257, 280, *SUFFIX]]

    def test_words_follow_each_other_behind_one_marker(self, tokens: Tokens) -> None:
        past = Past(tokens)
        for said in ((257,), (280, 281)):
            past.live(5, said=said)
        past.live(5)

        past.slide(Context(max_units=1))

        assert past.layout.carried == (*MARKER, 257, 280, 281)
        assert len(past.language.feeds) == 1  # however many units went

    def test_the_newest_words_stay_when_there_are_too_many(self, tokens: Tokens) -> None:
        past = Past(tokens)
        past.live(5, said=(257, 280, 281))
        past.live(5, said=(282, 283))
        past.live(5)

        past.slide(Context(max_units=1, previous_max=4))

        assert past.layout.carried == (*MARKER, 280, 281, 282, 283)

    def test_carried_words_that_stay_as_they_are_are_not_fed_again(self, tokens: Tokens) -> None:
        past = Past(tokens)
        past.live(5, said=(257,))
        past.live(5)
        past.slide(Context(max_units=1))
        past.live(5)

        past.slide(Context(max_units=1))

        assert past.cache.rows == [*PREFIX, *MARKER, 257, *SUFFIX, *units_rows(range(2, 3))]
        assert len(past.language.feeds) == 1

    def test_the_carried_text_is_that_of_the_carried_words(self, tokens: Tokens) -> None:
        past = Past(tokens)
        past.live(5, said=(280, 174), text="ll\ufffd")
        past.live(5, said=(353,))

        past.slide(Context(max_units=1))

        assert past.layout.carried_text == tokens.decode((280, 174))

    @pytest.mark.parametrize(("as_published", "carried"), [(False, ()), (True, tuple(MARKER))])
    def test_text_without_tokens_brings_the_marker_in_the_published_code_only(
        self, tokens: Tokens, as_published: bool, carried: tuple[int, ...]
    ) -> None:
        past = Past(tokens)
        past.live(5, said=(tokens.turn_eos,), text="oh")
        past.live(5)

        past.slide(Context(max_units=1), carries_text_alone=as_published)

        assert past.layout.carried == carried

    @pytest.mark.parametrize("as_published", [False, True])
    def test_special_tokens_are_never_carried_but_those_that_the_published_code_forgets(
        self, tokens: Tokens, as_published: bool
    ) -> None:
        named = {name: tokens.encode(name)[0] for name in ("<|turn_bos|>", "<|speak|>", "<|tts_eos|>")}
        past = Past(tokens)
        past.live(5, said=(257, *named.values()))
        past.live(5)

        past.slide(Context(max_units=1), carries_text_alone=as_published)

        forgotten = (named["<|turn_bos|>"],) if as_published else ()
        assert past.layout.carried == (*MARKER, 257, *forgotten)

    def test_with_room_for_one_word_the_last_one_is_carried(self, tokens: Tokens) -> None:
        layout = Layout(marker=tuple(MARKER))
        past = Past(tokens)
        past.live(1, said=(257, 280))
        past.live(1, said=(281,))

        for unit in past.layout.units:
            carry_over(layout, unit, tokens, 1)

        assert layout.carried == (*MARKER, 281)

    def test_a_window_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="max_units 0, previous_max 500; expected at least 1"):
            Context(max_units=0)
