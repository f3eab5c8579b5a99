"""What the daemon and the program that recognises say to each other: lines of JSON, with sound after some of them.

To the program: {"do": "hear", "feed", "at_s", "bytes": n} and n bytes of int16 samples; {"do": "expect", "words"};
{"do": "settle", "mark": n}; {"do": "ping"}. From it: {"is": "ready"}; {"is": "settled", "mark": n} once all that came
before is recognised and told; {"is": "alive", "waiting", "job"} for every ping, with how many utterances wait and the
number of the one in work (0: none); {"is": "failed", "why"}; and every `Hearing` by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan, SpeechEnded, Transcript, Unheard, UnheardCause

Floats = NDArray[np.float32]

FULL_SCALE: Final = 32767.0
KINDS: Final[Mapping[str, type]] = {
    "began": SpeechBegan,
    "ended": SpeechEnded,
    "heard": Heard,
    "unheard": Unheard,
}
_NAMES: Final = {kind: name for name, kind in KINDS.items()}


class Source(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...


def packed(message: Mapping[str, Any], body: bytes = b"") -> bytes:
    """A line, and what comes after it."""
    head = {**message, "bytes": len(body)} if body else dict(message)
    return json.dumps(head, ensure_ascii=False).encode() + b"\n" + body


def unpacked(source: Source) -> tuple[dict[str, Any], bytes] | None:
    """The next message and its sound; None when there are no more. Waits for it."""
    line = source.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    size = message.get("bytes", 0)
    body = source.read(size) if size else b""
    return None if len(body) < size else (message, body)


def sound_bytes(samples: Floats) -> bytes:
    """int16, little-endian: half of what floats take, and no less than a microphone gives."""
    return (np.clip(samples, -1.0, 1.0) * FULL_SCALE).round().astype("<i2").tobytes()


def sound_of(body: bytes) -> Floats:
    return np.frombuffer(body, "<i2").astype(np.float32) / np.float32(FULL_SCALE)


def message_of(hearing: Hearing) -> dict[str, Any]:
    fields = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(hearing).items()}
    return {"is": _NAMES[type(hearing)], **fields}


def hearing_of(message: Mapping[str, Any]) -> Hearing | None:
    """What somebody said; None for a message about something else."""
    fields = dict(message)
    kind = KINDS.get(fields.pop("is"))
    if kind is None:
        return None
    if kind is Heard:
        fields["alternatives"] = tuple(Transcript(**each) for each in fields["alternatives"])
    if kind is Unheard:
        fields["cause"] = UnheardCause(fields["cause"])
    hearing: Hearing = kind(**fields)
    return hearing
