"""Piper, the natural English voice: a program of its own, kept running.

Its licence (GPL) lets us run it, not import it, so it is asked the way its command line allows: each line of its input
becomes a WAV file in a folder, and a line of its log says which. One line is asked at a time, so that file is the
answer to it. The folder is private, in memory where there is such a place, and each file is gone once it was read.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

from omni_watch.alerts.resident import Resident, started
from omni_watch.alerts.texts import is_readable, one_line
from omni_watch.alerts.wav import Sound
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Observer

IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  the folder in it is made by mkdtemp
FOLDER: Final = "omni-watch-voice"  # then our process and something random
_WROTE: Final = re.compile(r"\bWrote (.+\.wav)\s*$")


class PiperVoice:
    """Implements `LastingVoice`. One language for each model file."""

    name = "piper"

    def __init__(
        self, program: Path, model: Path, observer: Observer, *, language: Language = "en", digest: str = ""
    ) -> None:
        """`digest`: of the model, when its sound may be kept; see `LastingVoice`."""
        self.digest = digest
        self._language = language
        self.resident = Resident(_Lines(program, model), observer)

    def speaks(self, language: Language) -> bool:
        return language == self._language

    async def synthesize(self, text: str, language: Language) -> bytes:
        if not self.speaks(language):
            raise ChannelUnavailable(f"{self.name} has no model for {language!r}, only for {self._language!r}")
        line = one_line(text)
        if not is_readable(line):  # it would end itself over a line without words
            raise ChannelUnavailable(f"{self.name}: there is nothing to say in a text of {len(text)} characters")
        return (await self.resident.ask(line)).to_wav()

    async def warm(self) -> None:
        await self.resident.warm()

    async def close(self) -> None:
        await self.resident.close()


class _Lines:
    """Implements `Dialect`."""

    name = PiperVoice.name
    warm_text = "Okay."

    def __init__(self, program: Path, model: Path) -> None:
        self._command = [str(program), "-m", str(model)]
        self._folder: Path | None = None

    async def start(self) -> Process:
        try:
            self._folder = await asyncio.to_thread(_private_folder)
        except OSError as error:
            raise ChannelUnavailable(f"{self.name}: no folder for its sound: {error.strerror}") from error
        try:
            command = [*self._command, "--output-dir", str(self._folder)]
            return await started(self.name, command, takes_stdout=False, environment={"PYTHONUTF8": "1"})
        except ChannelUnavailable:
            self.ended()
            raise

    async def exchange(self, process: Process, text: str) -> Sound:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stderr is not None  # noqa: S101
        process.stdin.write(text.encode() + b"\n")
        await process.stdin.drain()
        complaint = ""
        while line := (await process.stderr.readline()).decode(errors="replace"):
            if wrote := _WROTE.search(line):
                return await asyncio.to_thread(self._taken, Path(wrote[1]))
            complaint = line.strip() or complaint
        raise EOFError(complaint)

    def _taken(self, path: Path) -> Sound:
        """EOFError: it is not what we asked for."""
        if path.parent != self._folder:
            raise EOFError("it wrote elsewhere than it was told")
        try:
            wav = path.read_bytes()
            path.unlink()
            return Sound.from_wav(wav)
        except (OSError, ValueError) as error:
            raise EOFError(f"it gave no sound: {error}") from error

    def ended(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def find_piper(configured: Path | None = None) -> Path | None:
    """The Piper program: the configured one, the one installed beside our Python, or the one on the path."""
    if configured is not None:
        return configured
    beside = Path(sys.executable).parent / "piper"  # not resolved: in a virtual environment that is its bin folder
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("piper")
    return None if found is None else Path(found)


def _private_folder() -> Path:
    """A new one, in memory where that is possible; those that a killed daemon left are cleared. OSError: no room."""
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    for left in place.glob(f"{FOLDER}-*"):
        owner = left.name.removeprefix(f"{FOLDER}-").split("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)  # what is not ours stays
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-", dir=place))
