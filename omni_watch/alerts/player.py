"""A small program that plays one WAV file from its standard input through PortAudio, and ends.

    python -m omni_watch.alerts.player [--device NAME_OR_NUMBER] [--probe] < sound.wav
    python -m omni_watch.alerts.player [--device NAME_OR_NUMBER] --stream RATE_HZ < samples

With `--stream`, standard input is int16 little-endian mono without a header, played as it comes.

It is a process of its own because PortAudio may be used by one thread of a process at a time (the microphones use it in
the daemon), lists devices only when it starts (a loudspeaker plugged in later would never be found), and cannot be
trusted to stop at once; a process can be killed. Exit codes: 0 played, 75 (EX_TEMPFAIL of sysexits.h) the device is
missing or busy, with the reason on standard error.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from omni_watch.alerts.wav import SAMPLE_BYTES, RateConverter, Sound

TEMPORARY_FAILURE: Final = 75
BLOCK_S: Final = 0.02
LATENCY_S: Final = 0.2  # enough not to stutter beside a busy model; "high" of PulseAudio is over a second


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
    pcm = _as_channels(sound.at_rate(rate_hz).pcm, channels)
    block = round(BLOCK_S * rate_hz) * channels * 2
    with _opened(portaudio, device, channels, rate_hz) as stream:
        for start in range(0, len(pcm), block):
            stream.write(pcm[start : start + block])
        stream.write(_silence(channels, rate_hz))


def play_as_it_comes(portaudio: Any, device: Mapping[str, Any], source: BinaryIO, rate_hz: int) -> None:
    """Play `source` to its end; while nothing comes there is silence.

    Raises:
        NoDeviceError: the device is busy or went away.
    """
    channels, device_hz = _accepted_form(portaudio, device, rate_hz)
    convert = RateConverter(rate_hz, device_hz)
    with _opened(portaudio, device, channels, device_hz) as stream:
        for block in _as_they_come(source.fileno(), round(BLOCK_S * rate_hz) * SAMPLE_BYTES):
            stream.write(_as_channels(convert(block), channels))
        stream.write(_as_channels(convert(b""), channels) + _silence(channels, device_hz))


def _silence(channels: int, rate_hz: int) -> bytes:
    """What a device may drop when it is stopped: PulseAudio's, as ALSA shows it, loses what it still holds."""
    return bytes(round(LATENCY_S * rate_hz) * channels * SAMPLE_BYTES)


def _as_they_come(source: int, size: int) -> Iterator[bytes]:
    """Blocks of `size` bytes from a file descriptor to its end, and silence in the place of one that is not there yet.

    A device that runs dry loses what it is given next.
    """
    begun = b""
    while True:
        is_there = bool(select.select([source], [], [], 0)[0])
        if not is_there:
            yield bytes(size)
            continue
        if not (read := os.read(source, size - len(begun))):
            break
        begun += read
        if len(begun) == size:
            yield begun
            begun = b""
    yield begun[: len(begun) // SAMPLE_BYTES * SAMPLE_BYTES]


@contextmanager
def _opened(portaudio: Any, device: Mapping[str, Any], channels: int, rate_hz: int) -> Iterator[Any]:
    """The device's stream; leaving it waits until everything was heard."""
    try:
        with portaudio.RawOutputStream(
            samplerate=rate_hz, device=device["index"], channels=channels, dtype="int16", latency=LATENCY_S
        ) as stream:
            yield stream
    except portaudio.PortAudioError as error:
        raise NoDeviceError(f"loudspeaker {device['name']}: {_why(error)}; is it in use or unplugged?") from error


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
