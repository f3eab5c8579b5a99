"""The engine: MiniCPM-o for every feed of the house, over one set of weights.

Feeds whose seconds are decided at the same moment go through the model in one packed forward. A session that fails
(a broken memory, no room on the device) is closed and disturbs no other; the heartbeat opens a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni_watch.domain.decisions import Decision
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Language
from omni_watch.domain.units import Unit
from omni_watch.duplex.minicpmo.control import checked, read_margins
from omni_watch.duplex.minicpmo.decoding import Decoder, DecodingConfig
from omni_watch.duplex.minicpmo.dialogue import DialogueConfig
from omni_watch.duplex.minicpmo.mel import MelFrontEnd
from omni_watch.duplex.minicpmo.mind import Mind, SentenceDecoder
from omni_watch.duplex.minicpmo.opinion import Examiner, Opinion, OpinionSettings
from omni_watch.duplex.minicpmo.pictures import pictures_of
from omni_watch.duplex.minicpmo.planning import FeedSenses, plan
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.senses import Perceived, Senses, voice_vectors
from omni_watch.duplex.minicpmo.surroundings import Brain, Surroundings, WatchSettings
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.vocoder import Vocoder
from omni_watch.duplex.minicpmo.voice import ModelVoice
from omni_watch.duplex.minicpmo.watching import MiniCpmSession
from omni_watch.duplex.minicpmo.weights import MiniCpmO, run_together
from omni_watch.duplex.minicpmo.windows import Off, Window
from omni_watch.duplex.minicpmo.work import Work
from omni_watch.watch.briefing import BriefedTask, Briefing, Plan
from omni_watch.watch.ports import Aloud, DuplexSession, Step

T = TypeVar("T")
Run = Callable[[Sequence[Work[Any]]], Sequence[Any]]  # drives works together: each one's result, or its ModelError

MOST_TOGETHER: Final = 16  # feeds in one step; more are served in the next


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPlace:
    """What the engine knows of a feed before it sees anything of it."""

    presence: Presence = Presence.WATCH
    senses: FeedSenses = field(default_factory=FeedSenses)


@dataclass(frozen=True, slots=True)
class OwnVoice:
    """How companions speak with the model's own voice."""

    vocoder: Vocoder
    aloud: Aloud
    failed: Callable[[ModelError], None] = lambda _error: None  # a turn could not be spoken; voice thread


class SharedBrain:
    """Implements `watching.Brain` by the weights. Model thread only."""

    def __init__(
        self,
        model: MiniCpmO,
        tokens: Tokens,
        *,
        window: Window | None = None,
        bias: float = 0.0,
        voice: Tensor | None = None,
    ) -> None:
        """`bias` is for the companion, whose own decoder decides; watching weighs each margin itself.

        `voice` [n] float32 samples at 16 kHz: how a companion shall sound; it then makes speech codes as well.

        Raises:
            ModelError: a voice is wanted, and the checkpoint was loaded without its speech decoder.
        """
        if voice is not None and model.tts is None:
            raise ModelError("the model has no speech decoder, so it cannot speak with a voice of its own")
        self._model = model
        self._tokens = tokens
        self._mel = MelFrontEnd(model.config.audio)
        self._examiner = Examiner(tokens, model.llm, OpinionSettings(is_on=True))
        self._watching = DialogueConfig(window=window or Off())
        own = replace(self._watching.decoding, listen_prob_scale=exp(-bias))
        self._accompanying = replace(self._watching, decoding=own)
        self._voice = None if voice is None else self._as_heard(voice)

    @property
    def tokens(self) -> Tokens:
        return self._tokens

    @property
    def voice(self) -> Tensor | None:
        return self._voice

    def ears(self) -> Senses:
        return Senses(self._mel, self._model.apm)

    def mind(self, presence: Presence) -> Mind:
        if presence is Presence.COMPANION:
            config, tts = self._accompanying, self._model.tts
            speech = None if self._voice is None or tts is None else tts.start()
            decoder = Decoder(self._tokens, config.decoding)
            return Mind(self._tokens, self._model.llm, config, decoder=decoder, speech=speech)
        decoder = SentenceDecoder(self._tokens, DecodingConfig())
        return Mind(self._tokens, self._model.llm, self._watching, decoder=decoder)

    def pictures(self, rgb: NDArray[np.uint8]) -> Sequence[Tensor]:
        return pictures_of(rgb, self._model.config.vision)

    def count_tokens(self, text: str) -> int:
        return len(self._tokens.encode(text))

    def examine(self, seconds: Sequence[Perceived], condition: str, tongue: Language) -> Work[Opinion]:
        return self._examiner.ask(seconds, condition, tongue)

    def run(self, works: Sequence[Work[T]]) -> Sequence[T | ModelError]:
        return run_together(self._model, works)

    @torch.inference_mode()
    def _as_heard(self, voice: Tensor) -> Tensor:
        model = self._model
        return voice_vectors(voice, self._mel, model.apm, model.audio_projection_layer)


class MiniCpmEngine:
    """Implements `DuplexModel`."""

    name = "minicpm-o"
    most_together = MOST_TOGETHER

    def __init__(
        self,
        brain: Brain,
        run: Run,
        *,
        speak: int,
        listen: int,
        settings: WatchSettings,
        around: Surroundings,
        feeds: Mapping[str, FeedPlace] | None = None,
        voice: OwnVoice | None = None,
    ) -> None:
        """`speak` and `listen` are the tokens whose logits are compared; feeds that are not named are watched.

        `voice` is closed with the engine; without it, the daemon's voices speak for companions.
        """
        self._brain = brain
        self._run = run
        self._speak = speak
        self._listen = listen
        self._settings = settings
        self._around = around
        self._feeds = feeds or {}
        self._own_voice = voice
        self._voices = {} if voice is None else _voices(voice, self._feeds)
        self._sessions: list[MiniCpmSession] = []  # those that were stepped and live, the last stepped last

    def plan(self, briefed: BriefedTask) -> Plan:
        """By the feed that serves the task best: a task for every feed is watched by any that can."""
        places = [place for name, place in self._feeds.items() if briefed.task.watches(name)] or [FeedPlace()]
        plans = [plan(briefed, place.senses) for place in places]
        return max(plans, key=lambda one: len(one.means))

    def open(self, briefing: Briefing, after: DuplexSession | None = None) -> MiniCpmSession:
        """At once, but for pronouncing the tasks where that is wished; what else is heavy happens at the first step, on
        the model thread."""
        place = self._feeds.get(briefing.feed, FeedPlace())
        session = MiniCpmSession(
            briefing,
            self._brain,
            replace(self._settings, presence=place.presence),
            self._around,
            step=self._step_one,
            after=after if isinstance(after, MiniCpmSession) else None,
            voice=self._voices.get(briefing.feed),
        )
        session.rehearse()
        return session

    @torch.inference_mode()
    def step_together(self, steps: Sequence[Step]) -> Sequence[Decision | ModelError]:
        return _Batch(steps, self._run).decide(speak=self._speak, listen=self._listen, live=self._note)

    @torch.inference_mode()
    def work_ahead(self) -> bool:
        """One piece for one session; those stepped longest ago first, since their next units come first."""
        self._sessions = [session for session in self._sessions if not session.is_closed]
        for session in self._sessions:
            if (work := session.ahead()) is None:
                continue
            (result,) = self._run([work])
            if isinstance(result, ModelError):
                session.abandon_ahead()
                self._around.tell("session.not_prepared", feed=session.briefing.feed, why=str(result))
                return False  # tried again after the next unit
            return True
        return False

    def hush(self, feed: str) -> None:
        if (voice := self._voices.get(feed)) is not None:
            voice.stop()

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self._sessions.clear()
        for voice in self._voices.values():
            voice.close()
        if self._own_voice is not None:
            self._own_voice.vocoder.close()

    def _note(self, session: MiniCpmSession) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        if not session.is_closed:
            self._sessions.append(session)

    def _step_one(self, session: MiniCpmSession, unit: Unit) -> Decision:
        (result,) = self.step_together([Step(session, unit)])
        if isinstance(result, ModelError):
            raise result
        return result


def _voices(own: OwnVoice, feeds: Mapping[str, FeedPlace]) -> dict[str, ModelVoice]:
    """One for each companion."""
    return {
        name: ModelVoice(own.vocoder, own.aloud, feed=name, failed=own.failed)
        for name, place in feeds.items()
        if place.presence is Presence.COMPANION
    }


class _Batch:
    """Sessions on their way through one step; whoever fails drops out, closed, with its error."""

    def __init__(self, steps: Sequence[Step], run: Run) -> None:
        self._units = [step.unit for step in steps]
        self._sessions = [_ours(step.session) for step in steps]
        self._run = run
        self._failed: dict[int, ModelError] = {}

    def decide(
        self, *, speak: int, listen: int, live: Callable[[MiniCpmSession], None]
    ) -> Sequence[Decision | ModelError]:
        """Hear, weigh, say where something may be told, conclude, finish: each for all before the next."""
        sessions, units = self._sessions, self._units
        moments = self._do({place: session.hear(units[place]) for place, session in enumerate(sessions)})
        margins = dict(zip(moments, read_margins(list(moments.values()), speak=speak, listen=listen), strict=True))
        wanting = [place for place, margin in margins.items() if self._wants_words(place, margin)]
        said = self._do({place: sessions[place].say() for place in wanting})
        self._do({place: work for place in said if (work := sessions[place].opinion()) is not None})
        decisions = {place: sessions[place].conclude() for place in margins if place not in self._failed}
        self._do({place: sessions[place].finish() for place in decisions})
        for place, session in enumerate(sessions):
            if place in self._failed:
                session.close()
            live(session)
        return [self._failed.get(place) or decisions[place] for place in range(len(sessions))]

    def _wants_words(self, place: int, margin: float) -> bool:
        try:
            return self._sessions[place].wants_words(checked(margin))
        except ModelError as error:
            self._failed[place] = error
            return False

    def _do(self, works: Mapping[int, Work[T]]) -> dict[int, T]:
        """The results of those that did not fail, by their places."""
        done: dict[int, T] = {}
        for place, result in zip(works, self._run(list(works.values())) if works else (), strict=True):
            if isinstance(result, ModelError):
                self._failed[place] = result
            else:
                done[place] = result
        return done


def _ours(session: DuplexSession) -> MiniCpmSession:
    if not isinstance(session, MiniCpmSession):
        raise TypeError(f"a session of another engine: {type(session).__name__}")
    return session
