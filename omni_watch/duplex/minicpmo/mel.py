"""From samples to log-mel frames, as Whisper's encoder wants them, one second at a time and at a cost that never grows.

The published front end keeps up to 30 s of sound and computes every frame of it again each second, because the floor
below which a frame is cut depends on the loudest frame of all. Here a frame's loudest bin is remembered when the frame
is computed, so each second only the last 105 frames are computed; the values are the same.

How a stream is counted, in frames of 10 ms:

    unit 0    560 zeros ++ 16000 samples; 80 samples stay behind for ever     emits frames [0, 102)
    unit k    16000 samples                                                   emits frames [100 k - 2, 100 k + 102)

Neighbouring units overlap by 2 + 2 frames: the convolutions of the encoder need them and drop their outputs. The last
frame of the buffer still leans on sound that is yet to come (its right half is a reflection), so it is not emitted, but
it counts for the floor, as do the first two frames after old sound was dropped.

What is kept of the published rules, and what is not:

- The floor is fixed at -10 for the first five seconds and then 8 below the loudest bin of the buffer. The weights have
  only ever been run with this, so the same frame may differ a little between two units that both emit it.
- The floor of `offline` does not depend on what was heard before. In the published code it does: after a stream that
  ended before its fifth second, a voice is processed with the fixed floor; `dynamic_floor=False` reproduces that.
- A stream begins with its first sound. In the published code it begins with its first unit, and a session whose first
  unit had pictures only counts its samples wrongly from then on.

Source: Whisper (Radford et al. 2022, section 2.2) for the features; the streaming rules are those of MiniCPM-o 4.5's
public demonstration, class `StreamingMelProcessorExact`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import AudioConfig

SAMPLE_RATE = 16_000
SAMPLES_PER_UNIT = SAMPLE_RATE
WINDOW = 400  # samples: 25 ms
HALF_WINDOW = WINDOW // 2
HOP = 160  # samples: 10 ms
FRAMES_PER_UNIT = SAMPLES_PER_UNIT // HOP
OVERLAP_FRAMES = 2  # emitted before and after a unit's own frames

FIRST_UNIT_SAMPLES = 16_560  # 1035 ms; a shorter first unit gets zeros on its left
HELD_BACK_SAMPLES = FIRST_UNIT_SAMPLES % HOP  # 80: what is left of the first unit after whole hops are taken

LONGEST_BUFFER = 30 * SAMPLE_RATE  # a buffer that reaches it loses its oldest ten seconds
DROPPED_SAMPLES = 10 * SAMPLE_RATE
DYNAMIC_FLOOR_FROM = 5 * SAMPLE_RATE

QUIETEST = 1e-10  # mel power; log10 of it is the fixed floor
FIXED_FLOOR = -10.0
DYNAMIC_RANGE = 8.0  # log10 units below the loudest bin: 80 dB

LONGEST_PIECE = 30 * SAMPLE_RATE  # of an offline sound

_CAPACITY = LONGEST_BUFFER + SAMPLES_PER_UNIT  # a buffer is below LONGEST_BUFFER before a unit is appended


@dataclass(slots=True, eq=False)
class MelMemory:
    """What one stream has heard in its last 20 to 30 s. It belongs to the caller and never grows: 2 MB.

    `samples` and `peaks` are filled from the left; dropping old sound moves the rest to the front.
    """

    samples: Tensor = field(default_factory=lambda: torch.zeros(_CAPACITY))  # float32
    peaks: Tensor = field(default_factory=lambda: torch.zeros(_CAPACITY // HOP))  # loudest log10 bin of each frame
    length: int = 0  # samples that frames are computed of; HELD_BACK_SAMPLES more lie behind them

    @property
    def is_new(self) -> bool:
        """No sound has been heard yet."""
        return self.length == 0

    @property
    def frames(self) -> int:
        """Frames of the buffer; the last one is not stable yet."""
        return self.length // HOP

    @property
    def has_dynamic_floor(self) -> bool:
        """The floor follows the loudest frame, rather than being fixed."""
        return self.length >= DYNAMIC_FLOOR_FROM

    def append(self, samples: Tensor) -> None:
        """Add one unit, [16000] float32; the first one is padded on its left."""
        if self.is_new:
            padding = FIRST_UNIT_SAMPLES - SAMPLES_PER_UNIT
            self.samples[:padding] = 0.0
            self.samples[padding:FIRST_UNIT_SAMPLES] = samples
            self.length = FIRST_UNIT_SAMPLES - HELD_BACK_SAMPLES
            return
        end = self.length + HELD_BACK_SAMPLES
        self.samples[end : end + SAMPLES_PER_UNIT] = samples
        self.length += SAMPLES_PER_UNIT

    def drop_oldest(self) -> None:
        """Forget the oldest ten seconds."""
        end = self.length + HELD_BACK_SAMPLES
        # clone: the two ranges overlap, and copying in place would read what was just written
        self.samples[: end - DROPPED_SAMPLES] = self.samples[DROPPED_SAMPLES:end].clone()
        dropped_frames = DROPPED_SAMPLES // HOP
        self.peaks[: self.frames - dropped_frames] = self.peaks[dropped_frames : self.frames].clone()
        self.length -= DROPPED_SAMPLES


class MelFrontEnd:
    """Log-mel frames of streams and of whole sounds. Holds the filters only; any thread, one memory at a time."""

    def __init__(self, config: AudioConfig) -> None:
        self._window = torch.hann_window(WINDOW)  # periodic
        self._filters = torch.from_numpy(mel_filters(config.num_mel_bins)).to(torch.float32)  # [bins, 201]

    def start(self) -> MelMemory:
        """The memory of a stream that has heard nothing yet."""
        return MelMemory()

    def step(self, samples: Tensor, memory: MelMemory) -> Tensor:
        """The frames that one more unit of sound completes.

        A unit without sound is simply not given: the stream goes on with the next sound as if it followed directly.

        Args:
            samples: [16000] floating point, -1..1. Louder ones are clipped and NaN is taken as silence, since one bad
                sample would otherwise be heard for as long as it stays in the buffer.
            memory: of this stream; changed.

        Returns:
            [bins, 102] float32 for the first unit of the stream, [bins, 104] for every other one.

        Raises:
            ModelError: samples of another shape or of a whole-number type; the memory is as before.
        """
        if samples.shape != (SAMPLES_PER_UNIT,):
            raise ModelError(
                f"sound of one unit has shape {list(samples.shape)}; expected [{SAMPLES_PER_UNIT}], "
                "one second of mono sound at 16 kHz"
            )
        samples = _clean(samples)
        memory.append(samples)
        if memory.length >= LONGEST_BUFFER:
            memory.drop_oldest()
            memory.peaks[:2] = self._log_mel(memory.samples[: memory.length], 0, 2).amax(dim=0)
        first = max(0, memory.frames - FRAMES_PER_UNIT - 2 * OVERLAP_FRAMES - 1)
        log_mel = self._log_mel(memory.samples[: memory.length], first, memory.frames)
        memory.peaks[first : memory.frames] = log_mel.amax(dim=0)
        log_mel = log_mel[:, :-1]  # the last frame is not stable
        if memory.has_dynamic_floor:
            log_mel = torch.maximum(log_mel, memory.peaks[: memory.frames].amax() - DYNAMIC_RANGE)
        return _scaled(log_mel)

    def offline(self, samples: Tensor, *, dynamic_floor: bool = True) -> list[Tensor]:
        """The frames of a whole sound, such as a reference voice, in pieces of at most 30 s.

        Args:
            samples: [n] floating point, -1..1, n >= 1, mono at 16 kHz; cleaned as in `step`.
            dynamic_floor: cut 8 below the loudest bin of the piece; else fixed at -10 (see the module's docstring).

        Returns:
            One [bins, ceil(n / 160)] float32 for each piece.

        Raises:
            ModelError: no sound, more than one channel, or samples of a whole-number type.
        """
        if samples.ndim != 1 or not len(samples):
            raise ModelError(
                f"a sound has shape {list(samples.shape)}; expected [n], mono at 16 kHz, at least one sample"
            )
        return [self._whole(piece, dynamic_floor) for piece in torch.split(_clean(samples), LONGEST_PIECE)]

    def _whole(self, samples: Tensor, dynamic_floor: bool) -> Tensor:
        """[n] samples -> [bins, ceil(n / 160)]; the sound is heard with silence after it up to 30 s."""
        padded = functional.pad(samples, (0, LONGEST_PIECE - len(samples)))
        log_mel = self._log_mel(padded, 0, LONGEST_PIECE // HOP)
        if dynamic_floor:
            log_mel = torch.maximum(log_mel, log_mel.amax() - DYNAMIC_RANGE)
        return _scaled(log_mel[:, : -(-len(samples) // HOP)])

    def _log_mel(self, samples: Tensor, first: int, last: int) -> Tensor:
        """log10 of the mel power of frames [first, last) of `samples` [n], which are reflected at both ends.

        Frame i is centred at sample 160 i. Returns [bins, last - first].
        """
        start, end = first * HOP - HALF_WINDOW, (last - 1) * HOP + HALF_WINDOW
        before, after = max(-start, 0), max(end - len(samples), 0)
        heard = samples[start + before : end - after]
        if before or after:
            heard = functional.pad(heard.unsqueeze(0), (before, after), mode="reflect").squeeze(0)
        spectrum = torch.view_as_real(torch.fft.rfft(heard.unfold(0, WINDOW, HOP) * self._window))  # [frames, 201, 2]
        power = spectrum.square().sum(dim=-1)
        return (self._filters @ power.T).clamp_(min=QUIETEST).log10_()


def _clean(samples: Tensor) -> Tensor:
    """float32 on the CPU, finite, -1..1."""
    if not samples.is_floating_point():
        raise ModelError(
            f"sound has samples of type {samples.dtype}; expected floating point in -1..1; "
            "divide 16-bit samples by 32768"
        )
    return samples.to("cpu", torch.float32).nan_to_num(nan=0.0).clamp_(-1.0, 1.0)


def _scaled(log_mel: Tensor) -> Tensor:
    """Whisper's range: log10 power -4 becomes 0, a loud bin about 1."""
    return (log_mel + 4.0) / 4.0


def mel_filters(num_bins: int) -> NDArray[np.float64]:
    """Triangular filters between 0 and 8 kHz on Slaney's scale, each of area one: [bins, 201].

    Source: Slaney, Auditory Toolbox (1998), as in librosa.filters.mel with its defaults.
    """
    corners = _slaney_hertz(np.linspace(0.0, _slaney_mels(SAMPLE_RATE / 2), num_bins + 2))
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low))


# Slaney's scale is linear up to 1 kHz, 15 mels, and logarithmic above, 27 mels for a factor of 6.4
_MELS_AT_1_KHZ = 15.0
_MELS_PER_E_FOLD = 27.0 / np.log(6.4)


def _slaney_mels(hertz: float) -> float:
    """Only above 1 kHz, where the upper end lies."""
    return float(_MELS_AT_1_KHZ + np.log(hertz / 1000.0) * _MELS_PER_E_FOLD)


def _slaney_hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = mels * (1000.0 / _MELS_AT_1_KHZ)
    return np.where(mels < _MELS_AT_1_KHZ, linear, 1000.0 * np.exp((mels - _MELS_AT_1_KHZ) / _MELS_PER_E_FOLD))
