"""Looking after the database file: is it sound, copy it, put a copy back. Synchronous; for the command line."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omni_watch.domain.errors import StoreError
from omni_watch.store.copies import connect_existing, copy_database, free_name
from omni_watch.store.faults import is_damage, store_error, translated
from omni_watch.store.upgrade import HEAD, known_revisions, revision_of

PROBLEMS_MAX: Final = 20  # lines of SQLite's own report that are kept
COMPANIONS: Final = ("-wal", "-shm")  # what SQLite keeps beside a file in use


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `check` found."""

    path: Path
    revision: str
    problems: tuple[str, ...]  # empty: sound
    size_bytes: int
    rows: dict[str, int]  # by table

    @property
    def is_sound(self) -> bool:
        return not self.problems

    @property
    def is_current(self) -> bool:
        """Whether this version made its tables; an older one is brought up to date at the next start."""
        return self.revision == HEAD


def check(path: Path) -> Health:
    """Read every page of the database. Safe while the daemon runs.

    Raises:
        StoreError: there is none, it cannot be opened, or it is too damaged to be read at all.
    """
    _require_file(path)
    revision = revision_of(path)
    if revision is None:
        raise StoreError(f"{path} is empty; `omni-watch run` or any `omni-watch task` command makes its tables")
    with translated(path), closing(connect_existing(path)) as connection:
        return Health(
            path=path,
            revision=revision,
            problems=_problems(connection, path),
            size_bytes=path.stat().st_size,
            rows=_rows(connection),
        )


def note(path: Path, name: str) -> Mapping[str, Any]:
    """What the house has noted under this name; empty when nothing, or when there is no database yet.

    Raises:
        StoreError: the database cannot be read.
    """
    if not path.exists() or revision_of(path) is None:
        return {}
    with translated(path), closing(connect_existing(path)) as connection:
        row = connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
    return {} if row is None else dict(json.loads(row[0]))


def backup(path: Path, to: Path) -> Health:
    """A copy of the database as of now, checked after it was written. Safe while the daemon runs.

    Raises:
        StoreError: `to` exists, cannot be written, or the copy turned out damaged (then it is left for a look).
    """
    _require_file(path)
    if to.is_dir():
        raise StoreError(f"{to} is a directory; name the file to write, for example {to / path.name}")
    if to.exists():
        raise StoreError(f"{to} exists already; choose another name, or remove it first")
    copy_database(path, to)
    return _require_sound(to)


def restore(path: Path, backup: Path) -> Path | None:
    """Put a copy of `backup` in the place of `path`; where the replaced file is kept (None: there was none).

    Raises:
        StoreError: the backup is damaged or newer than this version, or something still uses the database; nothing
            was changed then.
    """
    _require_file(backup)
    if path.exists() and path.samefile(backup):
        raise StoreError(f"{backup} is the database itself; name a backup to restore")
    health = _require_sound(backup)
    if health.revision not in known_revisions():
        raise StoreError(
            f"the backup {backup} has revision {health.revision}, which this version does not know (it knows up to "
            f"{HEAD}); install the version that wrote it"
        )
    fresh = free_name(path.parent, f"{path.name}.restoring", "")
    copy_database(backup, fresh)
    try:
        aside = _set_aside(path) if path.exists() else None
        fresh.replace(path)
    except OSError as error:
        raise StoreError(f"the database {path} cannot be replaced: {error.strerror}; check its directory") from error
    finally:
        fresh.unlink(missing_ok=True)
    return aside


def _set_aside(path: Path) -> Path:
    """Keep the file that is about to be replaced under another name, with whatever SQLite left beside it.

    The name `path` stays in place until the new file takes it, so that no crash leaves the house without a database.
    """
    _require_unused(path)
    aside = free_name(path.parent, f"{path.name}.replaced", "")
    os.link(path, aside)
    for companion in COMPANIONS:  # only a damaged file still has them here: they must not meet the new one
        beside = path.with_name(path.name + companion)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + companion))
    return aside


def _require_unused(path: Path) -> None:
    """Leaving WAL mode folds the log into the file, and needs that nobody else has it open."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if is_damage(error):  # which is why it is being replaced; it is kept aside as it is
            return
        trouble = store_error(error, str(path))
        if trouble.can_retry:
            raise StoreError(
                f"the database {path} is in use; stop omni-watch first (`systemctl stop omni-watch`), then try again"
            ) from error
        raise trouble from error


def _require_sound(path: Path) -> Health:
    health = check(path)
    if not health.is_sound:
        raise StoreError(f"{path} is damaged, it cannot serve as a backup: {'; '.join(health.problems[:3])}")
    return health


def _require_file(path: Path) -> None:
    try:
        found = path.is_file()
    except OSError as error:
        raise StoreError(f"{path} cannot be looked at: {error.strerror}") from error
    if not found:
        raise StoreError(f"there is no database at {path}")


def _problems(connection: sqlite3.Connection, path: Path) -> tuple[str, ...]:
    """SQLite's own report; a page so damaged that the report breaks off is one more problem."""
    try:
        found = [line for (line,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})") if line != "ok"]
        found += [
            f"row {row} of {table} refers to a row of {other} that is not there"
            for table, row, other, _ in connection.execute("PRAGMA foreign_key_check")
        ]
    except sqlite3.DatabaseError as error:
        return (str(store_error(error, str(path))),)
    return tuple(found)


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows the tables have; a table that cannot be read is left out."""
    counts = {}
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
        try:
            (counts[table],) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608
        except sqlite3.DatabaseError:
            continue
    return counts
