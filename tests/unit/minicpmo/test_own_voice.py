"""A companion with the model's own voice, on the tiny checkpoint: its codes are heard, and it yields when hushed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import numpy as np
import pytest
import torch

from omni_watch.domain.decisions import Decision
from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.engine import FeedPlace, MiniCpmEngine, OwnVoice, SharedBrain
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.surroundings import Surroundings, WatchSettings
from omni_watch.duplex.minicpmo.vocoder import CodecVocoder
from omni_watch.duplex.minicpmo.watching import MiniCpmSession
from omni_watch.duplex.minicpmo.weights import MiniCpmO
from omni_watch.watch.briefing import Briefing
from omni_watch.watch.ports import LivePiece
from tests.fakes.fake_clock import NOON
from tests.fakes.scripted_brain import rulebook, second, tiny_tokens

VOICE = 0.1 * torch.sin(torch.arange(32_000) / 20)
TALKATIVE = 20.0  # a bias in logits with which even random weights speak


class CountingCodec:
    """Implements `Codec`: a millisecond of sound for each code that is not only looked at."""

    lookahead = 3

    def __init__(self) -> None:
        self.trouble: ModelError | None = None
        self.is_closed = False

    def begin(self, turn: int) -> None:
        if self.trouble is not None:
            raise self.trouble

    def stream(self, turn: int, codes: Sequence[int], *, is_last: bool) -> bytes:
        return np.ones(24 * len(codes), "<i2").tobytes()

    def forget(self, turn: int) -> None: ...

    def close(self) -> None:
        self.is_closed = True


class House:
    """One companion in the kitchen, whose every piece of speech is kept."""

    def __init__(self, model: MiniCpmO, *, bias: float = TALKATIVE) -> None:
        self.codec, self.pieces, self.failures = CountingCodec(), list[LivePiece](), list[ModelError]()
        self._has_come = threading.Condition()
        brain = SharedBrain(model, tiny_tokens(), bias=bias, voice=VOICE)
        around = Surroundings(tongues=rulebook().phrasebook.tongues, wall=lambda at_s: NOON + timedelta(seconds=at_s))
        self.engine = MiniCpmEngine(
            brain,
            brain.run,
            speak=tiny_tokens().speak,
            listen=tiny_tokens().listen,
            settings=WatchSettings(context_tokens=8192),
            around=around,
            feeds={"kitchen": FeedPlace(presence=Presence.COMPANION), "hall": FeedPlace()},
            voice=OwnVoice(CodecVocoder(self.codec), self._keep, self.failures.append),
        )
        self.session: MiniCpmSession = self.engine.open(Briefing(feed="kitchen", tasks=()))
        self._lived = 0

    def live(self, count: int) -> list[Decision]:
        first, self._lived = self._lived, self._lived + count
        return [self.session.step(second(number)) for number in range(first, first + count)]

    def live_until(self, is_so: Callable[[], bool], most: int = 40) -> None:
        for _ in range(most):
            if is_so():
                return
            self.live(1)
            with self._has_come:
                self._has_come.wait_for(is_so, timeout=0.2)  # the sound of a unit comes after its decision
        assert is_so()

    def _keep(self, piece: LivePiece) -> None:
        with self._has_come:
            self.pieces.append(piece)
            self._has_come.notify_all()


@pytest.fixture
def house(tiny_model: MiniCpmO) -> Iterator[House]:
    torch.manual_seed(0)
    made = House(tiny_model)
    yield made
    made.engine.close()
    assert made.codec.is_closed


def test_what_a_companion_says_is_announced_and_then_heard(house: House) -> None:
    house.live_until(lambda: any(piece.pcm for piece in house.pieces))
    announced, *_ = house.pieces
    assert (announced.feed, announced.turn, announced.pcm, announced.rate_hz) == ("kitchen", 0, b"", 24_000)
    assert all(piece.at_s == round(piece.at_s) for piece in house.pieces), "each says with which unit it was said"
    assert not house.failures


def test_a_hushed_companion_ends_its_turn_with_the_next_unit_and_may_speak_again_later(house: House) -> None:
    house.live_until(lambda: bool(house.pieces))
    house.engine.hush("kitchen")
    house.engine.hush("hall")  # has no voice of its own; nothing happens
    spoken = {piece.turn for piece in house.pieces}
    house.live(1)
    assert {piece.turn for piece in house.pieces} == spoken, "it listened"
    house.live_until(lambda: max(piece.turn for piece in house.pieces) > max(spoken))


def test_a_voice_that_cannot_be_made_costs_the_sound_and_not_the_watching(house: House) -> None:
    house.codec.trouble = ModelError("no memory left on the card", can_retry=True)
    house.live_until(lambda: any(piece.is_lost for piece in house.pieces))
    assert str(house.failures[0]) == "no memory left on the card"
    assert house.live(3)


def test_a_session_that_replaces_another_ends_the_turn_that_was_under_way(house: House) -> None:
    house.live_until(lambda: bool(house.pieces) and not house.pieces[-1].ends_turn)
    turn = house.pieces[-1].turn
    house.session = house.engine.open(Briefing(feed="kitchen", tasks=()), after=house.session)
    house.live_until(lambda: any(piece.turn == turn and piece.ends_turn for piece in house.pieces))


@pytest.mark.parametrize(("feed", "seconds_of_voice"), [("kitchen", 2), ("hall", 0)])
def test_the_voice_stands_in_the_companions_prompt_and_in_no_other(
    house: House, feed: str, seconds_of_voice: int
) -> None:
    session = house.engine.open(Briefing(feed=feed, tasks=()))
    session.step(second(0, feed=feed))
    memory = session._memories.present
    assert memory is not None
    prompt, has_voice = session._memories.prompt(), seconds_of_voice > 0
    words = prompt.prefix(has_voice=has_voice) + prompt.suffix(has_voice=has_voice)
    expected = len(tiny_tokens().encode(words)) + 10 * seconds_of_voice
    assert memory.mind.fullness.prompt == expected


def test_a_model_without_a_speech_decoder_is_refused_a_voice(
    tiny_model: MiniCpmO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model, "tts", None)
    with pytest.raises(ModelError, match="no speech decoder"):
        SharedBrain(tiny_model, tiny_tokens(), voice=VOICE)
