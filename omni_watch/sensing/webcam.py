"""A V4L2 camera through OpenCV. Pictures stay in the camera's own format until one is used."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Opened
from omni_watch.sensing.pictures import decode_jpeg, fitted, frozen
from omni_watch.sensing.timeline import DeviceClock
from omni_watch.watch.ports import Clock

SILENT_S: Final = 5.0  # no picture for so long: the camera is gone
WIDTH, HEIGHT, RATE_FPS = 1280, 720, 15
RAW_FORMATS: Final = {"MJPG", "YUYV"}  # those that we convert ourselves, and only when used


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool: ...  # noqa: N802 (OpenCV's name)
    def set(self, prop: int, value: float) -> bool: ...
    def get(self, prop: int) -> float: ...
    def read(self) -> tuple[bool, Any]: ...
    def release(self) -> None: ...


def v4l2_capture(number: int) -> Capture:
    """The camera /dev/videoN, not yet set up."""
    return cv2.VideoCapture(number, cv2.CAP_V4L2)


@dataclass(frozen=True, slots=True, eq=False)
class WebcamPicture:
    """What the camera gave: JPEG bytes [1, N], YUYV [H, W, 2] or BGR [H, W, 3]. Implements `RawPicture`."""

    data: NDArray[np.uint8]
    fourcc: str

    def fingerprint(self) -> int:
        return zlib.crc32(np.ascontiguousarray(self.data).data)

    def rgb(self) -> NDArray[np.uint8]:
        if self.fourcc == "MJPG":
            return decode_jpeg(self.data.tobytes())
        try:
            code = cv2.COLOR_YUV2RGB_YUYV if self.fourcc == "YUYV" else cv2.COLOR_BGR2RGB
            return frozen(fitted(cv2.cvtColor(self.data, code).astype(np.uint8, copy=False)))
        except cv2.error as error:
            raise FeedError(f"a {self.fourcc} picture of shape {self.data.shape} cannot be converted") from error


class WebcamDevice:
    """Pictures of one camera on the monotonic timeline. Implements `Device`."""

    def __init__(self, number: int, *, clock: Clock, open_capture: Callable[[int], Capture] = v4l2_capture) -> None:
        self.label = f"/dev/video{number}"
        self.senses = frozenset({Sense.SIGHT})
        self._number = number
        self._clock = clock
        self._open_capture = open_capture
        self._capture: Capture | None = None
        self._fourcc = ""
        self._device_clock = DeviceClock()
        self._seen_s = 0.0

    def open(self) -> Opened:
        try:
            self._capture = self._open_capture(self._number)
            is_open = self._capture.isOpened()
        except cv2.error as error:
            raise FeedError(f"{self.label}: cannot be opened: {error.err}") from error
        if not is_open:
            raise FeedError(f"{self.label}: cannot be opened; is it plugged in, free, and are you in group 'video'?")
        self._fourcc = _set_up(self._capture)
        self._device_clock = DeviceClock()
        self._seen_s = self._clock.monotonic()
        size = f"{self._capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return Opened(self.senses, frozenset(), size + (f" at {rate:.3g} fps" if rate > 0 else ""))

    def read(self) -> Sequence[Picture]:
        if self._capture is None:
            raise FeedError(f"{self.label}: read before it was opened")
        try:
            is_read, data = self._capture.read()
        except cv2.error as error:
            raise FeedError(f"{self.label}: stopped: {error.err}") from error
        now_s = self._clock.monotonic()
        if not is_read or data is None or not data.size:
            if now_s - self._seen_s > SILENT_S or not self._capture.isOpened():
                raise FeedError(f"{self.label}: no picture for {now_s - self._seen_s:.0f} s; is it still plugged in?")
            return ()
        self._seen_s = now_s
        return [Picture(self._taken_s(now_s), WebcamPicture(data, self._fourcc))]

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _taken_s(self, arrived_s: float) -> float:
        """When the picture was taken: by the driver's stamp where it gives one, else when it arrived."""
        stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC) if self._capture is not None else 0.0
        if stamp_ms <= 0:
            return arrived_s
        self._device_clock.observe(stamp_ms / 1000, arrived_s)
        return min(arrived_s, self._device_clock.at(stamp_ms / 1000))


def _set_up(capture: Capture) -> str:
    """Ask for 720p15 with the shortest queue; the format in which pictures will come, "BGR" when OpenCV converts."""
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, WIDTH)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT)
    capture.set(cv2.CAP_PROP_FPS, RATE_FPS)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    fourcc = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    if fourcc in RAW_FORMATS and capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
        return fourcc
    return "BGR"
