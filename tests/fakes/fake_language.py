"""A language model that says what it was told to say, with a cache whose content can be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from omni_watch.duplex.minicpmo.senses import Perceived
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.work import Fed, Feed, Request, Say, Work

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.cache import KeyValueCache
    from omni_watch.duplex.minicpmo.language import Language

T = TypeVar("T")

WIDTH = 4
PICTURE, SOUND = -1, -2  # what stands in the cache for a vector of theirs
PICTURE_LENGTH, SOUND_LENGTH = 3, 2


class FakeCache:
    """Remembers which tokens it holds, in order."""

    def __init__(self, rows: Iterable[int] = ()) -> None:
        self.rows = list(rows)

    @property
    def length(self) -> int:
        return len(self.rows)

    def forget(self, start: int, count: int) -> None:
        assert 0 <= start <= start + count <= self.length
        del self.rows[start : start + count]

    def copy_prefix(self, length: int, capacity: int | None = None) -> FakeCache:
        assert length <= self.length
        return FakeCache(self.rows[:length])

    def splice(self, start: int, end: int, other: FakeCache, other_start: int) -> None:
        assert start <= end <= self.length
        self.rows[start:end] = other.rows[other_start:]

    def truncate(self, length: int) -> None:
        del self.rows[length:]


@dataclass
class FakeLanguage:
    """Answers every request of a dialogue. `wishes` are the tokens it says next, one for each logits it is asked for;
    when there are none left it listens."""

    tokens: Tokens
    wishes: deque[int] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)

    @property
    def feeds(self) -> list[Feed]:
        return [request for request in self.requests if isinstance(request, Feed)]

    @property
    def sayings(self) -> list[Say]:
        return [request for request in self.requests if isinstance(request, Say)]

    def as_language(self) -> Language:
        return cast("Language", self)

    def new_cache(self, capacity: int = 0) -> KeyValueCache:
        return cast("KeyValueCache", FakeCache())

    def embed(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.float32)[:, None].expand(-1, WIDTH)

    def run(self, work: Work[T]) -> T:
        """Answer everything that `work` asks for; what it returns."""
        answer: Any = None
        while True:
            try:
                request = work.send(answer)
            except StopIteration as ended:
                return cast("T", ended.value)
            self.requests.append(request)
            answer = self._answer(request)

    def _answer(self, request: Request) -> Any:
        if not isinstance(request, Feed):
            return "voiced"
        cache = cast("FakeCache", request.cache)
        cache.rows += rows(request)
        last = request.embeddings[-1]
        if not request.wants_logits:
            return Fed(hidden=last, logits=None)
        logits = torch.zeros(self.tokens.size)
        logits[self.wishes.popleft() if self.wishes else self.tokens.listen] = 30.0
        return Fed(hidden=last, logits=logits)


def rows(feed: Feed) -> list[int]:
    """What a feed appends, as tokens."""
    return [int(row) for row in feed.embeddings[:, 0]]


def vectors(kind: int, length: int) -> Tensor:
    return torch.full((length, WIDTH), float(kind))


def unit(*, pictures: Sequence[int] = (), has_sound: bool = True) -> Perceived:
    """A second with so many pictures in each of its frames."""
    frames = tuple(tuple(vectors(PICTURE, PICTURE_LENGTH) for _ in range(count)) for count in pictures)
    return Perceived(frames=frames, sound=vectors(SOUND, SOUND_LENGTH) if has_sound else None)


def content(cache: KeyValueCache) -> list[int]:
    return cast("FakeCache", cache).rows
