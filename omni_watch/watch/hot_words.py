"""Hot words: what is likely to be said in this house, as a hint for a recogniser. Pure.

"Kettle" and "candle" sound nearly the same to a small model; told that there is a kettle, it hears the kettle. What the
tasks are about comes first, then the other things that the rules know, one name each: a long hint is a worse one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from omni_watch.domain.rules import Language, Rule
from omni_watch.domain.tasks import Task
from omni_watch.watch.tongues import Tongue

MOST_WORDS: Final = 24
LONGEST_WORD: Final = 24  # characters; more is a sentence, and would be said back


def hot_words(tongue: Tongue, rules: Sequence[Rule], tasks: Sequence[Task]) -> tuple[str, ...]:
    """The words of this language that are likely here, the likelier first."""
    live = [task for task in tasks if task.is_live]
    watched = {task.rule for task in live}
    first = [rule for rule in rules if rule.id in watched]
    names = [_names(rule, tongue.language) for rule in first]
    others = [_names(rule, tongue.language)[:1] for rule in rules if rule.id not in watched]
    own = [_own_words(task, tongue) for task in live]
    found = chain(*(each[:2] for each in names), *own, *others)
    return _told_once(found)[:MOST_WORDS]


def _names(rule: Rule, language: Language) -> tuple[str, ...]:
    """The usual name first."""
    return tuple(name for name in rule.names.get(language, ()) if len(name) <= LONGEST_WORD)


def _own_words(task: Task, tongue: Tongue) -> list[str]:
    """The words of a task that carry its meaning; none in a script whose words do not stand apart."""
    if task.language != tongue.language or not tongue.is_spaced:
        return []
    idle = tongue.fillers | tongue.harmless | tongue.tails | tongue.heads
    return [word for word in tongue.words(task.text) if word not in idle and word not in _ASKING and len(word) > 2]


def _told_once(words: Iterable[str]) -> tuple[str, ...]:
    """In order, each once, without regard to case."""
    once: dict[str, str] = {}
    for word in words:
        once.setdefault(word.casefold(), word)
    return tuple(once.values())


_ASKING: Final = frozenset(
    {"tell", "know", "let", "when", "time", "every", "each", "watch", "remind", "notify", "alert", "once", "soon"}
)
