"""Nothing in the tree knows on which machine it was written or from which host packages come."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = (
    "/" + "work/",
    "/" + "root/",
    "/" + "opt/wheels",
    "/" + "opt/pypi",
    "pypi" + ".org",
    "files.python" + "hosted",
    "index" + "-url",
    "find" + "-links",
)
BINARY = {".mp4", ".npz", ".npy", ".onnx", ".wav", ".ogg", ".png", ".jpg", ".gz", ".safetensors"}


def tracked_files() -> list[Path]:
    """What git would put into a clone, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked archive has no list of its files")
@pytest.mark.parametrize("place", ELSEWHERE)
def test_no_file_names_a_place_of_the_machine_it_was_written_on(place: str) -> None:
    naming = [str(path.relative_to(ROOT)) for path in tracked_files() if place in path.read_text("utf-8")]
    assert not naming


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked archive has no list of its files")
def test_there_are_files_to_look_at() -> None:
    assert len(tracked_files()) > 50
