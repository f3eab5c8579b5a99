"""Bring a database to the layout of this version: a backup first, then all revisions in one transaction."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import NullPool, create_engine, event

import omni_watch
from omni_watch.domain.errors import StoreError
from omni_watch.store.copies import connect_existing, copy_database, free_name
from omni_watch.store.faults import translated

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0003"  # the newest revision in migrations/; named here so that a current database needs no Alembic


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What `upgrade` did."""

    found: str | None  # the revision before; None: the file was new
    backup: Path | None = None  # None: there was nothing to keep


def migrations() -> Path:
    """Where the revisions are: in the installed package, or in the checkout."""
    package = Path(omni_watch.__file__).parent
    shipped = package / "data" / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def revision_of(path: Path) -> str | None:
    """The revision of an existing database; None when it has no tables at all.

    Raises:
        StoreError: not a database, not ours, or not readable.
    """
    with translated(path), closing(connect_existing(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        row = None
        if "alembic_version" in tables:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None and tables <= {"alembic_version"}:
        return None
    if row is None:
        raise StoreError(
            f"{path} is a database, but not one of omni-watch (it has no revision); "
            "choose another file, or move this one out of the way"
        )
    return str(row[0])


def upgrade(path: Path, backups: Path, *, to: str = HEAD, scripts: Path | None = None) -> Upgrade:
    """Bring `path` up to revision `to`, creating it when there is none. Safe to call from several processes.

    `scripts` is where the revisions are, if not where `migrations` finds them.

    Raises:
        StoreError: newer than this version, not ours, damaged, or no room; the database is then as it was.
    """
    found = revision_of(path) if _is_there(path) else None
    if found == to:
        return Upgrade(found=found)
    backup = None
    if found is None:
        _create(path)
    else:
        _require_known(found, path, scripts)
        backup = free_name(backups, f"{path.stem}-{found}-before-{to}", ".db")
        copy_database(path, backup)
    _migrate(path, to, scripts, up=True)
    return Upgrade(found=found, backup=backup)


def downgrade(path: Path, to: str, *, scripts: Path | None = None) -> None:
    """Take `path` back to revision `to` ("base": no tables); for developers, who keep their own backup.

    Raises:
        StoreError: not a database of ours, or damaged.
    """
    _migrate(path, to, scripts, up=False)


def config(scripts: Path | None = None) -> Config:
    """Alembic's settings for our revisions."""
    from alembic.config import Config  # a third of a second, which a current database need not pay

    settings = Config()
    settings.set_main_option("script_location", str(scripts or migrations()).replace("%", "%%"))
    return settings


def known_revisions(scripts: Path | None = None) -> set[str]:
    """Every revision that this version can read or bring up to date."""
    from alembic.script import ScriptDirectory  # see `config`

    return {script.revision for script in ScriptDirectory.from_config(config(scripts)).walk_revisions()}


def _is_there(path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"the database {path} cannot be looked at: {error.strerror}; check its directory") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"the database {path} cannot be opened: it is no file; choose another name for the database")
    return found.st_size > 0


def _create(path: Path) -> None:
    """An empty file that only its owner may read: a home is private."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(
            f"the database {path} cannot be created: {error.strerror}; its directory must be writable"
        ) from error


def _require_known(found: str, path: Path, scripts: Path | None) -> None:
    if found not in known_revisions(scripts):
        raise StoreError(
            f"the database {path} has revision {found}, but this version of omni-watch knows only up to {HEAD}: "
            "a newer version wrote it; install that version again, or use `omni-watch db restore BACKUP`"
        )


def _migrate(path: Path, to: str, scripts: Path | None, *, up: bool) -> None:
    """Run the revisions in one transaction. Foreign keys are off meanwhile, since SQLite changes a table by making it
    anew and dropping the old one, which would take everything that refers to it."""
    from alembic import command  # see `config`

    engine = create_engine(f"sqlite+pysqlite:///{path}", poolclass=NullPool, connect_args={"timeout": 30.0})
    event.listen(engine, "connect", _let_us_begin)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    settings = config(scripts)
    with translated(path), engine.begin() as connection:
        settings.attributes["connection"] = connection
        (command.upgrade if up else command.downgrade)(settings, to)
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise StoreError(
                f"the database {path} would have {len(broken)} broken references at revision {to}, so it was left "
                "as it was; please report this"
            )


def _let_us_begin(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA synchronous = FULL")
