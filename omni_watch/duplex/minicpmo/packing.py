"""Weights laid out for this processor, once, after loading.

oneDNN can keep a weight in the blocks that its kernels read, instead of rearranging rows at every product. Measured on
two cores of an AMD EPYC with AVX-512, 12 layers of 768 (84 M weights), milliseconds before and after: float32, 1 row
10.7 and 8.6, 2 rows 12.0 and 8.9, 13 rows 15.3 and 11.3, 79 rows 38.6 and 34.3; bfloat16 on one core, 1 row 12.4 and
5.9, 13 rows 15.3 and 9.8. On one core of an Intel Xeon, the 1036 rows of a picture, [384] to [1536] and GELU: 11.5 and
10.9. The results are the same to the last bit.

The operators are those that torch's own compiler emits; they are no published interface, so a torch without them keeps
its weights as they are. Packed weights serve inference on the CPU and are not meant to be saved or moved.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from omni_watch.duplex.minicpmo.linear import LinearGelu

# The layout is chosen for a number of rows, and serves any. 13 is a listening second; of 1, 13 and 79 it was never
# slower than the others, and a layout for 1 row gains nothing for the rest.
ROWS: Final = 13

M = TypeVar("M", bound=nn.Module)


class PackedLinear(nn.Module):
    """A linear layer, with GELU behind it if it had that, whose weight only oneDNN can read."""

    packed: Tensor
    bias: Tensor | None

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self._activation = "gelu" if isinstance(plain, LinearGelu) else "none"
        self._form = "tanh" if isinstance(plain, LinearGelu) and plain.tanh else "none"  # of GELU
        ops: Any = torch.ops.mkldnn
        self.register_buffer("packed", ops._reorder_linear_weight(plain.weight.detach(), ROWS), persistent=False)
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        ops: Any = torch.ops.mkldnn
        product: Tensor = ops._linear_pointwise(x, self.packed, self.bias, self._activation, [], self._form)
        return product


@torch.inference_mode()
def pack_(module: M) -> M:
    """Repack, in place and one after another, every linear layer in `module` that this processor gains from.

    Layers that are quantized, on another device or of another type stay as they are.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and _can_pack(child.weight):
                setattr(parent, name, PackedLinear(child))
    return module


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and type(weight) in (nn.Parameter, Tensor)  # a quantized weight is a class of its own
        and (weight.dtype is torch.float32 or (weight.dtype is torch.bfloat16 and _computes_bfloat16()))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def _computes_bfloat16() -> bool:
    ops: Any = torch.ops.mkldnn
    return bool(ops._is_mkldnn_bf16_supported())
