"""One feed's session: what it perceives each second, what it makes of the model's wish to speak, and how it lasts.

A second goes through four steps, called by the engine for all feeds of a moment together: `hear` (one forward up to the
decision), `wants_words` (our decision), `say` (only when something may have to be told), `conclude`, and `finish`.

The model's memory is short, a watch is long. Before the memory is full a fresh one is made ready beside it, while no
unit waits: it is told the briefing again with what was told since, and lives through the last seconds. It takes over
between two units at a quiet second. So does the session of a new briefing. What the ears remember, what the gates
know and what was told outlive both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni_watch.domain.decisions import Decision, Listen, Means, Speak, Utterance
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task
from omni_watch.domain.units import SAMPLES_PER_UNIT, Unit
from omni_watch.duplex.minicpmo.attribution import Attribution, Attributor
from omni_watch.duplex.minicpmo.control import ControlSettings, Guard
from omni_watch.duplex.minicpmo.mind import Mind, finished_sentence
from omni_watch.duplex.minicpmo.prompts import (
    Presence,
    Prompt,
    PromptedTask,
    PromptLimits,
    Told,
    compose,
    own_condition,
)
from omni_watch.duplex.minicpmo.stillness import StillnessGate
from omni_watch.watch import wording
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.ports import TextSimilarity
from omni_watch.watch.tongues import Tongue

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.dialogue import Moment, Spoken
    from omni_watch.duplex.minicpmo.opinion import Opinion
    from omni_watch.duplex.minicpmo.senses import Perceived
    from omni_watch.duplex.minicpmo.voice import ModelVoice
    from omni_watch.duplex.minicpmo.work import Work

FULL: Final = 0.8  # of the trained context: from here on a fresh memory takes over at the next quiet second ...
BRIMFUL: Final = 0.95  # ... and from here on at any
PROMPT_SHARE: Final = 0.375  # of the context at most for the prompt, and half for prompt and carried seconds
CONTEXT: Final = 0.5


Pronounce = Callable[[str, Language], NDArray[np.float32] | None]
"""A sentence as [n] samples at 16 kHz; None where no voice can say it. May take seconds; not on the model thread."""


class Ears(Protocol):
    """One feed's stream of perception; outlives its sessions. `senses.Senses` is one."""

    def perceive(self, sound: Tensor | None, frames: Sequence[Sequence[Tensor]] = ()) -> Work[Perceived]: ...


class Brain(Protocol):
    """What a session needs of the model. The engine's own is `engine.SharedBrain`; tests script one."""

    @property
    def voice(self) -> Tensor | None:
        """[m, H]: the voice that a companion speaks with itself; None where the daemon's voices speak for it."""

    def ears(self) -> Ears:
        """A fresh stream of perception."""

    def mind(self, presence: Presence) -> Mind:
        """A fresh memory, not yet told anything."""

    def pictures(self, rgb: NDArray[np.uint8]) -> Sequence[Tensor]:
        """A frame as the vision tower takes it: its overview, then its tiles."""

    def count_tokens(self, text: str) -> int: ...

    def examine(self, seconds: Sequence[Perceived], condition: str, tongue: Language) -> Work[Opinion]:
        """A second opinion on whether the condition has just come true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How one feed is watched."""

    presence: Presence = Presence.WATCH
    control: ControlSettings = field(default_factory=ControlSettings)
    context_tokens: int = 8192  # that the model was trained on
    carried_units: int = 16  # seconds that a fresh memory lives through first
    language: Language = "en"  # when no task says
    zone: tzinfo | None = None  # of the times that the model is told; None: the machine's


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a session needs besides the model."""

    tongues: Sequence[Tongue] = ()
    similarity: TextSimilarity | None = None
    wall: Callable[[float], datetime]  # aware time of a second on the feed's timeline
    tell: Callable[..., None] = lambda _event, **_fields: None  # an event and its fields; any thread
    eyelid: Callable[[], StillnessGate | None] = lambda: None  # a fresh one for a feed; None: every frame is looked at
    pronounce: Pronounce = lambda _sentence, _language: None


@dataclass(slots=True)
class _Memory:
    """A mind with the prompt that it was told."""

    mind: Mind
    attributor: Attributor
    tasks: Mapping[str, PromptedTask]  # those in its prompt, by id
    through: int  # seconds that the feed had perceived when it was made, or brought up to date


@dataclass(slots=True)
class _Second:
    """The unit that is being decided."""

    unit: Unit
    moment: Moment | None = None
    margin: float = 0.0
    spoken: Spoken | None = None
    attribution: Attribution | None = None  # watching: what the words are about
    is_kept: bool = False  # what was said stays said
    utterances: list[tuple[Task, Utterance]] = field(default_factory=list)
    comments: list[Utterance] = field(default_factory=list)


class MiniCpmSession:
    """Implements `DuplexSession`. Model thread only, after the engine's `open` handed it out."""

    def __init__(
        self,
        briefing: Briefing,
        brain: Brain,
        settings: WatchSettings,
        around: Surroundings,
        *,
        step: Callable[[MiniCpmSession, Unit], Decision],
        after: MiniCpmSession | None = None,
        voice: ModelVoice | None = None,
    ) -> None:
        """`voice`: the feed's own, where a companion speaks with one; it belongs to the engine."""
        self.briefing = briefing
        self._brain = brain
        self._settings = settings
        self._around = around
        self._step = step
        self._inherits_from = after
        self._voice = voice
        confirms = settings.presence is Presence.WATCH
        self._guards = {one.task.id: Guard.of(one, settings.control, confirms=confirms) for one in briefing.tasks}
        self._ears: Ears | None = None
        self._eyelid: StillnessGate | None = None
        self._recent: deque[Perceived] = deque(maxlen=max(settings.carried_units, 1))
        self._count = 0  # seconds perceived on this feed so far
        self._told: dict[str, Told] = {
            briefed.task.id: told for briefed in briefing.tasks if (told := self._as_told(briefed))
        }
        self._left_out: set[str] = set()
        self._requests: list[NDArray[np.float32]] = []  # the tasks as sound, in the order of the prompt
        self._asked: list[Perceived] | None = None  # the same as the model hears them
        self._memory: _Memory | None = None
        self._standby: _Memory | None = None
        self._second: _Second | None = None
        self._opinions: dict[str, tuple[int, Opinion]] = {}  # task id -> at which second, what
        self._candidate: Guard | None = None  # one that may be told soon, and on which an opinion will be wanted
        self._phrase = ""  # companion: what of the present turn is not a whole sentence yet
        self.is_closed = False

    def rehearse(self) -> None:
        """Have the tasks pronounced, so that each fresh memory hears them first, as in the model's training. Takes
        seconds: on the thread that opens sessions, before the first step."""
        sounds = (self._around.pronounce(one.sentence, one.language) for one in self._prompt().requests)
        self._requests = [sound for sound in sounds if sound is not None]

    # --- the port ---

    def step(self, unit: Unit) -> Decision:
        """One unit in, one decision out. ModelError: as the engine's `step_together` gives it."""
        return self._step(self, unit)

    def close(self) -> None:
        self.is_closed = True
        self._memory = self._standby = self._second = None
        self._recent.clear()

    # --- one second, step by step ---

    def hear(self, unit: Unit) -> Work[Moment]:
        """Perceive the unit and ask the model, up to its decision."""
        self._take_over()
        self._second = second = _Second(unit)
        for guard in self._guards.values():
            guard.margin = None
        ears = self._ears = self._ears or self._brain.ears()
        perceived = yield from ears.perceive(_sound(unit), self._seen(unit))
        memory = yield from self._present_memory()
        self._recent.append(perceived)
        self._count += 1
        second.moment = yield from memory.mind.hear(perceived)
        return second.moment

    def wants_words(self, margin: float) -> bool:
        """Weigh the model's wish to speak; whether its words are needed to decide."""
        second, memory = self._now
        second.margin = margin
        watched = [guard for guard in self._guards.values() if guard.task_id in memory.tasks]
        for guard in watched:
            guard.weigh(margin)
        if self._is_companion or any(guard.is_for for guard in watched):
            return True
        for guard in watched:
            guard.listened(second.unit)
        return False

    def say(self) -> Work[None]:
        """Let the model say what it wants to say. Nobody hears it yet."""
        second, memory = self._now
        if self._is_companion:
            was_hushed = self._voice is not None and self._voice.take_stop()
            second.spoken = yield from memory.mind.generate(force_listen=was_hushed)
            self._voice_aloud(second.unit, second.spoken)
            return
        second.spoken = yield from memory.mind.say()
        second.attribution = memory.attributor.attribute(second.spoken.text)

    def opinion(self) -> Work[None] | None:
        """What has to be asked before it is told; None in nearly every second."""
        guard = self._about
        if guard is None or not guard.control.second_opinion or not guard.would_tell(self._now[0].unit):
            return None
        return None if self._opinion_on(guard) is not None else self._examine(guard)

    def conclude(self) -> Decision:
        """What is told because of this second, and what it said about each task."""
        second, memory = self._now
        if second.spoken is not None and self._is_companion:
            self._accompany(second, memory, second.spoken)
        elif second.spoken is not None and second.attribution is not None:
            self._attribute(second, second.spoken, second.attribution)
        readings = tuple(guard.reading() for guard in self._guards.values())
        second.utterances.sort(key=lambda pair: pair[0].priority.rank)
        utterances = [utterance for _, utterance in second.utterances] + second.comments
        return Speak(utterances=tuple(utterances), readings=readings) if utterances else Listen(readings=readings)

    def finish(self) -> Work[None]:
        """Close the unit: what was said stays or is taken back, and room is made. Feeds nothing by itself, unless the
        window gives up something."""
        second, memory = self._now
        mind = memory.mind
        if second.spoken is None:
            yield from mind.listen()
        elif not self._is_companion:
            if not second.is_kept:
                mind.unsay()
                yield from mind.listen()
            mind.cut()  # a sentence that found no end
        yield from mind.finalize()
        self._second = None

    # --- while no unit waits ---

    def ahead(self) -> Work[None] | None:
        """What would be good to have done before the next unit: an opinion on what may have to be told then, a fresh
        memory. None when there is nothing."""
        if self.is_closed or self._second is not None or self._memory is None:
            return None
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            return self._examine(candidate)
        if not self._is_full(FULL) or (self._standby is not None and self._standby.through == self._count):
            return None
        return self._warm()

    def abandon_ahead(self) -> None:
        """What was being made ready failed."""
        self._standby = None

    # --- the two ways of being there ---

    @property
    def _is_companion(self) -> bool:
        return self._settings.presence is Presence.COMPANION

    def _attribute(self, second: _Second, spoken: Spoken, attribution: Attribution) -> None:
        """Watching: the words show which task the wish to speak is about; they are told once that is certain.

        Words about no task are a comment: they stay said, so that the model is content, and nobody hears them.
        """
        about = self._about
        for guard in self._guards.values():
            if guard is not about and guard.margin is not None and not guard.is_for:
                guard.listened(second.unit)
        if about is None:
            second.is_kept = True
            return
        opinion = self._opinion_on(about) if about.control.second_opinion else None
        if opinion is not None and not opinion.agrees:
            about.doubted()
            return
        began_s = about.gate.since_s
        is_told = about.is_for and about.spoken_for(second.unit)
        second.is_kept = about.gate.holds is True  # else it is not certain yet, and the next second is asked again
        if is_told:
            self._tell(second, about, attribution, self._text_for(about.briefed, spoken), began_s)
        elif not second.is_kept:
            self._candidate = about if about.control.second_opinion else None
        elif about.task_id not in self._told:
            self._note_told(about, second.unit)  # it stood from the beginning: told to nobody, but said

    def _voice_aloud(self, unit: Unit, spoken: Spoken) -> None:
        """Hand a companion's codes on, if it has a voice of its own. A turn that ended in silence ends there too."""
        if self._voice is None or (spoken.is_listen and not self._voice.is_speaking):
            return
        self._voice.say(spoken.codes, at_s=unit.end_s, ends_turn=spoken.ends_turn or spoken.is_listen)

    def _accompany(self, second: _Second, memory: _Memory, spoken: Spoken) -> None:
        """Companion: sentence by sentence, an alert when it is one, else a comment."""
        self._phrase = "" if spoken.is_listen else self._phrase + spoken.text
        about: set[str] = set()
        while sentence := finished_sentence(self._phrase):
            self._phrase = self._phrase.lstrip()[len(sentence) :]
            about |= self._said_aloud(second, memory, sentence)
        if spoken.ends_turn and (rest := self._phrase.strip()):
            self._phrase = ""
            about |= self._said_aloud(second, memory, rest)
        for guard in self._guards.values():
            if guard.task_id not in about and guard.margin is not None and (spoken.is_listen or not guard.is_for):
                guard.listened(second.unit)

    def _said_aloud(self, second: _Second, memory: _Memory, sentence: str) -> set[str]:
        """One sentence of a companion; the task that it was about, if any."""
        attribution = memory.attributor.attribute(sentence)
        guard = self._guards.get(attribution.task_id or "")
        if guard is not None:
            began_s = guard.gate.since_s
            if guard.spoken_for(second.unit, max(guard.score, guard.gate.settings.on)):
                self._tell(second, guard, attribution, self._own_message(guard.briefed) or sentence, began_s)
                return {guard.task_id}
        second.comments.append(
            Utterance(
                text=sentence, task_id=None, confidence=1.0, means=(Means.MODEL,), condition_at_s=second.unit.start_s
            )
        )
        return set() if guard is None else {guard.task_id}

    def _tell(self, second: _Second, guard: Guard, attribution: Attribution, text: str, began_s: float | None) -> None:
        utterance = Utterance(
            text=text,
            task_id=guard.task_id,
            confidence=min(attribution.confidence, guard.score) if not self._is_companion else attribution.confidence,
            means=(Means.MODEL,),
            condition_at_s=second.unit.start_s if began_s is None else began_s,
        )
        second.utterances.append((guard.briefed.task, utterance))
        self._note_told(guard, second.unit)

    # --- words ---

    def _text_for(self, briefed: BriefedTask, spoken: Spoken) -> str:
        """One finished sentence: the person's own, else the model's, else the rule's."""
        sentence = finished_sentence(spoken.text)
        if sentence is None and spoken.ends_turn and spoken.text.strip():
            sentence = self._as_sentence(spoken.text, briefed.task.language)
        whole = sentence is not None and "\N{REPLACEMENT CHARACTER}" not in sentence
        return self._own_message(briefed) or (sentence if whole and sentence else briefed.task.message)

    def _own_message(self, briefed: BriefedTask) -> str | None:
        """What the person wants to be told, in words of their own; None when the message was made for them."""
        task, rule = briefed.task, briefed.rule
        if rule is not None and task.language in rule.message:
            made = rule.message[task.language]
        else:
            tongue = self._tongue(task.language)
            condition = own_condition(briefed, self._around.tongues)
            made = condition if tongue is None else wording.as_sentence(wording.turned(condition, tongue), tongue)
        return task.message if task.message != made else None

    def _as_sentence(self, text: str, language: Language) -> str:
        tongue = self._tongue(language)
        return text.strip() if tongue is None else wording.as_sentence(text.strip(), tongue)

    def _tongue(self, language: Language) -> Tongue | None:
        return next((tongue for tongue in self._around.tongues if tongue.language == language), None)

    # --- what was told ---

    def _as_told(self, briefed: BriefedTask) -> Told | None:
        """What the task itself knows of it."""
        task = briefed.task
        if task.fired_count == 0 or task.last_fired_at is None:
            return None
        return Told(times=task.fired_count, last=task.last_fired_at.astimezone(self._settings.zone).time())

    def _note_told(self, guard: Guard, unit: Unit) -> None:
        """For the next prompt; one that is being made ready would not know of it."""
        before = self._told.get(guard.task_id)
        last = self._around.wall(unit.end_s).astimezone(self._settings.zone).time()
        self._told[guard.task_id] = Told(times=1 + (before.times if before else 0), last=last)
        self._standby = None

    # --- second opinions ---

    @property
    def _about(self) -> Guard | None:
        """The task that this second's words are about."""
        second, _ = self._now
        return None if second.attribution is None else self._guards.get(second.attribution.task_id or "")

    def _opinion_on(self, guard: Guard) -> Opinion | None:
        """What was thought of it lately: an opinion is about some seconds."""
        at, opinion = self._opinions.get(guard.task_id, (0, None))
        return opinion if self._count - at < guard.control.confirm_in else None

    def _examine(self, guard: Guard) -> Work[None]:
        """Ask. Without an answer the alert is told all the same: one too many is better than none."""
        memory = self._memory
        if memory is None or guard.task_id not in memory.tasks:
            return
        task = memory.tasks[guard.task_id]
        try:
            opinion = yield from self._brain.examine(list(self._recent), task.condition, task.language)
        except ModelError as error:
            self._around.tell("opinion.failed", feed=self.briefing.feed, task_id=guard.task_id, why=str(error))
            return
        self._opinions[guard.task_id] = (self._count, opinion)
        margins = {"yes": round(opinion.yes_margin, 2), "opposite": round(opinion.opposite_margin, 2)}
        self._around.tell("opinion.given", feed=self.briefing.feed, task_id=guard.task_id, **margins)

    # --- memory ---

    @property
    def _now(self) -> tuple[_Second, _Memory]:
        if self._second is None or self._memory is None:
            raise RuntimeError("no unit is being decided")
        return self._second, self._memory

    def _is_full(self, share: float) -> bool:
        return self._memory is not None and self._memory.mind.length >= share * self._settings.context_tokens

    @property
    def _is_quiet(self) -> bool:
        """Whether a change of memory would disturb nothing."""
        is_silent = self._memory is None or not self._memory.mind.turn_is_open
        return is_silent and not self._phrase and all(guard.is_quiet for guard in self._guards.values())

    def _present_memory(self) -> Work[_Memory]:
        """The memory that lives through this unit: the one of before, one that stood by, or a fresh one."""
        before, ready = self._memory, self._standby
        must_go = before is None or self._is_full(BRIMFUL)
        is_ready = ready is not None and ready.through == self._count
        if before is not None and not must_go and not (is_ready and self._is_quiet and self._is_full(FULL)):
            return before
        self._standby = None
        self._memory = ready if ready is not None and is_ready else (yield from self._fresh())
        self._phrase = ""  # a fresh memory knows nothing of a sentence that was under way
        if self._voice is not None and self._voice.is_speaking:
            self._voice.say((), at_s=self._now[0].unit.start_s, ends_turn=True)
        if before is not None:
            length = before.mind.length
            self._around.tell("session.rotated", feed=self.briefing.feed, tokens=length, was_ready=is_ready)
        return self._memory

    def _warm(self) -> Work[None]:
        standby = self._standby
        missing = 0 if standby is None else self._count - standby.through
        if standby is None or missing > len(self._recent):
            self._standby = yield from self._fresh()
            return
        self._standby = None  # if this fails it is spoilt
        yield from standby.mind.replay(list(self._recent)[-missing:])
        standby.through = self._count
        self._standby = standby

    def _fresh(self) -> Work[_Memory]:
        """A mind that knows the briefing, what was told, and the last seconds; fed in one forward."""
        settings, prompt = self._settings, self._prompt()
        mind = self._brain.mind(settings.presence)
        voice = self._brain.voice if self._is_companion else None
        has_voice = voice is not None
        yield from mind.prepare(prompt.prefix(has_voice=has_voice), prompt.suffix(has_voice=has_voice), voice)
        room = int(settings.context_tokens * CONTEXT) - mind.length
        if asked := _last_that_fit((yield from self._heard_requests()), room):
            room -= sum(map(_positions, asked))
            yield from mind.replay(asked)
        if carried := _last_that_fit(self._recent, room):
            yield from mind.replay(carried)
        attributor = Attributor(prompt.tasks, self._around.tongues, self._around.similarity)
        return _Memory(mind, attributor, {task.task_id: task for task in prompt.tasks}, self._count)

    def _heard_requests(self) -> Work[list[Perceived]]:
        """The pronounced tasks, a second each or several; perceived once, apart from what the feed hears."""
        if self._asked is None:
            ears, self._asked = self._brain.ears(), []
            for sound in self._requests:
                for second in _seconds_of(sound):
                    self._asked.append((yield from ears.perceive(second)))
        return self._asked

    def _prompt(self) -> Prompt:
        settings = self._settings
        prompt = compose(
            self.briefing,
            tongues=self._around.tongues,
            count_tokens=self._brain.count_tokens,
            told=self._told,
            presence=settings.presence,
            limits=PromptLimits(tokens=min(PromptLimits().tokens, int(settings.context_tokens * PROMPT_SHARE))),
            language=settings.language,
        )
        for left_out in prompt.left_out:
            if left_out.task_id not in self._left_out:  # said once, not with every fresh memory
                self._left_out.add(left_out.task_id)
                self._around.tell("task.left_out", feed=self.briefing.feed, task_id=left_out.task_id, why=left_out.why)
        return prompt

    def _take_over(self) -> None:
        """At the first unit: go on from what the session before knew."""
        before, self._inherits_from = self._inherits_from, None
        if before is None:
            if self._eyelid is None and not self._is_companion:
                self._eyelid = self._around.eyelid()
            return
        before._take_over()  # a chain of sessions that were never stepped
        self._ears, self._eyelid = before._ears, before._eyelid
        self._recent.extend(before._recent)
        self._count = before._count
        for task_id, guard in self._guards.items():
            if (known := before._guards.get(task_id)) is not None:
                guard.inherit(known)
        for task_id, told in before._told.items():
            own = self._told.get(task_id)
            if task_id in self._guards and (own is None or own.times < told.times):
                self._told[task_id] = told

    # --- perception ---

    def _seen(self, unit: Unit) -> Sequence[Sequence[Tensor]]:
        """The model's frame, unless it shows nothing new."""
        frame = unit.frame
        if frame is None or (self._eyelid is not None and not self._eyelid.look(frame.rgb, frame.at_s).is_fed):
            return ()
        return (self._brain.pictures(frame.rgb),)


def _sound(unit: Unit) -> Tensor:
    """[16000] float32. A feed without a microphone is silent: the model never met a second without sound."""
    return torch.from_numpy(np.nan_to_num(unit.audio).clip(-1.0, 1.0))


def _seconds_of(sound: NDArray[np.float32]) -> Sequence[Tensor]:
    """[n] -> [16000] each, silence after the last sample."""
    whole = torch.from_numpy(sound).nan_to_num().clamp(-1.0, 1.0)
    return torch.split(torch.nn.functional.pad(whole, (0, -len(whole) % SAMPLES_PER_UNIT)), SAMPLES_PER_UNIT)


def _last_that_fit(recent: Sequence[Perceived], room: int) -> list[Perceived]:
    """The last seconds that need at most `room` positions together, oldest first."""
    fitting: list[Perceived] = []
    for perceived in reversed(recent):
        room -= _positions(perceived)
        if room < 0:
            break
        fitting.append(perceived)
    return fitting[::-1]


def _positions(perceived: Perceived) -> int:
    """How many positions a listened second takes: its marks, its pictures with theirs, its sound."""
    pictures = [picture for frame in perceived.frames for picture in frame]
    sound = 0 if perceived.sound is None else len(perceived.sound)
    return 3 + sum(len(picture) + 2 for picture in pictures) + sound
