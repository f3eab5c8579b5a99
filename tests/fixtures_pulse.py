"""A room with a loudspeaker and a microphone: a PulseAudio daemon with a null sink, whose monitor is the microphone.

Both ends are reached as in a house: by PortAudio, which comes to PulseAudio through ALSA's pulse plugin. Debian
packages: pulseaudio, pulseaudio-utils, libasound2-plugins, libportaudio2.

`room.play(wav)` sounds in the room, `room.record()` listens to it. The daemon lives in a folder of its own and knows no
other; tests and the programs that they start find it by the environment that the fixture sets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

START_LIMIT_S = 10.0
RATE_HZ = 48_000
PROGRAMS = {"pulseaudio": "pulseaudio", "pactl": "pulseaudio-utils", "paplay": "pulseaudio-utils"}
ASOUND = """
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse hint { show on description "the room" } }
ctl.!default { type pulse }
"""


@dataclass
class Recorded:
    """What was heard between two moments; complete once the `with` is left."""

    samples: NDArray[np.float32]  # [n], mono, 48 kHz
    rate_hz: int = RATE_HZ


@dataclass(frozen=True)
class Room:
    """A running room."""

    environment: Mapping[str, str]  # for programs started with an environment of their own

    def play(self, wav: Path | str) -> None:
        """Sound a WAV file in the room; returns when it is over."""
        subprocess.run(["paplay", str(wav)], check=True, env={**os.environ, **self.environment}, timeout=60)

    def play_samples(self, samples: NDArray[np.float32], rate_hz: int = 16_000) -> None:
        """Sound mono samples (-1..1) in the room; returns when they are over."""
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            with wave.open(file.name, "wb") as wav:
                wav.setnchannels(1)
                wav.setsampwidth(2)
                wav.setframerate(rate_hz)
                wav.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
            self.play(file.name)

    @contextlib.contextmanager
    def record(self) -> Iterator[Recorded]:
        """Listen to the room while the `with` lasts."""
        recorded = Recorded(np.zeros(0, np.float32))
        command = ["parec", "--format=float32le", f"--rate={RATE_HZ}", "--channels=1", "--latency-msec=20", "--raw"]
        with (
            tempfile.TemporaryFile() as file,
            subprocess.Popen(command, stdout=file, env={**os.environ, **self.environment}) as parec,
        ):
            try:
                _wait_until(lambda: os.fstat(file.fileno()).st_size > 0, "parec hears nothing")
                yield recorded
                time.sleep(0.2)  # what was played is still on its way through the daemon's buffers
            finally:
                parec.terminate()
                parec.wait(START_LIMIT_S)
                file.seek(0)
                data = file.read()
                recorded.samples = np.frombuffer(data[: len(data) // 4 * 4], "<f4")


@pytest.fixture(scope="session")
def room() -> Iterator[Room]:
    """A room for the whole run: PortAudio looks at its devices when it starts, so they must stay the same."""
    with sounding_room() as found:
        yield found


@contextlib.contextmanager
def sounding_room() -> Iterator[Room]:
    """The same while the `with` lasts."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        pytest.fail(f"missing Debian packages: {', '.join(sorted(missing))}; `make setup` says how")
    with built_room() as built, pytest.MonkeyPatch.context() as patch:
        for name, value in built.environment.items():
            patch.setenv(name, value)
        _restart_portaudio()
        yield built
    _restart_portaudio()


@contextlib.contextmanager
def built_room() -> Iterator[Room]:
    """A room for programs that are started with its environment."""
    with tempfile.TemporaryDirectory(prefix="room-") as folder:
        environment = _environment(Path(folder))
        with _daemon(Path(folder), environment):
            yield Room(environment)


def _environment(folder: Path) -> dict[str, str]:
    config = folder / "asound.conf"
    config.write_text(ASOUND)
    return {
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_RUNTIME_PATH": str(folder / "pulse"),
        "PULSE_SERVER": f"unix:{folder}/native",
        "PULSE_COOKIE": str(folder / "cookie"),
        "ALSA_CONFIG_PATH": str(config),
    }


@contextlib.contextmanager
def _daemon(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    # a list of options, none of them read from this machine's configuration
    command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"]
    command += ["--realtime=no", "--high-priority=no", "--log-target=stderr", "--log-level=error"]
    command += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={folder}/native"]
    command += ["-L", f"module-null-sink sink_name=room rate={RATE_HZ} channels=2"]
    log = (folder / "log").open("w+")
    with log, subprocess.Popen(command, env={**os.environ, **environment, "HOME": str(folder)}, stderr=log) as daemon:
        try:
            _wait_until(lambda: _asks(environment, "info"), "pulseaudio does not answer")
            _asks(environment, "set-default-source", "room.monitor")
            yield
        finally:
            daemon.terminate()
            daemon.wait(START_LIMIT_S)


def _asks(environment: Mapping[str, str], *words: str) -> bool:
    done = subprocess.run(["pactl", *words], env={**os.environ, **environment}, capture_output=True, timeout=5)
    return done.returncode == 0


def _restart_portaudio() -> None:
    """Let PortAudio, if it was already loaded, look at the devices that there are now."""
    sounddevice = sys.modules.get("sounddevice")
    if sounddevice is not None:
        sounddevice._terminate()
        sounddevice._initialize()


def _wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while not is_so():
        if time.monotonic() > deadline_s:
            pytest.fail(otherwise)
        time.sleep(0.05)
