"""A feed's memory: rows keep their keys and values, wherever and however often something before them is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.cache import KeyValueCache, rotate, rotation

LAYERS, KV_HEADS, HEAD_DIM, THETA = 2, 2, 8, 1e4
CPU = torch.device("cpu")


def _cache(capacity: int = 8, maximum: int = 4096, dtype: torch.dtype = torch.float32) -> KeyValueCache:
    return KeyValueCache(
        num_layers=LAYERS,
        num_kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        rope_theta=THETA,
        capacity=capacity,
        maximum=maximum,
        dtype=dtype,
    )


def _turned(keys: Tensor, start: int = 0) -> Tensor:
    return rotate(keys, *rotation(start, keys.shape[-2], HEAD_DIM, THETA, CPU))


def _feed(cache: KeyValueCache, keys: Tensor, values: Tensor) -> None:
    """Append `[layers, kv_heads, n, head_dim]`; the keys come unturned."""
    count = keys.shape[2]
    turned = _turned(keys, cache.reserve(count)).to(keys.dtype)
    for layer in range(LAYERS):
        cache.append(layer, turned[layer], values[layer])
    cache.advance(count)


@dataclass
class Told:
    """What a cache should hold, kept the simple way: unturned keys, and values, joined and cut."""

    cache: KeyValueCache = field(default_factory=_cache)
    keys: Tensor = field(default_factory=lambda: torch.zeros(LAYERS, KV_HEADS, 0, HEAD_DIM))
    values: Tensor = field(default_factory=lambda: torch.zeros(LAYERS, KV_HEADS, 0, HEAD_DIM))

    def feed(self, count: int) -> None:
        keys, values = torch.randn(2, LAYERS, KV_HEADS, count, HEAD_DIM)
        _feed(self.cache, keys, values)
        self.keys, self.values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)

    def replace(self, start: int, end: int, keys: Tensor, values: Tensor) -> None:
        self.keys = torch.cat([self.keys[:, :, :start], keys, self.keys[:, :, end:]], 2)
        self.values = torch.cat([self.values[:, :, :start], values, self.values[:, :, end:]], 2)

    def check(self) -> None:
        assert self.cache.length == self.keys.shape[2]
        for layer in range(LAYERS):
            torch.testing.assert_close(self.cache.key(layer), _turned(self.keys[layer]), rtol=0, atol=2e-5)
            assert torch.equal(self.cache.value(layer), self.values[layer])


@settings(deadline=None)
@given(data=st.data())
def test_whatever_is_forgotten_the_rest_is_as_if_fed_at_its_positions(data: st.DataObject) -> None:
    torch.manual_seed(0)
    told = Told(_cache(capacity=data.draw(st.integers(1, 40))))
    for _ in range(data.draw(st.integers(1, 25))):
        length = told.cache.length
        start = data.draw(st.integers(0, length))
        end = data.draw(st.integers(start, length))
        match data.draw(st.sampled_from(["feed", "feed", "forget", "forget", "truncate", "splice"])):
            case "feed":
                told.feed(data.draw(st.integers(1, 13)))
            case "forget":
                told.cache.forget(start, end - start)
                told.replace(start, end, told.keys[:, :, :0], told.values[:, :, :0])
            case "truncate":
                told.cache.truncate(end)
                told.replace(end, length, told.keys[:, :, :0], told.values[:, :, :0])
            case "splice":
                prefix = data.draw(st.integers(0, length))
                other = Told(told.cache.copy_prefix(prefix), told.keys[:, :, :prefix], told.values[:, :, :prefix])
                other.feed(data.draw(st.integers(1, 9)))
                other.check()
                other_start = data.draw(st.integers(0, other.cache.length))
                told.cache.splice(start, end, other.cache, other_start)
                told.replace(start, end, other.keys[:, :, other_start:], other.values[:, :, other_start:])
        told.check()


@settings(deadline=None)
@given(drops=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=12))
def test_attention_over_the_views_is_attention_over_the_positions(drops: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    told = Told()
    told.feed(30)
    for start, count in drops:
        told.cache.forget(start, count)
        told.replace(start, start + count, told.keys[:, :, :0], told.values[:, :, :0])
        told.feed(count + 1)
    query, key, value = torch.randn(3, KV_HEADS, 1, HEAD_DIM)

    at = told.cache.reserve(1)
    keys, values = told.cache.append(0, _turned(key, at), value)
    seen = F.scaled_dot_product_attention(_turned(query, at), keys, values)

    length = told.cache.length
    keys = torch.cat([_turned(told.keys[0]), _turned(key, length)], 1)
    expected = F.scaled_dot_product_attention(_turned(query, length), keys, torch.cat([told.values[0], value], 1))
    torch.testing.assert_close(seen, expected, rtol=0, atol=2e-5)


def test_a_buffer_doubles_up_to_its_maximum_and_then_says_what_to_do() -> None:
    told = Told(_cache(capacity=4, maximum=20))
    capacities = []
    for _ in range(20):
        told.feed(1)
        capacities.append(told.cache.capacity)
    assert sorted(set(capacities)) == [4, 8, 16, 20]
    with pytest.raises(ModelError, match=r"20 positions and cannot take 1 more: its maximum is 20; use a window"):
        told.feed(1)
    told.check()
    told.cache.forget(2, 5)
    told.replace(2, 7, told.keys[:, :, :0], told.values[:, :, :0])
    told.feed(5)
    told.check()


def test_memory_stays_flat_however_many_units_pass_through_a_window() -> None:
    told = Told(_cache(capacity=16, maximum=120))
    told.feed(20)
    held = []
    for step in range(1500):
        told.feed(7 + step % 5)
        while told.cache.length > 110:
            told.cache.forget(20, 9)
            told.replace(20, 29, told.keys[:, :, :0], told.values[:, :, :0])
        held.append(told.cache.nbytes)
    assert len(set(held[100:])) == 1
    assert told.cache.capacity <= 120 * 9 // 8
    told.check()


def test_a_thousand_drops_leave_bfloat16_keys_nearly_as_sharp_as_one_rounding() -> None:
    torch.manual_seed(0)
    cache = _cache(capacity=64, maximum=512, dtype=torch.bfloat16)
    kept = torch.randn(LAYERS, KV_HEADS, 0, HEAD_DIM).bfloat16()
    walked = torch.zeros(LAYERS, KV_HEADS, 0, HEAD_DIM).bfloat16()  # the same, turned back at each drop as published
    for _ in range(1100):
        keys = torch.randn(LAYERS, KV_HEADS, 13, HEAD_DIM).bfloat16()
        _feed(cache, keys, keys)
        walked = torch.cat([walked, _turned(keys, kept.shape[2])], 2)
        kept = torch.cat([kept, keys], 2)
        if kept.shape[2] > 480:
            cache.forget(40, 13)
            kept = torch.cat([kept[:, :, :40], kept[:, :, 53:]], 2)
            cos, sin = rotation(13, 1, HEAD_DIM, THETA, CPU)
            walked = torch.cat([walked[:, :, :40], rotate(walked[:, :, 53:], cos, -sin)], 2)

    exact = _turned(kept.float())
    found = torch.stack([cache.key(layer) for layer in range(LAYERS)]).float()

    def strayed(keys: Tensor) -> float:
        return float(keys.square().mean().sqrt())

    rounding = strayed(exact.bfloat16().float() - exact)
    assert torch.equal(cache.value(0), kept[0])
    assert strayed((found - exact)[:, :, :40]) < 2 * rounding  # the briefing: fed, turned once, and turned to be read
    assert strayed((found - exact)[:, :, 40:]) < 3 * rounding  # and moved to the beginning of the buffer a few times
    assert strayed((walked.float() - exact)[:, :, 40:]) > 2 * strayed((found - exact)[:, :, 40:])


def test_forgetting_in_the_middle_moves_the_few_and_leaves_the_many_where_they_are() -> None:
    told = Told(_cache(capacity=256))
    told.feed(200)
    before = told.cache.value(0)[:, 50:].data_ptr()
    told.cache.forget(10, 40)
    assert told.cache.value(0)[:, 10:].data_ptr() == before


def test_a_step_that_fails_half_way_leaves_no_trace() -> None:
    told = Told()
    told.feed(5)
    told.cache.reserve(30)
    told.cache.append(0, torch.randn(KV_HEADS, 30, HEAD_DIM), torch.randn(KV_HEADS, 30, HEAD_DIM))
    told.check()
    told.feed(3)
    told.check()


def test_a_copied_prefix_lives_its_own_life() -> None:
    told = Told()
    told.feed(12)
    copy = Told(told.cache.copy_prefix(7), told.keys[:, :, :7], told.values[:, :, :7])
    copy.feed(4)
    told.cache.forget(2, 3)
    told.replace(2, 5, told.keys[:, :, :0], told.values[:, :, :0])
    copy.check()
    told.check()


def test_an_empty_cache_can_be_copied_and_used() -> None:
    told = Told(_cache().copy_prefix(0))
    told.feed(3)
    told.check()


def test_memory_made_inside_inference_mode_can_be_windowed_outside_it() -> None:
    with torch.inference_mode():
        told = Told()
        told.feed(30)
    told.cache.forget(3, 4)
    told.cache.splice(2, 6, told.cache.copy_prefix(9), 3)
    assert told.cache.length == 28


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 6), (6, 1), (3, -1)])
def test_rows_that_are_not_there_cannot_be_forgotten(start: int, count: int) -> None:
    told = Told()
    told.feed(5)
    with pytest.raises(ValueError, match="cache of 5 rows"):
        told.cache.forget(start, count)
    told.check()


def test_a_capacity_beyond_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 9; expected 1 to the maximum of 8"):
        _cache(capacity=9, maximum=8)
