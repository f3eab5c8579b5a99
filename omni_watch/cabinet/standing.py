"""How a model file stands: is it here, and is it the right one. Reads and hashes; changes nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from omni_watch.cabinet.table import DerivedFile, Entry, ModelFile
from omni_watch.domain.errors import ModelError

MEND: Final = "omni-watch models pull"
RECORD: Final = "record.json"  # beside a derived file: its recipe, size and SHA-256


class State(Enum):
    PRESENT = "present"
    MISSING = "missing"
    WRONG = "wrong"  # other bytes than the table or the record say


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One entry of the table, as it stands in this cabinet."""

    id: str
    ability: str
    path: Path
    state: State
    detail: str = ""  # what was found and what was expected; empty when present

    @property
    def mend(self) -> str:
        """The command that makes it right; empty when nothing is to be done."""
        return "" if self.state is State.PRESENT else MEND

    def error(self) -> ModelError:
        """What to raise when this file is needed now."""
        return ModelError(f"model file {self.path} ({self.id}) {self.detail}; run `{MEND}` to mend it")


def path_of(entry: Entry, folder: Path) -> Path:
    """Where the entry lives, whether or not it is there."""
    match entry:
        case ModelFile():
            return folder / entry.file
        case DerivedFile():
            return folder / entry.folder / entry.file


def standing_of(entry: Entry, folder: Path) -> Standing:
    """Hashes the file in full: about 1 ms per MB.

    Raises:
        ModelError: the file is there but cannot be read.
    """
    path = path_of(entry, folder)
    try:
        state, detail = _compare(entry, path)
    except OSError as error:
        raise ModelError(
            f"model file {path} cannot be read: {error.strerror}; expected a readable file, check its permissions"
        ) from error
    return Standing(id=entry.id, ability=entry.ability, path=path, state=state, detail=detail)


def _compare(entry: Entry, path: Path) -> tuple[State, str]:
    if not path.is_file():
        return State.MISSING, "is missing"
    if isinstance(entry, ModelFile):
        return _compare_bytes(path, entry.size, entry.sha256)
    record = read_record(path.parent)
    if record is None or record.get("recipe") != entry.recipe:
        return State.WRONG, f"has no readable record of how it was made ({RECORD})"
    return _compare_bytes(path, record.get("size"), record.get("sha256"))


def _compare_bytes(path: Path, size: Any, sha256: Any) -> tuple[State, str]:
    found_size = path.stat().st_size
    if found_size != size:
        return State.WRONG, f"has {found_size} bytes, expected {size}"
    found = sha256_of(path)
    if found != sha256:
        return State.WRONG, f"has SHA-256 {found}, expected {sha256}"
    return State.PRESENT, ""


def sha256_of(path: Path) -> str:
    """Hex digest of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record beside a derived file; None when there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def record_of(entry: DerivedFile, path: Path) -> dict[str, Any]:
    """What to write beside a derived file that was just made at `path`."""
    return {"recipe": entry.recipe, "size": path.stat().st_size, "sha256": sha256_of(path)}
