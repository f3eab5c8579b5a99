"""Whoever made what we use is named, and the release says the same version everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import omni_watch
from omni_watch.cabinet import ModelFile, Table

ROOT = Path(__file__).parents[2]
NOTICE = (ROOT / "NOTICE").read_text("utf-8")
TABLE = Table.shipped()


@pytest.mark.parametrize("file", TABLE.files.values(), ids=lambda file: file.id)
def test_every_model_file_is_in_the_notice_with_its_package_and_licence(file: ModelFile) -> None:
    paragraph = next(
        part
        for part in NOTICE.split("\n\n")
        if re.search(rf"\bfrom {re.escape(file.package.name)}$", part, re.MULTILINE)
    )
    assert re.search(rf"(^|, ){re.escape(file.id)}(,|\s)", paragraph, re.MULTILINE)
    assert file.licence in paragraph
    assert all(address in NOTICE for address in re.findall(r"https://\S+[^;,\s]", file.licence_source))


@pytest.mark.parametrize("entry", TABLE.derived.values(), ids=lambda entry: entry.id)
def test_every_derived_file_is_in_the_notice(entry: ModelFile) -> None:
    assert f"turned into `{entry.id}`" in NOTICE


def test_every_recording_and_picture_in_the_package_is_in_the_notice() -> None:
    media = [
        path for path in (ROOT / "omni_watch").rglob("*") if path.suffix in {".mp4", ".wav", ".ogg", ".jpg", ".png"}
    ]
    assert media
    for path in media:
        assert str(path.relative_to(ROOT)) in NOTICE


def test_the_changelog_speaks_of_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == omni_watch.__version__


def test_every_dependency_has_an_exact_version_in_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    wanted = {_name(requirement) for requirement in [*project["dependencies"], *extras]}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {_name(line) for line in lines if re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line)}
    assert wanted <= pinned
    assert len(pinned) == sum(not line.startswith("#") for line in lines)


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~\[;\s]", requirement, maxsplit=1)[0]).lower()
