"""Matrix products at the speed that the processor has.

`torch.nn.functional.linear` hands float32 on a CPU to Intel's MKL, which keeps its fast kernels for Intel's own
processors; oneDNN, which torch carries as well, compiles its kernels for the processor that it finds. On two cores of
an AMD EPYC with AVX-512, [M, 768] x [768, 3072] in milliseconds, MKL and oneDNN: 0.54 and 0.21 for M = 1, 2.6 and
1.0 for M = 79, 8.5 and 3.5 for M = 316. Both add up in float32; results differ by its rounding only.

torch reaches oneDNN for dense float32 weights through the operator that its own compiler emits. That operator has no
gradient and is no published interface, so it is used for inference on a CPU alone, and where torch has it.
"""

from __future__ import annotations

from collections.abc import Callable
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


_ONEDNN: Final = _operator()
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
    """[heads, Q, d] over [heads, L, d] -> [Q, heads * d]: softmax attention without a mask, on the faster library.

    Where oneDNN is the faster one, 512 queries at a time: their scores stay in the processor's cache. 1036 over 1036
    places in 6 heads of 64, on the two cores of above: 8.3 ms by torch's own, 6.2 ms so; on one core 18 and 10 ms.
    """
    if _ONEDNN is None or not _is_plain(q, k):
        return F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)
    queries, keys, values = (q * q.shape[-1] ** -0.5).contiguous(), k.contiguous(), v.transpose(1, 2).contiguous()
    found = q.new_empty(q.shape[1], q.shape[0], v.shape[2])
    for head in range(len(queries)):
        for start in range(0, q.shape[1], QUERIES_AT_ONCE):
            these = slice(start, start + QUERIES_AT_ONCE)
            scores = linear(queries[head, these], keys[head])
            torch.softmax(scores, dim=-1, out=scores)  # in place: a new matrix would cost more than the softmax
            found[these, head] = linear(scores, values[head])
    return found.flatten(1)


class Linear(nn.Linear):
    """`nn.Linear`, its names and its arithmetic, on the faster of torch's two libraries."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
