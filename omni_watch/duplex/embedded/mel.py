"""What YAMNet looks at: log-mel patches of a sound that arrives piece by piece.

Frame and filter settings are those of YAMNet's published parameters (25 ms windows every 10 ms, 64 HTK mel bands from
125 to 7500 Hz, log of the magnitude plus 0.001). All memory goes in and comes out as `MelState`; a whole recording
and its seconds run through the same lines, so where the sound is cut cannot matter.

A quiet patch is raised, by its own loudest frame and by no more than `MOST_GAIN`: YAMNet hears less in a sound from the
other end of the house. Recall within 3 s of sounds at -46 dBFS without and with it, at the same thresholds: baby 0.45
and 0.70, kettle whistle 0.12 and 0.75, phone bell 0.50 and 0.75, dog 0.45 and 0.50, smoke alarm 0.85 and 0.80, but
doorbell 0.75 and 0.50; false alerts stayed alike. Twentyfold gain turned a room's noise into water.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from omni_watch.domain.units import SAMPLE_RATE_HZ

WINDOW: Final = 400  # samples: 25 ms
HOP: Final = 160  # samples: 10 ms
FFT: Final = 512
BANDS: Final = 64
LOWEST_HZ: Final = 125.0
HIGHEST_HZ: Final = 7500.0
OFFSET: Final = 0.001  # inside the logarithm; a smaller one makes wrong classes of clean tones
FULL_LEVEL: Final = 23.0  # of a patch's loudest frame, as `_gain` measures it: speech at about -26 dBFS
MOST_GAIN: Final = 4.0
PATCH: Final = 96  # frames
PATCH_HOP: Final = 48  # frames
PATCH_HOP_S: Final = PATCH_HOP * HOP / SAMPLE_RATE_HZ  # 0.48 s
PATCH_S: Final = ((PATCH - 1) * HOP + WINDOW) / SAMPLE_RATE_HZ  # 0.975 s of sound shape one patch

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MelState:
    """What was heard and is not used up: samples short of a frame, frames short of a patch."""

    samples: Floats  # [n], from the first sample of the next frame on
    frames: Floats  # [m, 64] magnitudes, from the first frame of the next patch on
    patches: int = 0  # patches made so far; the next one begins at `patches * PATCH_HOP_S` of the sound

    @classmethod
    def start(cls) -> MelState:
        return cls(samples=np.zeros(0, np.float32), frames=np.zeros((0, BANDS), np.float32))


def step(audio: Floats, past: MelState) -> tuple[Floats, MelState]:
    """[n] samples, any n -> the patches [k, 96, 64] that they complete."""
    frames, samples = _frames(np.concatenate([past.samples, audio]))
    patches, left = _patches(np.concatenate([past.frames, frames]))
    logs = np.log(patches * _gain(patches) + OFFSET).astype(np.float32)
    return logs, MelState(samples=samples, frames=left, patches=past.patches + len(patches))


def _frames(samples: Floats) -> tuple[Floats, Floats]:
    """The magnitudes in every whole frame [k, 64], and the samples from the next frame's beginning on."""
    count = max(0, (len(samples) - WINDOW) // HOP + 1)
    if count == 0:
        return np.zeros((0, BANDS), np.float32), samples
    windows = sliding_window_view(samples, WINDOW)[::HOP][:count]
    magnitude = np.abs(np.fft.rfft(windows * _hann(), FFT, axis=1))
    return (magnitude @ _filters()).astype(np.float32), samples[count * HOP :].copy()


def _patches(frames: Floats) -> tuple[Floats, Floats]:
    """Every whole patch [k, 96, 64], and the frames from the next patch's beginning on."""
    count = max(0, (len(frames) - PATCH) // PATCH_HOP + 1)
    if count == 0:
        return np.zeros((0, PATCH, BANDS), np.float32), frames
    starts = range(0, count * PATCH_HOP, PATCH_HOP)
    return np.stack([frames[start : start + PATCH] for start in starts]), frames[count * PATCH_HOP :].copy()


def _gain(patches: Floats) -> Floats:
    """[k, 1, 1]: what brings a quiet patch's loudest frame towards `FULL_LEVEL`; loud ones stay as they are."""
    loudest = np.sqrt((patches**2).sum(axis=2)).max(axis=1, initial=0.0)
    gain = np.clip(FULL_LEVEL / np.maximum(loudest, OFFSET), 1.0, MOST_GAIN)
    return np.asarray(gain[:, None, None], np.float32)


@cache
def _hann() -> Floats:
    """The periodic Hann window, as a spectrogram's hop wants it."""
    turns = np.arange(WINDOW) / WINDOW
    return (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)


@cache
def _filters() -> Floats:
    """[257, 64]: triangles whose corners are evenly spaced on the HTK mel scale and straight on it; no bin 0."""
    bins = _mel(np.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT // 2 + 1))[:, None]
    corners = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2)
    low, mid, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - low) / (mid - low), (high - bins) / (high - mid)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights.astype(np.float32)


def _mel(hz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """The HTK Book's mel scale."""
    return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))
