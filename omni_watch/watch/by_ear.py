"""What a request is about, by ear: a condition that no rule knows, but that sounds like one that a rule does. Pure.

A small recogniser writes 随慢了 for 水满了. As words the first is a wish of its own, which nobody can watch for; said
aloud it is the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from omni_watch.domain.rules import Language
from omni_watch.watch.asking import Add
from omni_watch.watch.choosing import Phrasebook, choose
from omni_watch.watch.pinyin import REPAIR_LIKENESS, distance, has_han, meant
from omni_watch.watch.tongues import Tongue
from omni_watch.watch.wording import Wording

RIVAL: Final = 0.05  # less sure than what was heard, and still as likely
UNLIKE: Final = 1.5  # syllables; what was misheard and put right differs by less


def fits_a_rule(request: Add, language: Language, book: Phrasebook) -> bool:
    """Whether a rule knows by its words what should happen."""
    wording = Wording(text=request.text, language=language, condition=request.condition)
    return choose(wording, book).rule is not None


def put_right(sentence: str, request: Add, language: Language, book: Phrasebook) -> str | None:
    """The sentence with the rule's words in place of those that only sound like them; None when it is not clear that
    they do. For languages without spaces, which are those that are compared by ear."""
    tongue = book.tongue(language)
    condition = request.condition
    if tongue.is_spaced or condition not in sentence or not has_han(condition):
        return None
    said = tongue.stripped(condition)
    near = {
        rule: sorted(phrase for phrase in phrases if _may_be(len(phrase), len(said)))
        for rule, phrases in _spoken(book, tongue).items()
    }
    found = meant(said, near, least=REPAIR_LIKENESS)
    if found is None:
        return None
    return sentence.replace(condition, found.phrase + _end(condition, tongue), 1)


def is_disputed(said: str, confidence: float, others: Iterable[tuple[str, float]]) -> bool:
    """Whether other words that sound unlike these are about as likely; with how sure each is. For Chinese.

    A recogniser that was told of a knock hears 敲门了就告诉我 in 想我了就告诉我, and is hardly surer of it.
    """
    return has_han(said) and any(
        has_han(other) and rival >= confidence - RIVAL and distance(said, other) > UNLIKE for other, rival in others
    )


def _may_be(length: int, other: int) -> bool:
    """Whether texts of so many characters can be alike enough, since each one that is missing counts whole."""
    return abs(length - other) <= (1 - REPAIR_LIKENESS) * max(length, other)


def _spoken(book: Phrasebook, tongue: Tongue) -> dict[str, set[str]]:
    """Each rule's phrases without fillers."""
    spoken: dict[str, set[str]] = {}
    for phrase in book.phrases[tongue.language]:
        spoken.setdefault(phrase.rule, set()).add(phrase.stripped)
    return spoken


def _end(condition: str, tongue: Tongue) -> str:
    """The fillers that the condition ends with: 了."""
    return next((condition[at:] for at in range(1, len(condition)) if not tongue.stripped(condition[at:])), "")
