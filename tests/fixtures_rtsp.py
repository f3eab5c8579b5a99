"""A network camera: GStreamer's RTSP server as a program of its own, which a test may kill and start again.

Debian packages: python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-base, -good, -bad and -ugly (and
gstreamer1.0-libav to send clips).
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

PROGRAM = Path(__file__).parent / "fixtures" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"  # the one that has Debian's GStreamer bindings
START_LIMIT_S = 15.0


class RtspCamera:
    """One server at one address for its whole life, whether it runs or not.

    `options` are those of `fixtures/rtsp_server.py`, for example "--sound", "pcmu" or "--clip", path.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.start()

    def start(self) -> Self:
        """Listen; at the same port as before."""
        port = self.url.rsplit(":", 1)[-1].split("/")[0] if self.url else "0"
        command = [PYTHON, str(PROGRAM), "--port", port, *self._options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._ready(self._process)
        return self

    @property
    def is_on(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """As if somebody pulled the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_LIMIT_S)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = None

    def restart(self) -> None:
        """Pull the plug and put it in again."""
        self.kill()
        self.start()

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Within the `with`, the connection stands but nothing comes, wherever in a frame it stopped."""
        return _stopped(self._process)

    @staticmethod
    def _ready(process: subprocess.Popen[str]) -> str:
        if process.stdout is None:
            pytest.fail("the RTSP server has no output")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(START_LIMIT_S) else ""
        if not line.startswith("READY "):
            process.kill()
            pytest.fail(f"the RTSP server does not start (are its Debian packages installed?): {line!r}")
        return line.split()[1]


@contextlib.contextmanager
def _stopped(process: subprocess.Popen[str] | None) -> Iterator[None]:
    if process is None:
        pytest.fail("the camera does not run")
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.fixture
def rtsp_camera() -> Iterator[Callable[..., RtspCamera]]:
    """Makes running cameras; all are killed after the test."""
    cameras: list[RtspCamera] = []

    def make(*options: str) -> RtspCamera:
        cameras.append(RtspCamera(*options))
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.kill()
