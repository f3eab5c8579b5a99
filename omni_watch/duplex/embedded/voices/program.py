"""The program that speaks with Kokoro: a text comes in, its sound goes out.

    python -m omni_watch.duplex.embedded.voices.program SETTINGS

SETTINGS is a JSON object: {"model", "vocabulary", "voices": paths, "voice": name, "threads": 2}. To the program, a line
of JSON each: {"text", "language"}. From it: {"is": "sound", "rate_hz", "bytes": n} and n bytes of int16 samples;
{"is": "unsaid", "why"} when there is nothing to say in a text; {"is": "failed", "why"} before it ends by itself. It
ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded.voices.kokoro import RATE_HZ, Floats, Kokoro, load_dictionaries

FULL_SCALE = 32767.0


def serve(kokoro: Kokoro, requests: BinaryIO, answers: BinaryIO) -> None:
    """Until the input ends."""
    for line in requests:
        request = json.loads(line)
        try:
            sound = _bytes(kokoro.speak(request["text"], request["language"]))
        except ValueError as error:
            tell(answers, {"is": "unsaid", "why": str(error)})
        else:
            tell(answers, {"is": "sound", "rate_hz": RATE_HZ, "bytes": len(sound)}, sound)


def tell(answers: BinaryIO, message: Mapping[str, Any], body: bytes = b"") -> None:
    answers.write(json.dumps(message, ensure_ascii=False).encode() + b"\n" + body)
    answers.flush()


def _bytes(sound: Floats) -> bytes:
    return (np.clip(sound, -1.0, 1.0) * FULL_SCALE).round().astype("<i2").tobytes()


def main(settings: Mapping[str, Any]) -> int:
    """The exit status: 0 the input ended, 1 the model cannot be used."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print shall not be taken for an answer
    threading.Thread(target=load_dictionaries, daemon=True).start()  # while the model is loaded
    try:
        model, vocabulary, voices = (Path(settings[name]) for name in ("model", "vocabulary", "voices"))
        kokoro = Kokoro(model, vocabulary, voices, settings["voice"], threads=settings["threads"])
    except ModelError as error:
        tell(answers, {"is": "failed", "why": str(error)})
        return 1
    serve(kokoro, sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
