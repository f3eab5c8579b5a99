"""A `Brain` without weights: for each second a margin, and what the model would say then.

The dialogue, its cache of tokens and everything above it are the real ones; only the arithmetic is scripted. A unit
carries its number in its sound, so that any memory knows which second it lives through.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni_watch.config.rulebook import Rulebook, load_rulebook
from omni_watch.domain.decisions import Decision, Speak
from omni_watch.domain.errors import ModelError
from omni_watch.domain.units import Gap, Unit
from omni_watch.duplex.minicpmo.decoding import Decoder
from omni_watch.duplex.minicpmo.dialogue import DialogueConfig
from omni_watch.duplex.minicpmo.engine import FeedPlace, MiniCpmEngine
from omni_watch.duplex.minicpmo.mind import Mind, SentenceDecoder
from omni_watch.duplex.minicpmo.opinion import Opinion
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.senses import Perceived
from omni_watch.duplex.minicpmo.stillness import StillnessGate
from omni_watch.duplex.minicpmo.surroundings import Surroundings, WatchSettings
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.watching import MiniCpmSession
from omni_watch.duplex.minicpmo.work import Fed, Feed, Request, Work
from omni_watch.watch.ports import Pronounce, Step
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit
from tests.fakes.fake_language import WIDTH, FakeCache, rows, vectors

CHECKPOINT = Path(__file__).parents[1] / "golden" / "minicpmo" / "tiny-a"
PICTURE = -1  # what stands in a cache for a vector of a picture
FIRST_SECOND = -1000  # and, going down from here, for a second's sound
QUIET = -6.0  # a margin: nothing to say

Said = tuple[float, str]  # the margin, and the words that would follow


@cache
def tiny_tokens() -> Tokens:
    return Tokens.read(CHECKPOINT)


@cache
def rulebook() -> Rulebook:
    return load_rulebook()


def second(
    number: int, *, feed: str = "kitchen", frame: NDArray[np.uint8] | None = None, gaps: tuple[Gap, ...] = ()
) -> Unit:
    """A unit that says its number in its sound."""
    return unit(number, feed=feed, audio=np.full(16_000, number / 20_000), frame=frame, gaps=gaps)


def number_in(sound: Tensor) -> int:
    return round(float(sound[0]) * 20_000)


@dataclass
class ScriptedBrain:
    """Implements `Brain`; also `run`, which serves all works in rounds and fails those of seconds in `failing`."""

    script: Mapping[int, Said] = field(default_factory=dict)
    failing: dict[int, ModelError] = field(default_factory=dict)
    opinions: list[bool] = field(default_factory=list)  # answers to second opinions, in order; none left: an error
    asked: list[str] = field(default_factory=list)  # conditions of second opinions
    rounds: list[int] = field(default_factory=list)  # how many feeds each forward served
    minds: list[Mind] = field(default_factory=list)  # all that were ever made
    prompts: list[str] = field(default_factory=list)
    frames_seen: list[int] = field(default_factory=list)  # of each second, in order
    tokens: Tokens = field(default_factory=tiny_tokens)

    # --- Brain ---

    voice: Tensor | None = None

    def ears(self) -> ScriptedEars:
        return ScriptedEars(self)

    def mind(self, presence: Presence) -> Mind:
        config = DialogueConfig()
        decoder = SentenceDecoder(self.tokens) if presence is Presence.WATCH else Decoder(self.tokens, config.decoding)
        mind = Mind(self.tokens, cast("Any", self), config, decoder=decoder)
        self.minds.append(mind)
        return mind

    def pictures(self, rgb: NDArray[np.uint8]) -> Sequence[Tensor]:
        return [vectors(PICTURE, 2)]

    def count_tokens(self, text: str) -> int:
        if not self.prompts or self.prompts[-1] != text:
            self.prompts.append(text)
        return 100

    def examine(self, seconds: Sequence[Perceived], condition: str, tongue: str) -> Work[Opinion]:
        self.asked.append(condition)
        if not self.opinions:
            raise ModelError("nobody answers")
        agrees = self.opinions.pop(0)
        yield from ()
        return Opinion(yes_margin=2.0 if agrees else -2.0, opposite_margin=-2.0 if agrees else 2.0, agrees=agrees)

    # --- the language model, as a dialogue uses it ---

    def new_cache(self, capacity: int = 0) -> FakeCache:
        return FakeCache()

    def embed(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.float32)[:, None].expand(-1, WIDTH)

    # --- the weights ---

    def run(self, works: Sequence[Work[Any]]) -> list[Any]:
        """Each work's result or error; a round serves what all of them ask for."""
        results: dict[int, Any] = {}
        waiting: dict[int, tuple[Generator[Any, Any, Any], Any]] = {
            place: (work, None) for place, work in enumerate(works)
        }
        while waiting:
            requests: dict[int, tuple[Generator[Any, Any, Any], Request]] = {}
            for place, (work, answer) in waiting.items():
                try:
                    requests[place] = (work, work.send(answer))
                except StopIteration as ended:
                    results[place] = ended.value
                except ModelError as error:
                    results[place] = error
            if requests:
                self.rounds.append(len(requests))
            waiting = {
                place: (work, self._answer(cast("Feed", request))) for place, (work, request) in requests.items()
            }
        return [results[place] for place in range(len(works))]

    def _answer(self, feed: Feed) -> Fed:
        held = cast("FakeCache", feed.cache)
        held.rows += rows(feed)
        last = feed.embeddings[-1]
        return Fed(hidden=last, logits=self._logits(held.rows) if feed.wants_logits else None)

    def _logits(self, held: Sequence[int]) -> Tensor:
        """By the last second in the memory, and what was said since."""
        at = max(place for place, row in enumerate(held) if row <= FIRST_SECOND)
        margin, words = self.script.get(FIRST_SECOND - held[at], (QUIET, ""))
        said = [row for row in held[at + 1 :] if row != self.tokens.turn_eos]
        logits = torch.zeros(self.tokens.size)
        if not said:
            logits[self.tokens.speak], logits[self.tokens.listen] = margin / 2 + 20, -margin / 2 + 20
            return logits
        coming = [*self.tokens.encode(words), self.tokens.turn_eos]
        logits[coming[min(len(said), len(coming)) - 1]] = 30.0
        return logits


class ScriptedEars:
    """Implements `Ears`: a second's sound becomes one vector with its number."""

    def __init__(self, brain: ScriptedBrain) -> None:
        self._brain = brain
        self.heard: list[int] = []

    def perceive(self, sound: Tensor | None, frames: Sequence[Sequence[Tensor]] = ()) -> Work[Perceived]:
        assert sound is not None
        number = number_in(sound)
        if number in self._brain.failing:
            raise self._brain.failing.pop(number)
        self.heard.append(number)
        self._brain.frames_seen.append(len(frames))
        yield from ()
        return Perceived(frames=tuple(tuple(frame) for frame in frames), sound=vectors(FIRST_SECOND - number, 1))


@dataclass
class Watch:
    """An engine on a scripted brain, with everything that it told anybody."""

    brain: ScriptedBrain
    settings: WatchSettings = field(default_factory=WatchSettings)
    feeds: Mapping[str, FeedPlace] = field(default_factory=dict)
    looks_away: bool = False  # whether frames that show nothing new are left out
    pronounce: Pronounce = lambda _sentence, _language: None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        def tell(event: str, **fields: Any) -> None:
            self.events.append((event, fields))

        around = Surroundings(
            tongues=rulebook().phrasebook.tongues,
            wall=lambda at_s: NOON.astimezone(UTC) + timedelta(seconds=at_s),
            tell=tell,
            eyelid=lambda: StillnessGate() if self.looks_away else None,
            pronounce=self.pronounce,
        )
        self.engine = MiniCpmEngine(
            self.brain,
            self.brain.run,
            speak=self.brain.tokens.speak,
            listen=self.brain.tokens.listen,
            settings=self.settings,
            around=around,
            feeds=self.feeds,
        )

    def live(self, session: MiniCpmSession, units: Sequence[Unit], *, rests: bool = True) -> list[Decision]:
        """The decisions about these units; between them the engine has time (`rests`), or has none."""
        decisions = []
        for each in units:
            decisions.append(session.step(each))
            while rests and self.engine.work_ahead():
                pass
        return decisions

    def together(self, *steps: tuple[MiniCpmSession, Unit]) -> Sequence[Decision | ModelError]:
        return self.engine.step_together([Step(session, each) for session, each in steps])

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


def told(decisions: Sequence[Decision]) -> list[tuple[int, str | None, str]]:
    """(number of the unit, task, words) of everything said."""
    return [
        (place, utterance.task_id, utterance.text)
        for place, decision in enumerate(decisions)
        if isinstance(decision, Speak)
        for utterance in decision.utterances
    ]


def words_in(mind: Mind) -> str:
    """What stands in a memory as text."""
    held = cast("FakeCache", mind.cache).rows
    return mind.tokens.decode([row for row in held if row >= 0])


def seconds_in(mind: Mind) -> list[int]:
    """The seconds that a memory lived through, as far as they were fed."""
    return [FIRST_SECOND - row for row in cast("FakeCache", mind.cache).rows if row <= FIRST_SECOND]
