"""What the model is told before it begins to watch: the armed tasks, what to say, what not, what was told already.

A briefing becomes one system prompt in the person's language, in the published layout of a duplex session. It never
exceeds its token budget: contrast lines go first, then whole tasks, least wanted first, and the caller is told which.
The words are data (`prompts.toml`). Nothing here knows tokens beyond their number, and nothing is sent to the model.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final

from omni_watch.domain.errors import ModelError, RequestError
from omni_watch.domain.rules import Language, Repeat, Rule
from omni_watch.watch import wording
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.tongues import Tongue

TABLE: Final = Path(__file__).with_name("prompts.toml")
FALLBACK: Final[Language] = "en"  # for a language that the table does not have
PHRASES: Final = 12  # ways to say a rule's condition that an utterance is compared with; the plainest come first
LAST_MARKS: Final = ".。!！ "

_SPACES: Final = re.compile(r"\s+")
_ANGLES: Final = str.maketrans("<>", "＜＞")  # every special token is written in angle brackets


class Presence(Enum):
    """How the model is there, for each feed."""

    WATCH = "watch"  # speaks when a task's condition has come true, and never else
    COMPANION = "companion"  # also comments, guesses and answers by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """How much a prompt may say."""

    tokens: int = 768  # of prefix and suffix together; the model was trained on 8192 for the whole session
    tasks: int = 5
    contrasts: int = 3  # for each task
    words: int = 120  # characters of any text that a person or a rule file wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was told of one task before this session."""

    times: int
    last: time  # local clock time of the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedTask:
    """One task as the prompt puts it; also what an utterance is held against."""

    number: int  # from 1, in the order of the prompt
    task_id: str
    language: Language
    condition: str  # as a completed state, without a mark at its end
    message: str  # what to say
    contrasts: tuple[str, ...] = ()  # easily mistaken for it; the prompt shows the first few
    phrases: tuple[str, ...] = ()  # other ways to say that it has happened; not part of the prompt
    each: bool = False
    told: Told | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A task that the prompt does not carry, so that this session cannot tell it."""

    task_id: str
    why: str  # one sentence for people


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenRequest:
    """A task in the person's own words: may be synthesised and played to the model when its session begins."""

    task_id: str
    sentence: str
    language: Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A system prompt and what it is made of."""

    text: str
    language: Language
    tasks: tuple[PromptedTask, ...]
    requests: tuple[SpokenRequest, ...]  # one for each of `tasks`, in their order
    left_out: tuple[LeftOut, ...] = ()

    def prefix(self, *, has_voice: bool) -> str:
        """What is fed before the reference voice. Source: the published demonstration's layout."""
        return f"<|im_start|>system\n{self.text}\n<|audio_start|>" if has_voice else f"<|im_start|>system\n{self.text}"

    def suffix(self, *, has_voice: bool) -> str:
        """What is fed after the reference voice; units follow at once, without a line break."""
        return "<|audio_end|><|im_end|>" if has_voice else "<|im_end|>"


def compose(
    briefing: Briefing,
    *,
    tongues: Sequence[Tongue],
    count_tokens: Callable[[str], int],
    told: Mapping[str, Told] | None = None,
    presence: Presence = Presence.WATCH,
    limits: PromptLimits | None = None,
    language: Language = FALLBACK,
) -> Prompt:
    """The prompt of a session.

    `tongues` read what a task without a rule asks for; `count_tokens` is the length of an encoded text; `told` is by
    task id; `language` counts when the tasks do not decide.

    Raises:
        ModelError: the budget is too small even for a prompt without tasks.
    """
    limits = limits or PromptLimits()
    wanted, left_out = _most_wanted(briefing.tasks, limits.tasks)
    while True:
        spoken, tasks = _majority(wanted, language), _prompted(wanted, tongues, told or {}, limits.words)
        for contrasts in range(limits.contrasts, -1, -1):
            prompt = Prompt(
                text=_text(tasks, words_for(spoken), presence, contrasts),
                language=spoken,
                tasks=tasks,
                requests=tuple(_request(briefed, limits.words) for briefed in wanted),
                left_out=tuple(left_out),
            )
            needed = count_tokens(prompt.prefix(has_voice=True) + prompt.suffix(has_voice=True))
            if needed <= limits.tokens:
                return prompt
        if not wanted:
            raise ModelError(
                f"the system prompt needs {needed} tokens without any task; at most {limits.tokens} are allowed: "
                "allow more"
            )
        wanted, out = _without_least_wanted(wanted, f"the prompt may have {limits.tokens} tokens")
        left_out.append(out)


def words_for(language: Language) -> Mapping[str, Any]:
    """The language's table of `prompts.toml`; the fallback's when it has none."""
    table = _table()
    return table.get(language) or table[FALLBACK]


@cache
def _table() -> dict[str, Mapping[str, Any]]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def plain(text: str, longest: int) -> str:
    """A person's words as one line that no tokenizer reads as a special token, cut to `longest` characters."""
    composed = unicodedata.normalize("NFC", text)
    kinds = ((character, unicodedata.category(character)) for character in composed)
    # controls and line ends part words; invisible marks and halves of characters part nothing
    visible = "".join(" " if kind == "Cc" else character for character, kind in kinds if kind not in _INVISIBLE)
    line = _SPACES.sub(" ", visible).strip().translate(_ANGLES)
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


_INVISIBLE: Final = frozenset({"Cf", "Cs", "Co", "Cn"})


def _least_wanted(tasks: Sequence[BriefedTask]) -> BriefedTask:
    """The lowest priority; the oldest of those. `tasks` are oldest first."""
    return max(tasks, key=lambda briefed: (briefed.task.priority.rank, -tasks.index(briefed)))


def _without_least_wanted(tasks: Sequence[BriefedTask], why: str) -> tuple[tuple[BriefedTask, ...], LeftOut]:
    least = _least_wanted(tasks)
    rest = tuple(briefed for briefed in tasks if briefed is not least)
    return rest, LeftOut(task_id=least.task.id, why=f"task {least.task.id} is not watched: {why}")


def _most_wanted(tasks: Sequence[BriefedTask], most: int) -> tuple[tuple[BriefedTask, ...], list[LeftOut]]:
    kept, left_out = tuple(tasks), list[LeftOut]()
    while len(kept) > most:
        kept, out = _without_least_wanted(kept, f"a session watches for {most} tasks at most")
        left_out.append(out)
    return kept, left_out


def _majority(tasks: Sequence[BriefedTask], otherwise: Language) -> Language:
    """The language of most tasks; of the newest, where there are as many of several."""
    counts = Counter(briefed.task.language for briefed in tasks)
    most = max(counts.values(), default=0)
    return next((t.task.language for t in reversed(tasks) if counts[t.task.language] == most), otherwise)


def _prompted(
    tasks: Sequence[BriefedTask], tongues: Sequence[Tongue], told: Mapping[str, Told], longest: int
) -> tuple[PromptedTask, ...]:
    by_rule = [_rule_condition(briefed) for briefed in tasks]
    prompted = []
    for number, (briefed, condition) in enumerate(zip(tasks, by_rule, strict=True), start=1):
        task, rule = briefed.task, briefed.rule
        own = own_condition(briefed, tongues)
        # two tasks of one rule differ in the person's words only
        is_shared = condition is not None and by_rule.count(condition) > 1
        against = rule.contrasts.get(task.language, ()) if rule is not None else ()
        prompted.append(
            PromptedTask(
                number=number,
                task_id=task.id,
                language=task.language,
                condition=_without_mark(plain(own if condition is None or is_shared else condition, longest)),
                message=plain(task.message, longest),
                contrasts=tuple(plain(contrast, longest) for contrast in against),
                phrases=() if rule is None or is_shared else _statements(rule, task.language),
                each=task.repeat is Repeat.EACH,
                told=told.get(task.id),
            )
        )
    return tuple(prompted)


def _without_mark(text: str) -> str:
    return text.strip(LAST_MARKS) or text


def _statements(rule: Rule, language: Language) -> tuple[str, ...]:
    """The plainest ways to say that the rule's condition came true; its thing's bare name does not say that."""
    names = rule.names.get(language, ())
    return tuple(phrase for phrase in rule.phrases.get(language, ()) if phrase not in names)[:PHRASES]


def _rule_condition(briefed: BriefedTask) -> str | None:
    """The completed state in the rule's words; None without a rule that speaks the task's language."""
    return briefed.rule.message.get(briefed.task.language) if briefed.rule is not None else None


def own_condition(briefed: BriefedTask, tongues: Sequence[Tongue]) -> str:
    """What should happen, in the person's words without the request around it."""
    if not tongues:
        return briefed.task.text
    try:
        return wording.read(briefed.task.text, tongues).condition
    except RequestError:
        return briefed.task.text


def _request(briefed: BriefedTask, longest: int) -> SpokenRequest:
    task = briefed.task
    return SpokenRequest(task_id=task.id, sentence=plain(task.text, longest), language=task.language)


def _text(tasks: Sequence[PromptedTask], words: Mapping[str, Any], presence: Presence, contrasts: int) -> str:
    """Role; numbered tasks with what each is not; when to be silent; what was told."""
    says, layout = words[presence.value], words["layout"]
    if not tasks:
        lines = [says["role"], says["no_tasks"] or says["silence"]]
    else:
        lines = [says["role"], says["tasks"]]
        lines += [line for task in tasks for line in _task_lines(task, layout, contrasts)]
        lines += [says["silence"], says["telling"], layout["no_repeat"]]
    if entries := [_entry(task, task.told, layout) for task in tasks if task.told is not None]:
        lines.append(layout["told"].format(entries=layout["between_told"].join(entries)))
    return "\n".join(lines)


def _task_lines(task: PromptedTask, layout: Mapping[str, str], contrasts: int) -> list[str]:
    form = layout["each"] if task.each else layout["task"]
    lines = [form.format(number=task.number, condition=task.condition, message=task.message)]
    if shown := task.contrasts[:contrasts]:
        lines.append(layout["contrasts"].format(contrasts=layout["between_contrasts"].join(shown)))
    return lines


def _entry(task: PromptedTask, told: Told, layout: Mapping[str, str]) -> str:
    form = layout["told_once"] if told.times == 1 else layout["told_often"]
    return form.format(number=task.number, times=told.times, last=f"{told.last:%H:%M}")
