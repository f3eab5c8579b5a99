"""Where the sounds of the mixed hour come from: Debian packages, voices of programs, and text written for it.

Everything is fetched when the bench first runs, and kept in a folder outside the repository. What cannot be had is
said, and the hour is assembled without it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from omni_watch.domain.rules import Language
from tests.bench.sayings import FOLDER, JOE, KOKORO_VOICES, Saying
from tests.fakes.spoken import read_sound

Floats = NDArray[np.float32]
HERE: Final = Path(__file__).parent
PACKAGES: Final = (
    "asterisk-core-sounds-en-wav",  # real speech
    "asterisk-core-sounds-fr-wav",  # real speech of a language that nobody asks anything in
    "sound-theme-freedesktop",
    "lomiri-sounds",
    "scratch",
    "fortunes",  # text: quotations, as radio and television are full of
)
CORPUS: Final = "chatterbot-corpus==1.3.3"  # from PyPI; text: small talk in English and Chinese
UNSPEAKABLE: Final = frozenset({"coding", "computers"})  # parts of it that are not said aloud
QUOTATIONS: Final = ("cookie", "humorists", "kids", "law", "love", "men-women", "people", "wisdom", "work")
SPEAKABLE: Final = re.compile(r"[A-Za-z0-9 ,.;:'!?-]{30,240}")
SENTENCE_ENDS: Final = re.compile(r"(?<=[.!?;]) +")
LONGEST_TALK: Final = 6  # lines of one conversation
ESPEAK_VOICES: Final[dict[Language, Sequence[str]]] = {
    "en": ("en-gb", "en-us+f3", "en-gb-scotland+m4", "en-us+m7"),
    "zh": ("cmn-latn-pinyin", "cmn-latn-pinyin+f2"),
}
NATURAL_VOICES: Final[dict[Language, Sequence[str]]] = {
    "en": (JOE, JOE, JOE, "jf_gongitsune", JOE, JOE, "jm_kumo"),  # Kokoro's have an accent, and take their time
    "zh": KOKORO_VOICES,
}

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


def quotations(root: Path) -> list[list[str]]:
    """English sentences that people have said or written, as they stand in the package; each list is one of them."""
    found: list[list[str]] = []
    for name in QUOTATIONS:
        path = root / "usr/share/games/fortunes" / name
        for text in path.read_text("utf-8", "replace").split("\n%\n") if path.exists() else ():
            words = " ".join(text.split("\t\t--")[0].split())
            if SPEAKABLE.fullmatch(words):
                found.append(SENTENCE_ENDS.split(words))
    return found


def small_talk(notes: list[str]) -> dict[Language, list[list[str]]]:
    """Conversations by language; a list is one, line by line."""
    place = FOLDER / "packages"
    if not list(place.glob("chatterbot_corpus*.whl")):
        place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place), CORPUS]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError:
            notes.append(f"without {CORPUS}: it could not be downloaded")
            return {"en": [], "zh": []}
    (archive,) = place.glob("chatterbot_corpus*.whl")
    with zipfile.ZipFile(archive) as opened:
        return {language: list(_conversations(opened, folder)) for language, folder in _FOLDERS.items()}


def _conversations(opened: zipfile.ZipFile, folder: str) -> Iterator[list[str]]:
    for name in sorted(opened.namelist()):
        if f"data/{folder}/" in name and Path(name).stem not in UNSPEAKABLE:
            for lines in yaml.safe_load(opened.read(name))["conversations"]:
                spoken = [str(line) for line in lines[:LONGEST_TALK] if any(each.isalpha() for each in str(line))]
                if spoken and all(len(line) < 240 for line in spoken):
                    yield spoken


_FOLDERS: Final[dict[Language, str]] = {"en": "english", "zh": "chinese"}


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
