"""Sentence templates: many ways to say one thing, written in one line. Pure.

`[tell|show] me (when|if) {condition}` is read as in Home Assistant's sentence files: `[...]` may be left out, `(a|b)`
is a choice, `{slot}` is free text, `<part>` stands for a template of that name. A template can be matched against a
sentence (`pattern`) or written out in full (`expand`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

DEEPEST: Final = 12  # brackets and parts within one another; more is a mistake, such as a part that names itself
MOST_EXPANSIONS: Final = 2000  # of one template
FREE: Final = r"\S.*?"  # what a slot without a type holds

_PIECES: Final = re.compile(r"[\[\]()|]|\{[^{}]*\}|<[^<>]*>|[^\[\]()|{}<>]+|.", re.DOTALL)
_WORDS: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[ ]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    """Words as they stand."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """Free text with a name."""

    name: str


@dataclass(frozen=True, slots=True)
class Row:
    """One after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these; `may_be_left_out` for square brackets."""

    options: tuple[Node, ...]
    may_be_left_out: bool = False


Node = Text | Slot | Row | Choice


def parse(template: str, parts: Mapping[str, str] | None = None) -> Node:
    """The template's tree.

    Raises:
        ValueError: brackets that do not pair, a part that is not there, too many levels.
    """
    return _Parser(template, parts or {}, 0).whole()


class _Parser:
    """Walks over one template's pieces; lives for one call of `parse`."""

    def __init__(self, template: str, parts: Mapping[str, str], depth: int) -> None:
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} templates within one another at {template!r}")
        self._template = template
        self._pieces = _PIECES.findall(template)
        self._parts = parts
        self._depth = depth
        self._at = 0

    def whole(self) -> Node:
        node = self._options(closing="")
        if self._at < len(self._pieces):
            raise ValueError(f"{self._template!r} has {self._pieces[self._at]!r} without its opening bracket")
        return node

    def _options(self, closing: str) -> Node:
        options: list[Node] = []
        row: list[Node] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            if piece in {")", "]"}:
                break
            self._at += 1
            if piece == "|":
                options.append(Row(tuple(row)))
                row = []
            else:
                row.append(self._node(piece))
        else:
            if closing:
                raise ValueError(f"{self._template!r} lacks a closing {closing!r}")
        options.append(Row(tuple(row)))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _node(self, piece: str) -> Node:
        if piece == "(":
            return self._bracket(")")
        if piece == "[":
            return Choice((self._bracket("]"),), may_be_left_out=True)
        if piece[0] == "{" and len(piece) > 1:
            return Slot(piece[1:-1].strip())
        if piece[0] == "<" and len(piece) > 1:
            return self._part(piece[1:-1].strip())
        if piece[0] in "{}<>":
            raise ValueError(f"{self._template!r} has a lone {piece!r}")
        return Text(piece)

    def _bracket(self, closing: str) -> Node:
        self._deeper()
        node = self._options(closing)
        if self._pieces[self._at] != closing:
            raise ValueError(f"{self._template!r} has {self._pieces[self._at]!r} where {closing!r} was expected")
        self._at += 1
        self._depth -= 1
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"{self._template!r} has more than {DEEPEST} brackets within one another")

    def _part(self, name: str) -> Node:
        if name not in self._parts:
            known = ", ".join(self._parts) or "none"
            raise ValueError(f"{self._template!r} names <{name}>, which is not one of: {known}")
        return _Parser(self._parts[name], self._parts, self._depth + 1).whole()


def slots(node: Node) -> tuple[str, ...]:
    """Names of the tree's slots in order, repeats kept."""
    match node:
        case Slot(name):
            return (name,)
        case Row(items) | Choice(items):
            return tuple(name for item in items for name in slots(item))
        case Text():
            return ()


def most_slots(node: Node, counts: Callable[[str], bool]) -> int:
    """How many of the slots that `counts` says count can stand in one match: of a choice only one option does."""
    match node:
        case Slot(name):
            return int(counts(name))
        case Row(items):
            return sum(most_slots(item, counts) for item in items)
        case Choice(options):
            return max(most_slots(option, counts) for option in options)
        case Text():
            return 0


def pattern(node: Node, typed: Mapping[str, str] | None = None) -> re.Pattern[str]:
    """A pattern for whole sentences, without regard to case; the n-th slot `x` is the group `x_n`, from 0.

    Words match whole words, a space matches a space or nothing, so that parts left out leave no trace. `typed` says
    what a slot may hold, as an expression without groups of its own; any other slot holds any text.
    """
    return re.compile(expression(node, typed), re.IGNORECASE)


def expression(node: Node, typed: Mapping[str, str] | None = None) -> str:
    """The text of `pattern`."""
    return _expression(node, {}, typed or {})


def plain_expression(node: Node, typed: Mapping[str, str]) -> str:
    """An expression without groups, so that it can stand inside another one; every slot must be typed."""
    return re.sub(r"\(\?P<\w+>", "(?:", expression(node, typed))


def _expression(node: Node, counts: dict[str, int], typed: Mapping[str, str]) -> str:
    match node:
        case Text(text):
            return "".join(_literal(piece) for piece in _WORDS.findall(text))
        case Slot(name):
            number = counts.get(name, 0)
            counts[name] = number + 1
            return f"(?P<{name}_{number}>{typed.get(name, FREE)})"
        case Row(items):
            return "".join(_expression(item, counts, typed) for item in items)
        case Choice(options, may_be_left_out):
            inner = "|".join(_expression(option, counts, typed) for option in options)
            return f"(?:{inner}){'?' if may_be_left_out else ''}"


def _literal(piece: str) -> str:
    if piece == " ":
        return " ?"
    escaped = re.escape(piece)
    # the edge of a word is meant only where words have edges: not between ideographs
    return rf"\b{escaped}\b" if piece[0].isascii() and piece[0].isalnum() else escaped


def needed(node: Node) -> frozenset[str]:
    """Texts of which every match holds at least one, in lower case; empty when nothing can be said.

    Looking for them first is cheaper than matching, and most sentences hold none.
    """
    match node:
        case Text(text):
            words = sorted((word.lower() for word in _WORDS.findall(text) if word.strip()), key=len)
            return frozenset(words[-1:])
        case Slot():
            return frozenset()
        case Row(items):
            found = [words for words in map(needed, items) if words]
            return max(found, key=lambda words: min(map(len, words)), default=frozenset())
        case Choice(options, may_be_left_out):
            each = [needed(option) for option in options]
            return frozenset[str]() if may_be_left_out or not all(each) else frozenset[str]().union(*each)


def expand(node: Node, fill: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Every way to write the template out, the first way first; slots are filled with each of `fill`.

    Raises:
        ValueError: a slot that `fill` does not have, or more than MOST_EXPANSIONS ways.
    """
    ways = list(islice(_expand(node, fill), MOST_EXPANSIONS + 1))
    if len(ways) > MOST_EXPANSIONS:
        raise ValueError(f"can be written in more than {MOST_EXPANSIONS} ways; split it into shorter ones")
    return list(dict.fromkeys(" ".join(way.split()) for way in ways))


def _expand(node: Node, fill: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    match node:
        case Text(text):
            yield text
        case Slot(name):
            if name not in fill:
                raise ValueError(f"has {{{name}}}, which is not one of: {', '.join(f'{{{key}}}' for key in fill)}")
            yield from fill[name]
        case Choice(options, may_be_left_out):
            if may_be_left_out:
                yield ""
            for option in options:
                yield from _expand(option, fill)
        case Row(items):
            yield from _expand_row(items, fill)


def _expand_row(items: tuple[Node, ...], fill: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    if not items:
        yield ""
        return
    for first in _expand(items[0], fill):
        for rest in _expand_row(items[1:], fill):
            yield first + rest
