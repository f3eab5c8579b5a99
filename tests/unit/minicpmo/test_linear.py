"""A linear layer gives what `torch.nn.functional.linear` gives, by whichever library it is multiplied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from omni_watch.duplex.minicpmo import linear as module
from omni_watch.duplex.minicpmo.checkpoint import open_checkpoint
from omni_watch.duplex.minicpmo.linear import Linear, LinearGelu, attention, linear, linear_gelu
from omni_watch.duplex.minicpmo.packing import PackedLinear, pack_

TINY = Path(__file__).parents[2] / "golden" / "minicpmo" / "tiny-a"


def _layer(inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    torch.manual_seed(7)
    return Linear(inputs, outputs, bias=bias)


@settings(deadline=None)  # a first torch call is slow
@given(rows=st.integers(0, 90), inputs=st.integers(1, 70), outputs=st.integers(1, 70), bias=st.booleans())
def test_every_shape_gives_the_product_that_torch_gives(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    layer = _layer(inputs, outputs, bias=bias)
    x = torch.randn(rows, inputs)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(48,), (3, 48), (2, 3, 48), (1, 1, 48)])
def test_leading_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    layer, x = _layer(48, 20), torch.randn(shape)
    with torch.inference_mode():
        assert layer(x).shape == (*shape[:-1], 20)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


def test_rows_taken_out_of_a_wider_tensor_are_multiplied_as_they_are() -> None:
    layer, wide = _layer(16, 24), torch.randn(10, 64)
    with torch.inference_mode():
        for x in (wide[:, 16:32], wide[::2, :16], wide.t()[:16].t()):
            torch.testing.assert_close(layer(x), layer(x.contiguous()), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tanh", [True, False])
def test_the_activation_behind_the_product_is_gelu(tanh: bool) -> None:
    layer, x = _layer(32, 48), torch.randn(11, 32) * 4
    expected = F.gelu(F.linear(x, layer.weight, layer.bias), approximate="tanh" if tanh else "none")
    torch.testing.assert_close(linear_gelu(x, layer.weight, layer.bias, tanh=tanh), expected)
    with torch.inference_mode():
        found = linear_gelu(x, layer.weight, layer.bias, tanh=tanh)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tanh", [True, False])
@pytest.mark.parametrize("rows", [1, 13, 200])
def test_a_packed_layer_keeps_its_activation(tanh: bool, rows: int) -> None:
    torch.manual_seed(7)
    layer, x = torch.nn.Sequential(LinearGelu(32, 48, tanh=tanh), Linear(48, 24)), torch.randn(rows, 32) * 4
    with torch.inference_mode():
        expected, found = layer(x), pack_(layer)(x)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch._C._has_mkldnn, reason="this torch was built without oneDNN")
def test_what_sees_and_what_hears_is_packed_when_it_is_loaded() -> None:
    model = open_checkpoint(TINY).load(dtype=torch.float32)
    for part in (model.llm, model.vpm, model.resampler, model.apm, model.audio_projection_layer):
        assert any(isinstance(module, PackedLinear) for module in part.modules())
        assert not any(isinstance(module, torch.nn.Linear) for module in part.modules())


def test_half_precision_and_gradients_go_the_ordinary_way() -> None:
    layer, x = _layer(8, 4), torch.randn(3, 8)
    assert linear(x, layer.weight, layer.bias).requires_grad
    with torch.inference_mode():
        assert layer.bfloat16()(x.bfloat16()).dtype is torch.bfloat16


def test_weights_keep_their_names() -> None:
    assert set(_layer(2, 2).state_dict()) == {"weight", "bias"}


def test_a_weight_cut_out_of_a_wider_matrix_goes_the_ordinary_way_and_a_transposed_one_need_not() -> None:
    wide, x = torch.randn(24, 64), torch.randn(5, 24)
    with torch.inference_mode():
        for weight, is_fast in ((wide[:, 8:32], False), (wide.t()[8:32], False), (torch.randn(24, 9).t(), True)):
            assert module._suits(x, weight) is is_fast
            torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    queries=st.sampled_from([1, 2, 7, 64, 511, 512, 513, 1036, 1025]),
    places=st.sampled_from([1, 3, 50, 700]),
    heads=st.integers(1, 3),
    is_chosen=st.booleans(),
)
def test_attention_by_either_library_is_attention(queries: int, places: int, heads: int, is_chosen: bool) -> None:
    torch.manual_seed(queries * places * heads)
    q = torch.randn(queries, heads, 16).transpose(0, 1) * 5  # as heads are cut out of a projection
    k, v = (torch.randn(places, heads, 16).transpose(0, 1) for _ in range(2))
    expected = F.scaled_dot_product_attention(q.double()[None], k.double()[None], v.double()[None])[0]
    with torch.inference_mode():
        found = attention(q, k, v) if is_chosen else module._attention_by_blocks(q, k, v)
    assert found.shape == (queries, heads * 16)
    torch.testing.assert_close(found.double(), expected.transpose(0, 1).flatten(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(attention(q, k, v), found, rtol=1e-5, atol=1e-5)  # with gradients, as torch does it


@pytest.mark.skipif(not torch._C._has_mkldnn, reason="this torch was built without oneDNN")
def test_this_torch_still_has_the_operator_that_makes_it_fast() -> None:
    assert module._ONEDNN is not None
