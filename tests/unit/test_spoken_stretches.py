"""Where a voice begins, pauses and ends, from a net that is a rule of thumb: loud is voice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_watch.duplex.embedded.words.listening import (
    Change,
    FeedListening,
    GoesOn,
    MaybeAll,
    TooShort,
    Utterance,
    VoiceBegan,
    VoiceEnded,
)
from omni_watch.duplex.embedded.words.stretches import Habits
from omni_watch.duplex.embedded.words.voice_activity import WINDOW, WINDOW_S, VoiceState

Floats = NDArray[np.float32]
RATE = 16_000
HABITS = Habits()


class LoudIsVoice:
    """The mean level of a window is its probability."""

    def step(self, samples: Floats, past: VoiceState) -> tuple[list[tuple[float, Floats]], VoiceState]:
        waiting = np.concatenate([past.rest, samples])
        whole = len(waiting) - len(waiting) % WINDOW
        judged = [(float(np.abs(window).mean()), window) for window in waiting[:whole].reshape(-1, WINDOW)]
        return judged, VoiceState(past.hidden, past.cell, past.context, waiting[whole:])


def sound(*parts: tuple[float, float]) -> Floats:
    """(seconds, level) one after another."""
    return np.concatenate([np.full(round(length_s * RATE), level, np.float32) for length_s, level in parts])


def heard(samples: Floats, *, block: int = 512, start_s: float = 0.0, habits: Habits = HABITS) -> list[Change]:
    listening = FeedListening(LoudIsVoice(), habits)
    changes: list[Change] = []
    for at in range(0, len(samples), block):
        changes += listening.hear(start_s + at / RATE, samples[at : at + block])
    return changes


def plain(changes: list[Change]) -> list[tuple[object, ...]]:
    """To compare: samples by their bytes."""

    def of(change: Change) -> tuple[object, ...]:
        match change:
            case MaybeAll(utterance) | VoiceEnded(utterance):
                return type(change), *fields(utterance)
            case _:
                return type(change), change

    def fields(each: Utterance) -> tuple[object, ...]:
        return each.number, each.samples.tobytes(), each.start_s, each.end_s, each.is_cut

    return [of(change) for change in changes]


def kinds(changes: list[Change]) -> list[str]:
    return [type(change).__name__ for change in changes]


def test_a_sentence_begins_may_be_all_and_is_all() -> None:
    changes = heard(sound((1.0, 0.0), (2.0, 0.9), (2.0, 0.0)), start_s=100.0)
    began, maybe, ended = changes
    assert isinstance(began, VoiceBegan)
    assert isinstance(maybe, MaybeAll)
    assert isinstance(ended, VoiceEnded)
    assert began.at_s == pytest.approx(101.0, abs=WINDOW_S)
    assert ended.utterance.start_s == began.at_s
    assert ended.utterance.end_s == pytest.approx(103.0, abs=WINDOW_S)


def test_what_was_recognised_at_the_pause_is_what_ends() -> None:
    _, maybe, ended = heard(sound((1.0, 0.0), (1.0, 0.9), (2.0, 0.0)))
    assert isinstance(maybe, MaybeAll)
    assert isinstance(ended, VoiceEnded)
    assert maybe.utterance.samples.tobytes() == ended.utterance.samples.tobytes()
    kept_s = len(ended.utterance.samples) / RATE
    assert kept_s == pytest.approx(1.0 + HABITS.pre_roll_s + HABITS.tail_s, abs=3 * WINDOW_S)


def test_a_breath_does_not_end_a_sentence() -> None:
    changes = heard(sound((0.5, 0.0), (1.0, 0.9), (0.4, 0.0), (1.0, 0.9), (1.0, 0.0)))
    assert kinds(changes) == ["VoiceBegan", "MaybeAll", "GoesOn", "MaybeAll", "VoiceEnded"]
    ended = changes[-1]
    assert isinstance(ended, VoiceEnded)
    assert ended.utterance.end_s - ended.utterance.start_s == pytest.approx(2.4, abs=2 * WINDOW_S)


def test_two_sentences_are_two() -> None:
    changes = heard(sound((0.5, 0.0), (1.0, 0.9), (1.0, 0.0), (1.0, 0.9), (1.0, 0.0)))
    numbers = [change.utterance.number for change in changes if isinstance(change, VoiceEnded)]
    assert numbers == [0, 1]


@pytest.mark.parametrize("length_s", [0.03, 0.06, 0.09])
def test_a_click_is_no_voice(length_s: float) -> None:
    assert heard(sound((0.5, 0.0), (length_s, 0.9), (1.0, 0.0))) == []


def test_what_is_too_short_to_be_a_word_ends_without_one() -> None:
    habits = Habits(shortest_s=0.3)
    changes = heard(sound((0.5, 0.0), (0.2, 0.9), (1.0, 0.0)), habits=habits)
    assert kinds(changes) == ["VoiceBegan", "TooShort"]
    ended = changes[-1]
    assert isinstance(ended, TooShort)
    assert ended.end_s - ended.start_s == pytest.approx(0.2, abs=2 * WINDOW_S)


def test_between_the_thresholds_a_voice_goes_on_and_none_begins() -> None:
    middling = (HABITS.sure + HABITS.unsure) / 2
    assert heard(sound((3.0, middling))) == []
    assert kinds(heard(sound((0.5, 0.9), (3.0, middling)))) == ["VoiceBegan"]
    after_a_pause = heard(sound((0.5, 0.9), (0.3, 0.0), (3.0, middling)))
    assert kinds(after_a_pause) == ["VoiceBegan", "MaybeAll", "VoiceEnded"]


def test_a_voice_that_never_stops_is_cut_into_pieces_that_share_no_loss() -> None:
    habits = Habits(longest_s=3.0)
    changes = heard(sound((0.5, 0.0), (7.0, 0.9), (1.0, 0.0)), habits=habits)
    pieces = [change.utterance for change in changes if isinstance(change, VoiceEnded)]
    assert [piece.is_cut for piece in pieces] == [True, True, False]
    for piece, following in pairwise(pieces):
        reaches_back_to = following.start_s - HABITS.pre_roll_s
        assert reaches_back_to <= piece.end_s + 1e-6
    assert max(len(piece.samples) for piece in pieces) <= (3.0 + WINDOW_S) * RATE


def test_a_hole_in_the_sound_ends_a_sentence() -> None:
    listening = FeedListening(LoudIsVoice())
    changes = listening.hear(10.0, sound((1.0, 0.0), (1.0, 0.9)))
    changes += listening.hear(15.0, sound((1.0, 0.9), (1.0, 0.0)))
    assert kinds(changes) == ["VoiceBegan", "VoiceEnded", "VoiceBegan", "MaybeAll", "VoiceEnded"]
    first, second = (change.utterance for change in changes if isinstance(change, VoiceEnded))
    assert first.end_s == pytest.approx(12.0, abs=WINDOW_S)
    assert second.start_s == pytest.approx(15.0, abs=WINDOW_S)


def test_small_corrections_of_the_clock_are_no_hole() -> None:
    listening = FeedListening(LoudIsVoice())
    changes = listening.hear(10.0, sound((1.0, 0.0), (1.0, 0.9)))
    changes += listening.hear(12.05, sound((1.0, 0.9), (1.0, 0.0)))
    assert kinds(changes) == ["VoiceBegan", "MaybeAll", "VoiceEnded"]


LEVELS = st.sampled_from([0.0, 0.2, 0.42, 0.9])


@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.01, 1.2), LEVELS), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 60_000), max_size=12, unique=True).map(sorted),
)
def test_where_the_stream_is_cut_never_changes_what_is_heard(parts: list[tuple[float, float]], cuts: list[int]) -> None:
    samples = sound((0.2, 0.0), *parts, (1.0, 0.0))
    whole = FeedListening(LoudIsVoice()).hear(7.0, samples)

    listening, pieces, at = FeedListening(LoudIsVoice()), list[Change](), 0
    for piece in np.split(samples, [cut for cut in cuts if cut < len(samples)]):
        pieces += listening.hear(7.0 + at / RATE, piece)
        at += len(piece)

    assert plain(pieces) == plain(whole)
    assert not any(isinstance(change, GoesOn) for change in whole[:1])
