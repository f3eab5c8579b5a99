"""From a person's words to a task: which rule they choose, what will be said, once or each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, WatchWindow
from omni_watch.watch.choosing import Phrasebook, choose, message_for
from omni_watch.watch.ports import TextSimilarity
from omni_watch.watch.wording import Wording, read

DEFAULT_COOLDOWN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWish:
    """What a person may say besides the words; None leaves it to the words, then to the rule."""

    feeds: Sequence[str] = ()
    message: str | None = None
    repeat: Repeat | None = None
    priority: Priority | None = None
    cooldown_s: float | None = None
    window: WatchWindow | None = None
    expires_in: timedelta | None = None


def task_from(
    text: str,
    *,
    task_id: str,
    set_by: str,
    now: datetime,
    book: Phrasebook,
    similarity: TextSimilarity | None,
    wish: TaskWish | None = None,
) -> Task:
    """A new, armed task.

    Raises:
        RequestError: the words say nothing to watch for.
    """
    return task_of(
        read(text, book.tongues),
        text=text,
        task_id=task_id,
        set_by=set_by,
        now=now,
        book=book,
        similarity=similarity,
        wish=wish or TaskWish(),
    )


def task_of(
    wording: Wording,
    *,
    text: str,
    task_id: str,
    set_by: str,
    now: datetime,
    book: Phrasebook,
    similarity: TextSimilarity | None,
    wish: TaskWish,
) -> Task:
    """A new, armed task of words that were taken apart already."""
    choice = choose(wording, book, similarity)
    rule = book.rule(choice.rule) if choice.rule is not None else None
    return Task(
        id=task_id,
        text=text.strip(),
        language=wording.language,
        message=wish.message or message_for(choice, wording, book),
        set_by=set_by,
        set_at=now,
        rule=choice.rule,
        why=choice.why,
        feeds=tuple(wish.feeds),
        repeat=wish.repeat or wording.repeat or (rule.repeat if rule else Repeat.ONCE),
        priority=wish.priority or (rule.priority if rule else Priority.NORMAL),
        cooldown_s=_first(wish.cooldown_s, rule.cooldown_s if rule else None, DEFAULT_COOLDOWN_S),
        window=wish.window,
        expires_at=now + wish.expires_in if wish.expires_in is not None else None,
    )


def rule_of(text: str, book: Phrasebook, similarity: TextSimilarity | None) -> str | None:
    """The rule that the words fit; two requests with the same one ask for the same thing."""
    return choose(read(text, book.tongues), book, similarity).rule


def _first(*values: float | None) -> float:
    """The first that was given; the last one always is."""
    return next(value for value in values if value is not None)
