"""Sounds that were made, kept in a folder: after a restart the house speaks at once.

A file is named after what was read by whom, and begins with the digest of its own bytes: one that is damaged, or was
half written by a disk that lied, is taken for missing and made again. When the folder grows too large, what was not
asked for the longest goes first.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final

from omni_watch.alerts.speakers import write_private

SHELF_BYTES: Final = 32_000_000  # about twelve minutes of speech
LARGEST: Final = 4  # one sound may take a fourth of the room
SUFFIX: Final = ".sound"
DIGEST_BYTES: Final = 32


class SoundShelf:
    """A bounded folder of sounds. Any thread."""

    def __init__(self, folder: Path, bytes_max: int = SHELF_BYTES) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] | None = None  # the last used is last; None: not looked yet

    def find(self, *key: str) -> bytes | None:
        """What was kept under this key; None when nothing was, or it is damaged. Errors of the disk are None, too."""
        name = _name(key)
        with self._lock:
            sizes = self._looked()
            if name not in sizes:
                return None
            path = self._folder / name
            try:
                kept = path.read_bytes()
            except OSError:
                kept = b""
            digest, wav = kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
            if hashlib.sha256(wav).digest() != digest:
                del sizes[name]
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                return None
            with suppress(OSError):  # a disk that cannot be written can still be read
                os.utime(path)
            sizes.move_to_end(name)
            return wav

    def keep(self, wav: bytes, *key: str) -> None:
        """Keep it until the room is needed for others. OSError: the disk does not take it."""
        size = len(wav) + DIGEST_BYTES
        if size * LARGEST > self._bytes_max:
            return
        name = _name(key)
        with self._lock:
            sizes = self._looked()
            write_private(self._folder / name, hashlib.sha256(wav).digest() + wav)
            sizes[name] = size
            sizes.move_to_end(name)
            while sum(sizes.values()) > self._bytes_max:
                oldest, _ = sizes.popitem(last=False)
                (self._folder / oldest).unlink(missing_ok=True)

    def _looked(self) -> OrderedDict[str, int]:
        """What lies there, the last used last; drafts that a crash left are thrown away."""
        if self._sizes is None:
            found: list[tuple[float, str, int]] = []
            try:
                for entry in os.scandir(self._folder):
                    stat = entry.stat(follow_symlinks=False)
                    if entry.name.startswith("."):
                        Path(entry.path).unlink(missing_ok=True)
                    elif entry.name.endswith(SUFFIX):
                        found.append((stat.st_mtime, entry.name, stat.st_size))
            except OSError:
                found = []  # it is made with the first sound, or cannot be, which `keep` then says
            self._sizes = OrderedDict((name, size) for _, name, size in sorted(found))
        return self._sizes


def _name(key: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest() + SUFFIX
