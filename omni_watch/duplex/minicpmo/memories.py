"""One feed's memories of the model: the one that lives, the one that stands by, and what outlives them.

The model's memory is short, a watch is long. Before a memory is full a fresh one is made ready beside it, while no unit
waits: it is told the briefing again with what was told since, and lives through the last seconds. It takes over between
two units at a quiet second. So does the memory of a new briefing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni_watch.domain.units import SAMPLES_PER_UNIT, Unit
from omni_watch.duplex.minicpmo.attribution import Attributor
from omni_watch.duplex.minicpmo.mind import Mind
from omni_watch.duplex.minicpmo.prompts import Presence, Prompt, PromptedTask, PromptLimits, Told, compose
from omni_watch.duplex.minicpmo.surroundings import Brain, Surroundings, WatchSettings
from omni_watch.watch.briefing import BriefedTask, Briefing

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.senses import Perceived
    from omni_watch.duplex.minicpmo.work import Work

FULL: Final = 0.8  # of the trained context: from here on a fresh memory takes over at the next quiet second ...
BRIMFUL: Final = 0.95  # ... and from here on at any
PROMPT_SHARE: Final = 0.375  # of the context at most for the prompt, and half for prompt and carried seconds
CONTEXT: Final = 0.5


@dataclass(slots=True)
class Memory:
    """A mind with the prompt that it was told."""

    mind: Mind
    attributor: Attributor
    tasks: Mapping[str, PromptedTask]  # those in its prompt, by id
    through: int  # seconds that the feed had perceived when it was made, or brought up to date


class Memories:
    """Model thread only, but for `rehearse`."""

    def __init__(self, briefing: Briefing, brain: Brain, settings: WatchSettings, around: Surroundings) -> None:
        self._briefing = briefing
        self._brain = brain
        self._settings = settings
        self._around = around
        self.count = 0  # seconds perceived on this feed so far
        self.recent: deque[Perceived] = deque(maxlen=max(settings.carried_units, 1))
        self.present: Memory | None = None
        self._standby: Memory | None = None
        told = {briefed.task.id: self._as_told(briefed) for briefed in briefing.tasks}
        self._told: dict[str, Told] = {task_id: each for task_id, each in told.items() if each is not None}
        self._left_out: set[str] = set()
        self._requests: list[NDArray[np.float32]] = []  # the tasks as sound, in the order of the prompt
        self._asked: list[Perceived] | None = None  # the same as the model hears them

    def rehearse(self) -> None:
        """Have the tasks pronounced, so that each fresh memory hears them first, as in the model's training. Takes
        seconds: on the thread that opens sessions, before the first second."""
        sounds = (self._around.pronounce(one.sentence, one.language) for one in self.prompt().requests)
        self._requests = [sound for sound in sounds if sound is not None]

    def inherit(self, before: Memories) -> None:
        """Go on from what the feed's memories of another briefing knew."""
        self.recent.extend(before.recent)
        self.count = before.count
        live = {briefed.task.id for briefed in self._briefing.tasks}
        for task_id, told in before._told.items():
            own = self._told.get(task_id)
            if task_id in live and (own is None or own.times < told.times):
                self._told[task_id] = told

    def close(self) -> None:
        self.present = self._standby = None
        self.recent.clear()

    # --- second by second ---

    def take(self, *, is_quiet: bool) -> Work[Memory]:
        """The memory that lives through the next second: the one of before, one that stood by, or a fresh one.

        `is_quiet`: a change would disturb nothing. A memory that is brimful changes all the same.
        """
        before, ready = self.present, self._standby
        is_ready = ready is not None and ready.through == self.count
        must_go = before is None or self._is_full(BRIMFUL)
        if before is not None and not must_go and not (is_ready and is_quiet and self._is_full(FULL)):
            return before
        self._standby = None
        self.present = ready if ready is not None and is_ready else (yield from self._fresh())
        if before is not None:
            length = before.mind.length
            self._around.tell("session.rotated", feed=self._briefing.feed, tokens=length, was_ready=is_ready)
        return self.present

    def note(self, perceived: Perceived) -> None:
        """A second was perceived."""
        self.recent.append(perceived)
        self.count += 1

    def is_told(self, task_id: str) -> bool:
        return task_id in self._told

    def note_told(self, task_id: str, unit: Unit) -> None:
        """For the next prompt; a memory that is being made ready would not know of it."""
        before = self._told.get(task_id)
        last = self._around.wall(unit.end_s).astimezone(self._settings.zone).time()
        self._told[task_id] = Told(times=1 + (before.times if before else 0), last=last)
        self._standby = None

    # --- making one ready ---

    def ahead(self) -> Work[None] | None:
        """Make a fresh memory, or bring the one that stands by up to date; None while the present one has room."""
        if not self._is_full(FULL) or (self._standby is not None and self._standby.through == self.count):
            return None
        return self._warm()

    def abandon_ahead(self) -> None:
        """What was being made ready failed."""
        self._standby = None

    def prompt(self) -> Prompt:
        """What a fresh memory is told now."""
        settings = self._settings
        prompt = compose(
            self._briefing,
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
                self._around.tell("task.left_out", feed=self._briefing.feed, task_id=left_out.task_id, why=left_out.why)
        return prompt

    def _is_full(self, share: float) -> bool:
        return self.present is not None and self.present.mind.length >= share * self._settings.context_tokens

    def _warm(self) -> Work[None]:
        standby = self._standby
        missing = 0 if standby is None else self.count - standby.through
        if standby is None or missing > len(self.recent):
            self._standby = yield from self._fresh()
            return
        self._standby = None  # if this fails it is spoilt
        yield from standby.mind.replay(list(self.recent)[-missing:])
        standby.through = self.count
        self._standby = standby

    def _fresh(self) -> Work[Memory]:
        """A mind that knows the briefing, what was told, and the last seconds; fed in one forward."""
        settings, prompt = self._settings, self.prompt()
        mind = self._brain.mind(settings.presence)
        voice = self._brain.voice if settings.presence is Presence.COMPANION else None
        has_voice = voice is not None
        yield from mind.prepare(prompt.prefix(has_voice=has_voice), prompt.suffix(has_voice=has_voice), voice)
        room = int(settings.context_tokens * CONTEXT) - mind.length
        if asked := _last_that_fit((yield from self._heard_requests()), room):
            room -= sum(map(_positions, asked))
            yield from mind.replay(asked)
        if carried := _last_that_fit(self.recent, room):
            yield from mind.replay(carried)
        attributor = Attributor(prompt.tasks, self._around.tongues, self._around.similarity)
        return Memory(mind, attributor, {task.task_id: task for task in prompt.tasks}, self.count)

    def _heard_requests(self) -> Work[list[Perceived]]:
        """The pronounced tasks, a second each or several; perceived once, apart from what the feed hears."""
        if self._asked is None:
            ears, seconds = self._brain.ears(), chain.from_iterable(map(_seconds_of, self._requests))
            self._asked = []
            for second in seconds:
                self._asked += [(yield from ears.perceive(second))]
        return self._asked

    def _as_told(self, briefed: BriefedTask) -> Told | None:
        """What the task itself knows of it."""
        task = briefed.task
        if task.fired_count == 0 or task.last_fired_at is None:
            return None
        return Told(times=task.fired_count, last=task.last_fired_at.astimezone(self._settings.zone).time())


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
