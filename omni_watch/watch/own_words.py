"""Whether words that were heard are our own, come back through a microphone. Pure.

A recogniser hears our voice through a room worse than it hears a person, so alike is enough. Mandarin is compared by
its sounds, everything else by its words and its letters. What was heard is usually a part of what was said.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Final

from omni_watch.domain.rules import Language
from omni_watch.watch.pinyin import has_han, likeness, syllables

LEAST_SHARE: Final = 0.65  # of the words heard that were said, in that order
LEAST_LETTERS: Final = 0.66  # of the letters heard, where the words are wrong: "cattle is fool"
LEAST_SOUND: Final = 0.6
LEAST_OF_SENTENCE: Final = 0.5  # that is heard of one of ours which comes back whole
LONGEST: Final = 400  # characters that are compared; an alert is shorter
ALIKE_WORD: Final = 0.75
_BETWEEN: Final = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])")  # sentences


def is_own_words(text: str, language: Language, said: str) -> bool:
    """Whether `text`, heard while or shortly after we said `said`, is likely to be that, or a part of it.

    `language` is that of the words heard; where it does not fit their script, the script counts.
    """
    heard, said = text.casefold()[:LONGEST], said.casefold()[:LONGEST]
    if language == "zh" or has_han(heard) or has_han(said):
        return _sounds_alike(heard, said)
    words, said_words = _words(heard), _words(said)
    if not words or not said_words:
        return False
    if _share(words, said_words) >= LEAST_SHARE:
        return True
    return len(words) > 1 and _letters("".join(words), "".join(said_words)) >= LEAST_LETTERS


def is_own_sentence(text: str, language: Language, said: str) -> bool:
    """The same for what is heard only after we ended: then it is a sentence of ours or several, which may have been cut
    short, because a voice is heard from one long pause to the next. A word from the middle of one is a person's."""
    sentences = [each for each in _BETWEEN.split(said[-LONGEST:]) if each.strip()]
    for first in range(len(sentences)):
        if is_own_words(text, language, _beginning(" ".join(sentences[first:]), text)):
            return True
        for end in range(first + 1, len(sentences) + 1):
            whole = " ".join(sentences[first:end])
            is_enough = len(syllables(text)) >= LEAST_OF_SENTENCE * len(syllables(whole))
            if is_enough and is_own_words(text, language, whole):
                return True
    return False


def _beginning(said: str, heard: str) -> str:
    """As much of it as was heard, and a little more."""
    return said[: round(1.2 * len(heard)) + (1 if has_han(said) else 5)]


def _sounds_alike(heard: str, said: str) -> bool:
    wanted, there = syllables(heard), syllables(said)
    if not wanted or not there:
        return False
    spoken = " ".join(wanted)
    starts = range(max(len(there) - len(wanted) + 1, 1))
    return any(likeness(spoken, " ".join(there[at : at + len(wanted)])) >= LEAST_SOUND for at in starts)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.replace("'", ""))


def _share(words: list[str], said: list[str]) -> float:
    """Of `words` that are found in `said` in the same order: the longest common subsequence of words that are alike."""
    above = [0] * (len(said) + 1)
    for word in words:
        line = [0]
        for column, other in enumerate(said, 1):
            found = above[column - 1] + 1 if _is_alike(word, other) else 0
            line.append(max(found, above[column], line[-1]))
        above = line
    return above[-1] / len(words)


def _is_alike(word: str, other: str) -> bool:
    if word == other:
        return True
    if min(len(word), len(other)) < 4:
        return False
    return SequenceMatcher(None, word, other, autojunk=False).ratio() >= ALIKE_WORD


def _letters(heard: str, said: str) -> float:
    """1 less the fewest letters to change, for each of `heard`, that make it a part of `said` (Sellers 1980)."""
    above = [0] * (len(said) + 1)
    for row, letter in enumerate(heard, 1):
        line = [row]
        for column, other in enumerate(said, 1):
            line.append(min(above[column - 1] + (letter != other), above[column] + 1, line[-1] + 1))
        above = line
    return 1.0 - min(above) / len(heard)
