"""How a language model would watch for a task, and why; or what a person must do first. Pure: brings no torch.

The model judges the person's own words by what it sees and hears, so nearly every task can be watched. What it cannot
do is told: what makes no sound needs a camera, what shows nothing needs a microphone, and what a person has shown
(examples, regions) it does not use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from omni_watch.domain.decisions import Means
from omni_watch.domain.rules import Language, Rule, SightKind
from omni_watch.domain.units import Sense
from omni_watch.watch.briefing import BriefedTask, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSenses:
    """What a feed can give."""

    has_camera: bool = True
    has_microphone: bool = True
    is_deaf: bool = False  # its microphone is switched off

    def give(self, sense: Sense) -> bool:
        return self.has_camera if sense is Sense.SIGHT else self.has_microphone and not self.is_deaf


def needed_senses(rule: Rule | None) -> frozenset[Sense]:
    """The senses by which the condition shows itself; any one of them is enough. Words without a rule: either."""
    if rule is None:
        return frozenset(Sense)
    is_seen = rule.sight is not SightKind.NONE or bool(rule.display.texts) or rule.display.last_of_countdown
    is_heard = bool(rule.sounds) or rule.beeps > 0
    senses = {Sense.SIGHT: is_seen, Sense.HEARING: is_heard}
    return frozenset(sense for sense, is_needed in senses.items() if is_needed) or frozenset(Sense)


def plan(briefed: BriefedTask, senses: FeedSenses) -> Plan:
    """How MiniCPM-o watches for the task on a feed with these senses."""
    words = _SENTENCES.get(briefed.task.language, _SENTENCES["en"])
    given = {sense for sense in needed_senses(briefed.rule) if senses.give(sense)}
    if not given:
        if senses.is_deaf and Sense.HEARING in needed_senses(briefed.rule):
            return Plan(task_id=briefed.task.id, why=(words["microphone_off"],), ask=words["needs_listening"])
        missing = "camera" if Sense.SIGHT in needed_senses(briefed.rule) else "microphone"
        return Plan(task_id=briefed.task.id, why=(words[f"no_{missing}"],), ask=words[f"needs_{missing}"])
    how = {frozenset({Sense.SIGHT}): "by_sight", frozenset({Sense.HEARING}): "by_ear"}.get(frozenset(given), "by_both")
    why = [words[how]]
    if briefed.lesson is not None:
        why.append(words["lesson_unused"])
    return Plan(task_id=briefed.task.id, means=(Means.MODEL,), why=tuple(why))


_SENTENCES: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "by_sight": "A language model looks at the picture and judges whether your words have come true.",
        "by_ear": "A language model listens and judges whether your words have come true.",
        "by_both": "A language model looks and listens, and judges whether your words have come true.",
        "lesson_unused": "What you showed me is kept, but the language model does not use it.",
        "no_camera": "This is something to be seen, and this feed has no camera.",
        "no_microphone": "This is something to be heard, and this feed has no microphone.",
        "microphone_off": "This is something to be heard, and I am not to listen there.",
        "needs_listening": "I can only hear this; let me listen there again (omni-watch listen FEED on).",
        "needs_camera": "I can only see this; give the feed a camera.",
        "needs_microphone": "I can only hear this; give the feed a microphone.",
    },
    "zh": {
        "by_sight": "语言模型看画面，判断你说的事是否已经发生。",
        "by_ear": "语言模型听声音，判断你说的事是否已经发生。",
        "by_both": "语言模型边看边听，判断你说的事是否已经发生。",
        "lesson_unused": "你给我看过的样子还留着，但语言模型不使用它们。",
        "no_camera": "这件事要用眼睛看，而这一路没有摄像头。",
        "no_microphone": "这件事要用耳朵听，而这一路没有麦克风。",
        "microphone_off": "这件事要用耳朵听，而那里不让我听。",
        "needs_listening": "这件事只能听；请让我重新听那里的声音（omni-watch listen FEED on）。",
        "needs_camera": "这件事只能看；请给这一路接上摄像头。",
        "needs_microphone": "这件事只能听；请给这一路接上麦克风。",
    },
}
