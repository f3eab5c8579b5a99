"""Kokoro, the natural Mandarin voice, from the daemon's side: `omni_watch.duplex.embedded.voices` in its own process.

Only when somebody has something to hear in Chinese is it started, and its 300 MB are given back when nobody has had for
long. English words in a Chinese sentence are no trouble, nor is Chinese in an English one.
"""

from __future__ import annotations

import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omni_watch.alerts.resident import CPUS, Resident, started
from omni_watch.alerts.texts import is_readable, one_line
from omni_watch.alerts.wav import Sound
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from omni_watch.watch.ports import Observer

PROGRAM: Final = "omni_watch.duplex.embedded.voices.program"  # named, not imported: models live there
VOICE: Final = "jf_nezumi"  # of five the one that our own ears understand best: tests/bench/bench_voices.py
COMPLAINT_BYTES: Final = 4096
ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",  # glibc's own, but fixed: 30 MB of loading the model are given back
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KokoroFiles:
    """As they lie in the cabinet."""

    model: Path
    vocabulary: Path
    voices: Path
    digest: str = ""  # of all of them, when the sound may be kept; see `LastingVoice`


class KokoroVoice:
    """Implements `LastingVoice`."""

    name = "kokoro"

    def __init__(self, files: KokoroFiles, observer: Observer, *, command: Sequence[str] | None = None) -> None:
        """`command`: another program, for tests."""
        self.digest = f"{files.digest}-{VOICE}" if files.digest else ""
        self.resident = Resident(_Json(command or (sys.executable, "-P", "-m", PROGRAM), files), observer)

    def speaks(self, language: Language) -> bool:
        return language == "zh"

    async def synthesize(self, text: str, language: Language) -> bytes:
        line = one_line(text)
        if not is_readable(line):
            raise ChannelUnavailable(f"{self.name}: there is nothing to say in a text of {len(text)} characters")
        return (await self.resident.ask(json.dumps({"text": line, "language": language}))).to_wav()

    async def warm(self) -> None:
        await self.resident.warm()

    async def close(self) -> None:
        await self.resident.close()


class _Json:
    """Implements `Dialect`: see the program."""

    name = KokoroVoice.name
    warm_text = json.dumps({"text": "好。", "language": "zh"})

    def __init__(self, command: Sequence[str], files: KokoroFiles) -> None:
        settings = {
            "model": str(files.model),
            "vocabulary": str(files.vocabulary),
            "voices": str(files.voices),
            "voice": VOICE,
            "threads": min(CPUS, len(os.sched_getaffinity(0))),
        }
        self._command = [*command, json.dumps(settings)]

    async def start(self) -> Process:
        return await started(self.name, self._command, takes_stdout=True, environment=ENVIRONMENT)

    async def exchange(self, process: Process, text: str) -> Sound:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(text.encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError(await _last_words(process))
        answer = json.loads(line)
        match answer["is"]:
            case "sound":
                return Sound(await process.stdout.readexactly(answer["bytes"]), answer["rate_hz"])
            case "unsaid":
                raise ChannelUnavailable(f"{self.name}: {answer['why']}")
        raise EOFError(answer["why"])

    def ended(self) -> None:
        """It leaves nothing."""


async def _last_words(process: Process) -> str:
    """What a program that has ended wrote for people, last."""
    assert process.stderr is not None  # noqa: S101 - asked for above
    lines = (await process.stderr.read(COMPLAINT_BYTES)).decode(errors="replace").strip().splitlines()
    return "".join(lines[-1:])
