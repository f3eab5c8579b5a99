"""A checkpoint folder: looked at first, in milliseconds, and loaded only when everything in it fits together.

`open_checkpoint` reads the configuration, the vocabulary and the headers of the weight files, builds the model without
memory for its weights, and compares names and shapes. Whatever is wrong is said then, all of it, by name. `load` reads
each tensor to where it stays, on the device and in the type asked for, and makes the language model smaller layer by
layer on the way; there are never two copies.

Parameter names are the official ones, so nothing is mapped, but for weight normalisation as older versions of torch
named it. Some published weights are never used (`UNUSED`); they may be absent. Anything else in the files that the
model does not know is ignored with one warning, since later releases may carry more.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import ModelConfig, read_config
from omni_watch.duplex.minicpmo.language import Layer
from omni_watch.duplex.minicpmo.packing import pack_
from omni_watch.duplex.minicpmo.quantization import quantize_
from omni_watch.duplex.minicpmo.room import (
    ROTATION_POSITIONS,
    MemoryNeed,
    Quantization,
    free_memory,
    memory_needed,
    refuse_if_too_large,
)
from omni_watch.duplex.minicpmo.shards import Progress, Reader, Stored, read_headers
from omni_watch.duplex.minicpmo.tokens import Tokens
from omni_watch.duplex.minicpmo.weights import MiniCpmO

logger = logging.getLogger(__name__)

CONFIG: Final = "config.json"
UNUSED: Final = ("tts.model.embed_tokens.", "tts.projector_spk.")  # published, and never read in a duplex dialogue
DATA_FILES: Final = (CONFIG, "*.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json")
DTYPES: Final[Mapping[str, torch.dtype]] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
_WEIGHT_NORM: Final[Mapping[str, str]] = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_MULTIPLIED_OUT: Final = re.compile(r"tts\.head_code\.\d+\.weight")  # as some conversions store it
_MOST_LISTED: Final = 10
_EMBEDDINGS: Final = "llm.model.embed_tokens.weight"
_HEAD: Final = "llm.lm_head.weight"
_DECODER_LAYER: Final = re.compile(r"(?:llm|tts)\.model\.layers\.\d+")
# packed when all is loaded; of the language model only the vocabulary's matrix is left to pack then
_PACKED_AT_THE_END: Final = ("llm", "vpm", "resampler", "apm", "audio_projection_layer")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A folder whose parts fit together; nothing is loaded yet."""

    folder: Path
    config: ModelConfig  # with the weights' own numbers of layers
    tokens: Tokens
    stored: Mapping[str, Stored]  # by the model's parameter names; what the model does not use is left out

    def memory_needed(
        self,
        *,
        device: torch.device,
        dtype: torch.dtype,
        quantization: Quantization | None = None,
        feeds: int = 1,
        positions: int = ROTATION_POSITIONS,
        with_speech: bool = True,
    ) -> MemoryNeed:
        """An estimate from above; `feeds` are the dialogues remembered at a time."""
        config = self._config(with_speech)
        return memory_needed(
            skeleton(config),
            config,
            device=device,
            dtype=dtype,
            quantization=quantization,
            feeds=feeds,
            positions=positions,
        )

    def refuse_if_too_large(
        self,
        *,
        device: torch.device,
        dtype: torch.dtype,
        quantization: Quantization | None = None,
        feeds: int = 1,
        positions: int = ROTATION_POSITIONS,
        with_speech: bool = True,
        free: int | None = None,
    ) -> None:
        """Compare what is needed with what the device has free (bytes; asked now unless given).

        Raises:
            ModelError: it does not fit; with the numbers, and with what would.
        """
        kinds: list[Quantization | None] = [None, "int8"]
        if device.type == "cuda" or quantization == "int4":  # not to be advised elsewhere; `load` would refuse it
            kinds.append("int4")
        needs = {
            kind: self.memory_needed(
                device=device,
                dtype=dtype,
                quantization=kind,
                feeds=feeds,
                positions=positions,
                with_speech=with_speech,
            )
            for kind in kinds
        }
        refuse_if_too_large(
            needs, quantization, device=device, free=free_memory(device) if free is None else free, feeds=feeds
        )

    def load(
        self,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
        quantization: Quantization | None = None,
        with_speech: bool = True,
        is_tuned: bool = True,
        progress: Progress | None = None,
    ) -> MiniCpmO:
        """The model with its weights in place, for inference only. May take minutes.

        Args:
            device: where it stays; a model that is tuned must not be moved.
            dtype: of what is not quantized, and of all that is computed.
            with_speech: False leaves the speech decoder out.
            is_tuned: lay the weights out for speed; False keeps them under their official names.
            progress: told of each block that was read.

        Raises:
            ModelError: the quantization cannot be had here, which is found out first; a file changed or ended early; or
                the device's memory did not suffice.
        """
        on = torch.device(device)
        model = skeleton(self._config(with_speech))
        try:
            with torch.no_grad():
                if quantization is not None:
                    quantize_(nn.Linear(256, 256, bias=False, device=on, dtype=dtype), quantization)
                self._fill(model, on, dtype, quantization, progress, is_tuned=is_tuned)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self.folder}: {device} ran out of memory while the weights were loaded: {error}; "
                'set quantization = "int8" or "int4", or stop what else uses the device'
            ) from error
        return model.eval()

    def _fill(
        self,
        model: MiniCpmO,
        device: torch.device,
        dtype: torch.dtype,
        quantization: Quantization | None,
        progress: Progress | None,
        *,
        is_tuned: bool,
    ) -> None:
        names = [name for name, _ in model.named_parameters()]
        order = sorted(self.stored.keys() & names, key=lambda name: (self.stored[name].file, self.stored[name].start))
        directions = {name: _directions_of(name, self.stored) for name in names}
        reader = Reader(progress, sum(self.stored[name].size for name in order))

        def read(name: str, target: Tensor) -> None:
            if (matrix := directions[name]) is not None:
                target.copy_(torch.linalg.vector_norm(model.get_parameter(matrix).float(), dim=1, keepdim=True))
            else:
                reader.read(self.stored[name], target)

        order += [name for name in names if directions[name] is not None]
        fill(model, order, read, device=device, dtype=dtype, quantization=quantization, is_tuned=is_tuned)

    def _config(self, with_speech: bool) -> ModelConfig:
        return self.config if with_speech else replace(self.config, speech=None)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Look at a checkpoint without loading it.

    Raises:
        ModelError: no such folder, another model's, half downloaded, or parts that do not belong together.
    """
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is no folder; expected the downloaded checkpoint: config.json, tokenizer.json, *.safetensors"
        )
    raw = _read_config_file(folder / CONFIG)
    config = read_config(raw)
    _check_heads(config)
    stored = _current_names(read_headers(folder))
    if raw.get("tie_word_embeddings") and _EMBEDDINGS in stored:
        stored.setdefault(_HEAD, stored[_EMBEDDINGS])  # stored once, used twice
    config = _as_stored(config, stored)
    tokens = Tokens.read(folder)
    used = _checked(folder, config, stored)
    speech_rows = None if config.speech is None else config.speech.num_text_tokens
    tokens.check_tables(config.language.vocab_size, speech_rows, folder)
    return Checkpoint(folder=folder, config=config, tokens=tokens, stored=used)


def resolve(path_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint: the one given, or a snapshot of a hub repository.

    A snapshot that is here whole is used without asking the network. Only data files are fetched, never code.

    Args:
        path_or_hub_id: a folder, or an id such as `openbmb/MiniCPM-o-4_5`.
        revision: a commit of the hub repository, 40 hexadecimal digits: names of branches may move.

    Raises:
        ModelError: neither a folder nor an id with a commit; or it cannot be fetched (try again when the hub is there).
    """
    folder = find(path_or_hub_id, revision)
    return folder if folder is not None else _fetched(str(path_or_hub_id), str(revision))


def find(path_or_hub_id: str | Path, revision: str | None = None) -> Path | None:
    """As `resolve`, but the network is never asked: None for a snapshot that is not here whole.

    Raises:
        ModelError: neither a folder nor an id with a commit.
    """
    folder = Path(path_or_hub_id).expanduser()
    hub_id = str(path_or_hub_id)
    if hub_id and folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(hub_id) or (isinstance(path_or_hub_id, Path) and path_or_hub_id.is_absolute()):
        raise ModelError(f"{hub_id!r} is no folder; expected a downloaded checkpoint or an id such as owner/name")
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ModelError(
            f"{hub_id}: revision is {revision!r}; expected the 40 hexadecimal digits of a commit, so that what runs "
            "in the house does not change by itself (the repository's page lists them under Files, History)"
        )
    return _cached(hub_id, revision)


def _cached(hub_id: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download  # takes a while to import, and is needed here alone

    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=[*DATA_FILES], local_files_only=True))
        read_headers(folder)
    except (OSError, ModelError):  # not here, or not whole
        return None
    return folder


def _fetched(hub_id: str, revision: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # not OSErrors: what it does not wrap

    try:
        # asked once: without this, a hub that is away is told of after six tries, half a minute later
        get_hf_file_metadata(hf_hub_url(hub_id, CONFIG, revision=revision))
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=[*DATA_FILES]))
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{hub_id} at {revision} cannot be fetched: {why}; see that the hub can be reached and that the id and "
            "the commit exist, or download it elsewhere and give the folder",
            can_retry=True,
        ) from error


def _read_config_file(path: Path) -> Mapping[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; is {path.parent} the folder of a checkpoint?") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}; download it again") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} holds {type(raw).__name__}; expected a table; download it again")
    if quantized := raw.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise ModelError(
            f"{path}: the weights are already quantized ({method}); use the published 16-bit checkpoint and set "
            "`quantization` to make it smaller"
        )
    return raw


def _check_heads(config: ModelConfig) -> None:
    """Numbers of heads leave no trace in the shapes of the weights, but for what they must divide."""
    language, speech = config.language, config.speech
    pairs = [
        ("num_attention_heads", language.num_heads, "num_key_value_heads", language.num_kv_heads),
        ("vision_config.hidden_size", config.vision.hidden_size, "num_attention_heads", config.vision.num_heads),
        ("audio_config.d_model", config.audio.hidden_size, "encoder_attention_heads", config.audio.num_heads),
    ]
    if speech is not None:
        pairs.append(("tts_config.hidden_size", speech.hidden_size, "num_attention_heads", speech.num_heads))
        pairs.append(("tts_config.num_attention_heads", speech.num_heads, "num_key_value_heads", speech.num_kv_heads))
    for name, whole, by, parts in pairs:
        if whole % parts:
            raise ModelError(f"config.json: {name} is {whole}, which {by} = {parts} does not divide")


def _current_names(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Weight normalisation under the names that torch gives it today; multiplied out, it is a direction."""
    renamed = {}
    for name, entry in stored.items():
        owner, _, last = name.rpartition(".")
        if last in _WEIGHT_NORM:
            name = f"{owner}.{_WEIGHT_NORM[last]}"
        elif _MULTIPLIED_OUT.fullmatch(name):
            name = f"{owner}.{_WEIGHT_NORM['weight_v']}"
        renamed[name] = entry
    return renamed


def _directions_of(name: str, stored: Mapping[str, Stored]) -> str | None:
    """The name of the matrix whose rows' lengths are the parameter `name`, if the files have it multiplied out only."""
    if name in stored or not name.endswith(_WEIGHT_NORM["weight_g"]):
        return None
    directions = name.removesuffix(_WEIGHT_NORM["weight_g"]) + _WEIGHT_NORM["weight_v"]
    found = stored.get(directions)
    return directions if found is not None and _MULTIPLIED_OUT.fullmatch(found.name) else None


def _as_stored(config: ModelConfig, stored: Mapping[str, Stored]) -> ModelConfig:
    """The configuration with the numbers of layers that the weights have, and without speech if they have none."""
    language, vision, audio, speech = config.language, config.vision, config.audio, config.speech
    if not any(name.startswith("tts.") for name in stored):
        speech = None
    if speech is not None:
        speech = replace(speech, num_layers=_layers(stored, "tts.model.layers.", speech.num_layers))
    return ModelConfig(
        language=replace(language, num_layers=_layers(stored, "llm.model.layers.", language.num_layers)),
        vision=replace(vision, num_layers=_layers(stored, "vpm.encoder.layers.", vision.num_layers)),
        audio=replace(audio, num_layers=_layers(stored, "apm.layers.", audio.num_layers)),
        speech=speech,
    )


def _layers(stored: Mapping[str, Stored], prefix: str, configured: int) -> int:
    found = {name.removeprefix(prefix).partition(".")[0] for name in stored if name.startswith(prefix)}
    if not found:
        return configured
    count = max(int(number) for number in found) + 1
    if count != configured:
        fields = {"part": prefix.partition(".")[0], "configured": configured, "found": count}
        logger.info("checkpoint.layers", extra={"fields": fields})
    return count


def _checked(folder: Path, config: ModelConfig, stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """What the model will read; everything it needs is there and has the shape that the configuration asks for."""
    needed = {name: tuple(parameter.shape) for name, parameter in skeleton(config).named_parameters()}
    if missing := [
        name
        for name in needed
        if name not in stored and not name.startswith(UNUSED) and _directions_of(name, stored) is None
    ]:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(needed)} weights are missing: {_listed(missing)}; "
            "expected all that MiniCPM-o 4.5 has; download the checkpoint again"
        )
    used = {name: stored[name] for name in needed if name in stored}
    wrong = [
        f"{name} is {list(entry.shape)} instead of {list(needed[name])}"
        for name, entry in used.items()
        if entry.shape != needed[name]
    ]
    if wrong:
        raise ModelError(
            f"{folder}: {len(wrong)} of {len(needed)} weights do not have the shapes that config.json asks for: "
            f"{_listed(wrong, '; ')}; config.json and the weights belong to different checkpoints: "
            "download both again"
        )
    ignored = ("tts.",) if config.speech is None else UNUSED
    if unknown := sorted(name for name in stored if name not in needed and not name.startswith(ignored)):
        logger.warning(
            "checkpoint.unknown_weights", extra={"fields": {"count": len(unknown), "names": _listed(unknown)}}
        )
    return used


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return separator.join(names[:_MOST_LISTED]) + more


def skeleton(config: ModelConfig) -> MiniCpmO:
    """The model without memory for its weights: names and shapes."""
    with torch.device("meta"):
        return MiniCpmO(config)


def fill(
    model: nn.Module,
    names: Sequence[str],
    read: Callable[[str, Tensor], None],
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization | None,
    is_tuned: bool,
) -> None:
    """Give the parameters of these names their place and their numbers, in this order.

    A decoder layer is finished (see `_finish`) as soon as it is complete; so the most that is ever held is the model as
    it will be and one layer as it was.

    Args:
        model: a `skeleton`.
        read: writes the numbers of a parameter into a tensor that already is where it stays.
        is_tuned: lay the weights out for speed; their official names are gone then.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    layers_left = _LayersLeft(names)
    for name in names:
        placed = torch.empty(shapes[name], dtype=dtype, device=device)
        read(name, placed)
        _place(model, name, placed)
        if (layer := layers_left.completed_by(name)) is not None:
            kind = quantization if layer.startswith("llm.") else None
            _finish(model.get_submodule(layer), kind, is_tuned=is_tuned)
    _drop_unused(model)
    if is_tuned:
        for part in _PACKED_AT_THE_END:
            pack_(model.get_submodule(part))


class _LayersLeft:
    """Counts what is still to come for each decoder layer, of the language model and of the speech decoder."""

    def __init__(self, names: Sequence[str]) -> None:
        self._left: dict[str, int] = {}
        for name in names:
            if found := _DECODER_LAYER.match(name):
                self._left[found[0]] = self._left.get(found[0], 0) + 1

    def completed_by(self, name: str) -> str | None:
        """The layer of which this parameter was the last."""
        found = _DECODER_LAYER.match(name)
        if found is None:
            return None
        self._left[found[0]] -= 1
        return found[0] if self._left[found[0]] == 0 else None


def _place(model: nn.Module, name: str, values: Tensor) -> None:
    """Let `values` be the parameter of that name, without gradients and without a copy."""
    owner, _, last = name.rpartition(".")
    model.get_submodule(owner)._parameters[last] = nn.Parameter(values, requires_grad=False)


def _drop_unused(model: nn.Module) -> None:
    """Parameters that no file held are of the unused ones; they go, so that nothing stays without memory."""
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            owner, _, last = name.rpartition(".")
            model.get_submodule(owner)._parameters[last] = None
    if left := [name for name, buffer in model.named_buffers() if buffer.is_meta]:
        raise RuntimeError(f"modules must compute their tables when they need them, not when they are built: {left}")


def _finish(layer: nn.Module, quantization: Quantization | None, *, is_tuned: bool) -> None:
    """Make a complete decoder layer fast, small, or both."""
    if is_tuned and isinstance(layer, Layer):
        layer.fuse_()
    if quantization is not None:
        quantize_(layer, quantization)
    elif is_tuned:
        pack_(layer)
