"""How alike two English texts are in meaning, by all-MiniLM-L6-v2. Used when a task is set, never while watching.

The model is loaded for a call and freed after it, so that the daemon does not carry it; the vectors of texts that come
again (the rules' phrases) are kept, which is 1.5 kB each. `minilm_onnx` makes the graph once, in a process of its own:
it alone imports torch and transformers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from omni_watch.domain.errors import ModelError

LONGEST: Final = 64  # word pieces; requests have at most about 60 words
BATCH: Final = 32
KEPT: Final = 1024  # vectors
MEND: Final = "run: omni-watch models pull"

Vectors = NDArray[np.float32]


class MiniLm:
    """Implements `TextSimilarity`. Any thread; one call at a time does the work."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._kept: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    def similarity(self, text: str, others: Sequence[str]) -> list[float]:
        """Cosine -1..1 of `text` to each of `others`. The first call about a second, later ones a few tenths.

        Raises:
            ModelError: the model files are missing or damaged.
        """
        with self._lock:
            vectors = self._vectors([text, *others])
        return [float(cosine) for cosine in vectors[1:] @ vectors[0]]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        """[n, 384], each of length one; what is not kept is computed, and then kept."""
        fresh = list(dict.fromkeys(text for text in texts if text not in self._kept))
        known = {text: self._kept[text] for text in texts if text in self._kept}
        if fresh:
            known.update(zip(fresh, embed(fresh, self._model, self._tokenizer), strict=True))
        for text in texts:
            self._kept[text] = known[text]
            self._kept.move_to_end(text)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return np.stack([known[text] for text in texts])


def embed(texts: Sequence[str], model: Path, tokenizer: Path) -> Vectors:
    """[n, 384], each of length one. Loads the model and frees it before returning.

    Raises:
        ModelError: the model files are missing or damaged.
    """
    pieces = _tokenizer(tokenizer)
    session = _session(model)
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # so that a batch is padded little
    vectors: list[Vectors] = []
    for start in range(0, len(texts), BATCH):
        batch = by_length[start : start + BATCH]
        encoded = pieces.encode_batch([texts[index] for index in batch])
        ids = np.array([one.ids for one in encoded], np.int64)
        mask = np.array([one.attention_mask for one in encoded], np.int64)
        try:
            vectors += session.run(None, {"ids": ids, "mask": mask})
        except _onnx_errors() as error:
            raise ModelError(f"{model}: cannot compare texts: {error}; {MEND}") from error
    return np.concatenate(vectors)[np.argsort(by_length)]


def _tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the tokenizer of the text model; {MEND}")
    try:
        pieces = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"{path}: is not a tokenizer: {error}; {MEND}") from error
    pieces.enable_truncation(max_length=LONGEST)
    pieces.enable_padding()
    return pieces


def _session(path: Path) -> ort.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected the text model; {MEND}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # an arena would outlive the call
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _onnx_errors() as error:
        raise ModelError(f"{path}: is not a model that can be loaded: {error}; {MEND}") from error


def _onnx_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own family, which derives from nothing narrower than Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(
        kind
        for name in (
            "Fail",
            "InvalidArgument",
            "InvalidGraph",
            "InvalidProtobuf",
            "NoSuchFile",
            "NotImplemented",
            "RuntimeException",
        )
        if isinstance(kind := getattr(state, name, None), type)
    )


def minilm_onnx(folder: Path, target: Path) -> None:
    """Write the model of `folder` (model.safetensors, config.json) to `target` as ONNX: ids, mask [B, T] -> v [B, 384].

    One-time conversion, some 10 s and 600 MB; call it in a separate process, since it imports torch. Any B and T give
    what torch gives (largest difference 3e-7).

    Raises:
        ModelError: the files are missing or not of this model.
    """
    import torch
    from transformers import BertModel

    try:
        bert = BertModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be read as a text model: {error}; {MEND}") from error

    class MeanOfTokens(torch.nn.Module):
        """The sentence's vector: mean over its word pieces, of length one (the model card's pooling)."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            positions = torch.arange(ids.shape[1]).unsqueeze(0)
            states = self.bert(
                input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids), position_ids=positions
            ).last_hidden_state
            weights = mask[..., None].to(states.dtype)
            return torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)

    # two sentences of unlike length: with no padding the tracer would leave the mask out
    ids = torch.tensor([[101, 2009, 2003, 2440, 102], [101, 2440, 102, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    free: dict[int, str] = {0: "batch", 1: "pieces"}
    arguments: dict[str, Any] = {"dynamic_axes": {"ids": free, "mask": free, "v": {0: "batch"}}, "opset_version": 17}
    torch.onnx.export(
        MeanOfTokens().eval(),  # in training mode its dropout would be part of what is compared
        (ids, mask),
        str(target),
        dynamo=False,
        input_names=["ids", "mask"],
        output_names=["v"],
        **arguments,
    )
