"""How a dialogue is led: what is fed in which order, when, and how a unit ends. A fake model says what it is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.dialogue import Dialogue, DialogueConfig, FeedRecord, Fullness, Quirks, Spoken
from omni_watch.duplex.minicpmo.senses import Perceived
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.windows import Basic, Context, Window
from omni_watch.duplex.minicpmo.work import Work
from tests.fakes.fake_language import PICTURE, SOUND, WIDTH, FakeLanguage, content, rows, unit, vectors

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.speech import SpeechMemory

PREFIX, SUFFIX = "<|im_start|>system\nWatch.", "<|im_end|>"
SEEN, HEARD = [PICTURE] * 3, [SOUND] * 2
QUIRKS = Quirks.reference()
FORCED = partial(Dialogue.generate, force_listen=True)


@pytest.fixture(scope="module")
def tokens(tiny_folder: Path) -> Tokens:
    return Tokens.read(tiny_folder)


class FakeVoice:
    """A speech decoder's memory."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1


class Talk:
    """A dialogue and the model that it talks to."""

    def __init__(self, tokens: Tokens, config: DialogueConfig | None = None, *, has_voice: bool = False) -> None:
        self.tokens = tokens
        self.language = FakeLanguage(tokens)
        self.voice = FakeVoice()
        speech = cast("SpeechMemory", self.voice) if has_voice else None
        self.dialogue = Dialogue(tokens, self.language.as_language(), config, speech=speech)

    def prepare(self) -> Talk:
        self.language.run(self.dialogue.prepare(PREFIX, SUFFIX))
        return self

    def live(
        self,
        *wishes: int,
        perceived: Perceived | None = None,
        by: Callable[[Dialogue], Work[Spoken]] = Dialogue.generate,
    ) -> Spoken:
        """One whole unit, in which the model wishes to say these tokens, the first one at the decision."""
        self.language.wishes = deque(wishes)
        self.language.run(self.dialogue.hear(perceived or unit()))
        spoken = self.language.run(by(self.dialogue))
        self.language.run(self.dialogue.finalize())
        return spoken

    @property
    def feeds(self) -> list[list[int]]:
        """What was fed, forward by forward."""
        return [rows(feed) for feed in self.language.feeds]

    @property
    def memory(self) -> list[int]:
        """All that is or will be in the cache."""
        self.language.run(self.dialogue.flush())
        return content(self.dialogue.cache)

    @property
    def prompt(self) -> list[int]:
        return [*self.tokens.encode(PREFIX), *self.tokens.encode(SUFFIX)]


@pytest.fixture
def talk(tokens: Tokens) -> Talk:
    return Talk(tokens).prepare()


def listened(tokens: Tokens, *heard: int) -> list[int]:
    return [tokens.unit_start, *heard, tokens.listen, tokens.unit_end]


class TestFeeding:
    def test_a_listening_unit_is_one_forward_with_the_end_of_the_last_one(self, talk: Talk, tokens: Tokens) -> None:
        talk.live()
        talk.language.requests.clear()

        talk.live(perceived=unit(pictures=[1]))

        assert talk.feeds == [
            [
                *(tokens.listen, tokens.unit_end, tokens.unit_start),
                *(tokens.image_start, *SEEN, tokens.image_end),
                *HEARD,
            ]
        ]

    def test_the_prompt_goes_in_one_forward_with_the_first_unit(self, talk: Talk, tokens: Tokens) -> None:
        talk.live()

        assert talk.feeds == [[*talk.prompt, tokens.unit_start, *HEARD]]

    def test_a_voice_stands_between_prefix_and_suffix(self, tokens: Tokens) -> None:
        talk = Talk(tokens)

        talk.language.run(talk.dialogue.prepare(PREFIX, SUFFIX, vectors(7, 3)))

        assert talk.memory == [*tokens.encode(PREFIX), 7, 7, 7, *tokens.encode(SUFFIX)]
        assert talk.dialogue.layout.prompt == len(talk.memory)

    def test_as_published_every_piece_is_a_forward_of_its_own(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(merges_feeds=False)).prepare()

        talk.live(perceived=unit(pictures=[1]))

        prefix, suffix = tokens.encode(PREFIX), tokens.encode(SUFFIX)
        unit_feeds = [[tokens.unit_start], [tokens.image_start], SEEN, [tokens.image_end], HEARD]
        assert talk.feeds == [prefix, suffix, *unit_feeds, [tokens.listen, tokens.unit_end]]
        assert [feed.wants_logits for feed in talk.language.feeds] == [False] * 6 + [True, False]

    @pytest.mark.parametrize("merges_feeds", [True, False])
    def test_the_account_is_that_of_the_published_loop_either_way(self, tokens: Tokens, merges_feeds: bool) -> None:
        talk = Talk(tokens, DialogueConfig(merges_feeds=merges_feeds)).prepare()
        start = len(talk.prompt)

        talk.live(tokens.speak, 257, tokens.chunk_eos, perceived=unit(pictures=[1]))

        lengths = [(1, False), (1, False), (3, False), (1, False), (2, True), (1, True), (1, True), (2, False)]
        expected = []
        for length, wants_logits in lengths:
            expected.append(FeedRecord(start, length, wants_logits))
            start += length
        assert talk.dialogue.feeds == expected
        assert talk.dialogue.length == start

    def test_without_sound_the_model_decides_after_the_picture(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(perceived=unit(pictures=[1], has_sound=False))

        assert rows(talk.language.feeds[0])[-1] == tokens.image_end
        assert talk.language.feeds[0].wants_logits

    def test_frames_follow_each_other_each_with_its_tiles(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(perceived=unit(pictures=[1, 3]))

        overview = [tokens.image_start, *SEEN, tokens.image_end]
        tile = [tokens.slice_start, *SEEN, tokens.slice_end]
        heard = [tokens.unit_start, *overview, *overview, *tile, *tile, *HEARD]
        assert talk.memory == [*talk.prompt, *heard, tokens.listen, tokens.unit_end]

    def test_the_moment_tells_how_much_the_model_wants_each_of_two_tokens(self, talk: Talk, tokens: Tokens) -> None:
        talk.language.wishes = deque([tokens.speak])

        moment = talk.language.run(talk.dialogue.hear(unit()))

        assert moment.of(tokens.speak, tokens.listen) == [30.0, 0.0]
        assert moment.logits.shape == (tokens.size,)
        assert moment.hidden.shape == (WIDTH,)


class TestWrongUse:
    @pytest.mark.parametrize(
        ("perceived", "message"),
        [
            (Perceived(), "neither seen nor heard"),
            (Perceived(sound=torch.zeros(10, 7)), r"has shape \[10, 7\]; expected \[positions, 4\]"),
            (Perceived(frames=((torch.zeros(4),),)), r"has shape \[4\]"),
        ],
    )
    def test_a_unit_that_cannot_be_fed_leaves_no_trace(self, talk: Talk, perceived: Perceived, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            talk.language.run(talk.dialogue.hear(perceived))
        with pytest.raises(ModelError, match=message):
            talk.language.run(talk.dialogue.replay([unit(), perceived]))

        assert talk.live().is_listen
        assert talk.memory == [*talk.prompt, *listened(talk.tokens, *HEARD)]

    def test_a_unit_must_be_finalized_before_the_next_one_is_heard(self, talk: Talk) -> None:
        talk.language.run(talk.dialogue.hear(unit()))

        with pytest.raises(RuntimeError, match="not finalized"):
            talk.language.run(talk.dialogue.hear(unit()))

    def test_a_unit_must_be_heard_before_it_is_decided_and_decided_once(self, talk: Talk) -> None:
        with pytest.raises(RuntimeError, match="hear a unit first"):
            talk.language.run(talk.dialogue.listen())
        talk.language.run(talk.dialogue.hear(unit()))
        with pytest.raises(RuntimeError, match="no unit to finalize"):
            talk.language.run(talk.dialogue.finalize())
        talk.language.run(talk.dialogue.listen())
        with pytest.raises(RuntimeError, match="hear a unit first"):
            talk.language.run(talk.dialogue.generate())

    def test_limits_that_leave_no_room_for_a_word_are_refused(self) -> None:
        with pytest.raises(ValueError, match="expected at least 2 tokens and 1 character"):
            DialogueConfig(max_tokens=1)


class TestTheModelDecides:
    def test_it_listens(self, talk: Talk, tokens: Tokens) -> None:
        spoken = talk.live(tokens.listen)

        assert spoken.is_listen
        assert spoken.emitted == spoken.decoded == (tokens.listen,)
        assert not talk.dialogue.turn_is_open

    def test_it_speaks_and_the_first_token_is_no_word(self, talk: Talk, tokens: Tokens) -> None:
        spoken = talk.live(tokens.speak, 280, 353, tokens.chunk_eos)

        assert not spoken.is_listen
        assert spoken.token_ids == (280, 353)
        assert spoken.text == tokens.decode([280, 353])
        assert spoken.emitted == (tokens.speak, 280, 353, tokens.chunk_eos)
        assert talk.memory[-6:] == [*HEARD[1:], tokens.speak, 280, 353, tokens.chunk_eos, tokens.unit_end]
        assert talk.dialogue.turn_is_open

    def test_a_unit_says_at_most_nineteen_tokens(self, talk: Talk, tokens: Tokens) -> None:
        letter = next(token for token in range(300) if tokens.decode([token]) == "a")

        spoken = talk.live(tokens.speak, *[letter] * 40)

        assert len(spoken.emitted) == 20
        assert len(spoken.decoded) == 19
        assert spoken.terminator == tokens.chunk_eos

    def test_a_text_stays_below_twenty_eight_characters(self, talk: Talk, tokens: Tokens) -> None:
        word = next(token for token in range(300, 400) if len(tokens.decode([token])) == 4)

        spoken = talk.live(tokens.speak, *[word] * 19)

        assert spoken.token_ids == (word,) * 6
        assert len(spoken.decoded) == 8  # the one that would have been too much is chosen, but never fed
        assert spoken.terminator == tokens.chunk_eos

    def test_an_open_turn_cannot_listen_and_goes_on(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(tokens.speak, 280, tokens.chunk_eos)

        spoken = talk.live(tokens.listen, 353, tokens.chunk_eos)

        assert spoken.decoded == (tokens.listen, 353, tokens.chunk_eos)
        assert spoken.emitted == (tokens.tts_bos, 353, tokens.chunk_eos)
        assert spoken.text == tokens.decode([353])

    def test_a_turn_ends_and_then_it_may_listen(self, talk: Talk, tokens: Tokens) -> None:
        spoken = talk.live(tokens.speak, 280, tokens.turn_eos, tokens.chunk_eos)

        assert spoken.ends_turn
        assert spoken.token_ids == (280, tokens.turn_eos)
        assert talk.live(tokens.listen).is_listen

    @pytest.mark.parametrize("is_forced", [True, False])
    def test_the_first_units_listen_if_so_configured(self, tokens: Tokens, is_forced: bool) -> None:
        talk = Talk(tokens, DialogueConfig(force_listen_count=2 if is_forced else 0)).prepare()

        heard = [talk.live(tokens.speak, 280, tokens.turn_eos, tokens.chunk_eos).is_listen for _ in range(3)]

        assert heard == [is_forced, is_forced, False]

    def test_forced_listening_ends_an_open_turn_in_the_same_forward_as_the_next_unit(
        self, talk: Talk, tokens: Tokens
    ) -> None:
        talk.live(tokens.speak, 280, tokens.chunk_eos)

        spoken = talk.live(tokens.speak, by=FORCED)

        assert spoken.is_listen
        assert spoken.emitted == (tokens.turn_eos, tokens.listen)
        assert spoken.decoded == ()
        assert not talk.dialogue.turn_is_open
        talk.language.requests.clear()
        talk.live()
        assert [feed[:4] for feed in talk.feeds] == [
            [tokens.turn_eos, tokens.listen, tokens.unit_end, tokens.unit_start]
        ]


class TestAfterTheTurn:
    """What may follow <|turn_eos|> in the same unit."""

    def test_a_unit_that_listens_after_its_words_has_spoken(self, tokens: Tokens) -> None:
        talk = Talk(tokens, has_voice=True).prepare()

        spoken = talk.live(tokens.speak, 280, tokens.turn_eos, tokens.listen)

        assert not spoken.is_listen
        assert spoken.ends_turn
        assert spoken.text == tokens.decode([280])
        assert [saying.token_ids for saying in talk.language.sayings] == [(280, tokens.turn_eos)]
        assert talk.memory[-2:] == [tokens.listen, tokens.unit_end]

    def test_as_published_its_words_are_lost(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(quirks=QUIRKS), has_voice=True).prepare()

        spoken = talk.live(tokens.speak, 280, tokens.turn_eos, tokens.listen)

        assert spoken.is_listen
        assert (spoken.text, spoken.ends_turn) == ("", False)
        assert talk.language.sayings == []

    def test_words_after_the_end_are_not_said(self, talk: Talk, tokens: Tokens) -> None:
        spoken = talk.live(tokens.speak, 280, tokens.turn_eos, 353, 384)

        assert spoken.emitted == (tokens.speak, 280, tokens.turn_eos, tokens.chunk_eos)
        assert spoken.ends_turn
        assert not talk.dialogue.turn_is_open

    def test_as_published_they_open_the_turn_again(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(quirks=QUIRKS)).prepare()

        spoken = talk.live(tokens.speak, 280, tokens.turn_eos, 353, tokens.chunk_eos)

        assert spoken.token_ids == (280, tokens.turn_eos, 353)
        assert not spoken.ends_turn
        assert talk.dialogue.turn_is_open


class TestWeDecide:
    def test_listening_ends_an_open_turn(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(tokens.speak, 280, tokens.chunk_eos)

        spoken = talk.live(tokens.speak, by=Dialogue.listen)

        assert spoken.emitted == (tokens.turn_eos, tokens.listen)
        assert talk.memory[-3:] == [tokens.turn_eos, tokens.listen, tokens.unit_end]

    def test_listening_asks_the_model_nothing(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(tokens.speak, by=Dialogue.listen)

        assert [feed.wants_logits for feed in talk.language.feeds] == [True]

    def test_speaking_begins_a_turn_whatever_the_model_wants(self, talk: Talk, tokens: Tokens) -> None:
        spoken = talk.live(tokens.listen, 280, tokens.chunk_eos, by=Dialogue.speak)

        assert spoken.emitted == (tokens.speak, 280, tokens.chunk_eos)
        assert spoken.decoded == (280, tokens.chunk_eos)
        assert tokens.speak not in talk.dialogue.decoder.history

    def test_speaking_goes_on_with_an_open_turn(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(280, 281, tokens.chunk_eos, by=Dialogue.speak)

        spoken = talk.live(tokens.tts_bos, 353, tokens.turn_eos, tokens.chunk_eos, by=Dialogue.speak)

        assert spoken.emitted == (tokens.tts_bos, 353, tokens.turn_eos, tokens.chunk_eos)
        assert spoken.ends_turn

    def test_an_alert_may_be_longer_than_a_second_of_talk(self, talk: Talk, tokens: Tokens) -> None:
        wishes = [tokens.listen, *[280] * 30, tokens.turn_eos, tokens.chunk_eos]

        spoken = talk.live(*wishes, by=partial(Dialogue.speak, max_tokens=60, max_chars=200))

        assert spoken.text == tokens.decode([280] * 30)
        assert spoken.ends_turn

    def test_a_turn_that_is_cut_ends_for_the_model_with_the_next_decision(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(tokens.speak, 280, tokens.chunk_eos)

        talk.dialogue.cut()
        talk.dialogue.cut()

        assert not talk.dialogue.turn_is_open
        assert talk.live().emitted == (tokens.turn_eos, tokens.listen)
        assert talk.live().emitted == (tokens.listen,)

    def test_after_a_cut_the_model_decides_knowing_that_the_turn_has_ended(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(tokens.speak, 280, tokens.chunk_eos)
        talk.dialogue.cut()

        spoken = talk.live(tokens.listen, tokens.speak, 353, tokens.chunk_eos)

        assert spoken.decoded[0] == tokens.speak
        assert spoken.emitted == (tokens.turn_eos, tokens.speak, 353, tokens.chunk_eos)

    def test_without_an_open_turn_there_is_nothing_to_cut(self, talk: Talk, tokens: Tokens) -> None:
        talk.dialogue.cut()

        assert talk.live().emitted == (tokens.listen,)


class TestVoice:
    def test_words_are_voiced_with_what_the_model_felt_at_each(self, tokens: Tokens) -> None:
        talk = Talk(tokens, has_voice=True).prepare()

        spoken = talk.live(tokens.speak, 280, 353, tokens.chunk_eos)

        (saying,) = talk.language.sayings
        assert saying.token_ids == (280, 353)
        assert [int(hidden[0]) for hidden in saying.hidden] == [280, 353]
        assert not saying.ends_turn
        assert cast("object", spoken.speech) == "voiced"

    def test_nothing_is_voiced_that_nobody_wants_to_hear(self, talk: Talk, tokens: Tokens) -> None:
        talk.live(tokens.speak, 280, tokens.chunk_eos)

        assert talk.language.sayings == []

    @pytest.mark.parametrize(("quirks", "resets"), [(Quirks(), 1), (QUIRKS, 0)])
    def test_a_cut_voice_begins_anew_unless_as_published(self, tokens: Tokens, quirks: Quirks, resets: int) -> None:
        talk = Talk(tokens, DialogueConfig(quirks=quirks), has_voice=True).prepare()
        talk.live(tokens.speak, 280, tokens.chunk_eos)
        talk.voice.resets = 0

        talk.live(by=FORCED)

        assert talk.voice.resets == resets

    def test_a_turn_that_ends_without_words_ends_its_voice(self, tokens: Tokens) -> None:
        talk = Talk(tokens, has_voice=True).prepare()
        talk.live(tokens.speak, 280, tokens.chunk_eos)
        talk.voice.resets = 0

        assert talk.live(tokens.turn_eos, tokens.listen).is_listen

        assert talk.voice.resets == 1


class TestRotation:
    def test_past_seconds_are_lived_again_in_one_forward_with_the_prompt(self, talk: Talk, tokens: Tokens) -> None:
        talk.language.run(talk.dialogue.replay([unit(pictures=[1]), unit()]))

        first = listened(tokens, tokens.image_start, *SEEN, tokens.image_end, *HEARD)
        assert talk.feeds == [[*talk.prompt, *first, *listened(tokens, *HEARD)]]
        assert not talk.language.feeds[0].wants_logits
        assert [span.length for span in talk.dialogue.layout.units] == [10, 5]

    def test_a_replayed_past_is_the_same_as_one_that_was_listened_to(self, tokens: Tokens) -> None:
        lived, replayed = Talk(tokens).prepare(), Talk(tokens).prepare()
        past = [unit(pictures=[1]), unit(), unit(pictures=[2], has_sound=False)]

        for second in past:
            lived.live(perceived=second)
        replayed.language.run(replayed.dialogue.replay(past))

        assert replayed.memory == lived.memory
        assert replayed.dialogue.layout == lived.dialogue.layout

    def test_a_replay_longer_than_the_window_keeps_its_end(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(window=Context(max_units=3))).prepare()

        talk.language.run(talk.dialogue.replay([unit()] * 8))

        assert [span.index for span in talk.dialogue.layout.units] == [5, 6, 7]
        assert talk.memory == [*talk.prompt, *listened(tokens, *HEARD) * 3]

    def test_a_dialogue_tells_how_full_it_is(self, talk: Talk) -> None:
        prompt = len(talk.prompt)

        talk.live()
        talk.live()

        assert talk.dialogue.fullness == Fullness(length=prompt + 10, prompt=prompt, units=2)

    def test_preparing_again_forgets_everything(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(force_listen_count=1), has_voice=True).prepare()
        talk.live()
        talk.live(tokens.speak, 280, tokens.chunk_eos)
        talk.language.run(talk.dialogue.hear(unit()))

        talk.prepare()

        assert talk.memory == talk.prompt
        assert not talk.dialogue.turn_is_open
        assert talk.dialogue.decoder.history == []
        assert talk.live(tokens.speak).is_listen  # counted anew
        assert talk.voice.resets == 2


class TestWindows:
    WINDOW = Basic(high=40, low=25)

    def test_what_waits_stays_behind_the_units_that_remain(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(window=self.WINDOW)).prepare()
        for _ in range(8):
            talk.live()
        kept = len(talk.dialogue.layout.units)

        assert kept < 8
        assert talk.dialogue.length <= 40
        assert talk.memory == [*talk.prompt, *listened(tokens, *HEARD) * kept]

    @pytest.mark.parametrize("flushes", [True, False])
    def test_cuts_cost_a_forward_only_if_old_units_shall_see_what_waits(self, tokens: Tokens, flushes: bool) -> None:
        talk = Talk(tokens, DialogueConfig(window=self.WINDOW, flushes_before_cuts=flushes)).prepare()

        for _ in range(20):
            talk.live()

        cuts = talk.dialogue.layout.begun - 20 + sum(not feed.wants_logits for feed in talk.language.feeds)
        assert (cuts > 0) is flushes

    def test_what_was_said_is_carried_into_the_prompt(self, tokens: Tokens) -> None:
        talk = Talk(tokens, DialogueConfig(window=Context(max_units=2))).prepare()
        talk.live(tokens.speak, 280, 353, tokens.turn_eos, tokens.chunk_eos)
        talk.live()

        talk.live()

        marker = tokens.encode("\n\nprevious: ")
        carried = [*tokens.encode(PREFIX), *marker, 280, 353, *tokens.encode(SUFFIX)]
        assert talk.memory == [*carried, *listened(tokens, *HEARD) * 2]
        assert talk.dialogue.layout.carried_text == tokens.decode([280, 353])

    @pytest.mark.parametrize("window", [Basic(high=120, low=60), Context(max_units=6, previous_max=20)])
    def test_nothing_grows_over_a_thousand_units(self, tokens: Tokens, window: Window) -> None:
        talk = Talk(tokens, DialogueConfig(window=window), has_voice=True).prepare()

        sizes = set()
        for index in range(1000):
            talk.live(*_wishes(tokens, index % 7), perceived=unit(pictures=[1] * (index % 2)))
            talk.language.requests.clear()
            if index % 100 == 99:
                dialogue = talk.dialogue
                sizes.add(dialogue.length < 220 and len(dialogue.layout.units) < 30 and len(dialogue.feeds) < 30)

        assert sizes == {True}
        assert talk.dialogue.layout.begun == 1000


def _wishes(tokens: Tokens, kind: int) -> Sequence[int]:
    """Different ways for a unit to go."""
    ways = [
        [tokens.listen],
        [tokens.speak, 280, 353, tokens.chunk_eos],
        [tokens.speak, 280, tokens.turn_eos, tokens.chunk_eos],
        [tokens.speak, 280, tokens.turn_eos, tokens.listen],
        [tokens.speak, *[353] * 30],
        [tokens.turn_eos, tokens.listen],
        [tokens.chunk_eos],
    ]
    return ways[kind]


def _live_all(talk: Talk, units: Sequence[tuple[int, int, bool]]) -> Iterator[tuple[Spoken, list[FeedRecord]]]:
    for kind, pictures, is_forced in units:
        spoken = talk.live(
            *_wishes(talk.tokens, kind),
            perceived=unit(pictures=[1] * pictures),
            by=partial(Dialogue.generate, force_listen=is_forced),
        )
        yield spoken, list(talk.dialogue.feeds)


@given(
    units=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.booleans()), max_size=12),
    window=st.sampled_from([Basic(high=70, low=40), Context(max_units=3, previous_max=4)]),
    quirks=st.sampled_from([Quirks(), QUIRKS]),
)
def test_how_pieces_are_fed_never_changes_what_is_said_or_remembered(
    tiny_folder: Path, units: Sequence[tuple[int, int, bool]], window: Window, quirks: Quirks
) -> None:
    tokens = Tokens.read(tiny_folder)
    talks = [
        Talk(tokens, DialogueConfig(window=window, quirks=quirks, merges_feeds=merges, flushes_before_cuts=flushes))
        for merges, flushes in ((False, False), (True, False), (True, True))
    ]
    published, *merged = [list(_live_all(talk.prepare(), units)) for talk in talks]

    assert merged == [published, published]
    assert [talk.memory for talk in talks[1:]] == [talks[0].memory] * 2
