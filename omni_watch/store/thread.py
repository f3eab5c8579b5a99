"""The daemon's store: one thread owns the connection, so that a slow disk never stops the heart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from omni_watch.domain.errors import StoreError
from omni_watch.store.database import Database
from omni_watch.watch.ports import Transaction

T = TypeVar("T")


class SqlStore:
    """`watch.ports.Store` over a `Database`. Any coroutine of the loop may call it; calls are served in order."""

    def __init__(self, database: Database, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._thread = thread
        self._closed = False

    @classmethod
    async def open(cls, path: Path | None, *, backups: Path | None = None) -> Self:
        """The store on `path`, brought up to date first; None: in memory, for replay.

        Raises:
            StoreError: the file cannot be opened, or is newer than this version.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            database = await asyncio.get_running_loop().run_in_executor(thread, lambda: Database(path, backups=backups))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(database, thread)

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """`work` in one transaction on the store thread.

        When the caller is cancelled while it waits, the transaction either never begins or runs to its end: there is
        no half of it.
        """
        return await self._on_thread(lambda: self._database.transact(work))

    async def changed_elsewhere(self) -> bool:
        """Whether others committed since the last call; now and then true because one of our timers was due."""
        return await self._on_thread(self._database.changed_elsewhere)

    async def close(self) -> None:
        """After what is already waiting; may be called twice."""
        if self._closed:
            return
        closing = self._on_thread(self._database.close)
        self._closed = True
        await closing
        self._thread.shutdown(wait=False)

    def _on_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise StoreError(f"the database {self._database.name} was closed before")
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
