"""What may stand behind `video` and `audio` of a feed, told apart and checked before anything is opened."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from omni_watch.domain.errors import FeedError

LIVE_SCHEMES: Final = ("rtsp", "rtsps")  # come at the pace of the camera
PACED_SCHEMES: Final = ("http", "https")  # may come in bursts (HLS) or all at once (a file): we keep the pace
SCHEMES: Final = (*LIVE_SCHEMES, *PACED_SCHEMES)
STREAM_SOUND: Final = "stream"

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_WEBCAM = re.compile(r"^(?:v4l2:|/dev/video)(\d+)$")


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A clip on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class UrlAddress:
    """A stream on the network. Its `repr` shows no credentials."""

    url: str
    is_paced: bool

    def __repr__(self) -> str:
        return f"UrlAddress({without_secrets(self.url)})"


@dataclass(frozen=True, slots=True)
class WebcamAddress:
    """A V4L2 camera."""

    number: int


@dataclass(frozen=True, slots=True)
class MicrophoneAddress:
    """A PortAudio input: None is the default one, a number its index, a text part of its name."""

    device: str | int | None


VideoAddress = FileAddress | UrlAddress | WebcamAddress


def video_address(text: str) -> VideoAddress:
    """What `video = text` means. Looks at no disk and no network.

    Raises:
        FeedError: (not retryable) no such scheme, or a URL without a host.
    """
    webcam = _WEBCAM.match(text)
    if webcam:
        return WebcamAddress(int(webcam.group(1)))
    scheme = _SCHEME.match(text)
    if scheme is None:
        return FileAddress(_local_path(text))
    name = scheme.group(1).lower()
    if name == "file":
        return FileAddress(Path(urlsplit(text).path))
    if name not in SCHEMES:
        near = difflib.get_close_matches(name, [*SCHEMES, "file"], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(SCHEMES)}, a file or /dev/videoN"
        raise FeedError(f"video: {without_secrets(text)!r} has unknown scheme {name!r}; {hint}", can_retry=False)
    if not urlsplit(text).hostname:
        raise FeedError(f"video: {without_secrets(text)!r} names no host; expected {name}://host/path", can_retry=False)
    return UrlAddress(text, is_paced=name in PACED_SCHEMES)


def microphone_address(text: str) -> MicrophoneAddress:
    """What `audio = text` means, when it is not "stream".

    Raises:
        FeedError: (not retryable) neither "mic" nor "mic:..." .
    """
    if text == "mic":
        return MicrophoneAddress(None)
    kind, colon, device = text.partition(":")
    if kind != "mic" or not colon or not device.strip():
        raise FeedError(
            f"audio: found {text!r}; expected 'stream' (the camera's own sound), 'mic', or 'mic:' and the name or "
            "number of a microphone (`omni-watch doctor` lists them)",
            can_retry=False,
        )
    device = device.strip()
    return MicrophoneAddress(int(device) if device.isdecimal() else device)


def existing_clip(path: Path) -> Path:
    """`path`, if a clip may be there.

    Raises:
        FeedError: (not retryable) missing, a directory, empty, or not ours to read.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FeedError(f"{path}: {_reason(error)}; check the path", can_retry=False) from error
    if path.is_dir():
        raise FeedError(f"{path}: is a directory; expected a file with pictures or sound", can_retry=False)
    if size == 0:
        raise FeedError(f"{path}: is empty (0 bytes); expected a file with pictures or sound", can_retry=False)
    return path


def without_secrets(url: str) -> str:
    """`url` fit for messages: user, password and query (cameras take passwords there too) are left out."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return url
    rest = url[scheme.end() :]
    authority, slash, path = rest.partition("/")
    if "@" in rest.split("?", 1)[0]:  # a password may hold a slash that should have been escaped
        authority, slash, path = rest.rpartition("@")[2].partition("/")
    path, question, _ = (authority + slash + path).partition("?")
    return f"{scheme.group(0)}{path}{question}{'...' if question else ''}"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (error.strerror or "cannot be read").lower()


def _local_path(text: str) -> Path:
    """A path; something like `rtsp:/host` or `host:554` is taken as a path too, and will not be found."""
    return Path(text).expanduser()
