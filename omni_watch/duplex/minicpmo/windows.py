"""What lies where in a dialogue's cache, and what is given up when there is too much of it.

    [prefix][carried words][suffix][unit][unit] ... [unit]
     <------- prompt ------------->

A `Layout` keeps the account; a `Window` says how many of the oldest units have to go; `give_up` takes them out of the
cache. The prompt always stays. Units that stay keep keys and values that were computed while the older ones could
still be seen; only their positions change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from omni_watch.duplex.minicpmo.work import Feed, Work

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.cache import KeyValueCache
    from omni_watch.duplex.minicpmo.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSpan:
    """One finished unit, as far as a window has to know it."""

    index: int  # since the dialogue began
    length: int  # positions in the cache
    said: tuple[int, ...] = ()
    text: str = ""
    is_listen: bool = True


@dataclass(slots=True)
class Layout:
    """The account of one dialogue's cache. Lengths are positions."""

    prefix: int = 0
    marker: tuple[int, ...] = ()  # ids that stand before carried words
    carried: tuple[int, ...] = ()  # marker and words of units that are gone; empty until there are any
    carried_text: str = ""
    suffix: tuple[int, ...] = ()  # ids: they are fed again when what stands before them changes
    units: deque[UnitSpan] = field(default_factory=deque)  # oldest first
    begun: int = 0  # units so far
    cut: int = 0  # positions of units that were given up so far

    @property
    def prompt(self) -> int:
        """Positions before the first unit."""
        return self.prefix + len(self.carried) + len(self.suffix)

    def add(self, *, length: int, said: Sequence[int] = (), text: str = "", is_listen: bool = True) -> None:
        self.units.append(UnitSpan(index=self.begun, length=length, said=tuple(said), text=text, is_listen=is_listen))
        self.begun += 1

    def take_oldest(self, count: int) -> list[UnitSpan]:
        return [self.units.popleft() for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Off:
    """Nothing is given up; the dialogue ends or is rotated before the cache is full."""

    def excess(self, _layout: Layout, _length: int) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """Above `high` positions, the oldest units go until there are at most `low`."""

    high: int = 8000
    low: int = 6000

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"window high {self.high}, low {self.low}; expected 0 < low <= high positions")

    def excess(self, layout: Layout, length: int) -> int:
        """How many of the oldest units have to go when the cache holds `length` positions."""
        count = 0
        if length > self.high:
            for unit in layout.units:
                if length <= self.low:
                    break
                length -= unit.length
                count += 1
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """At most `max_units` units stay; what the others said is carried over into the prompt."""

    max_units: int = 24
    previous_max: int = 500  # carried tokens without the marker; the newest are kept
    marker: str = "\n\nprevious: "

    def __post_init__(self) -> None:
        if self.max_units < 1 or self.previous_max < 1:
            raise ValueError(
                f"window max_units {self.max_units}, previous_max {self.previous_max}; expected at least 1 of each"
            )

    def excess(self, layout: Layout, _length: int) -> int:
        return max(0, len(layout.units) - self.max_units)


Window: TypeAlias = Off | Basic | Context


def give_up(
    window: Window,
    layout: Layout,
    count: int,
    *,
    cache: KeyValueCache,
    tokens: Tokens,
    embed: Callable[[Sequence[int]], Tensor],
    carries_text_alone: bool = False,
) -> Work[None]:
    """Take the `count` oldest units out of the cache, carrying over what they said if the window does so.

    `embed` gives [L, H] for L ids. Takes a forward pass over carried words and suffix, and only when the carried words
    changed: otherwise their keys and values would come out as they are.
    """
    start, before = layout.prompt, layout.carried
    gone = layout.take_oldest(count)
    length = sum(unit.length for unit in gone)
    layout.cut += length
    if isinstance(window, Context):
        for unit in gone:
            carry_over(layout, unit, tokens, window.previous_max, carries_text_alone=carries_text_alone)
    if layout.carried == before:
        cache.forget(start, length)
        return
    fresh = cache.copy_prefix(layout.prefix, capacity=layout.prompt)
    yield Feed(embeddings=embed((*layout.carried, *layout.suffix)), cache=fresh, wants_logits=False)
    cache.splice(layout.prefix, start + length, fresh, layout.prefix)


def carry_over(
    layout: Layout, unit: UnitSpan, tokens: Tokens, previous_max: int, *, carries_text_alone: bool = False
) -> None:
    """Add a unit's words to what is carried, the oldest words making room. A listening unit has none.

    With `carries_text_alone` the text is kept beside the ids instead of being theirs, as published: a unit with text
    but no ids still brings the marker, characters cut in two stay so until the first words have to go, and special
    tokens that no list of the tokenizer names, such as `<|turn_bos|>`, are carried like words.
    """
    if unit.is_listen:
        return
    left_out = tokens.listed_ids if carries_text_alone else tokens.special_ids
    words = tuple(token for token in unit.said if token not in left_out)
    text = unit.text if unit.text.strip() else ""
    if not words and not (carries_text_alone and text):
        return
    whole = layout.carried[len(layout.marker) :] + words
    kept = whole[-previous_max:]
    layout.carried = layout.marker + kept
    layout.carried_text += text
    if not carries_text_alone or len(kept) < len(whole):
        layout.carried_text = tokens.decode(list(kept))
