"""Whole copies of a database that may be in use, written so that a crash never leaves half a file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from omni_watch.domain.errors import StoreError
from omni_watch.store.faults import translated


def copy_database(source: Path, to: Path) -> None:
    """Copy `source` as of now to `to` (replaced when it exists), through SQLite's backup API.

    Raises:
        StoreError: `source` cannot be read, or `to` cannot be written.
    """
    partial = to.with_name(f".{to.name}.partial")
    try:
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600))
        try:
            _pour(source, partial)
            _sync(partial)
            partial.replace(to)
            _sync(to.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"no copy of {source} could be written to {to}: {error.strerror}") from error


def _pour(source: Path, partial: Path) -> None:
    with translated(source), closing(connect_existing(source)) as origin:
        origin.execute("PRAGMA schema_version")  # a file that is no database must say so in its own name
        with translated(partial), closing(sqlite3.connect(partial)) as copy:
            origin.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it


def connect_existing(path: Path) -> sqlite3.Connection:
    """A plain connection to a database that is there; reads also what may not be written.

    Not opened read-only, since such a connection leaves a log and an index behind beside the file.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)


def free_name(directory: Path, stem: str, suffix: str) -> Path:
    """The first of stem.suffix, stem-2.suffix, ... that is not taken."""
    names = (directory / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}" for number in count(1))
    return next(name for name in names if not name.exists())


def _sync(path: Path) -> None:
    """Wait until the disk has it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
