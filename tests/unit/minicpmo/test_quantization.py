"""A quantized language model stays near the full one, needs the memory promised, and says where it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import LanguageConfig
from omni_watch.duplex.minicpmo.language import Language
from omni_watch.duplex.minicpmo.packing import pack_
from omni_watch.duplex.minicpmo.quantization import BYTES_PER_WEIGHT, quantize_

CONFIG = LanguageConfig(
    vocab_size=64,
    hidden_size=256,
    intermediate_size=512,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    max_positions=512,
)
EMBEDDINGS = torch.randn(30, CONFIG.hidden_size, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _language(dtype: torch.dtype = torch.float32) -> Language:
    torch.manual_seed(1)
    language = Language(CONFIG)
    for parameter in language.parameters():
        parameter.normal_(std=parameter.shape[-1] ** -0.5) if parameter.dim() > 1 else parameter.normal_(1.0, 0.2)
    return language.to(dtype)


def _logits(language: Language) -> torch.Tensor:
    cache = language.new_cache()
    pieces = [language([piece.to(language.dtype)], [cache])[0] for piece in EMBEDDINGS.split_with_sizes([13, 1, 16])]
    return language.logits(torch.cat(pieces))


def _layer_bytes(language: Language) -> int:
    """Of the linear layers' weights; a quantized weight counts the tensors that it wraps."""
    total = 0
    for module in language.model.layers.modules():
        if isinstance(module, nn.Linear):
            names = getattr(module.weight, "tensor_data_names", None)
            held = [getattr(module.weight, name) for name in names] if names else [module.weight]
            total += sum(tensor.nbytes for tensor in held)
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fused", [False, True])
def test_int8_logits_stay_near_those_of_the_full_weights(dtype: torch.dtype, fused: bool) -> None:
    language = _language(dtype)
    if fused:
        language.fuse_()
    quantize_(language, "int8")
    exact, found = _logits(_language()), _logits(language)
    assert not torch.equal(exact, found)
    assert (exact - found).square().mean().sqrt() < 0.02 * exact.square().mean().sqrt()


def test_int8_weights_take_the_memory_that_was_promised() -> None:
    language = _language(torch.bfloat16)
    weights = _layer_bytes(language) // 2
    quantize_(language, "int8")
    assert weights < _layer_bytes(language) < weights * 1.05  # a scale for each row: 256 inputs here, 4096 in earnest
    assert BYTES_PER_WEIGHT["int8"] == pytest.approx(1 + 2 / 4096, abs=1e-3)


def test_a_model_quantized_layer_by_layer_is_the_model_quantized_at_once() -> None:
    whole, layered = _language(), _language()
    quantize_(whole, "int8")
    for layer in layered.layers:
        quantize_(layer, "int8")
    assert torch.equal(_logits(whole), _logits(layered))


def test_the_head_and_the_embeddings_keep_their_type() -> None:
    language = _language()
    quantize_(language, "int8")
    assert type(language.lm_head.weight) is nn.Parameter
    assert type(language.model.embed_tokens.weight) is nn.Parameter
    assert all(type(layer.mlp.down_proj.weight) is not nn.Parameter for layer in language.layers)


def test_int4_on_a_processor_is_refused_before_anything_changes() -> None:
    language = _language(torch.bfloat16)
    before = _logits(language)
    with pytest.raises(ModelError, match="int4 weights need an NVIDIA card; the language model is on cpu; use quantiz"):
        quantize_(language, "int4")
    assert torch.equal(_logits(language), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="int4 weights need an NVIDIA card")
def test_int4_logits_point_the_same_way_as_those_of_the_full_weights() -> None:
    language = _language(torch.bfloat16).cuda()
    language.fuse_()
    quantize_(language, "int4")
    cache = language.new_cache()
    found = language.logits(language([EMBEDDINGS.bfloat16().cuda()], [cache])[0]).cpu()
    exact = _logits(_language())
    assert torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.97


def test_what_is_quantized_or_packed_is_not_quantized_again() -> None:
    language = _language()
    quantize_(language, "int8")
    with pytest.raises(ModelError, match=r"self_attn\.q_proj is quantized already \(Int8Tensor\)"):
        quantize_(language, "int8")
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        with pytest.raises(ModelError, match="laid out for this processor already; quantize before packing"):
            quantize_(pack_(_language()), "int8")


def test_packing_leaves_quantized_layers_alone() -> None:
    language = _language()
    quantize_(language, "int8")
    before = _logits(language)
    torch.testing.assert_close(_logits(pack_(language)), before, rtol=0, atol=2e-5)


def test_without_torchao_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)  # an import that fails
    with pytest.raises(ModelError, match=r"needs torchao, which is not installed .* pip install 'omni-watch\[quanti"):
        quantize_(_language(), "int8")
