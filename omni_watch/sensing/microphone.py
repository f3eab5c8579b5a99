"""A microphone through PortAudio (sounddevice)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ, Sense
from omni_watch.sensing.addresses import MicrophoneAddress
from omni_watch.sensing.capture import Block, Opened
from omni_watch.sensing.decoding import MonoResampler
from omni_watch.sensing.timeline import DeviceClock
from omni_watch.watch.ports import Clock

SILENT_S: Final = 5.0  # no block for so long: the microphone is gone (a quiet room still gives blocks)
BLOCK_S: Final = 0.05
BLOCKS_WAITING_MAX: Final = 200  # 10 s between PortAudio's thread and ours
PATIENCE_S: Final = 0.4


class _Desk:
    """PortAudio, one caller at a time: it is not safe to open and close streams on several threads at once.

    It lists its devices only when it starts, so one that is plugged in later is found by starting it again; that
    would break streams that are open, and happens only while none of ours is.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open_streams = 0

    def look_again(self) -> None:
        """List the devices anew, if nobody is disturbed by it."""
        library = portaudio()
        with self.lock:
            if self.open_streams == 0:
                library._terminate()  # documented for this purpose, underscore or not
                library._initialize()


_DESK: Final = _Desk()


class MicrophoneDevice:
    """Sound of one PortAudio input on the monotonic timeline. Implements `Device`."""

    def __init__(self, address: MicrophoneAddress, *, clock: Clock) -> None:
        self.label = "microphone" if address.device is None else f"microphone {address.device!r}"
        self.senses = frozenset({Sense.HEARING})
        self._wanted = address.device
        self._clock = clock
        self._stream: Any = None
        self._was_opened = False
        self._arrivals: queue.Queue[tuple[NDArray[np.float32], float, bool]] = queue.Queue(BLOCKS_WAITING_MAX)
        self._lost_blocks = False  # written by PortAudio's thread, cleared by ours
        self._rate_hz = SAMPLE_RATE_HZ
        self._counted = 0  # samples since the device clock began
        self._device_clock = DeviceClock()
        self._resampler = MonoResampler()
        self._heard_s = 0.0

    def open(self) -> Opened:
        library = portaudio()
        if self._was_opened:  # opened again means that it was missing or went away
            _DESK.look_again()
        self._was_opened = True
        with _DESK.lock:
            info = found_input(self._wanted)
            self._stream, self._rate_hz = self._opened_stream(info)
            _DESK.open_streams += 1
            self._restart_clock()
            while not self._arrivals.empty():
                self._arrivals.get_nowait()
            self._heard_s = self._clock.monotonic()
            try:
                self._stream.start()
            except library.PortAudioError as error:
                raise FeedError(f"{self.label}: cannot be started: {_why(error)}") from error
        return Opened(self.senses, frozenset(), f"{info['name']}, sound {self._rate_hz / 1000:.3g} kHz")

    def read(self) -> Sequence[Block]:
        try:
            samples, arrived_s, is_broken = self._arrivals.get(timeout=PATIENCE_S)
        except queue.Empty:
            away_s = self._clock.monotonic() - self._heard_s
            if away_s > SILENT_S or not self._stream.active:
                raise FeedError(f"{self.label}: no sound for {away_s:.0f} s; is it still plugged in?") from None
            return ()
        self._heard_s = arrived_s
        if is_broken:
            self._restart_clock()
        return self._blocks(samples, arrived_s)

    def close(self) -> None:
        if self._stream is not None:
            with _DESK.lock:
                self._stream.close(ignore_errors=True)
                _DESK.open_streams -= 1
        self._stream = None

    def _opened_stream(self, info: dict[str, Any]) -> tuple[Any, int]:
        """A stream at 16 kHz, or at the device's own rate when it refuses that."""
        try:
            return self._stream_at(info["index"], SAMPLE_RATE_HZ), SAMPLE_RATE_HZ
        except portaudio().PortAudioError:
            own_hz = round(info["default_samplerate"])
        try:
            return self._stream_at(info["index"], own_hz), own_hz
        except portaudio().PortAudioError as error:
            raise FeedError(f"{self.label}: cannot be opened: {_why(error)}") from error

    def _stream_at(self, index: int, rate_hz: int) -> Any:
        return portaudio().InputStream(
            device=index,
            channels=1,
            samplerate=rate_hz,
            dtype="float32",
            blocksize=round(rate_hz * BLOCK_S),
            latency="high",  # 0.1 s; a few blocks of room, so that a busy machine loses none
            callback=self._on_block,
        )

    def _on_block(self, data: NDArray[np.float32], _count: int, _times: Any, status: Any) -> None:
        """PortAudio's thread: stamp, copy, leave."""
        is_broken = bool(status.input_overflow) or self._lost_blocks
        try:
            self._arrivals.put_nowait((data[:, 0].copy(), self._clock.monotonic(), is_broken))
            self._lost_blocks = False
        except queue.Full:
            self._lost_blocks = True

    def _restart_clock(self) -> None:
        """Samples were lost, so counting them no longer tells the time."""
        self._counted = 0
        self._device_clock = DeviceClock()
        self._resampler = MonoResampler()

    def _blocks(self, samples: NDArray[np.float32], arrived_s: float) -> list[Block]:
        begin = self._counted
        self._counted += len(samples)
        self._device_clock.observe(self._counted / self._rate_hz, arrived_s)
        if self._rate_hz == SAMPLE_RATE_HZ:
            return [Block(self._device_clock.at(begin / self._rate_hz), samples)]
        frame = AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate_hz, begin, Fraction(1, self._rate_hz)
        return [
            Block(self._device_clock.at(each.stamp_s or 0.0), each.samples) for each in self._resampler.sound(frame)
        ]


def portaudio() -> Any:
    """The sounddevice module, loaded when first needed: a house without microphones needs no PortAudio.

    Raises:
        FeedError: (not retryable) its library is not installed.
    """
    try:
        import sounddevice
    except OSError as error:
        raise FeedError(
            "microphones need the PortAudio library; on Debian: apt install libportaudio2", can_retry=False
        ) from error
    return sounddevice


def input_names() -> list[str]:
    """The inputs PortAudio knows, for people: "3: USB microphone".

    Raises:
        FeedError: PortAudio does not work here.
    """
    return [f"{each['index']}: {each['name']}" for each in _devices() if each["max_input_channels"] > 0]


def found_input(wanted: str | int | None) -> dict[str, Any]:
    """PortAudio's entry of the input with this number or (part of) this name; None: the default one.

    Raises:
        FeedError: there is none now. A microphone may be plugged in later, so it can be tried again.
    """
    devices = _devices()
    inputs = [each for each in devices if each["max_input_channels"] > 0]
    if wanted is None:
        default = portaudio().default.device[0]
        found = [each for each in inputs if each["index"] == default] or inputs[:1]
    elif isinstance(wanted, int):
        found = [each for each in inputs if each["index"] == wanted]
    else:
        found = sorted(
            (each for each in inputs if wanted.lower() in each["name"].lower()), key=lambda each: len(each["name"])
        )
    if not found:
        known = ", ".join(f"{each['index']}: {each['name']}" for each in inputs) or "none"
        what = "a microphone" if wanted is None else f"microphone {wanted!r}"
        raise FeedError(f"{what} was not found; inputs known to PortAudio: {known}")
    return found[0]


def _devices() -> list[dict[str, Any]]:
    try:
        return [dict(each) for each in portaudio().query_devices()]
    except portaudio().PortAudioError as error:
        raise FeedError(f"PortAudio does not list its devices: {_why(error)}") from error


def _why(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
