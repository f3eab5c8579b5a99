"""A folder of recorded sessions: what the reference was given, and every number it computed from that.

    sessions.json                  per session: prompt, window, decoding, and what each unit saw and heard
    inputs.npz                     sound [rows, 16000] int16 and frames uint8 RGB
    expected_<session>.json, .npz  what came of it: integers and texts, tensors
    components.json, .npz          tables of parts that can be asked alone

Beside them lies a whole checkpoint, of any sizes. What a folder does not record is not compared.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from lzma import LZMAError
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.decoding import DecodingConfig
from omni_watch.duplex.minicpmo.windows import Basic, Context, Off, Window

FULL_SCALE: Final = 32_768.0  # int16 to -1..1
_DAMAGED: Final = (OSError, EOFError, ValueError, RuntimeError, BadZipFile, LZMAError, zlib.error)  # what numpy raises

# a session's name for a setting of `DecodingConfig`
DECODING_KEYS: Final[Mapping[str, str]] = {
    "decode_mode": "mode",
    "mode": "mode",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "text_repetition_penalty": "repetition_penalty",
    "text_repetition_window_size": "repetition_window",
    "length_penalty": "length_penalty",
    "listen_prob_scale": "listen_prob_scale",
    "listen_top_k": "listen_top_k",
}


class Arrays:
    """The tensors of one `.npz`; empty if there is no such file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded = _read_arrays(path) if path.is_file() else {}

    def __contains__(self, key: str) -> bool:
        return key in self._loaded

    def __getitem__(self, key: str) -> Tensor:
        """ModelError when there is none of that name."""
        if key not in self._loaded:
            raise ModelError(f"{self._path} has no {key!r}, which the recorded sessions name; copy the folder again")
        return torch.from_numpy(self._loaded[key])

    def numbered(self, prefix: str) -> list[tuple[int, Tensor]]:
        """Those named `<prefix><number>`, by their numbers."""
        found = (key.removeprefix(prefix) for key in self._loaded if key.startswith(prefix))
        return [(number, self[f"{prefix}{number}"]) for number in sorted(int(each) for each in found if each.isdigit())]

    @property
    def names(self) -> Sequence[str]:
        return list(self._loaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUnit:
    """What one second of a session was given."""

    sound: Tensor | None  # [16000] float32, -1..1
    frames: Sequence[NDArray[np.uint8]]  # [h, w, 3] each
    max_slices: Sequence[int]  # of each frame
    force_listen: bool


@dataclass(frozen=True, kw_only=True)
class RecordedSession:
    """One session: what it was given, and what came of it."""

    name: str
    raw: Mapping[str, Any]
    inputs: Arrays = field(repr=False)
    expected: Mapping[str, Any] = field(repr=False)
    arrays: Arrays = field(repr=False)

    @property
    def prefix(self) -> str:
        return str(self.raw.get("prefix") or "")

    @property
    def suffix(self) -> str:
        return str(self.raw.get("suffix") or "")

    @property
    def max_tokens(self) -> int:
        return int(self.raw.get("max_new_speak_tokens_per_chunk", 20))

    @property
    def force_listen_count(self) -> int:
        return int(self.raw.get("force_listen_count", 0))

    @property
    def has_speech(self) -> bool:
        return bool(self.raw.get("generate_audio", True))

    @property
    def window(self) -> Window:
        raw = self.raw.get("window") or {}
        match raw.get("mode", "off"):
            case "off":
                return Off()
            case "basic":
                return Basic(high=raw["high"], low=raw["low"])
            case "context":
                marker = {"marker": raw["marker"]} if "marker" in raw else {}
                return Context(max_units=raw["max_units"], previous_max=raw["previous_max"], **marker)
            case other:
                raise ModelError(f"session {self.name}: window mode {other!r}; expected off, basic or context")

    @property
    def decoding(self) -> DecodingConfig:
        return decoding_config({"mode": "greedy", **self.raw})

    @property
    def voice(self) -> Tensor | None:
        """[n] float32 samples of the reference voice."""
        if not self.raw.get("ref_audio"):
            return None
        start, end = self.raw["ref_audio"]
        return self._sound.flatten()[start:end]

    @property
    def unit_count(self) -> int:
        return len(self.raw["units"])

    def unit(self, index: int) -> RecordedUnit:
        raw = self.raw["units"][index]
        frames = [self.inputs[f"frame_{number:02d}"].numpy() for number in raw.get("frames") or ()]
        slices = raw.get("max_slice_nums", 1)
        return RecordedUnit(
            sound=None if raw.get("audio") is None else self._row(raw["audio"]),
            frames=frames,
            max_slices=[slices] * len(frames) if isinstance(slices, int) else slices,
            force_listen=bool(raw.get("force_listen", False)),
        )

    def _row(self, number: int) -> Tensor:
        if not 0 <= number < len(self._sound):
            raise ModelError(
                f"session {self.name}: second {number} of sound, and inputs.npz has {len(self._sound)}; "
                "copy the folder again"
            )
        return self._sound[number]

    @cached_property
    def _sound(self) -> Tensor:
        """[rows, 16000] float32."""
        return self.inputs["audio_int16"].to(torch.float32) / FULL_SCALE


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The whole folder."""

    folder: Path
    sessions: Sequence[RecordedSession]
    components: Mapping[str, Any] = field(repr=False)
    component_arrays: Arrays = field(repr=False)

    @property
    def unit_count(self) -> int:
        return sum(session.unit_count for session in self.sessions)


def read_golden(folder: Path) -> Golden:
    """A folder of recorded sessions.

    Raises:
        ModelError: it is not one, or a file of it is missing or damaged; the message names the file.
    """
    if not (folder / "sessions.json").is_file():
        raise ModelError(
            f"{folder} has no sessions.json; expected a folder of recorded sessions: sessions.json, inputs.npz, "
            "expected_<session>.json and .npz, beside the checkpoint that they were recorded with"
        )
    raw = _read_json(folder / "sessions.json")
    if not isinstance(raw, list) or not all(
        isinstance(each, dict) and {"name", "units"} <= each.keys() for each in raw
    ):
        raise ModelError(f"{folder / 'sessions.json'}: expected a list of sessions, each with a name and units")
    inputs = Arrays(_present(folder / "inputs.npz"))
    sessions = [
        RecordedSession(
            name=each["name"],
            raw=each,
            inputs=inputs,
            expected=_read_expected(_present(folder / f"expected_{each['name']}.json"), len(each["units"])),
            arrays=Arrays(folder / f"expected_{each['name']}.npz"),
        )
        for each in raw
    ]
    parts = folder / "components.json"
    return Golden(
        folder=folder,
        sessions=sessions,
        components=_read_json(parts) if parts.is_file() else {},
        component_arrays=Arrays(folder / "components.npz"),
    )


def decoding_config(raw: Mapping[str, Any]) -> DecodingConfig:
    """The settings among `raw` that are about decoding, under their published names."""
    return DecodingConfig(**{ours: raw[theirs] for theirs, ours in DECODING_KEYS.items() if theirs in raw})


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path} is missing; the folder's sessions.json promises it: copy the folder again")
    return path


def _read_expected(path: Path, units: int) -> Mapping[str, Any]:
    expected: Mapping[str, Any] = _read_json(path)
    found = len(expected.get("units", ())) if isinstance(expected, dict) else 0
    if found != units:
        raise ModelError(f"{path} has {found} units, and its session {units}; copy the folder again")
    return expected


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}; copy the folder again") from error


def _read_arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except _DAMAGED as error:
        raise ModelError(f"{path} cannot be read as numpy arrays: {error}; copy the folder again") from error
