"""Pictures as arrays and as JPEG files. Long side at most 1280, RGB everywhere but inside OpenCV calls."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError

LONG_SIDE_MAX: Final = 1280
JPEG_QUALITY: Final = 88


def fitted_size(width: int, height: int, long_side: int = LONG_SIDE_MAX) -> tuple[int, int]:
    """(width, height) scaled down so that the longer one is at most `long_side`; never scaled up."""
    scale = min(1.0, long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fitted(rgb: NDArray[np.uint8], long_side: int = LONG_SIDE_MAX) -> NDArray[np.uint8]:
    """`rgb` [H, W, 3] scaled down to fit `long_side`; the same array when it fits already."""
    height, width = rgb.shape[:2]
    size = fitted_size(width, height, long_side)
    if size == (width, height):
        return rgb
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def frozen(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`array`, contiguous and read-only."""
    whole = np.ascontiguousarray(array)
    whole.flags.writeable = False
    return whole


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = JPEG_QUALITY, long_side: int = LONG_SIDE_MAX) -> bytes:
    """A JPEG file's bytes of `rgb` [H, W, 3].

    Raises:
        ValueError: not a picture.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"expected a picture of uint8 [H, W, 3], found {rgb.dtype} {rgb.shape}")
    bgr = cv2.cvtColor(fitted(rgb, long_side), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} could not be written as JPEG")
    return data.tobytes()


def decode_jpeg(data: bytes, long_side: int = LONG_SIDE_MAX) -> NDArray[np.uint8]:
    """The picture in a JPEG (or PNG) file's bytes, uint8 [H, W, 3] RGB, read-only.

    Raises:
        FeedError: (not retryable) the bytes are no picture.
    """
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise FeedError(f"{len(data)} bytes are no picture that can be read; expected JPEG or PNG", can_retry=False)
    return frozen(fitted(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), long_side))
