"""The table of model files that this release ships."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from omni_watch.cabinet import ModelFile, Table
from omni_watch.duplex.prepare import PREPARERS
from tests.fakes.fake_carrier import small_table

TABLE = Table.shipped()


@pytest.mark.parametrize("file", TABLE.files.values(), ids=lambda file: file.id)
def test_every_file_is_pinned_to_one_version_and_one_content(file: ModelFile) -> None:
    assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", file.package.requirement)
    assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
    assert file.size > 0


@pytest.mark.parametrize("file", TABLE.files.values(), ids=lambda file: file.id)
def test_every_file_says_what_it_is_for_whose_it_is_and_under_which_licence(file: ModelFile) -> None:
    assert file.ability
    assert file.origin
    assert file.licence
    assert file.licence_source


def test_no_two_files_share_a_place_and_none_lies_outside_the_folder() -> None:
    places = [file.file for file in TABLE.files.values()]
    assert len(set(places)) == len(places)
    for place in places:
        assert not PurePosixPath(place).is_absolute()
        assert ".." not in PurePosixPath(place).parts
        assert not place.startswith("prepared/")


def test_ids_are_unique_over_files_and_derived_files() -> None:
    assert not set(TABLE.files) & set(TABLE.derived)


def test_every_derived_file_has_a_preparer() -> None:
    assert {entry.preparer for entry in TABLE.derived.values()} == set(PREPARERS)


def test_only_data_is_taken_out_of_a_wheel_never_code() -> None:
    data = {".zip", ".csv", ".pth", ".onnx", ".safetensors", ".json", ".bin", ".txt", ".part1", ".part2", ".npz"}
    for file in TABLE.files.values():
        assert PurePosixPath(file.member).suffix in data


def test_what_is_only_for_preparing_is_the_source_of_something() -> None:
    sources = {source.id for entry in TABLE.derived.values() for source in entry.sources}
    assert {file.id for file in TABLE.files.values() if file.only_for_preparing} <= sources


def test_another_version_of_the_preparer_is_another_place() -> None:
    old, new = small_table(version=1).derived["graph"], small_table(version=2).derived["graph"]
    assert old.folder != new.folder
    assert old.folder == small_table(version=1).derived["graph"].folder


def test_a_field_too_many_in_the_table_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        Table.parse('[packages.a]\nrequirement = "a==1"\nwheel_bytes = 1\ncolour = "red"\n')
