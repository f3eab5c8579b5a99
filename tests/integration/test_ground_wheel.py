"""The wheel holds all that a house without a checkout needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names inside a wheel built from this tree, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
        "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT),
    ]
    # fmt: on
    built = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("omni_watch-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_rules_and_migrations_lie_where_the_package_looks_for_them(content: set[str]) -> None:
    for folder, suffix in (("rules", "*.yaml"), ("migrations", "*.py")):
        ours = [path.relative_to(ROOT) for path in (ROOT / folder).rglob(suffix) if "__pycache__" not in path.parts]
        assert ours
        assert {f"omni_watch/data/{path}" for path in ours} <= content


def test_the_demonstration_is_inside(content: set[str]) -> None:
    demo = {f"omni_watch/data/demo/{name}" for name in ("kettle_filling.mp4", "kettle_teach.mp4", "teach.json")}
    assert demo <= content


def test_the_table_of_models_and_the_typing_mark_are_inside(content: set[str]) -> None:
    assert {"omni_watch/cabinet/table.toml", "omni_watch/py.typed"} <= content


def test_the_licence_and_the_notice_travel_along(content: set[str]) -> None:
    licences = {Path(name).name for name in content if ".dist-info/licenses/" in name}
    assert {"LICENSE", "NOTICE"} <= licences


def test_nothing_but_the_package_is_inside(content: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in content} == {"omni_watch"}
    assert not [name for name in content if "__pycache__" in name]
