"""Tongue: how people put their wishes in one language. Data in rules/wording/, parsed by `omni_watch.config.rulebook`.

A tongue knows how requests are framed and which words of a condition matter; `key` and `tokens` bring two ways of
writing the same thing to one form. Pure; nothing here knows rules or languages by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from omni_watch.domain.rules import Language, Repeat

_SPACES = re.compile(r"\s+")
_BEFORE_MARK = re.compile(r" +(?=[,.;:!?])")
_NOT_WORDS = re.compile(r"[^\w]+|_+")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'", "“": '"', "”": '"', "、": ",", "，": ",", ";": ","})
_HAN = r"\u3400-\u9fff\uf900-\ufaff"
_SPACE_BY_IDEOGRAPH = re.compile(  # between two, beside a number and behind a mark: 过 10 分钟, 告诉我
    rf"(?<=[{_HAN}])\s+(?=[{_HAN}0-9])|(?<=[0-9])\s+(?=[{_HAN}])"
    rf"|(?<=[{_HAN}][,.:!?])\s+|(?<=[,.:!?])\s+(?=[{_HAN}])"
)
_SHORTEST_STEM = 3  # letters that an ending must leave


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """One way to frame a request; the groups of `pattern` are condition_0, condition_1, message_0, indirect_0."""

    pattern: re.Pattern[str]
    repeat: Repeat | None = None


@dataclass(frozen=True, kw_only=True)
class Tongue:
    """One language. Word lists are in the normal form of `fold`."""

    language: Language
    script: str  # "latin", "han", "cyrillic", ...: as in the Unicode names of its letters
    requests: tuple[RequestForm, ...]  # the first that fits the whole sentence is taken
    fillers: frozenset[str] = frozenset()  # carry no meaning
    harmless: frozenset[str] = frozenset()  # may be added to a phrase
    tails: frozenset[str] = frozenset()  # begin an addition at the end
    heads: frozenset[str] = frozenset()  # end an addition at the beginning
    vetoes: frozenset[str] = frozenset()  # make another thing of a phrase
    forms: Mapping[str, str] = field(default_factory=dict)  # inflected form -> word
    endings: tuple[str, ...] = ()  # that inflect, longest first
    spellings: Mapping[str, str] = field(default_factory=dict)  # replaced wherever they stand
    variants: Mapping[int, str] = field(default_factory=dict)  # characters that count as another one, for str.translate
    persons: Mapping[str, str] = field(default_factory=dict)  # my -> your
    others: tuple[str, ...] = ()  # things people ask for that no rule means
    pronoun: str = ""  # stands for any thing
    sentence_end: str = "."

    @property
    def is_spaced(self) -> bool:
        """Whether words stand apart, as in all scripts but that of Chinese here."""
        return self.script != "han"

    def share(self, text: str) -> float:
        """Part of the text's letters that are of this script, 0..1."""
        letters = [character for character in text if character.isalpha()]
        wanted = "CJK" if self.script == "han" else self.script.upper()
        # an ideograph says about as much as three letters
        weights = [(3 if unicodedata.name(letter, "").startswith("CJK") else 1, letter) for letter in letters]
        mine = sum(weight for weight, letter in weights if unicodedata.name(letter, "").startswith(wanted))
        return mine / sum(weight for weight, _ in weights) if weights else 0.0

    def known(self, text: str) -> int:
        """How many of the text's words this language lists; parts two languages of one script."""
        return sum(word in self._listed for word in fold(text).replace(",", " ").split())

    @cached_property
    def _listed(self) -> frozenset[str]:
        return self.fillers | self.harmless | self.tails

    def key(self, text: str) -> str:
        """Normal form for comparing: folded, spelled one way, without marks."""
        folded = fold(text).translate(dict(self.variants))
        for spelling, meant in self.spellings.items():
            folded = folded.replace(spelling, meant)
        return _SPACES.sub(" ", _NOT_WORDS.sub(" ", folded)).strip()

    def words(self, text: str) -> tuple[str, ...]:
        """The words of `key`, in order, as written."""
        return tuple(self.key(text).split())

    def stem(self, word: str) -> str:
        """What a word's forms have in common; one made-up string for "bark", "barks", "barked" and "barking"."""
        word = self.forms.get(word, word)
        if not self.endings:
            return word
        for ending in self.endings:
            rest = word.removesuffix(ending)
            is_double = len(ending) == 1 and rest.endswith(ending)  # glass
            if rest != word and len(rest) >= _SHORTEST_STEM and not is_double:
                word = rest
                break
        if len(word) > _SHORTEST_STEM and word[-1] == word[-2]:
            word = word[:-1]
        return word[:-1] + "i" if word.endswith("y") else word.removesuffix("e")

    def stripped(self, text: str) -> str:
        """For languages without spaces: the key without fillers."""
        return self._filler_pattern.sub("", self.key(text).replace(" ", ""))

    @cached_property
    def _filler_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.fillers, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def fold(text: str) -> str:
    """Compatibility forms, quotes and case made one; spaces single, and none between ideographs."""
    return tidy(text).casefold()


def tidy(text: str) -> str:
    """The text as a person wrote it, but with one kind of quotes, commas and spaces, and no invisible characters."""
    plain = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    visible = "".join(character if character.isprintable() else " " for character in plain)
    return _BEFORE_MARK.sub("", _SPACE_BY_IDEOGRAPH.sub("", _SPACES.sub(" ", visible))).strip()
