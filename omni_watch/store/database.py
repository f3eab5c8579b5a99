"""One SQLite file and one connection to it: pragmas, transactions, and whether others changed it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, Engine, Pool, QueuePool, StaticPool, create_engine, event
from sqlalchemy.orm import Session

from omni_watch.domain.errors import StoreError
from omni_watch.store.faults import translated
from omni_watch.store.repositories import SqlTransaction
from omni_watch.store.rows import Row
from omni_watch.store.upgrade import upgrade
from omni_watch.watch.ports import Transaction

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 5.0  # how long to wait for another process's transaction before giving up
BACKUPS: Final = "backups"  # the folder beside it for copies from before an upgrade
FILE_NAME: Final = "omni-watch.db"  # in the state directory
IN_MEMORY: Final = ":memory:"


def engine_for(path: Path | None, *, poolclass: type[Pool] = QueuePool) -> Engine:
    """An engine on this file (None: in memory) whose connections begin every transaction with the write lock."""
    url = f"sqlite+pysqlite:///{path or IN_MEMORY}"
    engine = create_engine(url, poolclass=poolclass, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """Pragmas of a new sqlite3 connection."""
    connection.isolation_level = None  # we say BEGIN ourselves; the driver would begin late and only for writes
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL and not NORMAL: in WAL mode NORMAL may lose the last commits when the power goes, and an alert that was
    # told must not be told again. It costs one fsync for each commit.
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    # IMMEDIATE: what a transaction read is still true when it writes, whatever other processes do
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Database:
    """The store for one thread: the thread that uses it. `SqlStore` puts one on the store thread.

    Raises:
        StoreError: the file cannot be opened, or is newer than this version.
    """

    def __init__(self, path: Path | None, *, backups: Path | None = None) -> None:
        """Open `path`, brought up to date first (backups: beside it, in `backups/`); None: in memory, for replay."""
        self.name = str(path or IN_MEMORY)
        if path is not None:
            upgrade(path, backups or path.parent / BACKUPS)
        self._engine = engine_for(path, poolclass=StaticPool)
        self._closed = False
        with translated(self.name):
            if path is None:
                Row.metadata.create_all(self._engine)
            self._seen = self._data_version()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """`work` in one transaction: committed when it returns, rolled back when it raises."""
        self._require_open()
        with translated(self.name), Session(self._engine) as session, session.begin():
            return work(SqlTransaction(session))

    def changed_elsewhere(self) -> bool:
        """Whether another connection (another process, or our timers) committed since the last call."""
        self._require_open()
        with translated(self.name):
            before, self._seen = self._seen, self._data_version()
        return self._seen != before

    def close(self) -> None:
        """May be called twice. The last connection to close folds the write-ahead log into the file."""
        self._closed = True
        with translated(self.name):
            self._engine.dispose()

    def _data_version(self) -> int:
        # a raw cursor: a transaction of SQLAlchemy's would take the write lock just to look
        connection = self._engine.raw_connection()
        try:
            row = connection.cursor().execute("PRAGMA data_version").fetchone()
        finally:
            connection.close()
        return int(row[0])

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"the database {self.name} was closed before")


def open_store(path: Path, *, backups: Path | None = None) -> Database:
    """The store for the command line: `with open_store(path) as store: store.transact(work)`.

    Raises:
        StoreError: the file cannot be opened, or is newer than this version.
    """
    return Database(path, backups=backups)
