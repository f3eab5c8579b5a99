"""Sounds that are kept: bounded, private, and never believed when they are damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from omni_watch.alerts.shelf import DIGEST_BYTES, SUFFIX, SoundShelf

SIZE = 100 - DIGEST_BYTES  # with its digest a sound takes 100 bytes


def sound(letter: str) -> bytes:
    return letter.encode() * SIZE


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_what_was_kept_is_there_after_a_restart_and_only_for_us(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    SoundShelf(folder).keep(sound("a"), "piper", "model", "en", "hello")
    assert SoundShelf(folder).find("piper", "model", "en", "hello") == sound("a")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in files(folder)] == [0o600]
    assert "hello" not in files(folder)[0].name


@pytest.mark.parametrize(
    "key", [("espeak", "model", "en", "hello"), ("piper", "newer", "en", "hello"), ("piper", "model", "zh", "hello")],
    ids=["another voice", "another model", "another language"],
)  # fmt: skip
def test_another_voice_model_or_language_is_another_sound(tmp_path: Path, key: tuple[str, ...]) -> None:
    shelf = SoundShelf(tmp_path)
    shelf.keep(sound("a"), "piper", "model", "en", "hello")
    assert shelf.find(*key) is None


def test_what_was_not_used_the_longest_goes_first_also_after_a_restart(tmp_path: Path) -> None:
    shelf = SoundShelf(tmp_path, bytes_max=400)
    for number, name in enumerate("abcd"):
        shelf.keep(sound(name), name)
        os.utime(max(files(tmp_path), key=lambda path: path.stat().st_mtime_ns), (number, number))
    shelf = SoundShelf(tmp_path, bytes_max=400)
    assert shelf.find("a") == sound("a")
    shelf.keep(sound("e"), "e")
    assert [name for name in "abcde" if shelf.find(name)] == ["a", "c", "d", "e"]
    assert len(files(tmp_path)) == 4


def test_a_sound_too_large_for_the_shelf_is_not_kept(tmp_path: Path) -> None:
    shelf = SoundShelf(tmp_path, bytes_max=400)
    shelf.keep(sound("a") + b"x", "a")
    assert shelf.find("a") is None


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100], ids=["empty", "cut off", "other bytes"])
def test_a_damaged_sound_is_missing_and_made_again(tmp_path: Path, damage: bytes) -> None:
    shelf = SoundShelf(tmp_path)
    shelf.keep(sound("a"), "a")
    files(tmp_path)[0].write_bytes(damage)
    assert SoundShelf(tmp_path).find("a") is None
    assert shelf.find("a") is None
    assert files(tmp_path) == []
    shelf.keep(sound("b"), "a")
    assert SoundShelf(tmp_path).find("a") == sound("b")


def test_drafts_of_a_crash_are_cleared_and_files_of_others_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".draft").write_bytes(b"half")
    (tmp_path / "readme.txt").write_text("mine")
    assert SoundShelf(tmp_path).find("a") is None
    assert [path.name for path in tmp_path.iterdir()] == ["readme.txt"]


def test_a_folder_that_cannot_be_used_is_an_error_of_the_disk_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "voice").write_text("a file where the folder should be")
    shelf = SoundShelf(tmp_path / "voice")
    assert shelf.find("a") is None
    with pytest.raises(OSError, match="voice"):
        shelf.keep(sound("a"), "a")
