"""One feed's session: what it perceives each second, what it makes of the model's wish to speak, and how it lasts.

A second goes through four steps, called by the engine for all feeds of a moment together: `hear` (one forward up to the
decision), `wants_words` (our decision), `say` (only when something may have to be told), `conclude`, and `finish`.

Its memory of the model is replaced from time to time (see `memories`), and so is the session when the briefing changes.
What the ears remember, what the gates know and what was told outlive both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from omni_watch.domain.decisions import Decision, Listen, Means, Speak, Utterance
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task
from omni_watch.domain.units import Unit
from omni_watch.duplex.minicpmo.attribution import Attribution
from omni_watch.duplex.minicpmo.control import Guard
from omni_watch.duplex.minicpmo.memories import Memories, Memory
from omni_watch.duplex.minicpmo.mind import finished_sentence
from omni_watch.duplex.minicpmo.prompts import (
    Presence,
    own_condition,
)
from omni_watch.duplex.minicpmo.stillness import StillnessGate
from omni_watch.duplex.minicpmo.surroundings import Brain, Ears, Surroundings, WatchSettings
from omni_watch.watch import wording
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.tongues import Tongue

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.dialogue import Moment, Spoken
    from omni_watch.duplex.minicpmo.opinion import Opinion
    from omni_watch.duplex.minicpmo.voice import ModelVoice
    from omni_watch.duplex.minicpmo.work import Work


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
        self._memories = Memories(briefing, brain, settings, around)
        self._second: _Second | None = None
        self._opinions: dict[str, tuple[int, Opinion]] = {}  # task id -> at which second, what
        self._candidate: Guard | None = None  # one that may be told soon, and on which an opinion will be wanted
        self._phrase = ""  # companion: what of the present turn is not a whole sentence yet
        self.is_closed = False

    def rehearse(self) -> None:
        """Have the tasks pronounced, where that is wished. On the thread that opens sessions, before the first step."""
        self._memories.rehearse()

    # --- the port ---

    def step(self, unit: Unit) -> Decision:
        """One unit in, one decision out. ModelError: as the engine's `step_together` gives it."""
        return self._step(self, unit)

    def close(self) -> None:
        self.is_closed = True
        self._second = None
        self._memories.close()

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
        self._memories.note(perceived)
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
        if self.is_closed or self._second is not None or self._memories.present is None:
            return None
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            return self._examine(candidate)
        return self._memories.ahead()

    def abandon_ahead(self) -> None:
        """What was being made ready failed."""
        self._memories.abandon_ahead()

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
        elif not self._memories.is_told(about.task_id):
            # it stood from the beginning: told to nobody, but said
            self._memories.note_told(about.task_id, second.unit)

    def _voice_aloud(self, unit: Unit, spoken: Spoken) -> None:
        """Hand a companion's codes on, if it has a voice of its own. A turn that ended in silence ends there too."""
        if self._voice is None or (spoken.is_listen and not self._voice.is_speaking):
            return
        self._voice.say(spoken.codes, at_s=unit.end_s, ends_turn=spoken.ends_turn or spoken.is_listen)

    def _accompany(self, second: _Second, memory: Memory, spoken: Spoken) -> None:
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

    def _said_aloud(self, second: _Second, memory: Memory, sentence: str) -> set[str]:
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
        self._memories.note_told(guard.task_id, second.unit)

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

    # --- second opinions ---

    @property
    def _about(self) -> Guard | None:
        """The task that this second's words are about."""
        second, _ = self._now
        return None if second.attribution is None else self._guards.get(second.attribution.task_id or "")

    def _opinion_on(self, guard: Guard) -> Opinion | None:
        """What was thought of it lately: an opinion is about some seconds."""
        at, opinion = self._opinions.get(guard.task_id, (0, None))
        return opinion if self._memories.count - at < guard.control.confirm_in else None

    def _examine(self, guard: Guard) -> Work[None]:
        """Ask. Without an answer the alert is told all the same: one too many is better than none."""
        memory = self._memories.present
        if memory is None or guard.task_id not in memory.tasks:
            return
        task = memory.tasks[guard.task_id]
        try:
            opinion = yield from self._brain.examine(list(self._memories.recent), task.condition, task.language)
        except ModelError as error:
            self._around.tell("opinion.failed", feed=self.briefing.feed, task_id=guard.task_id, why=str(error))
            return
        self._opinions[guard.task_id] = (self._memories.count, opinion)
        margins = {"yes": round(opinion.yes_margin, 2), "opposite": round(opinion.opposite_margin, 2)}
        self._around.tell("opinion.given", feed=self.briefing.feed, task_id=guard.task_id, **margins)

    # --- memory ---

    @property
    def _now(self) -> tuple[_Second, Memory]:
        memory = self._memories.present
        if self._second is None or memory is None:
            raise RuntimeError("no unit is being decided")
        return self._second, memory

    @property
    def _is_quiet(self) -> bool:
        """Whether a change of memory would disturb nothing."""
        memory = self._memories.present
        is_silent = memory is None or not memory.mind.turn_is_open
        return is_silent and not self._phrase and all(guard.is_quiet for guard in self._guards.values())

    def _present_memory(self) -> Work[Memory]:
        """The memory that lives through this unit; a fresh one knows nothing of a sentence that was under way."""
        before = self._memories.present
        memory = yield from self._memories.take(is_quiet=self._is_quiet)
        if memory is not before:
            self._phrase = ""
            if self._voice is not None and self._voice.is_speaking:
                self._voice.say((), at_s=self._now[0].unit.start_s, ends_turn=True)
        return memory

    def _take_over(self) -> None:
        """At the first unit: go on from what the session before knew."""
        before, self._inherits_from = self._inherits_from, None
        if before is None:
            if self._eyelid is None and not self._is_companion:
                self._eyelid = self._around.eyelid()
            return
        before._take_over()  # a chain of sessions that were never stepped
        self._ears, self._eyelid = before._ears, before._eyelid
        self._memories.inherit(before._memories)
        for task_id, guard in self._guards.items():
            if (known := before._guards.get(task_id)) is not None:
                guard.inherit(known)

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
