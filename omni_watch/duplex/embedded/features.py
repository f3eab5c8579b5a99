"""EfficientNet-Lite0 weights (a PyTorch checkpoint) -> the small ONNX graph that `eyes.py` runs.

Runs once, when model files are pulled, in a process of its own: it imports torch (to read the checkpoint) and onnx,
which the daemon never does. `python -m omni_watch.duplex.embedded.features CHECKPOINT TARGET` does the same.

The graph is written node by node with every batch normalisation folded into its convolution, so that no network
definition and no tracing is needed. Architecture: Tan and Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks" (2019), table 1 with the Lite changes: no squeeze-and-excitation, ReLU6 in place of
swish, stem and head not scaled. Not in the graph: the ImageNet classifier, which nothing here asks.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from omni_watch.domain.errors import ModelError

SIDE: Final = 224  # pixels; Lite0's own resolution
WIDTH: Final = 1280  # channels of the last convolution
BN_EPSILON: Final = 1e-3  # the TensorFlow value that these weights were trained with
OPSET: Final = 17

Array = NDArray[np.float32]
Weights = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the architecture table: `repeats` inverted bottlenecks, the first with `stride`."""

    repeats: int
    kernel: int
    stride: int
    expand: int  # how many times wider the middle of the bottleneck is
    out: int  # channels


STAGES: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(slots=True)
class _Graph:
    """Nodes and weights gathered so far."""

    weights: Weights
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def convolution(self, x: str, conv: str, norm: str, *, stride: int = 1, depthwise: bool = False) -> str:
        """Convolution `conv` with batch normalisation `norm` folded in, TensorFlow's "same" padding."""
        kernel = self.weights[f"{conv}.weight"]
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + BN_EPSILON)
        shift = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        side = kernel.shape[-1]
        before, after = _same_padding(side, stride)
        return self.node(
            "Conv",
            x,
            self.constant(f"{conv}.kernel", (kernel * scale[:, None, None, None]).astype(np.float32)),
            self.constant(f"{conv}.shift", shift.astype(np.float32)),
            name=conv,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=kernel.shape[0] if depthwise else 1,
        )

    def relu6(self, x: str) -> str:
        return self.node("Clip", x, "zero", "six", name=f"{x}.relu6")


def _same_padding(kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after an even side: `kernel - stride` in total, the odd pixel after (TensorFlow)."""
    total = kernel - stride
    return total // 2, total - total // 2


def _blocks() -> Iterator[tuple[Stage, int, bool]]:
    """(stage, stride, has a shortcut) of every bottleneck in order."""
    for stage in STAGES:
        for number in range(stage.repeats):
            yield stage, stage.stride if number == 0 else 1, number > 0


def _bottleneck(graph: _Graph, x: str, index: int, stage: Stage, stride: int, *, shortcut: bool) -> str:
    at = f"_blocks.{index}"
    inner = x
    if stage.expand != 1:
        inner = graph.relu6(graph.convolution(inner, f"{at}._expand_conv", f"{at}._bn0"))
    depth = f"{at}._depthwise_conv"
    inner = graph.relu6(graph.convolution(inner, depth, f"{at}._bn1", stride=stride, depthwise=True))
    out = graph.convolution(inner, f"{at}._project_conv", f"{at}._bn2")
    return graph.node("Add", x, out, name=f"{at}.sum") if shortcut else out


def _network(weights: Weights) -> onnx.ModelProto:
    graph = _Graph(weights)
    graph.constant("zero", np.array(0, np.float32))
    graph.constant("six", np.array(6, np.float32))
    x = graph.relu6(graph.convolution("pictures", "_conv_stem", "_bn0", stride=2))
    for index, (stage, stride, shortcut) in enumerate(_blocks()):
        x = _bottleneck(graph, x, index, stage, stride, shortcut=shortcut)
    x = graph.relu6(graph.convolution(x, "_conv_head", "_bn1"))
    # 7x7 map -> its mean, and the means of four overlapping 4x4 corners: where something is, coarsely
    graph.node("GlobalAveragePool", x, name="mean")
    graph.node("AveragePool", x, name="quarters", kernel_shape=[4, 4], strides=[3, 3])
    shapes = {"pictures": [3, SIDE, SIDE], "mean": [WIDTH, 1, 1], "quarters": [WIDTH, 2, 2]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]) for name, shape in shapes.items()
    }
    body = helper.make_graph(
        graph.nodes, "efficientnet-lite0", [values["pictures"]], [values["mean"], values["quarters"]], graph.constants
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return model


def _read_checkpoint(path: Path) -> Weights:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except (OSError, RuntimeError, pickle.UnpicklingError, AttributeError) as error:
        raise ModelError(
            f"{path}: not a readable PyTorch checkpoint of EfficientNet-Lite0 ({error}); pull it again"
        ) from error


def features_onnx(pth: Path, target: Path) -> None:
    """Write the graph of `eyes.PictureFeatures` to `target` from the EfficientNet-Lite0 checkpoint `pth`.

    Input `pictures` float32 [n, 3, 224, 224], RGB as (value - 127) / 128. Outputs `mean` [n, 1280, 1, 1] and
    `quarters` [n, 1280, 2, 2]. Imports torch: call it in a process of its own, never in the daemon.

    Raises:
        ModelError: the checkpoint cannot be read, or lacks a tensor of this architecture.
    """
    weights = _read_checkpoint(pth)
    try:
        model = _network(weights)
        onnx.checker.check_model(model, full_check=True)
    except (KeyError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{pth}: not the weights of EfficientNet-Lite0 ({error}); pull the file again") from error
    onnx.save(model, target)


if __name__ == "__main__":
    features_onnx(Path(sys.argv[1]), Path(sys.argv[2]))
