"""How much memory a checkpoint will take, worked out before anything is loaded, and how much there is.

An estimate from above, in bytes: weights as they will lie in memory, what each feed remembers when it is full, and the
largest intermediate results of one step. A device that is too small is refused with these numbers, because the other
way to find out is a daemon that dies at night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import torch
from torch import nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.cache import SPARE
from omni_watch.duplex.minicpmo.config import ModelConfig
from omni_watch.duplex.minicpmo.quantization import BYTES_PER_WEIGHT, Kind

Quantization: TypeAlias = Kind

ROTATION_POSITIONS: Final = 8192  # what the language model was trained on, and a session's end
MOST_PATCHES: Final = 1100  # of one picture: 448 x 448 pixels in patches of 14, rounded to a grid
PICTURES_AT_ONCE: Final = 16  # `weights` encodes no more in one forward
_POSITIONS_AT_ONCE: Final = 1024  # of one feed in one forward: a long briefing
_CUDA_BYTES: Final = 600 << 20  # what a process pays for using a card at all, and cuBLAS for its workspaces
_CPU_BYTES: Final = 200 << 20  # threads' buffers, the allocator's slack


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes, by what they are for."""

    weights: int
    caches: int  # what all feeds remember when they are full
    working: int  # the largest intermediate results

    @property
    def total(self) -> int:
        return self.weights + self.caches + self.working

    def __str__(self) -> str:
        parts = f"weights {_gb(self.weights)}, what feeds remember {_gb(self.caches)}, working {_gb(self.working)}"
        return f"{_gb(self.total)} GB ({parts})"


def memory_needed(
    model: nn.Module,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization | None,
    feeds: int,
    positions: int = ROTATION_POSITIONS,
) -> MemoryNeed:
    """What `model`, which may lie on the meta device, will take.

    Args:
        feeds: dialogues that are remembered at a time; one that stands by counts.
        positions: of the language model that each of them may come to.
    """
    return MemoryNeed(
        weights=_weight_bytes(model, dtype, quantization),
        caches=feeds * _cache_numbers(config, positions) * dtype.itemsize,
        working=_working_numbers(config, feeds) * dtype.itemsize + _logit_bytes(config, feeds) + _overhead(device),
    )


def _weight_bytes(model: nn.Module, dtype: torch.dtype, quantization: Quantization | None) -> int:
    quantized = set() if quantization is None else {id(layer.weight) for layer in quantizable(model)}
    each = dtype.itemsize if quantization is None else BYTES_PER_WEIGHT[quantization]
    return sum(
        int(parameter.numel() * (each if id(parameter) in quantized else dtype.itemsize))
        for parameter in model.parameters()
    )


def quantizable(model: nn.Module) -> list[nn.Linear]:
    """The linear layers of the language model's decoder layers: three quarters of all weights."""
    return [
        module
        for name, module in model.named_modules()
        if name.startswith("llm.model.layers.") and isinstance(module, nn.Linear)
    ]


def _cache_numbers(config: ModelConfig, positions: int) -> int:
    """Keys and values of one feed: language (whose buffer has some room to spare), hearing, speech."""
    language, audio, speech = config.language, config.audio, config.speech
    rows = positions + positions // SPARE
    numbers = 2 * language.num_layers * language.num_kv_heads * language.head_dim * rows
    numbers += 2 * audio.num_layers * audio.hidden_size * audio.max_positions
    if speech is not None:
        head_dim = speech.hidden_size // speech.num_heads
        numbers += 2 * speech.num_layers * speech.num_kv_heads * head_dim * speech.max_positions
    return numbers


def _working_numbers(config: ModelConfig, feeds: int) -> int:
    """The widest layer of each part; only one part runs at a time, so the largest counts."""
    vision, language = config.vision, config.language
    patches = MOST_PATCHES * min(feeds, PICTURES_AT_ONCE)
    seeing = patches * (2 * vision.intermediate_size + 6 * vision.hidden_size)
    thinking = _POSITIONS_AT_ONCE * feeds * (3 * language.intermediate_size + 6 * language.hidden_size)
    return max(seeing, thinking)


def _logit_bytes(config: ModelConfig, feeds: int) -> int:
    return 3 * feeds * config.language.vocab_size * torch.float32.itemsize


def _overhead(device: torch.device) -> int:
    return _CUDA_BYTES if device.type == "cuda" else _CPU_BYTES


def device_named(wanted: str, *, key: str) -> torch.device:
    """The processor, or a graphics card; `key` is where the name was written.

    Raises:
        ModelError: there is no such device.
    """
    cards = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ModelError(f'{key}: {wanted!r} is no device; expected "cpu", "cuda" or "cuda:1"') from error
    if device.type == "cpu":
        return device
    card = torch.device("cuda", device.index or 0)
    if device.type != card.type or card not in cards:
        found = ", ".join(map(str, cards)) or "no graphics card"
        raise ModelError(f"{key}: {wanted!r} is not there; torch {torch.__version__} finds {found}")
    return card


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had now; None where nobody can say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _free_main_memory()


def _free_main_memory(root: Path = Path("/")) -> int | None:
    """What Linux would give without swapping, or what is left of a container's share if that is less."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
    group = root / "sys/fs/cgroup"
    try:
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or "max": no limit of its own
        return free
    return min(free, max(limit - used, 0))


def refuse_if_too_large(
    needs: Mapping[Quantization | None, MemoryNeed],
    quantization: Quantization | None,
    *,
    device: torch.device,
    free: int | None,
    feeds: int,
) -> None:
    """Compare with what is free.

    Args:
        needs: for each kind of quantization that could be chosen, None among them.
        quantization: the chosen one.

    Raises:
        ModelError: it does not fit; says what would.
    """
    need = needs[quantization]
    if free is None or need.total <= free:
        return
    others = {kind: other for kind, other in needs.items() if kind is not None and other.total < need.total}
    fitting = [
        f'quantization = "{kind}" ({_gb(other.total)} GB)' for kind, other in others.items() if other.total <= free
    ]
    advice = f"set {' or '.join(fitting)}" if fitting else "no quantization makes it fit: use a larger device"
    if feeds > 1:
        advice += ", or watch fewer feeds with it"
    raise ModelError(
        f"the model needs {need} for {feeds} feed{'s' if feeds > 1 else ''} on {device}, where {_gb(free)} GB are "
        f"free; {advice}"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"
