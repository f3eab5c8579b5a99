"""Where a voice is heard: a loudspeaker, or files in a folder."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from omni_watch.alerts.wav import SAMPLE_BYTES, RateConverter, Sound, samples_of
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.watch.played import Played, Playing

SLACK_S: Final = 15.0  # beyond the length of a sound: starting, opening the device, its buffers
PROBE_LIMIT_S: Final = 10.0
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_HEARD: Final = re.compile(rb"heard (\d+\.\d+) (\d+\.\d+)\n")  # see player.py


class Speaker(Protocol):
    """Plays one sound at a time; whose turn it is, is decided elsewhere."""

    name: str

    async def play(self, wav: bytes, label: str, *, loudness: float = 0.0) -> str:
        """Play to the end; what was done, for people. When cancelled it falls silent within 50 ms.

        `loudness`: 0..1, of the way from as loud as it is set to as loud as it can; what is set to silence stays so.

        Raises:
            ChannelUnavailable: the device is missing or busy, the folder cannot be written.
        """

    async def stream(self, pieces: AsyncIterator[bytes], rate_hz: int, label: str) -> str:
        """The same with mono 16-bit samples that come little by little; what `pieces` raises is raised here."""

    async def close(self) -> None: ...


class PortAudioSpeaker:
    """Plays through PortAudio, in a process of its own for each sound: see `player.py` for why.

    `device`: a name, part of a name, or a number; None is the system's default. It is looked for anew each time, so
    one that was unplugged comes back by itself. `volume`: 0..1. `played` is told what is heard when.
    """

    def __init__(self, device: str | None = None, volume: float = 1.0, *, played: Played | None = None) -> None:
        self.name = "loudspeaker" if device is None else f"loudspeaker {device!r}"
        self._options = [] if device is None else [f"--device={device}"]
        self._volume = volume
        self._played = played

    async def play(self, wav: bytes, label: str, *, loudness: float = 0.0) -> str:
        try:
            sound = Sound.from_wav(wav).at_volume(raised(self._volume, loudness))
        except ValueError as error:
            raise ChannelUnavailable(f"{self.name}: {error}") from error
        limit_s = sound.duration_s + SLACK_S
        async with self._player() as process:
            playing = self._begun(sound)
            try:
                async with asyncio.timeout(limit_s):
                    complaints = await _ended(process, playing, sound.to_wav())
            except TimeoutError as error:
                raise self._stuck(limit_s) from error
            finally:
                _silenced(playing)
            self._require_played(process, complaints)
        return f"played {sound.duration_s:.1f} s"

    async def stream(self, pieces: AsyncIterator[bytes], rate_hz: int, label: str) -> str:
        async with self._player(f"--stream={rate_hz}") as process:
            playing = self._begun()
            ending = asyncio.ensure_future(_ended(process, playing))
            try:
                played_s = await self._feed(process, pieces, rate_hz, playing)
                limit_s = played_s + SLACK_S  # the player is at most that far behind
                async with asyncio.timeout(limit_s):
                    complaints = await ending
            except TimeoutError as error:
                raise self._stuck(limit_s) from error
            finally:
                ending.cancel()
                _silenced(playing)
            self._require_played(process, complaints)
        return f"played {played_s:.1f} s"

    async def probe(self) -> str:
        """Which device would be used, and how.

        Raises:
            ChannelUnavailable: none can be used now; says which there are.
        """
        return (await self._run_player(b"", PROBE_LIMIT_S, "--probe")).decode().strip()

    async def close(self) -> None:
        """Nothing stays open between sounds."""

    async def _run_player(self, wav: bytes, limit_s: float, *more: str) -> bytes:
        async with self._player(*more) as process:
            try:
                async with asyncio.timeout(limit_s):
                    said, complaints = await process.communicate(wav)
            except TimeoutError as error:
                raise self._stuck(limit_s) from error
            self._require_played(process, complaints)
        return said

    @asynccontextmanager
    async def _player(self, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The player's process; whoever leaves before it has ended silences it."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            # -P: nothing that lies in the current folder is imported
            *(sys.executable, "-P", "-m", "omni_watch.alerts.player", *self._options, *more),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,  # Ctrl-C at a terminal stops us in order
        )
        try:
            yield process
        finally:
            if process.returncode is None:  # timed out or cancelled: killing it is the quickest way to silence
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _begun(self, sound: Sound | None = None) -> Playing | None:
        if self._played is None:
            return None
        return self._played.begin(None if sound is None else sound.at_rate(SAMPLE_RATE_HZ).samples())

    async def _feed(
        self,
        process: asyncio.subprocess.Process,
        pieces: AsyncIterator[bytes],
        rate_hz: int,
        playing: Playing | None,
    ) -> float:
        """Hand the pieces on as they come; how many seconds they were. A player that has ended says why later."""
        sink, written, convert = process.stdin, 0, RateConverter(rate_hz, SAMPLE_RATE_HZ)
        if sink is None:
            raise RuntimeError("the player was started without a pipe")
        async for piece in pieces:
            loud = Sound(piece, rate_hz).at_volume(self._volume)
            written += len(loud.pcm)
            if playing is not None:
                playing.add(samples_of(convert(loud.pcm)))
            sink.write(loud.pcm)
            try:
                async with asyncio.timeout(SLACK_S):
                    await sink.drain()
            except TimeoutError as error:
                raise self._stuck(SLACK_S) from error
            except (BrokenPipeError, ConnectionResetError):
                break
        sink.close()
        return written / SAMPLE_BYTES / rate_hz

    def _stuck(self, limit_s: float) -> ChannelUnavailable:
        return ChannelUnavailable(f"{self.name} was not done after {limit_s:.0f} s; is its device stuck?")

    def _require_played(self, process: asyncio.subprocess.Process, complaints: bytes) -> None:
        if process.returncode != 0:
            last = complaints.decode(errors="replace").strip().splitlines()[-1:]
            raise ChannelUnavailable("".join(last) or f"{self.name} failed ({process.returncode})")


async def _ended(process: asyncio.subprocess.Process, playing: Playing | None, wav: bytes | None = None) -> bytes:
    """Wait for the player's end, and heed what it says about time meanwhile; what it complained of. `wav` is given to
    it first."""
    if process.stdout is None or process.stderr is None or process.stdin is None:
        raise RuntimeError("the player was started without pipes")
    complaining = asyncio.ensure_future(process.stderr.read())
    try:
        if wav is not None:
            process.stdin.write(wav)
            with suppress(BrokenPipeError, ConnectionResetError):  # why it ended is asked below
                await process.stdin.drain()
            process.stdin.close()
        async for line in process.stdout:
            heard = _HEARD.fullmatch(line)
            if heard is not None and playing is not None:
                playing.heard(float(heard[1]), float(heard[2]))
        complaints = await complaining
        await process.wait()
    finally:
        complaining.cancel()
    return complaints


def _silenced(playing: Playing | None) -> None:
    if playing is not None:
        playing.silenced()


def raised(volume: float, loudness: float) -> float:
    """A volume 0..1, so much (0..1) of the way up to the fullest; what is set to silence stays silent."""
    return volume + (1 - volume) * loudness if volume > 0 else 0.0


class FileSpeaker:
    """Writes each sound as `<label>.wav` into a folder: for houses without a loudspeaker, replay and the demo."""

    def __init__(self, folder: Path) -> None:
        self.name = f"folder {folder}"
        self._folder = folder

    async def play(self, wav: bytes, label: str, *, loudness: float = 0.0) -> str:
        path = self._folder / f"{_UNSAFE.sub('_', label)}.wav"
        try:
            await asyncio.to_thread(write_private, path, wav)
        except OSError as error:
            raise ChannelUnavailable(f"cannot write {path}: {error.strerror}") from error
        return path.name

    async def stream(self, pieces: AsyncIterator[bytes], rate_hz: int, label: str) -> str:
        pcm = b"".join([piece async for piece in pieces])
        return await self.play(Sound(pcm, rate_hz).to_wav(), label)

    async def close(self) -> None:
        """Nothing stays open."""


def write_private(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, readable by us alone; its folder is made when missing. OSError: it cannot."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
