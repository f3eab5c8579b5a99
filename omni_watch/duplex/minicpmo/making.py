"""Checkpoints with random weights, of any size: for measuring speed and memory, and for tests.

Such a model says nothing sensible; it computes as much as a real one of its sizes. `bench_config` is about a fiftieth
of the published model and runs on two processor cores; `official_config` has the published sizes. A seed gives the
same numbers each time, on the same kind of device.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.checkpoint import CONFIG, fill, skeleton
from omni_watch.duplex.minicpmo.config import MODEL_TYPE, read_config
from omni_watch.duplex.minicpmo.room import Quantization
from omni_watch.duplex.minicpmo.shards import INDEX, SINGLE
from omni_watch.duplex.minicpmo.tokens import NAMES, TOKENIZER, TOKENIZER_CONFIG
from omni_watch.duplex.minicpmo.weights import MiniCpmO

_DTYPE_NAMES: Final = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_OTHER_SPECIALS: Final = ("<|endoftext|>", "<|turn_bos|>", "<|audio|>", "<|tts_eos|>", "<image_id>", "</image_id>")
_ORDINARY: Final = ("<think>", "</think>")  # added tokens that are not special
_NOISE_LENGTH: Final = 4_194_301  # prime: no two rows of a matrix come out alike
_NOISE_BYTES: Final = 64 << 20


def official_config() -> dict[str, Any]:
    """The sizes of the published checkpoint, `config.json` as far as it changes the arithmetic."""
    return {
        **_language(151748, 4096, 12288, layers=36, heads=32, kv_heads=8, head_dim=128),
        "vision_config": _vision(1152, 4304, layers=27, heads=16),
        "audio_config": _audio(1024, 4096, layers=24, heads=16),
        "tts_config": {
            **_speech(768, 3072, layers=20, heads=12, codes=6562, text_tokens=152064),
            "audio_bos_token_id": 151687,
        },
    }


def bench_config() -> dict[str, Any]:
    """171 million weights: language 95 M, vision 16 M, audio 15 M, resampler 3 M, speech 40 M."""
    return {
        **_language(8192, 768, 2304, layers=12, heads=12, kv_heads=4, head_dim=64),
        "vision_config": _vision(384, 1536, layers=8, heads=6),
        "audio_config": _audio(384, 1536, layers=8, heads=6),
        "tts_config": {
            **_speech(512, 1536, layers=8, heads=8, codes=6562, text_tokens=8192),
            "audio_bos_token_id": 8000,
        },
    }


def random_model(
    config: Mapping[str, Any],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    with_speech: bool = True,
    is_tuned: bool = True,
    seed: int = 0,
) -> MiniCpmO:
    """A model with random weights, made where it stays: no files, and no second copy."""
    sizes = read_config(config if with_speech else {**config, "tts_config": None})
    model, on = skeleton(sizes), torch.device(device)
    generator = torch.Generator(on)

    def scatter(name: str, target: Tensor) -> None:
        generator.manual_seed(_seed(seed, name))
        mean, deviation = _spread(name, target.shape)
        target.normal_(mean, deviation, generator=generator)

    with torch.no_grad():
        names = [name for name, _ in model.named_parameters()]
        fill(model, names, scatter, device=on, dtype=dtype, quantization=quantization, is_tuned=is_tuned)
    return model.eval()


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    shard_bytes: int | None = None,
) -> Path:
    """A whole checkpoint folder: configuration, a made-up vocabulary, weights.

    Args:
        folder: is made; files of a checkpoint that are there are replaced.
        config: as in `config.json`.
        shard_bytes: about the size of each file of weights; None for a single file.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = read_config(config)
    (folder / CONFIG).write_text(json.dumps(dict(config), indent=1))
    write_tokenizer(folder, sizes.language.vocab_size)
    shapes = {name: tuple(parameter.shape) for name, parameter in skeleton(sizes).named_parameters()}
    shards = list(_sharded(shapes, dtype.itemsize, shard_bytes))
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    if shard_bytes is None:
        files = [SINGLE]
    for file, shard in zip(files, shards, strict=True):
        _write_shard(folder / file, shard, dtype, seed)
    if shard_bytes is not None:
        places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}, indent=1))
    return folder


def write_tokenizer(folder: Path, size: int) -> None:
    """A byte-level vocabulary of `size` tokens with all the names that a dialogue needs; its words mean nothing.

    Raises:
        ModelError: too small for the bytes and the names.
    """
    added = [*NAMES.values(), *_OTHER_SPECIALS, *_ORDINARY]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    count = size - len(added) - len(alphabet)
    if count < 0:
        raise ModelError(f"a vocabulary of {size} tokens; expected at least {len(added) + len(alphabet)}")
    merges = [pair for _, pair in zip(range(count), _pairs(alphabet), strict=False)]
    words = [*alphabet, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=name not in _ORDINARY) for name in added])
    tokenizer.save(str(folder / TOKENIZER))
    specials = [*NAMES.values(), *_OTHER_SPECIALS]
    (folder / TOKENIZER_CONFIG).write_text(
        json.dumps({"additional_special_tokens": specials, "bad_token_ids": [0, 1], "eos_token": "<|im_end|>"})
    )


def _pairs(alphabet: list[str]) -> Iterator[tuple[str, str]]:
    """Two bytes, then three: sixteen million words, each of parts that come before it."""
    two = [(left, right) for left in alphabet for right in alphabet]
    yield from two
    yield from ((left + middle, right) for left, middle in two for right in alphabet)


def _sharded(
    shapes: Mapping[str, tuple[int, ...]], itemsize: int, shard_bytes: int | None
) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        if shard and shard_bytes is not None and size + prod(shape) * itemsize > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += prod(shape) * itemsize
    yield shard


def _write_shard(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, seed: int) -> None:
    """Written piece by piece, so that a checkpoint may be larger than memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    noise = torch.randn(_NOISE_LENGTH, generator=torch.Generator().manual_seed(seed))
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for name, shape in shapes.items():
            mean, deviation = _spread(name, shape)
            offset = _seed(seed, name) % _NOISE_LENGTH
            for piece in _pieces_of(noise, offset, prod(shape), _NOISE_BYTES // 4):
                numbers = (piece * deviation + mean).to(dtype)
                file.write(numbers.view(torch.uint8).numpy().data)


def _pieces_of(noise: Tensor, offset: int, count: int, at_once: int) -> Iterator[Tensor]:
    """`count` numbers from the noise, round and round from `offset`, in pieces."""
    while count:
        piece = noise[offset : offset + min(count, at_once)]
        yield piece
        count -= len(piece)
        offset = (offset + len(piece)) % len(noise)


def _seed(seed: int, name: str) -> int:
    return zlib.crc32(name.encode(), seed)


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and deviation that keep activations at about one through any number of layers."""
    if len(shape) == 1:
        is_scale = name.endswith("weight")
        return (1.0, 0.1) if is_scale else (0.0, 0.02)
    if name.endswith("original0"):
        return 1.0, 0.1
    if "embed" in name or "emb_" in name or name.endswith("query"):
        return 0.0, 0.5
    return 0.0, prod(shape[1:]) ** -0.5


def _language(
    vocab: int, hidden: int, intermediate: int, *, layers: int, heads: int, kv_heads: int, head_dim: int
) -> dict[str, Any]:
    return {
        "model_type": MODEL_TYPE,
        "version": "4.5",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "rope_theta": 1_000_000,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 40960,
        "query_num": 64,
        "audio_pool_step": 5,
        "slice_config": {"scale_resolution": 448},
    }


def _vision(hidden: int, intermediate: int, *, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": 980,
        "patch_size": 14,
    }


def _audio(hidden: int, intermediate: int, *, layers: int, heads: int) -> dict[str, Any]:
    return {
        "d_model": hidden,
        "encoder_ffn_dim": intermediate,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
    }


def _speech(hidden: int, intermediate: int, *, layers: int, heads: int, codes: int, text_tokens: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "num_audio_tokens": codes,
        "num_text_tokens": text_tokens,
    }
