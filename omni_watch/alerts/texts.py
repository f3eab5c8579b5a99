"""Texts before they are read aloud: one line, and breath by breath. Pure."""

from __future__ import annotations

import re
from typing import Final

SHORTEST: Final = 12  # letters: less is not worth a breath of its own, except at the beginning
CLAUSE: Final = 24  # letters: of fewer the Mandarin voice makes unclear words (tests/bench/bench_voices.py)
HAN_LETTERS: Final = 3  # that one Chinese character counts for
_READABLE: Final = re.compile(r"[^\W_]")  # a letter or digit: something to say
_ENDS: Final = re.compile(r"(?<=[.!?;])\s+(?=\S)|(?<=[。！？；])\s*(?=\S)")
_YES: Final = re.compile(r"([\u4e00-\u9fff]{1,3}，)(?=.)")  # a first word that is said again and again: 好，
_CLAUSES: Final = re.compile(r"(?<=[，：、])(?=.)")
_PAUSES_S: Final = {"，": 0.2, "：": 0.25, "、": 0.12}  # what the voice itself leaves behind them
_SENTENCE_PAUSE_S: Final = 0.25
_SHORT_FORM: Final = re.compile(r"(?:^|\s)(?:[A-Za-z]|[ap]\.m|Mr|Mrs|Ms|Dr|St|No|etc|e\.g|i\.e)\.$")


def is_readable(text: str) -> bool:
    """Whether there is anything to say in it."""
    return _READABLE.search(text) is not None


def one_line(text: str) -> str:
    """The text on one line, without control characters, which have no sound."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def sentences(text: str) -> list[str]:
    """The text as sentences, long Chinese ones as clauses, in order, so that the first is heard while the next is made.

    A short one takes the next along, unless it is the first; those without anything to say are left out.
    """
    line = one_line(text)
    found: list[str] = []
    if yes := _YES.match(line):
        found.append(yes[1])
        line = line[yes.end() :]
    for part in _ENDS.split(line):
        if not found or _SHORT_FORM.search(found[-1]) or (len(found) > 1 and _length(found[-1]) < SHORTEST):
            found = [*found[:-1], f"{found[-1]} {part}"] if found else [part]
        else:
            found.append(part)
    pieces = (piece for number, sentence in enumerate(found) for piece in _clauses(sentence, is_first=number == 0))
    return [piece for piece in pieces if is_readable(piece)]


def pause_s(said: str) -> float:
    """How long one breathes behind this sentence or clause."""
    return _PAUSES_S.get(said[-1:], _SENTENCE_PAUSE_S)


def _clauses(sentence: str, *, is_first: bool) -> list[str]:
    """A long Chinese sentence cut at its commas, and behind the colon after words that are always the same; where one
    waits for them, also when little follows."""
    found: list[str] = []
    now, left = "", _length(sentence)
    for clause in _CLAUSES.split(sentence):
        now, left = now + clause, left - _length(clause)
        is_head = now.endswith("：")
        least = SHORTEST if is_head and is_first and not found else CLAUSE
        if left >= least and _length(now) >= (SHORTEST if is_head else CLAUSE):
            found.append(now)
            now = ""
    return [*found, now] if now else found


def _length(text: str) -> int:
    """In letters."""
    return sum(HAN_LETTERS if "\u4e00" <= letter <= "\u9fff" else 1 for letter in text)
