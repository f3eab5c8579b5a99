"""Mandarin by ear: how alike two texts sound, whatever they are written with. Pure.

A small recogniser gets Mandarin wrong in its characters far more often than in its sounds: 水壶 comes out as 水湖
or 水胡, in simplified or traditional characters. So what was heard is compared as syllables without tones; those that
people and recognisers mix up (zh and z, in and ing) count as nearly the same. Words of other scripts are compared as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, TypeVar

LEAST_LIKENESS: Final = 0.6  # below it nothing is taken to be meant
LEAD: Final = 0.12  # by which the best meaning must be ahead of the next
REPAIR_LIKENESS: Final = 0.85  # for putting a word we know in place of one we heard
SHORTEST_REPAIR: Final = 2  # characters: single ones have too many that sound alike
ALIKE_COST: Final = 0.3  # of a syllable that differs by a sound that is easily mixed up
HALF_COST: Final = 0.65  # of one that shares its beginning or its end
_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_RUNS: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")
_INITIALS: Final = re.compile(r"^(?:[zcs]h|[bpmfdtnlgkhjqxrzcsyw])?")
_DIGITS: Final = dict(zip("0123456789", ("ling", "yi", "er", "san", "si", "wu", "liu", "qi", "ba", "jiu"), strict=True))
_TENS: Final = ("", "shi", "bai", "qian")
_MIXED_INITIALS: Final = (
    {"z", "zh", "j"},
    {"c", "ch", "q"},
    {"s", "sh", "x"},
    {"l", "n", "r"},
    {"f", "h"},
    {"b", "p"},
    {"d", "t"},
    {"g", "k"},
)
_MIXED_FINALS: Final = (
    {"an", "ang"},
    {"en", "eng"},
    {"in", "ing"},
    {"ian", "iang"},
    {"an", "ian"},  # behind a palatal the i is hardly heard: 马上, 马香
    {"ang", "iang"},
    {"ao", "iao"},
    {"uan", "uang"},
    {"un", "ong"},
    {"o", "uo", "ou"},
    {"e", "uo"},
    {"u", "v"},
)

Meaning = TypeVar("Meaning", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Meant(Generic[Meaning]):
    """What somebody most likely meant."""

    meaning: Meaning
    phrase: str  # the way of saying it that is most alike
    likeness: float  # 0..1


def has_han(text: str) -> bool:
    """Whether the text has Chinese characters."""
    return _HAN.search(text) is not None


@lru_cache(maxsize=4096)
def syllables(text: str) -> tuple[str, ...]:
    """The text as syllables without tones; numbers as they are read, other words in small letters.

    `水壶满了` -> shui hu man le; `10分钟` -> shi fen zhong; `MAX 线` -> max xian.
    """
    from pypinyin import lazy_pinyin  # loads its dictionaries: a third of a second, so only when needed

    spelled: list[str] = []
    for run in re.findall(
        r"[\u3400-\u9fff\uf900-\ufaff]+|[0-9]+|[^\W_0-9\u3400-\u9fff\uf900-\ufaff]+", text.casefold()
    ):
        if _HAN.match(run):
            spelled += lazy_pinyin(run)
        elif run.isdecimal() and run.isascii():
            spelled += _read_out(run)
        else:
            spelled.append(run)
    return tuple(spelled)


def likeness(one: str, other: str) -> float:
    """How alike two texts sound: 1 the same, 0 nothing in common. The order does not matter."""
    return _likeness(syllables(one), syllables(other))


def distance(one: str, other: str) -> float:
    """In how many syllables two texts sound different."""
    first, second = syllables(one), syllables(other)
    return (1.0 - _likeness(first, second)) * max(len(first), len(second))


def meant(
    heard: str,
    meanings: Mapping[Meaning, Sequence[str]],
    *,
    least: float = LEAST_LIKENESS,
    lead: float = LEAD,
) -> Meant[Meaning] | None:
    """Which of `meanings` was meant, each given by the phrases that say it; None when that is not clear.

    Clear: its best phrase sounds at least `least` like what was heard, and no phrase of another meaning comes within
    `lead` of it. Of meanings that sound the same none is ever clear.
    """
    sounds = syllables(heard)
    best = sorted(
        (
            max((Meant(meaning, phrase, _likeness(sounds, syllables(phrase))) for phrase in phrases), key=_by_likeness)
            for meaning, phrases in meanings.items()
            if phrases
        ),
        key=_by_likeness,
        reverse=True,
    )
    if not best or best[0].likeness < least:
        return None
    if len(best) > 1 and best[0].likeness - best[1].likeness < lead:
        return None
    return best[0]


def repaired(heard: str, words: Sequence[str]) -> str:
    """The sentence with words we know put in place of what only sounds like them: 水湖满了 -> 水壶满了.

    Only Chinese words of two or more characters; longer ones first; a word of ours that stands there already is left
    alone, and nothing is replaced twice.
    """
    known = sorted({word for word in words if _RUNS.fullmatch(word) and len(word) >= SHORTEST_REPAIR}, key=_longest)
    return _RUNS.sub(lambda run: _repaired_run(run.group(), known), heard)


def _repaired_run(run: str, known: Sequence[str]) -> str:
    """One run of Chinese characters, which are a syllable each."""
    taken = [False] * len(run)
    for word in known:  # what is right already is nobody else's
        for found in re.finditer(re.escape(word), run):
            taken[found.start() : found.end()] = [True] * len(word)
    characters = list(run)
    sounds = syllables(run)
    if len(sounds) != len(run):
        return run
    for word in known:
        wanted = syllables(word)
        for at in range(len(run) - len(word) + 1):
            span = slice(at, at + len(word))
            if not any(taken[span]) and _likeness(sounds[span], wanted) >= REPAIR_LIKENESS:
                characters[span] = word
                taken[span] = [True] * len(word)
    return "".join(characters)


def _likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """1 less the cheapest way to turn one into the other, for each syllable of the longer one."""
    if not one or not other:
        return 0.0
    above = [float(column) for column in range(len(other) + 1)]
    for row, left in enumerate(one, 1):
        line = [float(row)]
        for column, right in enumerate(other, 1):
            changed = above[column - 1] + _cost(left, right)
            line.append(min(changed, above[column] + 1.0, line[-1] + 1.0))
        above = line
    return 1.0 - above[-1] / max(len(one), len(other))


@lru_cache(maxsize=65536)
def _cost(one: str, other: str) -> float:
    """Of taking one syllable for the other, 0..1."""
    if one == other:
        return 0.0
    initials, finals = _split(one), _split(other)
    same_initial, same_final = initials[0] == finals[0], initials[1] == finals[1]
    mixed_initial = same_initial or any({initials[0], finals[0]} <= mixed for mixed in _MIXED_INITIALS)
    mixed_final = same_final or any({initials[1], finals[1]} <= mixed for mixed in _MIXED_FINALS)
    if mixed_initial and mixed_final:
        return ALIKE_COST
    return HALF_COST if (same_initial and initials[0]) or same_final else 1.0


def _split(syllable: str) -> tuple[str, str]:
    initial = _INITIALS.match(syllable)
    at = 0 if initial is None else initial.end()
    return syllable[:at], syllable[at:]


def _read_out(number: str) -> list[str]:
    """A number as it is read, up to four digits; longer ones, and those with a leading 0, digit by digit."""
    if len(number) > len(_TENS) or (number[0] == "0" and len(number) > 1):
        return [_DIGITS[digit] for digit in number]
    if number == "0":
        return ["ling"]
    spelled: list[str] = []
    for place, digit in zip(reversed(range(len(number))), number, strict=True):
        if digit != "0":
            is_plain_ten = digit == "1" and place == 1 and len(number) == 2
            spelled += [] if is_plain_ten else [_DIGITS[digit]]
            spelled += [_TENS[place]] if place else []
        elif spelled[-1:] != ["ling"] and any(rest != "0" for rest in number[len(number) - place :]):
            spelled.append("ling")
    return spelled


def _by_likeness(each: Meant[Meaning]) -> float:
    return each.likeness


def _longest(word: str) -> tuple[int, str]:
    return (-len(word), word)
