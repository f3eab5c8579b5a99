"""The safetensors files of a checkpoint: what is in them, without loading it, and each tensor straight to its place.

Only headers are read at first, so that a half-downloaded checkpoint is refused in milliseconds and with the name of the
file. Tensors are then read block by block into memory that already is where they shall stay; files are not mapped, so
nothing goes wrong later when a file is replaced under a daemon that runs for weeks, and there is never a second copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_BLOCK_BYTES: Final = 64 << 20  # read at once: large enough for any disk, small beside any model
_MOST_HEADER_BYTES: Final = 100 << 20  # the format's own limit
_LFS: Final = (
    b"version https://git-lfs"  # how a pointer file begins: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
)
_UNFINISHED: Final = ("*.incomplete", "*.part", "*.partial", "*.crdownload", "*.aria2", "*.tmp", "*.download")

Progress: TypeAlias = Callable[[int, int], None]  # bytes read so far, bytes to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor in a file."""

    name: str
    dtype: str  # as the file says: BF16, F32, I8, ...
    shape: tuple[int, ...]
    file: Path
    start: int  # bytes from the beginning of the file
    size: int  # bytes


def read_headers(folder: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint folder, by name: one `model.safetensors`, or shards with their index.

    Raises:
        ModelError: files are missing, cut short, pointers instead of data or damaged; says which and what to do.
    """
    if (folder / INDEX).is_file():
        return _read_sharded(folder)
    files = sorted(folder.glob("*.safetensors"))
    if (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    if len(files) != 1:
        raise ModelError(_nothing_usable(folder, files))
    return {stored.name: stored for stored in _read_header(files[0])}


def _nothing_usable(folder: Path, files: Sequence[Path]) -> str:
    if files:
        return (
            f"{folder}: {len(files)} .safetensors files but no {INDEX} that says what is where; "
            "download that file too" + _unfinished(folder)
        )
    pickles = sorted(path.name for pattern in ("*.bin", "*.pth", "*.gguf") for path in folder.glob(pattern))
    instead = f"; found {', '.join(pickles[:3])}, which is another format" if pickles else ""
    return f"{folder}: no {SINGLE} and no {INDEX}{instead}; download the published checkpoint" + _unfinished(folder)


def _read_sharded(folder: Path) -> dict[str, Stored]:
    places = _read_index(folder / INDEX)
    names = sorted(set(places.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing: {_listed(missing)}; "
            f"the download did not finish, run it again{_unfinished(folder)}"
        )
    stored = {entry.name: entry for name in names for entry in _read_header(folder / name)}
    strayed = [name for name, file in places.items() if name not in stored or stored[name].file.name != file]
    if strayed:
        raise ModelError(
            f"{folder / INDEX} places {len(strayed)} weights in files that do not have them: {_listed(strayed)}; "
            "index and files belong to different checkpoints: download both again"
        )
    return {name: stored[name] for name in places}


def _read_index(path: Path) -> dict[str, str]:
    try:
        places = json.loads(path.read_bytes())["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no index of weights{_what_instead(path)}; download it again") from error
    names = places.values() if isinstance(places, dict) else ()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelError(f"{path}: weight_map must give each weight the name of a file beside it; download it again")
    return dict(places)


def _read_header(path: Path) -> list[Stored]:
    """Layout: 8 bytes little-endian length of the header, the header as JSON, then the data."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
                raise ModelError(_damaged(path, size))
            header = json.loads(file.read(length))
        stored = _entries(path, header, data=8 + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(_damaged(path, size)) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    expected = max((entry.start + entry.size for entry in stored), default=8 + length)
    if size != expected:
        raise ModelError(
            f"{path} has {size:,} bytes; expected {expected:,}: the download did not finish, run it again"
            f"{_unfinished(path.parent)}"
        )
    return stored


def _entries(path: Path, header: Mapping[str, Any], data: int) -> list[Stored]:
    return [_entry(path, name, raw, data) for name, raw in header.items() if name != "__metadata__"]


def _entry(path: Path, name: str, raw: Mapping[str, Any], data: int) -> Stored:
    dtype, shape = str(raw["dtype"]), tuple(int(side) for side in raw["shape"])
    start, end = (int(offset) for offset in raw["data_offsets"])
    known = _DTYPES.get(dtype)
    if not 0 <= start <= end or (known is not None and end - start != prod(shape) * known.itemsize):
        raise ValueError(f"{name} cannot lie at bytes {start} to {end}")
    return Stored(name=name, dtype=dtype, shape=shape, file=path, start=data + start, size=end - start)


def _damaged(path: Path, size: int) -> str:
    return f"{path} ({size:,} bytes) is no safetensors file{_what_instead(path)}; download it again"


def _what_instead(path: Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(len(_LFS))
    if beginning == _LFS:
        return ", but the pointer that git leaves when Git LFS is not installed: run `git lfs pull`"
    if beginning.lstrip()[:1] == b"<":
        return ", but a web page, as a server sends instead of a file when something is wrong"
    return "" if beginning else ": it is empty"


def _unfinished(folder: Path) -> str:
    """What a download leaves while it is not finished; the hub's own client keeps it in a hidden folder."""
    found = [path for pattern in _UNFINISHED for path in folder.glob(pattern)]
    found += (folder / ".cache" / "huggingface" / "download").glob("**/*.incomplete")
    names = sorted(str(path.relative_to(folder)) for path in found)
    return f" (unfinished: {_listed(names)})" if names else ""


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Reader:
    """Reads tensors in the order they are asked for, with one block of memory for all. One thread."""

    def __init__(self, progress: Progress | None, bytes_all: int) -> None:
        self._progress = progress
        self._bytes_done, self._bytes_all = 0, bytes_all
        self._block = torch.empty(0, dtype=torch.uint8)

    def read(self, stored: Stored, target: Tensor) -> None:
        """Fill `target`, contiguous, of the stored shape, any device and float type.

        Raises:
            ModelError: the file is shorter than it was, or does not hold numbers of a known type.
        """
        dtype = _DTYPES.get(stored.dtype)
        if dtype is None:
            raise ModelError(
                f"{stored.file}: {stored.name} is of type {stored.dtype}; expected one of {', '.join(_DTYPES)}: "
                "use the published checkpoint, and `quantization` to make it smaller"
            )
        flat = target.view(-1)
        try:
            with stored.file.open("rb") as file:
                file.seek(stored.start)
                self._fill(file, flat, dtype, stored)
        except OSError as error:
            raise ModelError(f"{stored.file} cannot be read: {error.strerror}") from error

    def _fill(self, file: BufferedReader, flat: Tensor, dtype: torch.dtype, stored: Stored) -> None:
        step = _BLOCK_BYTES // dtype.itemsize
        for start in range(0, flat.numel(), step):
            piece = flat[start : start + step]
            size = piece.numel() * dtype.itemsize
            in_place = piece.device.type == "cpu" and piece.dtype is dtype
            block = piece.view(torch.uint8) if in_place else self._room(size)
            if file.readinto(block.numpy().data) != size:
                raise ModelError(f"{stored.file} ends within {stored.name}; it was changed while it was read")
            if not in_place:
                piece.copy_(block.view(dtype))
            self._bytes_done += size
            if self._progress is not None:
                self._progress(self._bytes_done, self._bytes_all)

    def _room(self, size: int) -> Tensor:
        if len(self._block) < size:
            self._block = torch.empty(size, dtype=torch.uint8)
        return self._block[:size]
