"""Mono 16-bit sound as WAV bytes: the form in which voices hand it to speakers. Pure."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_BYTES: Final = 2
QUIET: Final = 100  # of 32767
BREATH_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono 16-bit little-endian samples."""

    pcm: bytes
    rate_hz: int

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / SAMPLE_BYTES / self.rate_hz

    @classmethod
    def from_wav(cls, data: bytes) -> Sound:
        """Read a WAV file, also one written to a pipe, whose header could not know its length.

        Raises:
            ValueError: not a WAV file, not mono 16-bit, or without sound.
        """
        try:
            with wave.open(io.BytesIO(data)) as file:
                channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
                pcm = file.readframes(len(data) // SAMPLE_BYTES)
        except (wave.Error, EOFError) as error:
            raise ValueError(f"{len(data)} bytes are no WAV file: {error}") from error
        if (channels, width) != (1, SAMPLE_BYTES):
            raise ValueError(f"expected mono 16-bit sound, found {channels} channels of {8 * width} bits")
        if not pcm:
            raise ValueError("a WAV file without sound")
        return cls(pcm, rate_hz)

    def to_wav(self) -> bytes:
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(SAMPLE_BYTES)
            writer.setframerate(self.rate_hz)
            writer.writeframes(self.pcm)
        return file.getvalue()

    def at_volume(self, volume: float) -> Sound:
        """0 is silent, 1 as it is, more is louder and clipped."""
        if volume == 1.0:
            return self
        samples = np.frombuffer(self.pcm, "<i2") * volume
        return Sound(np.clip(samples.round(), -32768, 32767).astype("<i2").tobytes(), self.rate_hz)

    def at_rate(self, rate_hz: int) -> Sound:
        """The same sound, sampled so often."""
        convert = RateConverter(self.rate_hz, rate_hz)
        return Sound(convert(self.pcm) + convert(b""), rate_hz)

    def samples(self) -> NDArray[np.float32]:
        """[n], -1..1."""
        return samples_of(self.pcm)

    def without_tail(self) -> Sound:
        """Without the silence at its end, but for a breath: what follows belongs to the same sentence."""
        loud = np.flatnonzero(np.abs(np.frombuffer(self.pcm, "<i2").astype(np.int32)) > QUIET)
        end = (int(loud[-1]) + 1 if loud.size else 0) + round(BREATH_S * self.rate_hz)
        return Sound(self.pcm[: end * SAMPLE_BYTES], self.rate_hz)


def silence(duration_s: float, rate_hz: int) -> Sound:
    return Sound(bytes(SAMPLE_BYTES * round(duration_s * rate_hz)), rate_hz)


class RateConverter:
    """Mono 16-bit samples to another rate, block by block; an empty block brings what is still inside."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz = from_hz
        self._resampler: Any = None
        if from_hz != to_hz:
            import av  # only when needed: it takes longer to load than most devices need it

            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=to_hz)

    def __call__(self, pcm: bytes) -> bytes:
        if self._resampler is None:
            return pcm
        frames = self._resampler.resample(self._frame(pcm) if pcm else None)
        return b"".join(each.to_ndarray().astype("<i2").tobytes() for each in frames)

    def _frame(self, pcm: bytes) -> Any:
        import av

        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2")[None, :], format="s16", layout="mono")
        frame.sample_rate = self._from_hz
        return frame


def samples_of(pcm: bytes) -> NDArray[np.float32]:
    """[n], -1..1, of mono 16-bit samples."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)


def joined(sounds: Sequence[Sound]) -> Sound:
    """One after the other. ValueError: none, or of different rates."""
    rates = {sound.rate_hz for sound in sounds}
    if len(rates) != 1:
        raise ValueError(f"cannot join {len(sounds)} sounds with the rates {sorted(rates)}")
    return Sound(b"".join(sound.pcm for sound in sounds), rates.pop())
