"""Pictures of the moment an alert was decided, as JPEG files that only we can read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.alerts.speakers import write_private
from omni_watch.domain.units import Frame
from omni_watch.watch.ports import Observer

LONG_SIDE_MAX: Final = 1280
BYTES_MAX: Final = 512 * 1024
QUALITIES: Final = (85, 70, 55, 40, 25)
NAMES: Final = ("now", "before")
_ID: Final = re.compile(r"[a-z0-9_-]{1,64}")


class SnapshotFolder:
    """Implements `Snapshots`: `<alert id>-now.jpg` and `<alert id>-before.jpg`. Encoding and disk run off the loop."""

    def __init__(self, folder: Path, *, observer: Observer) -> None:
        self._folder = folder
        self._observer = observer

    async def keep(self, alert_id: str, frames: Mapping[str, Frame]) -> None:
        """Write one picture for each name; a disk that is full is reported, never raised."""
        for name, frame in frames.items():
            path = self._path(alert_id, name)
            try:
                await asyncio.to_thread(_write, path, frame)
            except (OSError, cv2.error) as error:
                self._observer.on("snapshot.not_kept", alert_id=alert_id, name=name, why=str(error))

    async def load(self, alert_id: str, name: str = "now") -> bytes | None:
        """The JPEG bytes; None when there is none."""
        try:
            return await asyncio.to_thread(self._path(alert_id, name).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._observer.on("snapshot.not_read", alert_id=alert_id, name=name, why=str(error))
            return None

    async def forget(self, alert_ids: Sequence[str]) -> None:
        """Delete the pictures of these alerts."""
        stems = tuple(f"{_checked(alert_id)}-" for alert_id in alert_ids)
        await self._delete(lambda path: path.stem[: path.stem.rfind("-") + 1] in stems)

    async def forget_before(self, cutoff: datetime) -> None:
        """Delete the pictures taken before `cutoff` (aware)."""
        await self._delete(lambda path: path.stat().st_mtime < cutoff.timestamp())

    def _path(self, alert_id: str, name: str) -> Path:
        if name not in NAMES:
            raise ValueError(f"a snapshot is called {' or '.join(NAMES)}, not {name!r}")
        return self._folder / f"{_checked(alert_id)}-{name}.jpg"

    async def _delete(self, is_meant: Callable[[Path], bool]) -> None:
        try:
            await asyncio.to_thread(_delete_those, self._folder, is_meant)
        except OSError as error:
            self._observer.on("snapshot.not_deleted", why=str(error))


def as_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """[H, W, 3] -> JPEG bytes, long side at most 1280, at most 512 KiB: quality falls first, then size.

    Raises:
        cv2.error: it cannot be encoded.
    """
    picture = _fitted(rgb, LONG_SIDE_MAX)
    while True:
        for quality in QUALITIES:
            jpeg = _encoded(picture, quality)
            if len(jpeg) <= BYTES_MAX:
                return jpeg
        picture = _fitted(picture, max(picture.shape[:2]) * 2 // 3)


def _encoded(rgb: NDArray[np.uint8], quality: int) -> bytes:
    is_well, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_well:
        raise cv2.error(f"a picture of {rgb.shape} cannot be encoded as JPEG")
    return jpeg.tobytes()


def _fitted(rgb: NDArray[np.uint8], long_side: int) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return rgb
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _write(path: Path, frame: Frame) -> None:
    write_private(path, as_jpeg(frame.rgb))


def _delete_those(folder: Path, is_meant: Callable[[Path], bool]) -> None:
    for path in folder.glob("*.jpg"):
        if is_meant(path):
            path.unlink(missing_ok=True)


def _checked(alert_id: str) -> str:
    if not _ID.fullmatch(alert_id):
        raise ValueError(f"{alert_id!r} cannot be part of a file name; expected 1 to 64 of a-z, 0-9, _ and -")
    return alert_id
