"""What `video` and `audio` of a feed may say. Words only: nothing is opened here.

Both functions give the address in the form that sensing expects, or raise ValueError with the rest of the sentence
that begins with the key: "'rstp://…' has unknown scheme; did you mean rtsp?".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from omni_watch.domain.addresses import hide_credentials

STREAM_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
VIDEO_FORMS: Final = "a file, an rtsp://, rtsps://, http:// or https:// address, /dev/videoN or v4l2:N"
AUDIO_FORMS: Final = '"stream" (the sound of `video`), "mic", or "mic:NAME" with a device name or number'

_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)(?P<slashes>:/{1,2})")
_CAMERA: Final = re.compile(r"(?:/dev/video|v4l2:)\d{1,3}")


def video_address(text: str, path: Callable[[str], Path]) -> str:
    """A stream address or camera unchanged, a file as the absolute path that `path` finds for it."""
    written = text.strip()
    if not written or "\x00" in written:
        raise ValueError(f"found {text!r}; expected {VIDEO_FORMS}")
    if _CAMERA.fullmatch(written):
        return written
    if written.startswith(("v4l2:", "/dev/video")):
        raise ValueError(f"{written!r} does not name a camera; expected a number, like v4l2:0 or /dev/video0")
    if scheme := _SCHEME.match(written):
        return _stream_address(written, scheme)
    return str(path(written))


def audio_address(text: str) -> str:
    written = text.strip()
    kind, colon, device = written.partition(":")
    if kind in {"stream", "mic"} and not colon:
        return written
    if kind == "mic" and device.strip():
        return f"mic:{device.strip()}"
    near = get_close_matches(kind.lower(), ["stream", "mic"], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"found {hide_credentials(text)!r}; expected {AUDIO_FORMS}{hint}")


def has_credentials(address: str) -> bool:
    """Whether a user name or password is written into the address itself."""
    return bool(_SCHEME.match(address)) and "@" in urlsplit(address).netloc


def is_stream(address: str) -> bool:
    return bool(_SCHEME.match(address))


def is_camera(address: str) -> bool:
    return bool(_CAMERA.fullmatch(address))


def _stream_address(written: str, scheme: re.Match[str]) -> str:
    name, shown = scheme["scheme"].lower(), hide_credentials(written)
    if name == "file":
        raise ValueError(f"{shown!r} is a file; write its path without file://")
    if name not in STREAM_SCHEMES:
        near = get_close_matches(name, STREAM_SCHEMES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"expected {VIDEO_FORMS}"
        raise ValueError(f"{shown!r} has unknown scheme; {hint}")
    if not scheme["slashes"].endswith("//"):
        raise ValueError(f"{shown!r} lacks a slash; expected {name}://…")
    try:
        parts = urlsplit(written)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        # the library's own words would repeat half a password whose "/" was not escaped
        raise ValueError(
            f"{shown!r} is no address with a port from 1 to 65535; write / @ : ? of a password as %2F %40 %3A %3F, "
            "or better use user and password_file"
        ) from error
    if not host or any(character.isspace() for character in written) or port == 0:
        raise ValueError(f"{shown!r} names no host; expected {name}://HOST[:PORT]/PATH")
    return written
