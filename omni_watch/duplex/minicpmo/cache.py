"""What the language model remembers of one feed: the keys and values of every layer, in rows that can be forgotten.

Row i holds what was fed at position i, and positions are always 0 .. length-1: when rows are dropped from the middle,
those after them take smaller positions, which for rotary positions means turning their keys back by the number of rows
that went. Only differences of positions reach attention, so the same is true if the rows *before* the gap are turned
forward instead. That is what happens here: the few rows of the briefing move up to the rows that stay, and the
thousands that stay are not touched. The rows begin at `_first` of the buffer, the key in buffer row j is always turned
to j, and new rows go on at the end; when the end of the buffer is reached, everything is moved to its beginning once.

Why not turn the rows that stay, at each drop, as published: in bfloat16 each turn rounds. A key that sees hundreds of
drops would walk away from its value. Here the keys of the briefing are turned from a stored original each time, and
another key is turned only when the buffer's end is reached, a few times in its life. Storing unturned keys instead
would cost a turn of the whole memory at every step. Callers see nothing of this: `key` answers as if every key were
turned to its position.

Nothing here is shared between feeds, and nothing grows but the buffer, by doubling up to a stated maximum.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError

SPARE = 8  # one eighth of a buffer is kept free, so that its end is reached seldom


class KeyValueCache:
    """The rows of one feed. A large buffer, written in place; owned by the feed and used by the model thread only."""

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        rope_theta: float,
        capacity: int = 512,
        maximum: int = 40960,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """An empty cache with room for `capacity` rows, never more than `maximum` of them."""
        if not 1 <= capacity <= maximum:
            raise ValueError(f"capacity is {capacity}; expected 1 to the maximum of {maximum}")
        self.length = 0  # rows remembered = the position of the next one
        self.maximum = maximum
        self._theta = rope_theta
        shape = (num_layers, num_kv_heads, capacity, head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._first = 0  # the buffer row of position 0
        # keys of the first rows as they were before any drop moved them, turned to 0, 1, …
        self._originals = self._keys.new_zeros((num_layers, num_kv_heads, 0, head_dim))

    @property
    def num_layers(self) -> int:
        return self._keys.shape[0]

    @property
    def capacity(self) -> int:
        """Rows that the buffer has room for now."""
        return self._keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(held.nbytes for held in (self._keys, self._values, self._originals))

    def key(self, layer: int) -> Tensor:
        """[kv_heads, length, head_dim], each turned to its position; a copy if rows were dropped, else a view."""
        rows = self._keys[layer, :, self._first : self._first + self.length]
        return self._turned(rows, self._first, 0)

    def value(self, layer: int) -> Tensor:
        """[kv_heads, length, head_dim], a view."""
        return self._values[layer, :, self._first : self._first + self.length]

    # feeding: reserve once, append in every layer, advance once; a step that fails in between leaves no trace

    @torch.inference_mode()
    def reserve(self, count: int) -> int:
        """Make room for `count` more rows; returns the position that the first of them is to be turned to.

        Raises:
            ModelError: the maximum would be passed.
        """
        needed = self.length + count
        if needed > self.maximum:
            raise ModelError(
                f"the language model's memory has {self.length} positions and cannot take {count} more: "
                f"its maximum is {self.maximum}; use a window (basic or context), or begin a new session earlier"
            )
        if self._first + needed > self.capacity:
            self._make_room(needed)
        return self._first + self.length

    @torch.inference_mode()
    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write `[kv_heads, L, head_dim]` after the last row; returns views of all rows, `[kv_heads, length + L, …]`.

        The keys are turned to the position that `reserve` gave and those after it; attention may use the views, whose
        keys are turned to their buffer rows, with queries turned likewise.
        """
        at = self._first + self.length
        end = at + keys.shape[1]
        self._keys[layer, :, at:end] = keys
        self._values[layer, :, at:end] = values
        return self._keys[layer, :, self._first : end], self._values[layer, :, self._first : end]

    def advance(self, count: int) -> None:
        """The `count` rows appended in every layer are remembered from now on."""
        self.length += count

    # forgetting

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` rows."""
        self._check(0, length)
        self.length = length
        self._originals = self._originals[:, :, :length]
        if length == 0:
            self._first = 0

    @torch.inference_mode()
    def forget(self, start: int, count: int) -> None:
        """Drop the rows [start, start + count); those after them take the positions that became free."""
        self._check(start, start + count)
        self._replace(start, start + count, self._keys[:, :, :0], self._values[:, :, :0])

    @torch.inference_mode()
    def splice(self, start: int, end: int, other: KeyValueCache, other_start: int) -> None:
        """Replace the rows [start, end) by `other`'s from `other_start` on; what follows moves by the difference."""
        self._check(start, end)
        other._check(other_start, other.length)
        rows = slice(other._first + other_start, other._first + other.length)
        keys = self._turned(other._keys[:, :, rows], other._first + other_start, start)
        self._replace(start, end, keys, other._values[:, :, rows])

    @torch.inference_mode()
    def copy_prefix(self, count: int, capacity: int | None = None) -> KeyValueCache:
        """A new cache of the first `count` rows, with room for `capacity` (twice as many where not said)."""
        self._check(0, count)
        layers, kv_heads, _, head_dim = self._keys.shape
        made = KeyValueCache(
            num_layers=layers,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            rope_theta=self._theta,
            capacity=min(max(capacity or 2 * count, count, 1), self.maximum),
            maximum=self.maximum,
            dtype=self._keys.dtype,
            device=self._keys.device,
        )
        made._keys[:, :, :count] = self._original_keys(count)
        made._values[:, :, :count] = self._values[:, :, self._first : self._first + count]
        made.length = count
        return made

    def _replace(self, start: int, end: int, keys: Tensor, values: Tensor) -> None:
        """Rows [start, end) become `keys` (turned to start, …) and `values`, `[layers, kv_heads, n, head_dim]`."""
        change = keys.shape[2] - (end - start)
        if change <= self._first and start <= self.length - end:
            self._move_head(start, change, keys, values)
        else:
            self._move_tail(end, change)
            at = self._first + start
            self._keys[:, :, at : at + keys.shape[2]] = self._turned(keys, start, at)
            self._values[:, :, at : at + keys.shape[2]] = values
            self._originals = self._originals[:, :, :start]
        self.length += change

    def _move_head(self, start: int, change: int, keys: Tensor, values: Tensor) -> None:
        """Write the rows before the gap, then the new ones, so that they end where the rows that stay begin."""
        self._originals = torch.cat([self._original_keys(start), keys], dim=2)
        head_values = torch.cat([self._values[:, :, self._first : self._first + start], values], dim=2)
        self._first -= change
        rows = slice(self._first, self._first + head_values.shape[2])
        self._keys[:, :, rows] = self._turned(self._originals, 0, self._first)
        self._values[:, :, rows] = head_values

    def _move_tail(self, end: int, change: int) -> None:
        """Move the rows from `end` on by `change`, making room first."""
        if change > 0:
            self.reserve(change)
        start, stop = self._first + end, self._first + self.length
        self._move_keys(start, stop, start + change)
        self._move_values(start, stop, start + change)

    def _make_room(self, needed: int) -> None:
        """Let `needed` rows fit: by a larger buffer, or by moving all rows to the beginning of this one."""
        limit = self.maximum + (self.maximum // SPARE if self._first else 0)
        if needed + (self.capacity // SPARE if self._first else 0) > self.capacity < limit:
            capacity = min(max(2 * self.capacity, needed + needed // SPARE), limit)
            self._keys = self._enlarged(self._keys, capacity)
            self._values = self._enlarged(self._values, capacity)
        if self._first + needed > self.capacity:
            self._move_to_the_beginning()

    def _move_to_the_beginning(self) -> None:
        head = self._originals.shape[2]
        self._keys[:, :, :head] = self._originals
        self._move_keys(self._first + head, self._first + self.length, head)
        self._move_values(self._first, self._first + self.length, 0)
        self._first = 0

    def _enlarged(self, held: Tensor, capacity: int) -> Tensor:
        layers, kv_heads, _, head_dim = held.shape
        larger = held.new_zeros((layers, kv_heads, capacity, head_dim))
        rows = slice(self._first, self._first + self.length)
        larger[:, :, rows] = held[:, :, rows]
        return larger

    def _move_keys(self, start: int, end: int, to: int) -> None:
        """Move keys in buffer rows [start, end) to `to`, turning them; a layer at a time, to need little memory."""
        if start == to:
            return
        for keys in self._keys:
            keys[:, to : to + end - start] = self._turned(keys[:, start:end], start, to)

    def _move_values(self, start: int, end: int, to: int) -> None:
        if start == to:
            return
        for values in self._values:
            values[:, to : to + end - start] = values[:, start:end].clone()  # the two may overlap

    def _original_keys(self, count: int) -> Tensor:
        """[layers, kv_heads, count, head_dim]: the first keys, turned to 0, 1, …; with as few roundings as possible."""
        kept = min(count, self._originals.shape[2])
        rest = self._keys[:, :, self._first + kept : self._first + count]
        return torch.cat([self._originals[:, :, :kept], self._turned(rest, self._first + kept, kept)], dim=2)

    def _turned(self, keys: Tensor, start: int, to: int) -> Tensor:
        """Keys `[…, n, head_dim]` turned to positions start, start + 1, … as if turned to `to`, `to` + 1, …"""
        if start == to or keys.shape[-2] == 0:
            return keys
        before = rotation(start, keys.shape[-2], keys.shape[-1], self._theta, keys.device)
        after = rotation(to, keys.shape[-2], keys.shape[-1], self._theta, keys.device)
        cos = after[0] * before[0] + after[1] * before[1]  # of the difference of the two angles
        sin = after[1] * before[0] - after[0] * before[1]
        return rotate(keys, cos, sin)

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.length:
            raise ValueError(f"rows {start} to {end} are not in a cache of {self.length} rows")


def rotation(start: int, count: int, head_dim: int, rope_theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles at positions start, start + 1, …: `[count, head_dim / 2]` float32.

    Angles are float32 products of position and frequency, as in the published model (RoFormer, arXiv 2104.09864).
    """
    positions = torch.arange(start, start + count, dtype=torch.float32, device=device)
    angles = positions[:, None] * _frequencies(head_dim, rope_theta, device)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn `[…, head_dim]`, whose halves hold the pairs' coordinates; computed in float32, returned in x's dtype."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).to(x.dtype)


@functools.lru_cache(maxsize=16)
def _frequencies(head_dim: int, rope_theta: float, device: torch.device) -> Tensor:
    """[head_dim / 2] float32; computed on the CPU, so that every device has the same."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    return (1.0 / (rope_theta**exponents)).to(device)
