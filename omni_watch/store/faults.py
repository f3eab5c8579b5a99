"""What SQLite and SQLAlchemy raise, as `StoreError`: what was found and what to do about it.

Statements and their values stay out of the messages: they hold what people said and showed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError

from omni_watch.domain.errors import StoreError

LIBRARY_ERRORS: Final = (sqlite3.Error, sqlite3.Warning, SQLAlchemyError)


def _damaged(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} is damaged ({reason}); `omni-watch db check` shows where, "
        "`omni-watch db restore BACKUP` puts a backup in its place and keeps the damaged file aside"
    )


def _read_only(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} cannot be written ({reason}); the file and its directory must belong to the user "
        "that runs omni-watch, on a file system that is mounted for writing"
    )


def _cannot_open(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} cannot be opened ({reason}); its directory must exist and be readable and writable "
        "for the user that runs omni-watch"
    )


def _full(name: str, reason: str) -> StoreError:
    return StoreError(f"no room for the database {name} ({reason}); free some space, nothing that was kept is lost")


def _busy(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} is busy ({reason}): another program held it for too long; try again", can_retry=True
    )


def _disk(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the disk under the database {name} failed ({reason}); "
        "look at the system's log (`dmesg`) and at the space left"
    )


def _memory(name: str, reason: str) -> StoreError:
    return StoreError(f"no memory left while using the database {name} ({reason}); try again", can_retry=True)


def _contradiction(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} refused a change ({reason}): it contradicts what is kept there, for example because the "
        "task was deleted meanwhile"
    )


def _other_layout(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} does not have the tables of this version ({reason}); "
        "`omni-watch db check` shows its revision, the next start brings an older one up to date"
    )


def _fault(name: str, reason: str) -> StoreError:
    return StoreError(
        f"the database {name} could not be used ({reason}); this looks like a fault of omni-watch, please report it"
    )


# Primary result codes, sqlite.org/rescode.html; extended codes carry them in their low byte.
BY_CODE: Final[dict[int, Callable[[str, str], StoreError]]] = {
    sqlite3.SQLITE_ERROR: _other_layout,
    sqlite3.SQLITE_PERM: _read_only,
    sqlite3.SQLITE_BUSY: _busy,
    sqlite3.SQLITE_LOCKED: _busy,
    sqlite3.SQLITE_PROTOCOL: _busy,
    sqlite3.SQLITE_NOMEM: _memory,
    sqlite3.SQLITE_READONLY: _read_only,
    sqlite3.SQLITE_AUTH: _read_only,
    sqlite3.SQLITE_IOERR: _disk,
    sqlite3.SQLITE_CORRUPT: _damaged,
    sqlite3.SQLITE_NOTADB: _damaged,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_CANTOPEN: _cannot_open,
    sqlite3.SQLITE_CONSTRAINT: _contradiction,
    sqlite3.SQLITE_SCHEMA: _other_layout,
}


def store_error(error: BaseException, name: str) -> StoreError:
    """The `StoreError` that says what `error`, raised while using the database `name`, means for people."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(origin, sqlite3.Error):
        code = getattr(origin, "sqlite_errorcode", None)
        if code is not None:
            return BY_CODE.get(code & 0xFF, _fault)(name, str(origin))
        if isinstance(origin, sqlite3.IntegrityError):
            return _contradiction(name, str(origin))
    if isinstance(origin, NoSuchTableError):
        return _other_layout(name, f"no table {origin}")
    return _fault(name, type(origin).__name__)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken, or no database at all."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return BY_CODE.get(code & 0xFF) is _damaged


@contextmanager
def translated(name: str | Path) -> Iterator[None]:
    """Turn whatever the libraries raise inside into `StoreError`; everything else passes.

    Raises:
        StoreError: retryable when the database is merely busy.
    """
    try:
        yield
    except LIBRARY_ERRORS as error:
        raise store_error(error, str(name)) from error
