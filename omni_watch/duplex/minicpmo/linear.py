"""Matrix products at the speed that the processor has.

`torch.nn.functional.linear` hands float32 on a CPU to Intel's MKL, which keeps its fast kernels for Intel's own
processors; oneDNN, which torch carries as well, compiles its kernels for the processor that it finds. On two cores of
an AMD EPYC with AVX-512, [M, 768] x [768, 3072] in milliseconds, MKL and oneDNN: 0.54 and 0.21 for M = 1, 2.6 and
1.0 for M = 79, 8.5 and 3.5 for M = 316. Both add up in float32; results differ by its rounding only.

torch reaches oneDNN for dense float32 weights through the operator that its own compiler emits. That operator has no
gradient and is no published interface, so it is used for inference on a CPU alone, and where torch has it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it


def _operator() -> Callable[..., Tensor] | None:
    """oneDNN's linear layer with an optional activation behind it, or None in a torch built without it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return None
    packet: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return getattr(packet, "default", None)


def _is_intels() -> bool:
    """Whether the processor is one of Intel's."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:  # not Linux
        described = platform.processor()
    return "GenuineIntel" in described


_ONEDNN: Final = _operator()
# torch's fused attention multiplies by MKL
_FUSED_ATTENTION_IS_FAST: Final = (
    _ONEDNN is None or (torch.backends.mkl.is_available() and _is_intels())  # type: ignore[no-untyped-call]
)
QUERIES_AT_ONCE: Final = 512


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., in] x [out, in] -> [..., out], of the dtype of `x`; any device, any kind of weight."""
    if _ONEDNN is not None and _suits(x, weight):
        return _ONEDNN(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, tanh: bool) -> Tensor:
    """GELU after `linear`: of its tanh form (SigLIP) or the exact one (Whisper), in one pass over memory."""
    approximate = "tanh" if tanh else "none"
    if _ONEDNN is not None and _suits(x, weight):
        return _ONEDNN(x, weight, bias, "gelu", [], approximate)
    return F.gelu(F.linear(x, weight, bias), approximate=approximate)


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's operator does it well.

    A weight that is a part of a wider matrix would be multiplied without vectors, a thousand times slower.
    """
    return _is_plain(x, weight) and (weight.is_contiguous() or weight.t().is_contiguous())


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    """oneDNN's operator takes plain float32 tensors in memory, and knows no gradients."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and weight.dtype is torch.float32
        and type(weight) in (nn.Parameter, Tensor)  # a quantized weight is a class of its own
        and x.numel() > 0
        and not torch.is_grad_enabled()
    )


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[heads, Q, d] over [heads, L, d] -> [Q, heads * d]: softmax attention without a mask, the faster way.

    torch's own never writes the scores to memory and divides its work once, not at every product; it is as fast as
    MKL. By blocks through oneDNN otherwise. 1036 over 1036 places in 6 heads of 64, in milliseconds, torch's own and by
    blocks: one core of an Intel Xeon (AVX-512, AMX) 18 and 24 to 40 (the more, the more its caches are shared with
    others); one core of an AMD EPYC 18 and 10, two 8.3 and 6.2.
    """
    if _FUSED_ATTENTION_IS_FAST or not _is_plain(q, k):
        return F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)
    return _attention_by_blocks(q, k, v)


def _attention_by_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same through oneDNN, at most 512 queries at a time: their scores stay in the processor's cache.

    Blocks are of one size: a rest of a dozen queries would cost as much as a hundred.
    """
    queries, keys, values = (q * q.shape[-1] ** -0.5).contiguous(), k.contiguous(), v.transpose(1, 2).contiguous()
    found = q.new_empty(q.shape[1], q.shape[0], v.shape[2])
    blocks = -(-q.shape[1] // QUERIES_AT_ONCE)
    for head in range(len(queries)):
        for some, there in zip(queries[head].chunk(blocks), found[:, head].chunk(blocks), strict=True):
            scores = linear(some, keys[head])
            torch.softmax(scores, dim=-1, out=scores)  # in place: a new matrix would cost more than the softmax
            there.copy_(linear(scores, values[head]))
    return found.flatten(1)


class Linear(nn.Linear):
    """`nn.Linear`, its names and its arithmetic, on the faster of torch's two libraries."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class LinearGelu(Linear):
    """`Linear`, then GELU: of its tanh form (SigLIP) or the exact one (Whisper)."""

    def __init__(self, in_features: int, out_features: int, *, tanh: bool) -> None:
        super().__init__(in_features, out_features)
        self.tanh = tanh

    def forward(self, x: Tensor) -> Tensor:
        return linear_gelu(x, self.weight, self.bias, tanh=self.tanh)
