"""A V4L2 camera, without one: OpenCV's own file reader, and a scripted one, stand in for the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from omni_watch.domain.errors import FeedError
from omni_watch.sensing.pictures import encode_jpeg
from omni_watch.sensing.webcam import SILENT_S, WebcamDevice, WebcamPicture
from tests.fakes.clips import ramp, write_clip
from tests.fakes.fake_clock import FakeClock


class ScriptedCapture:
    """Implements `Capture`: a camera in raw format that gives what it is told."""

    def __init__(self, fourcc: str, *pictures: Any, stamps_ms: list[float] | None = None, is_open: bool = True) -> None:
        self.values = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*fourcc), cv2.CAP_PROP_FRAME_WIDTH: 64.0}
        self.pictures = list(pictures)
        self.stamps_ms = stamps_ms or []
        self.is_open = is_open
        self.released = 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.is_open

    def set(self, prop: int, value: float) -> bool:
        if prop != cv2.CAP_PROP_FOURCC:
            self.values[prop] = value
        return True

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return self.stamps_ms.pop(0) if self.stamps_ms else 0.0
        return self.values.get(prop, 0.0)

    def read(self) -> tuple[bool, Any]:
        picture = self.pictures.pop(0) if self.pictures else None
        return picture is not None, picture

    def release(self) -> None:
        self.released += 1


def device(capture: Any, clock: FakeClock | None = None) -> WebcamDevice:
    return WebcamDevice(0, clock=clock or FakeClock(), open_capture=lambda _: capture)


def test_pictures_come_through_opencv_with_their_colours(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=1, tone=None)
    camera = device(cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG))
    opened = camera.open()
    assert opened.detail == "64x48 at 10 fps"
    pictures = [picture for _ in range(5) for picture in camera.read()]
    assert float(pictures[0].raw.rgb().mean()) == pytest.approx(ramp(0), abs=3)
    assert float(pictures[4].raw.rgb().mean()) == pytest.approx(ramp(0.4), abs=3)
    camera.close()
    camera.close()


@pytest.mark.parametrize("fourcc", ["MJPG", "YUYV"])
def test_raw_formats_are_kept_raw_until_a_picture_is_used(fourcc: str) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = (200, 30, 30)
    if fourcc == "MJPG":
        raw = np.frombuffer(encode_jpeg(red), np.uint8)[None, :]
    else:
        raw = cv2.cvtColor(red, cv2.COLOR_RGB2YUV_YUYV).astype(np.uint8)
    camera = device(ScriptedCapture(fourcc, raw))
    camera.open()
    (picture,) = camera.read()
    assert isinstance(picture.raw, WebcamPicture)
    assert picture.raw.data is raw
    np.testing.assert_allclose(picture.raw.rgb()[20, 20], [200, 30, 30], atol=12)
    assert not picture.raw.rgb().flags.writeable


def test_the_drivers_stamp_takes_jitter_out() -> None:
    clock = FakeClock(monotonic_s=500.0)
    raw = np.zeros((4, 4, 3), np.uint8)
    camera = device(ScriptedCapture("BGR3", raw, raw, stamps_ms=[7000.0, 7100.0]), clock)
    camera.open()
    (first,) = camera.read()
    clock.advance(0.17)
    (second,) = camera.read()
    assert (first.at_s, second.at_s) == pytest.approx((500.0, 500.1))


def test_a_camera_that_is_not_there_is_told_apart_from_one_that_fell_silent() -> None:
    with pytest.raises(FeedError, match=r"/dev/video0: cannot be opened.*group 'video'") as refused:
        device(ScriptedCapture("MJPG", is_open=False)).open()
    assert refused.value.can_retry
    clock = FakeClock()
    camera = device(ScriptedCapture("MJPG", None, np.zeros((0, 0), np.uint8)), clock)
    camera.open()
    assert camera.read() == ()
    assert camera.read() == ()  # a frame of zero bytes is no frame
    clock.advance(SILENT_S + 0.1)
    with pytest.raises(FeedError, match="no picture for 5 s"):
        camera.read()


def test_a_damaged_picture_is_an_error_that_the_aligner_understands() -> None:
    with pytest.raises(FeedError):
        WebcamPicture(np.zeros((1, 40), np.uint8), "MJPG").rgb()
    with pytest.raises(FeedError):
        WebcamPicture(np.zeros((1, 40), np.uint8), "YUYV").rgb()
