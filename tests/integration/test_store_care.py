"""`omni-watch db`: is it sound, keep a copy, put a copy back."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from omni_watch.cli import run_command
from omni_watch.domain.errors import StoreError
from omni_watch.store import care
from omni_watch.store.database import open_store
from omni_watch.store.upgrade import HEAD
from omni_watch.watch import modes
from tests.fakes.values import a_delivery, a_task, an_alert, an_example


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with something in it."""
    path = tmp_path / "omni-watch.db"
    with open_store(path) as store:
        store.transact(lambda tx: tx.tasks.add(a_task()))
        store.transact(lambda tx: tx.lessons.add("kettle01", "kitchen", an_example(jpeg=os.urandom(50_000))))
        store.transact(lambda tx: tx.alerts.add(an_alert(), [a_delivery()]))
    return path


def task_ids(path: Path) -> list[str]:
    with open_store(path) as store:
        return store.transact(lambda tx: [task.id for task in tx.tasks.all()])


def add_task(path: Path, task_id: str) -> None:
    with open_store(path) as store:
        store.transact(lambda tx: tx.tasks.add(a_task(task_id)))


def spoil(path: Path) -> None:
    """Write over pages in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 12 * 4096] = b"\xa5" * (4 * 4096)
    path.write_bytes(bytes(content))


def test_a_sound_database_is_said_to_be_sound(path: Path) -> None:
    health = care.check(path)
    assert health.is_sound
    assert health.is_current
    assert health.size_bytes == path.stat().st_size
    assert {health.rows[name] for name in ("tasks", "examples", "alerts", "deliveries")} == {1}


def test_it_is_checked_and_backed_up_while_the_daemon_uses_it(path: Path, tmp_path: Path) -> None:
    with open_store(path) as daemon:
        daemon.transact(lambda tx: tx.tasks.add(a_task("running")))  # still in the write-ahead log
        assert care.check(path).rows["tasks"] == 2
        assert care.backup(path, tmp_path / "copy.db").rows["tasks"] == 2
        daemon.transact(lambda tx: tx.tasks.add(a_task("later")))
    assert task_ids(tmp_path / "copy.db") == ["kettle01", "running"]


def test_damage_is_found_and_named(path: Path) -> None:
    spoil(path)
    health = care.check(path)
    assert not health.is_sound
    assert health.problems


def test_a_row_that_refers_to_nothing_is_damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM alerts")
        connection.commit()
    (problem,) = care.check(path).problems
    assert problem == "row 1 of deliveries refers to a row of alerts that is not there"


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "there is no database"), (b"", "is empty"), (b"x" * 9000, "damaged")]
)
def test_what_is_no_database_of_ours_cannot_be_checked_or_backed_up(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "omni-watch.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=complaint):
        care.check(path)
    with pytest.raises(StoreError, match=complaint):
        care.backup(path, tmp_path / "copy.db")


def test_a_backup_is_private_is_one_file_and_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    to = tmp_path / "deep" / "copy.db"
    care.backup(path, to)
    assert to.stat().st_mode & 0o077 == 0
    assert [file.name for file in to.parent.iterdir()] == ["copy.db"]
    with pytest.raises(StoreError, match="exists already"):
        care.backup(path, to)
    with pytest.raises(StoreError, match="is a directory"):
        care.backup(path, to.parent)


def test_restoring_brings_back_what_was_backed_up_and_keeps_the_replaced_file(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    care.backup(path, copy)
    add_task(path, "newer")
    aside = care.restore(path, copy)
    assert task_ids(path) == ["kettle01"]
    assert aside is not None
    assert task_ids(aside) == ["kettle01", "newer"]
    assert care.check(copy).is_sound
    again = care.restore(path, copy)
    assert again is not None
    assert again != aside


def test_a_database_that_is_gone_is_restored_too(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    care.backup(path, copy)
    path.unlink()
    assert care.restore(path, copy) is None
    assert task_ids(path) == ["kettle01"]


@pytest.mark.parametrize("damage", ["pages", "header", "empty"])
def test_a_damaged_database_is_replaced_and_kept_as_it_is(path: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy.db"
    care.backup(path, copy)
    if damage == "pages":
        spoil(path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"x" * 20_000)
    path.with_name("omni-watch.db-wal").write_bytes(b"left over from a crash")
    before = path.read_bytes()
    aside = care.restore(path, copy)
    assert aside is not None
    assert aside.read_bytes() == before or damage == "pages"
    assert task_ids(path) == ["kettle01"]


@pytest.mark.parametrize("backup", ["spoilt", "missing", "itself", "newer"])
def test_what_cannot_serve_as_a_backup_changes_nothing(path: Path, tmp_path: Path, backup: str) -> None:
    copy = tmp_path / "copy.db"
    care.backup(path, copy)
    if backup == "spoilt":
        spoil(copy)
    elif backup == "missing":
        copy.unlink()
    elif backup == "itself":
        copy = path
    else:
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.commit()
    files = {file.name for file in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=r"damaged|no database|the database itself|does not know"):
        care.restore(path, copy)
    assert task_ids(path) == ["kettle01"]
    assert {file.name for file in tmp_path.iterdir()} == files


def test_a_database_in_use_is_not_replaced(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    care.backup(path, copy)
    with open_store(path) as daemon:
        daemon.transact(lambda tx: tx.tasks.add(a_task("running")))
        with pytest.raises(StoreError, match="in use; stop omni-watch first"):
            care.restore(path, copy)
        daemon.transact(lambda tx: tx.tasks.add(a_task("going on")))
    assert task_ids(path) == ["kettle01", "running", "going on"]


@dataclass(frozen=True)
class Ran:
    code: int
    words: str
    complaint: str

    def document(self) -> dict[str, Any]:
        assert self.code == 0, self.complaint
        value = json.loads(self.words)
        assert isinstance(value, dict)
        return value


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def running(*arguments: str | Path) -> Ran:
        code = run_command(["db", *(str(argument) for argument in arguments)])
        printed = capsys.readouterr()
        return Ran(code, " ".join(printed.out.split()), printed.err)

    return running


def test_the_command_checks_in_words_and_in_json(path: Path, run: Run) -> None:
    told = run("check", "--database", path)
    assert told.code == 0
    assert f"revision {HEAD} (current)" in told.words
    assert "1 tasks, 1 examples, 1 alerts" in told.words
    assert "It is sound." in told.words
    found = run("check", "--database", path, "--json").document()
    assert (found["path"], found["is_sound"], found["problems"]) == (str(path), True, [])


def test_the_command_exits_with_1_when_the_database_is_damaged(path: Path, run: Run) -> None:
    spoil(path)
    told, as_json = run("check", "--database", path), run("check", "--database", path, "--json")
    assert told.code == as_json.code == 1
    assert "omni-watch db restore BACKUP" in told.words
    assert json.loads(as_json.words)["is_sound"] is False


def test_the_commands_back_up_and_restore(path: Path, tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "copy.db"
    assert f"Backed up to {copy}: 1 tasks" in run("backup", copy, "--database", path).words
    add_task(path, "newer")
    restored = run("restore", copy, "--database", path)
    assert restored.code == 0
    assert "is kept as" in restored.words
    assert task_ids(path) == ["kettle01"]
    found = run("restore", copy, "--database", path, "--json").document()
    assert Path(found["kept_aside"]).exists()


def test_the_command_finds_the_configured_database(path: Path, tmp_path: Path, run: Run) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[house]\nstate_dir = "{tmp_path}"\n')
    assert run("check", "--json", "--config", config).document()["path"] == str(path)


def test_the_doctor_can_read_a_note_without_making_anything(path: Path, tmp_path: Path) -> None:
    with open_store(path) as store:
        store.transact(lambda tx: modes.set_listening(tx, "kitchen", is_listening=False))
    assert modes.deaf_in(care.note(path, modes.NOTE)) == {"kitchen"}
    assert care.note(path, "nothing") == {}
    assert care.note(tmp_path / "nowhere.db", modes.NOTE) == {}
    assert not (tmp_path / "nowhere.db").exists()
