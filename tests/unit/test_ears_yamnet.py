"""The 8-bit graph becomes a float graph; files that are not what they should be are told apart."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded import yamnet
from omni_watch.duplex.embedded.yamnet import Yamnet, class_names, float_yamnet

RNG = np.random.default_rng(11)
KERNEL = RNG.normal(0, 0.1, (yamnet.EMBEDDING, 1, 96, 64)).astype(np.float32)
WEIGHT = RNG.normal(0, 0.02, (yamnet.CLASSES, yamnet.EMBEDDING)).astype(np.float32)
BIAS = RNG.normal(0, 1, yamnet.CLASSES).astype(np.float32)
SCALE, ZERO = 0.05, 140


def quantised_graph() -> onnx.ModelProto:
    """As the carrying packages have it, with one convolution in place of 27: pairs around weights and layers."""

    def pair(name: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_qdq"]),
        ]

    nodes = [
        helper.make_node("DequantizeLinear", ["audio", "scale", "zero"], ["audio_dq"]),
        *pair("kernel"),
        helper.make_node("Conv", ["audio_dq", "kernel_qdq"], ["conv"]),
        *pair("conv"),
        helper.make_node("Relu", ["conv_qdq"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Reshape", ["pool", "shape"], ["flat"]),
        *pair("flat"),
        *pair("weight"),
        helper.make_node("Gemm", ["flat_qdq", "weight_qdq", "bias"], ["scores"], transB=1),
        helper.make_node("QuantizeLinear", ["scores", "scale", "zero"], ["class_scores"]),
    ]
    values = {
        "scale": np.float32(SCALE),
        "zero": np.uint8(ZERO),
        "kernel": KERNEL,
        "weight": WEIGHT,
        "bias": BIAS,
        "shape": np.array([1, yamnet.EMBEDDING], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("audio", TensorProto.UINT8, [1, 1, 96, 64])],
        [helper.make_tensor_value_info("class_scores", TensorProto.UINT8, [1, yamnet.CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of a graph with its weights beside it."""
    folder = tmp_path_factory.mktemp("packed")
    onnx.save(quantised_graph(), folder / "model.onnx", save_as_external_data=True, location="model.data")
    with zipfile.ZipFile(folder / "net.onnx.zip", "w") as archive:
        for name in ("model.onnx", "model.data"):
            archive.write(folder / name, f"job/{name}")
    return folder / "net.onnx.zip"


@pytest.fixture(scope="module")
def class_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "classes.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["index", "mid", "display_name"])
        rows.writerows([i, f"/m/{i}", f"Sound {i}, or so"] for i in range(yamnet.CLASSES))
    return path


def test_the_float_graph_computes_what_lies_between_the_pairs(packed: Path, class_map: Path, tmp_path: Path) -> None:
    float_yamnet(packed, tmp_path / "yamnet.onnx")
    patches = RNG.normal(-3, 1, (3, 96, 64)).astype(np.float32)
    probabilities, embeddings = Yamnet(tmp_path / "yamnet.onnx", class_map).tag(patches)
    pooled = np.maximum(0, np.einsum("nij,cij->nc", patches, KERNEL[:, 0]))
    np.testing.assert_allclose(embeddings, pooled, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-(pooled @ WEIGHT.T + BIAS))), atol=1e-3)


def test_no_patches_give_no_scores(packed: Path, class_map: Path, tmp_path: Path) -> None:
    float_yamnet(packed, tmp_path / "yamnet.onnx")
    probabilities, embeddings = Yamnet(tmp_path / "yamnet.onnx", class_map).tag(np.zeros((0, 96, 64), np.float32))
    assert probabilities.shape == (0, yamnet.CLASSES)
    assert embeddings.shape == (0, yamnet.EMBEDDING)


def test_converting_twice_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        float_yamnet(packed, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx", "two.onnx"]


def test_a_single_file_converts_like_the_zip(packed: Path, tmp_path: Path) -> None:
    onnx.save(quantised_graph(), tmp_path / "net.onnx")
    float_yamnet(tmp_path / "net.onnx", tmp_path / "one.onnx")
    float_yamnet(packed, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_sources_that_are_no_such_graph_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    other = helper.make_graph([], "empty", [], [])
    onnx.save(helper.make_model(other), tmp_path / "other.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 64)
    (tmp_path / "noise.zip").write_bytes(b"PK no")
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    for name in ("missing.onnx", "missing.zip", "noise.onnx", "noise.zip", "bare.zip", "other.onnx"):
        with pytest.raises(ModelError, match="omni-watch models pull"):
            float_yamnet(tmp_path / name, tmp_path / "yamnet.onnx")
    assert not (tmp_path / "yamnet.onnx").exists()


def test_a_net_of_another_kind_is_refused(class_map: Path, tmp_path: Path) -> None:
    onnx.save(quantised_graph(), tmp_path / "net.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 64)
    for name in ("net.onnx", "noise.onnx", "missing.onnx"):
        with pytest.raises(ModelError, match="omni-watch models pull"):
            Yamnet(tmp_path / name, class_map)


def test_patches_of_another_shape_are_a_mistake_of_the_caller(packed: Path, class_map: Path, tmp_path: Path) -> None:
    float_yamnet(packed, tmp_path / "yamnet.onnx")
    with pytest.raises(ValueError, match="expected patches"):
        Yamnet(tmp_path / "yamnet.onnx", class_map).tag(np.zeros((1, 64, 96), np.float32))


@pytest.mark.parametrize("text", ["", "index,mid\n0,/m/0\n", "index,mid,display_name\n0,/m/0,Speech\n"])
def test_a_table_that_lacks_classes_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(ModelError, match=r"classes\.csv"):
        class_names(tmp_path / "classes.csv")
