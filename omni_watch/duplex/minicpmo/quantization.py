"""A smaller language model: the weights of its layers in 8 or 4 bits, everything else as it is.

Weight-only: numbers are multiplied in the model's own type, weights are widened as they are read. The embeddings and
the head keep their type, since a decision is a small difference between two logits. The library is torchao, an
optional extra, which knows kernels for each; this module says what it can do where, before anything is changed.

int8 works everywhere and saves memory, not time: outside a compiled graph torchao widens a whole matrix at each use.
int4 has a kernel of its own on NVIDIA cards (compute capability 8.0 and up) and needs bfloat16 there.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.language import Language
from omni_watch.duplex.minicpmo.packing import PackedLinear

Kind: TypeAlias = Literal["int8", "int4"]

GROUP: Final = 64  # int4: inputs that share a scale and a zero; of what tinygemm takes (32 to 256) the middle
BYTES_PER_WEIGHT: Final[Mapping[Kind, float]] = {"int8": 1.001, "int4": 0.5 + 4 / GROUP}  # with scales and zeros
_OLDEST_CARD: Final = (8, 0)


def quantize_(module: nn.Module, kind: Kind) -> None:
    """Quantize, in place and one after another, the linear layers of a `Language`'s layers, or of any other module.

    A loader calls it for each layer as its weights arrive, after `fuse_` and instead of `pack_`: then no more than one
    layer is held in both forms.

    Raises:
        ModelError: torchao is missing, or cannot do `kind` on this device, type or shape; nothing was changed.
    """
    linears = [
        (name, linear)
        for part in (module.layers if isinstance(module, Language) else [module])
        for name, linear in part.named_modules()
        if isinstance(linear, nn.Linear | PackedLinear)
    ]
    for name, linear in linears:
        _refuse_what_cannot_be(name, linear, kind)
    quantize, config = _torchao(kind)
    for _, linear in linears:
        quantize(linear, config)


def _refuse_what_cannot_be(name: str, linear: nn.Linear | PackedLinear, kind: Kind) -> None:
    if isinstance(linear, PackedLinear):
        raise ModelError(f"{name} is laid out for this processor already; quantize before packing")
    weight = linear.weight
    if type(weight) is not nn.Parameter:
        raise ModelError(f"{name} is quantized already ({type(weight).__name__})")
    if kind == "int8":
        return
    if weight.device.type != "cuda":
        raise ModelError(
            f"int4 weights need an NVIDIA card; the language model is on {weight.device.type}; "
            'use quantization = "int8" or "none" there'
        )
    if (found := torch.cuda.get_device_capability(weight.device)) < _OLDEST_CARD:
        raise ModelError(
            "int4 weights need a card of compute capability 8.0 or later (RTX 30 series); "
            f"found {found[0]}.{found[1]}; "
            'use quantization = "int8"'
        )
    if weight.dtype is not torch.bfloat16:
        raise ModelError(f'int4 weights need dtype = "bfloat16"; found {weight.dtype}')
    if linear.in_features % GROUP:
        raise ModelError(f"{name} has {linear.in_features} inputs; int4 weights need a multiple of {GROUP}")


def _torchao(kind: Kind) -> tuple[Any, Any]:
    """torchao's function, and its configuration for `kind`."""
    try:
        with _quietly():
            from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_  # optional extra
    except ImportError as error:
        raise ModelError(
            f"quantization = {kind!r} needs torchao, which is not installed ({error}); "
            "install it with: pip install 'omni-watch[quantized]'"
        ) from error
    # set_inductor_config would change settings of torch.compile for the whole process
    if kind == "int8":
        return quantize_, Int8WeightOnlyConfig(set_inductor_config=False)
    return quantize_, Int4WeightOnlyConfig(
        group_size=GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """torchao, when imported, warns of its own kernels for cards that are not there, and of its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
