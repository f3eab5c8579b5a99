"""A small program that plays one WAV file from its standard input through PortAudio, and ends.

    python -m omni_watch.alerts.player [--device NAME_OR_NUMBER] [--probe] < sound.wav
    python -m omni_watch.alerts.player [--device NAME_OR_NUMBER] --stream RATE_HZ < samples

With `--stream`, standard input is int16 little-endian mono without a header, played as it comes.

On standard output it says which second of the sound is heard when, a line for each: `heard 0.0000 81234.5678` means
that the sound's second 0 reaches the air at second 81234.5678 of CLOCK_MONOTONIC, and what follows right after it. It
says so before it is heard, as far as the device knows, and again when that is no longer true.

It is a process of its own because PortAudio may be used by one thread of a process at a time (the microphones use it in
the daemon), lists devices only when it starts (a loudspeaker plugged in later would never be found), and cannot be
trusted to stop at once; a process can be killed. Exit codes: 0 played, 75 (EX_TEMPFAIL of sysexits.h) the device is
missing or busy, with the reason on standard error.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final, Protocol

from omni_watch.alerts.wav import SAMPLE_BYTES, RateConverter, Sound

TEMPORARY_FAILURE: Final = 75
BLOCK_S: Final = 0.02
LATENCY_S: Final = 0.2  # enough not to stutter beside a busy model; "high" of PulseAudio is over a second
NEWS_S: Final = 0.02  # what was told about the time is told anew when it is off by more
ASKED: Final = 5  # blocks, of which the one in the middle is believed


class NoDeviceError(Exception):
    """Says what is missing, what was found, and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Play standard input, or with `--probe` only say on which device and how it would be played."""
    parser = argparse.ArgumentParser(prog="omni_watch.alerts.player", description="Play a WAV file from stdin.")
    parser.add_argument("--device", help="name, part of a name, or number; default: the system's own")
    parser.add_argument("--probe", action="store_true", help="say which device would be used and end")
    parser.add_argument("--stream", type=int, metavar="RATE_HZ", help="play bare samples of this rate as they come")
    options = parser.parse_args(arguments)
    try:
        portaudio = _load()
        device = find_output(list(portaudio.query_devices()), portaudio.default.device[1], options.device)
        if options.probe:
            _, rate_hz = _accepted_form(portaudio, device, round(device["default_samplerate"]))
            sys.stdout.write(f"{device['name']}, {rate_hz} Hz\n")
        elif options.stream:
            play_as_it_comes(portaudio, device, sys.stdin.buffer, options.stream)
        else:
            play(portaudio, device, Sound.from_wav(sys.stdin.buffer.read()))
    except (NoDeviceError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return TEMPORARY_FAILURE
    return 0


def find_output(devices: Sequence[Mapping[str, Any]], default: int, wanted: str | None) -> Mapping[str, Any]:
    """The output with this number, this name, or the first whose name contains it; without a wish the default one.

    Raises:
        NoDeviceError: there is none, with the names of those there are.
    """
    outputs = [device for device in devices if device["max_output_channels"] > 0]
    if wanted is None:
        found = [device for device in outputs if device["index"] == default] or outputs
    elif wanted.isdecimal():
        found = [device for device in outputs if device["index"] == int(wanted)]
    else:
        exact = [device for device in outputs if device["name"] == wanted]
        found = exact or [device for device in outputs if wanted.casefold() in device["name"].casefold()]
    if found:
        return found[0]
    known = ", ".join(f"{device['index']}: {device['name']}" for device in outputs) or "none at all"
    raise NoDeviceError(f"no loudspeaker {wanted or 'is there'}; there is {known}; set voice.device to one of them")


def play(portaudio: Any, device: Mapping[str, Any], sound: Sound) -> None:
    """Play to the last sample.

    Raises:
        NoDeviceError: the device is busy or went away.
    """
    channels, rate_hz = _accepted_form(portaudio, device, sound.rate_hz)
    _play_out(portaudio, device, _Whole(sound.at_rate(rate_hz).pcm), channels, rate_hz)


def play_as_it_comes(portaudio: Any, device: Mapping[str, Any], source: BinaryIO, rate_hz: int) -> None:
    """Play `source` to its end; while nothing comes there is silence.

    Raises:
        NoDeviceError: the device is busy or went away.
    """
    channels, device_hz = _accepted_form(portaudio, device, rate_hz)
    _play_out(portaudio, device, _Arriving(source.fileno(), rate_hz, device_hz), channels, device_hz)


class _Samples(Protocol):
    """Where the samples come from."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""

    def take(self, count: int) -> bytes:
        """The next `count` samples, int16 mono; fewer at the end, none when they are not there yet. Returns at once."""


class _Whole:
    """All samples at once."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm = pcm
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._pcm)

    def take(self, count: int) -> bytes:
        taken = self._pcm[self._at : self._at + count * SAMPLE_BYTES]
        self._at += len(taken)
        return taken


class _Arriving:
    """Samples from a file descriptor to its end, converted to the device's rate. No more is read than is played."""

    def __init__(self, source: int, rate_hz: int, device_hz: int) -> None:
        self._source = source
        self._convert = RateConverter(rate_hz, device_hz)
        self._share = rate_hz / device_hz
        self._begun = b""  # half a sample
        self._ready = b""
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        return self._has_ended and not self._ready

    def take(self, count: int) -> bytes:
        size = count * SAMPLE_BYTES
        while len(self._ready) < size and not self._has_ended and select.select([self._source], [], [], 0)[0]:
            self._read(round((size - len(self._ready)) * self._share / SAMPLE_BYTES + 1) * SAMPLE_BYTES)
        if len(self._ready) < size and not self._has_ended:
            return b""
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    def _read(self, size: int) -> None:
        read = self._begun + os.read(self._source, size - len(self._begun))
        if len(read) == len(self._begun):
            self._has_ended = True
            self._ready += self._convert(b"")
            return
        whole = len(read) // SAMPLE_BYTES * SAMPLE_BYTES
        self._begun = read[whole:]
        if whole:
            self._ready += self._convert(read[:whole])


class _Teller:
    """Says on standard output which second of the sound is heard when, whenever that is news.

    What a device knows of it jitters on a busy machine, so it is asked several times.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._told_s: float | None = None  # when sample 0 would have been heard
        self._lately_s: deque[float] = deque(maxlen=ASKED)

    def heard(self, sample: int, at_s: float) -> None:
        """`sample` of the sound will be heard at `at_s`."""
        self._lately_s.append(at_s - sample / self._rate_hz)
        begin_s = statistics.median(self._lately_s)
        if self._told_s is not None and abs(begin_s - self._told_s) < NEWS_S:
            return
        self._told_s = begin_s
        line = f"heard {sample / self._rate_hz:.4f} {begin_s + sample / self._rate_hz:.4f}\n".encode()
        with suppress(OSError):  # nobody wants to know
            os.write(sys.stdout.fileno(), line)


def _play_out(portaudio: Any, device: Mapping[str, Any], samples: _Samples, channels: int, rate_hz: int) -> None:
    """Everything that `samples` has, and then as much silence as a device may drop when it is stopped: PulseAudio's, as
    ALSA shows it, loses what it still holds. A device that runs dry loses what it is given next, so it never does."""
    teller, ended = _Teller(rate_hz), threading.Event()
    given, silence_left = 0, round(LATENCY_S * rate_hz)

    def fill(out: Any, count: int, times: Any, _status: Any) -> None:
        """PortAudio's thread."""
        nonlocal given, silence_left
        taken = samples.take(count)
        got = len(taken) // SAMPLE_BYTES
        if got:
            teller.heard(given, time.monotonic() + times.outputBufferDacTime - times.currentTime)
            given += got
        sound = _as_channels(taken, channels)
        out[:] = sound + bytes(len(out) - len(sound))
        if samples.is_over:
            silence_left -= count - got
            if silence_left <= 0:
                raise portaudio.CallbackStop

    try:
        with portaudio.RawOutputStream(
            samplerate=rate_hz,
            blocksize=round(BLOCK_S * rate_hz),
            device=device["index"],
            channels=channels,
            dtype="int16",
            latency=LATENCY_S,
            callback=fill,
            finished_callback=ended.set,
        ):
            ended.wait()
    except portaudio.PortAudioError as error:
        raise NoDeviceError(f"loudspeaker {device['name']}: {_why(error)}; is it in use or unplugged?") from error
    if silence_left > 0:
        raise NoDeviceError(f"loudspeaker {device['name']} stopped by itself; is it unplugged?")


def _load() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise NoDeviceError("speaking needs the PortAudio library; on Debian: apt install libportaudio2") from error
    return sounddevice


def _accepted_form(portaudio: Any, device: Mapping[str, Any], rate_hz: int) -> tuple[int, int]:
    """(channels, rate) that the device takes, as near to mono at `rate_hz` as it can be."""
    own_hz = round(device["default_samplerate"])
    reason: Exception | None = None
    for rate in dict.fromkeys((rate_hz, own_hz)):
        for channels in (1, 2):
            try:
                portaudio.check_output_settings(device["index"], channels, "int16", samplerate=rate)
            except portaudio.PortAudioError as error:
                reason = error
            else:
                return channels, rate
    raise NoDeviceError(f"loudspeaker {device['name']}: {_why(reason)}; is it in use or unplugged?") from reason


def _why(error: object) -> str:
    """PortAudio's words without its numbers."""
    return str(error).partition(" [")[0]


def _as_channels(pcm: bytes, channels: int) -> bytes:
    if channels == 1:
        return pcm
    import numpy as np

    return np.repeat(np.frombuffer(pcm, "<i2"), channels).tobytes()


if __name__ == "__main__":
    sys.exit(main())
