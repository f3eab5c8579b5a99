"""Voices: text to sound by programs of their own, Piper and espeak-ng.

They run as separate programs because of their licences, and because a voice that crashes must not take the house with
it. Nothing here plays anything.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omni_watch.alerts.mandarin import as_pinyin, has_han, parts
from omni_watch.alerts.wav import Sound, joined
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Observer, Voice

SPEAK_LIMIT_S: Final = 30.0  # Piper needs 1.5 s for a sentence on two old cores
PIPER_CPUS: Final = 2  # its engine takes every core it is shown
CACHE_BYTES: Final = 8_000_000  # about three minutes of speech
ESPEAK_VOICES: Final[Mapping[Language, str]] = {"en": "en-us", "zh": "cmn-latn-pinyin"}
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """Which programs and model files the voices are made of."""

    piper: Path | None = None  # None: looked for beside our Python and on the path
    piper_model: Path | None = None  # an .onnx with its .onnx.json beside it; None: no Piper
    piper_language: Language = "en"
    espeak: str = "espeak-ng"


class EspeakVoice:
    """Implements `Voice`. Small and at once there; reads English and Mandarin, also within one sentence."""

    name = "espeak-ng"

    def __init__(self, program: str = "espeak-ng") -> None:
        self._program = program

    def speaks(self, language: Language) -> bool:
        return language in ESPEAK_VOICES or _LANGUAGE.fullmatch(language) is not None

    async def synthesize(self, text: str, language: Language) -> bytes:
        sounds = [await self._read(part, spoken) for spoken, part in parts(_one_line(text), language)]
        if not sounds:
            raise ChannelUnavailable(f"{self.name}: there is nothing to say in a text of {len(text)} characters")
        return joined([sound.without_tail() for sound in sounds[:-1]] + sounds[-1:]).to_wav()

    async def _read(self, text: str, language: Language) -> Sound:
        if language == "zh":
            text = await asyncio.to_thread(as_pinyin, text)
        voice = ESPEAK_VOICES.get(language, language)
        plain = text.replace("[[", "( ").replace("]]", " )")  # double brackets would be read as phonemes
        command = [self._program, "-b", "1", "-v", voice, "--stdin", "--stdout"]
        return _sound(self.name, await run_program(self.name, command, plain.encode()))


class PiperVoice:
    """Implements `Voice`. Natural; one language per model file."""

    name = "piper"

    def __init__(self, program: Path, model: Path, language: Language = "en") -> None:
        self._command = [*_few_cpus(), str(program), "-m", str(model), "-f", "-"]
        self._language = language

    def speaks(self, language: Language) -> bool:
        return language == self._language

    async def synthesize(self, text: str, language: Language) -> bytes:
        if not self.speaks(language):
            raise ChannelUnavailable(f"{self.name} has no model for {language!r}, only for {self._language!r}")
        return _sound(self.name, await run_program(self.name, self._command, _one_line(text).encode())).to_wav()


class Speech:
    """Implements `Voice` by the first of several voices that can read a text, and remembers what was read.

    A message is the same each time, so `prepare` at the time a task is set makes its alert speak without delay.
    """

    name = "speech"

    def __init__(self, voices: Sequence[Voice], observer: Observer, cache_bytes: int = CACHE_BYTES) -> None:
        self._voices = tuple(voices)
        self._observer = observer
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[str, Language], bytes] = OrderedDict()  # the last used is last

    def speaks(self, language: Language) -> bool:
        return any(voice.speaks(language) for voice in self._voices)

    async def synthesize(self, text: str, language: Language) -> bytes:
        key = (text, language)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        wav = await self._read(text, language)
        self._remember(key, wav)
        return wav

    async def prepare(self, text: str, language: Language) -> None:
        """Have the sound ready. A voice that fails is reported; speaking will try again."""
        try:
            await self.synthesize(text, language)
        except ChannelUnavailable as error:
            self._observer.on("voice.not_prepared", why=str(error))

    async def _read(self, text: str, language: Language) -> bytes:
        failures = []
        for voice in self._voices:
            if not voice.speaks(language) or (has_han(text) and not voice.speaks("zh")):
                continue
            try:
                return await voice.synthesize(text, language)
            except ChannelUnavailable as error:
                self._observer.on("voice.failed", voice=voice.name, why=str(error))
                failures.append(str(error))
        raise ChannelUnavailable("; ".join(failures) or f"there is no voice for {language!r}; install espeak-ng")

    def _remember(self, key: tuple[str, Language], wav: bytes) -> None:
        self._cache[key] = wav
        while sum(map(len, self._cache.values())) > self._cache_bytes:
            self._cache.popitem(last=False)


def make_speech(settings: SpeechSettings, observer: Observer) -> Speech:
    """Piper for its language when its program and model are there, espeak-ng for the rest and when Piper fails."""
    voices: list[Voice] = [EspeakVoice(settings.espeak)]
    program = find_piper(settings.piper)
    if settings.piper_model is not None and program is not None:
        voices.insert(0, PiperVoice(program, settings.piper_model, settings.piper_language))
    return Speech(voices, observer)


def find_piper(configured: Path | None = None) -> Path | None:
    """The Piper program: the configured one, the one installed beside our Python, or the one on the path."""
    if configured is not None:
        return configured
    beside = Path(sys.executable).parent / "piper"  # not resolved: in a virtual environment that is its bin folder
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("piper")
    return None if found is None else Path(found)


async def run_program(name: str, command: Sequence[str], text: bytes, limit_s: float = SPEAK_LIMIT_S) -> bytes:
    """What a program writes to its standard output after reading `text`. It is killed when this is cancelled.

    Raises:
        ChannelUnavailable: it is missing, fails, or takes too long.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        # a session of its own: Ctrl-C at a terminal stops us in order, not a voice in the middle of a word
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as error:
        raise ChannelUnavailable(f"{name}: cannot run {command[0]}: {error.strerror}; is it installed?") from error
    try:
        async with asyncio.timeout(limit_s):
            written, complaints = await process.communicate(text)
    except TimeoutError as error:
        raise ChannelUnavailable(f"{name} was not done after {limit_s:g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        last = complaints.decode(errors="replace").strip().splitlines()[-1:]
        raise ChannelUnavailable(f"{name} failed ({process.returncode}): {''.join(last) or 'it did not say why'}")
    return written


def _sound(name: str, wav: bytes) -> Sound:
    try:
        return Sound.from_wav(wav)
    except ValueError as error:
        raise ChannelUnavailable(f"{name} gave no sound: {error}") from error


def _one_line(text: str) -> str:
    """Piper reads each line as a text of its own; control characters have no sound."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _few_cpus() -> list[str]:
    """The command that keeps a program to a few cores; none where there are no more, or no such command."""
    cpus = sorted(os.sched_getaffinity(0))
    taskset = shutil.which("taskset")
    if len(cpus) <= PIPER_CPUS or taskset is None:
        return []
    return [taskset, "-c", ",".join(map(str, cpus[-PIPER_CPUS:]))]
