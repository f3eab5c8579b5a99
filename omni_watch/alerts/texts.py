"""Texts before they are read aloud: one line, and sentence by sentence. Pure."""

from __future__ import annotations

import re
from typing import Final

SHORTEST: Final = 12  # letters: less is not worth a breath of its own, except at the beginning
HAN_LETTERS: Final = 3  # that one Chinese character counts for
_READABLE: Final = re.compile(r"[^\W_]")  # a letter or digit: something to say
_ENDS: Final = re.compile(r"(?<=[.!?;])\s+(?=\S)|(?<=[。！？；])\s*(?=\S)")
_YES: Final = re.compile(r"([\u4e00-\u9fff]{1,3}，)(?=.)")  # a first word that is said again and again: 好，
_SHORT_FORM: Final = re.compile(r"(?:^|\s)(?:[A-Za-z]|[ap]\.m|Mr|Mrs|Ms|Dr|St|No|etc|e\.g|i\.e)\.$")


def is_readable(text: str) -> bool:
    """Whether there is anything to say in it."""
    return _READABLE.search(text) is not None


def one_line(text: str) -> str:
    """The text on one line, without control characters, which have no sound."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def sentences(text: str) -> list[str]:
    """The text as sentences, in order, so that the first can be heard while the next is made.

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
    return [sentence for sentence in found if is_readable(sentence)]


def _length(text: str) -> int:
    """In letters."""
    return sum(HAN_LETTERS if "\u4e00" <= letter <= "\u9fff" else 1 for letter in text)
