"""The decoder computes what transformers' Qwen3 computes, however rows are cut into feeds and feeds are packed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.cache import KeyValueCache, rotate, rotation
from omni_watch.duplex.minicpmo.config import LanguageConfig
from omni_watch.duplex.minicpmo.language import Language, causal_mask
from omni_watch.duplex.minicpmo.packing import PackedLinear, pack_

CONFIG = LanguageConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    max_positions=4096,
)
ROWS = 40


def _reference() -> Qwen3ForCausalLM:
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=CONFIG.vocab_size,
        hidden_size=CONFIG.hidden_size,
        intermediate_size=CONFIG.intermediate_size,
        num_hidden_layers=CONFIG.num_layers,
        num_attention_heads=CONFIG.num_heads,
        num_key_value_heads=CONFIG.num_kv_heads,
        head_dim=CONFIG.head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": CONFIG.rope_theta},
        rms_norm_eps=CONFIG.rms_norm_eps,
        max_position_embeddings=CONFIG.max_positions,
        tie_word_embeddings=False,
    )
    model: Qwen3ForCausalLM = Qwen3ForCausalLM(config)  # it has no dropout that `eval` would turn off
    for parameter in model.parameters():  # norms too: a norm of ones would hide that it was left out
        parameter.data = torch.randn_like(parameter) * 0.2 + (parameter.dim() == 1)
    return model


def _language() -> Language:
    language = Language(CONFIG)
    language.load_state_dict(_reference().state_dict())
    return language


LANGUAGE = _language()
EMBEDDINGS = torch.randn(ROWS, CONFIG.hidden_size, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _feed(rows: Tensor, cache: KeyValueCache, language: Language = LANGUAGE) -> Tensor:
    hidden: list[Tensor] = language([rows], [cache])
    return hidden[0]


def _same(found: Tensor, expected: Tensor, *, atol: float = 2e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def _cut(rows: Tensor, cuts: list[int]) -> list[Tensor]:
    return [rows[start:end] for start, end in pairwise([0, *cuts, len(rows)])]


def _cuts(most: int = ROWS) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, most - 1), unique=True, max_size=8).map(sorted)


def test_hidden_states_logits_and_keys_are_those_of_transformers() -> None:
    reference, cache = _reference(), LANGUAGE.new_cache(capacity=4)
    ids = list(range(1, 90, 3))
    expected = reference(torch.tensor([ids]), output_hidden_states=True, use_cache=True)

    hidden = torch.cat([_feed(piece, cache) for piece in _cut(LANGUAGE.embed(ids), [1, 3, 14, 15, 27])])

    _same(hidden, expected.hidden_states[-1][0])
    _same(LANGUAGE.logits(hidden), expected.logits[0])
    for layer in range(CONFIG.num_layers):
        _same(cache.key(layer), expected.past_key_values.layers[layer].keys[0])
        _same(cache.value(layer), expected.past_key_values.layers[layer].values[0])


def test_parameters_have_the_names_of_the_published_model() -> None:
    assert set(LANGUAGE.state_dict()) == set(_reference().state_dict())


@settings(deadline=None, max_examples=40)
@given(cuts=_cuts())
def test_where_a_sequence_is_cut_into_feeds_never_matters(cuts: list[int]) -> None:
    whole = _feed(EMBEDDINGS, LANGUAGE.new_cache())
    cache = LANGUAGE.new_cache(capacity=1)
    pieces = [_feed(piece, cache) for piece in _cut(EMBEDDINGS, cuts)]
    _same(torch.cat(pieces), whole)


@settings(deadline=None, max_examples=40)
@given(pasts=st.lists(st.integers(0, 30), min_size=1, max_size=5), lengths=st.lists(st.integers(1, 9), min_size=5))
def test_packing_feeds_never_changes_any_of_them(pasts: list[int], lengths: list[int]) -> None:
    def remembered() -> list[KeyValueCache]:
        caches = [LANGUAGE.new_cache() for _ in pasts]
        for feed, (cache, past) in enumerate(zip(caches, pasts, strict=True)):
            if past:
                _feed(EMBEDDINGS.roll(feed, 0)[:past], cache)
            cache.forget(past // 4, past // 3)
        return caches

    pieces = [EMBEDDINGS.roll(-feed, 0)[:length] for feed, length in zip(range(len(pasts)), lengths, strict=False)]
    together, alone = remembered(), remembered()
    packed = LANGUAGE(pieces, together)
    for piece, cache, hidden, other in zip(pieces, alone, packed, together, strict=True):
        _same(hidden, _feed(piece, cache), atol=1e-5)
        _same(other.key(2), cache.key(2), atol=1e-5)

    spared = remembered()
    for hidden, last, cache, other in zip(
        packed, LANGUAGE(pieces, spared, only_last=True), together, spared, strict=True
    ):
        assert len(last) == 1, "the last position alone"
        _same(last, hidden[-1:], atol=1e-5)
        _same(other.key(2), cache.key(2), atol=1e-5)


def test_after_forgetting_a_step_sees_what_stayed_at_its_new_positions() -> None:
    reference, cache = _reference(), LANGUAGE.new_cache(capacity=16)
    _feed(EMBEDDINGS[:30], cache)
    cache.forget(4, 11)
    hidden = _feed(EMBEDDINGS[30:], cache)

    past = reference(inputs_embeds=EMBEDDINGS[None, :30], use_cache=True).past_key_values
    for layer in past.layers:  # spec: cut keys out, turn those after them back, continue at the length
        cos, sin = rotation(11, 1, CONFIG.head_dim, CONFIG.rope_theta, torch.device("cpu"))
        layer.keys = torch.cat([layer.keys[:, :, :4], rotate(layer.keys[:, :, 15:], cos, -sin)], 2)
        layer.values = torch.cat([layer.values[:, :, :4], layer.values[:, :, 15:]], 2)
    expected = reference.model(inputs_embeds=EMBEDDINGS[None, 30:], past_key_values=past).last_hidden_state[0]
    _same(hidden, expected)


def test_rows_fed_on_a_copied_prefix_can_take_the_place_of_others() -> None:
    prefix, said, dropped, kept, new = EMBEDDINGS.split_with_sizes([5, 7, 6, 12, 10])
    cache = LANGUAGE.new_cache()
    _feed(torch.cat([prefix, dropped, kept]), cache)
    keys = cache.key(1)[:, 11:].clone()
    other = cache.copy_prefix(5)
    _feed(said, other)
    cache.splice(5, 11, other, 5)

    fresh = LANGUAGE.new_cache()
    _feed(torch.cat([prefix, said]), fresh)
    assert cache.length == 24
    _same(cache.key(1)[:, :12], fresh.key(1))
    cos, sin = rotation(1, 1, CONFIG.head_dim, CONFIG.rope_theta, torch.device("cpu"))
    _same(cache.key(1)[:, 12:], rotate(keys, cos, sin))
    assert _feed(new, cache).isfinite().all()


@pytest.mark.parametrize("kind", ["fused", "packed", "fused and packed"])
def test_fusing_and_packing_weights_changes_rounding_only(kind: str) -> None:
    language = _language()
    if "fused" in kind:
        language.fuse_()
    if "packed" in kind:
        pack_(language)
    hidden = _feed(EMBEDDINGS, language.new_cache(), language)
    _same(hidden, _feed(EMBEDDINGS, LANGUAGE.new_cache()))
    _same(language.logits(hidden), LANGUAGE.logits(hidden))


@pytest.mark.skipif(not torch._C._has_mkldnn, reason="this torch was built without oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packing_replaces_every_linear_layer_and_keeps_its_products(dtype: torch.dtype) -> None:
    plain, packed = _language().to(dtype), pack_(_language().to(dtype))
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert not any(isinstance(module, PackedLinear) for module in packed.modules())
        return
    assert not any(isinstance(module, torch.nn.Linear) for module in packed.modules())
    rows = EMBEDDINGS.to(dtype)
    atol = 2e-5 if dtype is torch.float32 else 0.2  # values up to 5
    _same(_feed(rows, packed.new_cache(), packed), _feed(rows, plain.new_cache(), plain), atol=atol)


def test_bfloat16_stays_near_float32_through_windows() -> None:
    language = _language().to(torch.bfloat16)
    caches = [LANGUAGE.new_cache(), language.new_cache()]
    for step in range(60):
        rows = EMBEDDINGS.roll(step, 0)[:7]
        exact = _feed(rows, caches[0])
        rough = _feed(rows.bfloat16(), caches[1], language).float()
        for cache in caches:
            if cache.length > 80:
                cache.forget(10, 14)
    assert (exact - rough).square().mean().sqrt() < 0.03 * exact.square().mean().sqrt()


def test_logits_are_float32_and_only_of_the_rows_asked_for() -> None:
    language = _language().to(torch.bfloat16)
    hidden = _feed(EMBEDDINGS.bfloat16(), language.new_cache(), language)
    logits = language.logits(hidden[-1:])
    assert logits.shape == (1, CONFIG.vocab_size)
    assert logits.dtype is torch.float32


def test_a_row_sees_its_cache_and_its_piece_up_to_itself() -> None:
    mask = causal_mask(3, 2, 2, torch.zeros(1))
    assert mask is not None
    visible = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert (mask == 0).int().tolist() == visible * 2
    assert causal_mask(1, 9, 2, torch.zeros(1)) is None


def test_a_full_cache_is_named_and_no_cache_of_the_pass_changes() -> None:
    full, roomy = LANGUAGE.new_cache(maximum=6), LANGUAGE.new_cache()
    for cache in (full, roomy):
        _feed(EMBEDDINGS[:5], cache)
    with pytest.raises(ModelError, match="has 5 positions and cannot take 2 more"):
        LANGUAGE([EMBEDDINGS[:2], EMBEDDINGS[:2]], [roomy, full])
    assert (full.length, roomy.length) == (5, 5)
    expected = LANGUAGE.new_cache()
    _feed(EMBEDDINGS[:5], expected)
    _same(_feed(EMBEDDINGS[9:12], roomy), _feed(EMBEDDINGS[9:12], expected))


@pytest.mark.parametrize("shape", [(0, 48), (3, 47), (1, 3, 48)])
def test_a_piece_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"was fed \[.*\]; expected \[L, 48\] with L >= 1"):
        LANGUAGE([torch.zeros(shape)], [LANGUAGE.new_cache()])


def test_one_feed_cannot_be_fed_twice_in_one_pass() -> None:
    cache = LANGUAGE.new_cache()
    with pytest.raises(ModelError, match="2 pieces were fed to 1 caches"):
        LANGUAGE([EMBEDDINGS[:2], EMBEDDINGS[:2]], [cache, cache])
    assert cache.length == 0


@pytest.mark.parametrize("token", [-1, 97])
def test_a_token_outside_the_vocabulary_is_named(token: int) -> None:
    with pytest.raises(ModelError, match=f"token {token} is not in the vocabulary of 97"):
        LANGUAGE.embed([3, token])
