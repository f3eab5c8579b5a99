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
    """oneDNN's operator takes plain float32 tensors in memory, and knows no gradients."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and weight.dtype is torch.float32
        and type(weight) in (nn.Parameter, Tensor)  # a quantized weight is a class of its own
        and x.numel() > 0
        and not torch.is_grad_enabled()
    )


class Linear(nn.Linear):
    """`nn.Linear`, its names and its arithmetic, on the faster of torch's two libraries."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
