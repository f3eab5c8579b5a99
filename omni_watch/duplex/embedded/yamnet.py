"""YAMNet on onnxruntime: what 521 kinds of sound score for a patch of 0.96 s.

The file that packages carry is an 8-bit graph: pairs of QuantizeLinear and DequantizeLinear around float weights.
`float_yamnet` takes the pairs out once, after the file was pulled, because 8-bit scores step by 0.76 in log-odds and
because the layer before the last, the embedding, is wanted too.
"""

from __future__ import annotations

import csv
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded.mel import BANDS, PATCH

CLASSES: Final = 521
EMBEDDING: Final = 1024
PATCHES: Final = "patches"
LOGITS: Final = "logits"
EMBEDDINGS: Final = "embeddings"
RUNTIME_ERRORS: Final = (  # every error the runtime declares; they share no base class of their own
    runtime.EngineError,
    runtime.EPFail,
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.ModelLoadCanceled,
    runtime.ModelLoaded,
    runtime.ModelRequiresCompilation,
    runtime.NoModel,
    runtime.NoSuchFile,
    runtime.NotFound,
    runtime.NotImplemented,
    runtime.RuntimeException,
)
PULL: Final = "fetch the model files again with `omni-watch models pull`"

Floats = NDArray[np.float32]


class Yamnet:
    """The net, shared by all feeds. `tag` may be called by any thread."""

    def __init__(self, model: Path, class_map: Path) -> None:
        """`model` is what `float_yamnet` wrote. Raises ModelError when a file is missing or of another kind."""
        self.classes = class_names(class_map)
        self._session = _session(model)

    def tag(self, patches: Floats) -> tuple[Floats, Floats]:
        """[n, 96, 64] log-mel -> probabilities [n, 521] and embeddings [n, 1024]; n may be 0.

        Raises:
            ModelError: (retryable) the runtime refused, for want of memory for example.
        """
        if patches.shape[1:] != (PATCH, BANDS):
            raise ValueError(f"expected patches [n, {PATCH}, {BANDS}], found {list(patches.shape)}")
        if len(patches) == 0:
            return np.zeros((0, CLASSES), np.float32), np.zeros((0, EMBEDDING), np.float32)
        try:
            logits, embeddings = self._session.run([LOGITS, EMBEDDINGS], {PATCHES: patches[:, None]})
        except RUNTIME_ERRORS as error:
            raise ModelError(f"YAMNet could not tag {len(patches)} patches: {error}", can_retry=True) from error
        return np.exp(-np.logaddexp(0.0, -logits)), embeddings


def class_names(class_map: Path) -> tuple[str, ...]:
    """The display names of the 521 classes, by index. Raises ModelError when the file is not such a table."""
    try:
        with class_map.open(encoding="utf-8", newline="") as file:
            names = tuple(row["display_name"] for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise ModelError(f"{class_map}: not YAMNet's table of classes ({error}); {PULL}") from error
    if len(names) != CLASSES:
        raise ModelError(f"{class_map}: found {len(names)} classes, expected {CLASSES}; {PULL}")
    return names


def _session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle model must not eat a core
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        raise ModelError(f"{model}: onnxruntime cannot open it ({error}); {PULL}") from error
    found = [output.name for output in session.get_outputs()]
    if found != [LOGITS, EMBEDDINGS]:
        raise ModelError(f"{model}: has outputs {found}, expected {[LOGITS, EMBEDDINGS]}; {PULL}")
    return session


def float_yamnet(source: Path, target: Path) -> None:
    """Write the float graph of the 8-bit one in `source`, a .onnx file or a zip that holds one with its weights.

    The same source gives the same bytes. `target` appears whole or not at all.

    Raises:
        ModelError: `source` is missing, damaged, or another graph.
    """
    graph = _without_pairs(_loaded(source))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="omni-watch"
    )
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(target)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error}); free space or choose another cache folder") from error


def _loaded(source: Path) -> onnx.ModelProto:
    try:
        if source.suffix != ".zip":
            return onnx.load(source)
        with zipfile.ZipFile(source) as archive, tempfile.TemporaryDirectory() as folder:
            archive.extractall(folder)
            return onnx.load(next(Path(folder).rglob("*.onnx")))
    except StopIteration as error:
        raise ModelError(f"{source}: holds no .onnx file; {PULL}") from error
    except (OSError, zipfile.BadZipFile, DecodeError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{source}: cannot be read as an ONNX graph ({error}); {PULL}") from error


def _without_pairs(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with a float input of any number of patches, and with logits and embeddings as outputs."""
    old = model.graph
    same_as: dict[str, str] = {}  # the output of a quantising node is, but for rounding, its input
    for node in old.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            same_as[node.output[0]] = node.input[0]
    kept = [node for node in old.node if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}]
    last = kept[-1] if kept else None
    if last is None or last.op_type != "Gemm" or len(old.input) != 1 or len(old.output) != 1:
        raise ModelError(f"graph {old.name!r} is not YAMNet: expected one input and a Gemm at the end; {PULL}")
    renamed = {old.input[0].name: PATCHES, last.output[0]: LOGITS, _origin(last.input[0], same_as): EMBEDDINGS}

    def name(old_name: str) -> str:
        found = _origin(old_name, same_as)
        return renamed.get(found, found)

    nodes = [
        helper.make_node(
            node.op_type,
            [name(i) for i in node.input],
            [name(o) for o in node.output],
            **{a.name: helper.get_attribute_value(a) for a in node.attribute},
        )
        for node in kept
    ]
    used = {i for node in nodes for i in node.input}
    return helper.make_graph(
        nodes,
        "yamnet",
        [helper.make_tensor_value_info(PATCHES, TensorProto.FLOAT, ["n", 1, PATCH, BANDS])],
        [
            helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["n", EMBEDDING]),
        ],
        [_inlined(tensor, nodes) for tensor in old.initializer if tensor.name in used],
    )


def _origin(name: str, same_as: dict[str, str]) -> str:
    while name in same_as:
        name = same_as[name]
    return name


def _inlined(tensor: TensorProto, nodes: list[onnx.NodeProto]) -> TensorProto:
    """The weights inside the file; the shape that ends the pooling set free for any number of patches."""
    values = numpy_helper.to_array(tensor)
    if any(node.op_type == "Reshape" and node.input[1] == tensor.name for node in nodes):
        values = np.array([-1, EMBEDDING], values.dtype)
    return numpy_helper.from_array(values, tensor.name)
