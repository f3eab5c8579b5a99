"""A convolution written as a product of matrices computes what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded.voices.graph import faster_kokoro

CHANNELS, OUT, TAPS, LENGTH = 6, 4, 3, 40


def quantized_convolution(*, bias: bool = True, **attributes: Any) -> onnx.ModelProto:
    """As onnxruntime's dynamic quantization writes it."""
    rng = np.random.default_rng(0)
    taps = attributes.get("kernel_shape", [TAPS])[0]
    given: dict[str, Any] = {
        "weights": rng.integers(0, 256, (OUT, CHANNELS, taps), dtype=np.uint8),
        "weights_zero": np.array(117, np.uint8),
        "weights_scale": np.array(0.013, np.float32),
        "bias": rng.normal(size=OUT).astype(np.float32),
        "bias_shape": np.array([1, OUT, 1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["x_quantized", "x_scale", "x_zero"]),
        node("Mul", ["x_scale", "weights_scale"], ["scale"]),
        node("ConvInteger", ["x_quantized", "weights", "x_zero", "weights_zero"], ["sums"], **attributes),
    ]
    last = "sums"
    if bias:
        nodes += [
            node("Div", ["bias", "scale"], ["bias_divided"]),
            node("Floor", ["bias_divided"], ["bias_floor"]),
            node("Cast", ["bias_floor"], ["bias_whole"], to=TensorProto.INT32),
            node("Reshape", ["bias_whole", "bias_shape"], ["bias_shaped"]),
            node("Add", ["sums", "bias_shaped"], ["sums_biased"]),
        ]
        last = "sums_biased"
    nodes += [node("Cast", [last], ["floats"], to=TensorProto.FLOAT), node("Mul", ["floats", "scale"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "one convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, OUT, None])],
        [numpy_helper.from_array(value, name) for name, value in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def computed(model: onnx.ModelProto) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(1, CHANNELS, LENGTH)).astype(np.float32)
    return session.run(None, {"x": x})[0]


def rewritten(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    whole = model.SerializeToString()
    halves = [folder / "part1", folder / "part2"]
    halves[0].write_bytes(whole[:100])
    halves[1].write_bytes(whole[100:])
    faster_kokoro(halves, folder / "whole.onnx")
    return onnx.load(folder / "whole.onnx")


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3], "pads": [1, 1]},
        {"kernel_shape": [3], "pads": [0, 0]},
        {"kernel_shape": [5], "pads": [4, 4], "dilations": [2]},
        {"kernel_shape": [4], "pads": [1, 2], "strides": [2]},
        {"kernel_shape": [1], "pads": [0, 0]},
        {"kernel_shape": [1], "pads": [0, 0], "strides": [3]},
        {"kernel_shape": [3], "pads": [1, 1], "bias": False},
    ],
    ids=["padded", "not padded", "dilated", "strided", "one tap", "one tap strided", "no bias"],
)
def test_the_faster_graph_computes_the_same(attributes: dict[str, Any], tmp_path: Path) -> None:
    model = quantized_convolution(**attributes)
    faster = rewritten(model, tmp_path)
    assert "ConvInteger" not in {node.op_type for node in faster.graph.node}
    rounding = 0.001  # of a bias, which is a whole number of scales in the old graph
    np.testing.assert_allclose(computed(faster), computed(model), atol=rounding)


def test_a_graph_that_is_not_the_one_we_know_is_refused(tmp_path: Path) -> None:
    model = quantized_convolution(kernel_shape=[3], pads=[1, 1])
    model.graph.node[-1].op_type = "Div"
    with pytest.raises(ModelError, match="not the one we know"):
        rewritten(model, tmp_path)
