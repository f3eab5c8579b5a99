"""Rooms that do not exist: what a microphone hears of a loudspeaker in them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RATE = 16_000


def speech_like(length_s: float, *, seed: int, level: float = 0.1) -> Floats:
    """Something with the rhythm and the spectrum of speech: buzzing syllables with pauses between them."""
    rng, count = np.random.default_rng(seed), round(length_s * RATE)
    t = np.arange(count) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6)) + rng.normal(0, 2)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 30)) + 0.2 * rng.normal(0, 1, count)
    syllables = np.repeat(rng.uniform(0, 1, count // 2400 + 1) * (rng.uniform(0, 1, count // 2400 + 1) > 0.25), 2400)
    smooth = np.convolve(syllables, np.hanning(800) / 400, "same")[:count]
    sound = buzz * smooth
    return (sound * level / max(float(np.sqrt(np.mean(sound**2))), 1e-9)).astype(np.float32)


def response(seed: int = 0, *, reverberates_s: float = 0.3, loudness: float = 0.6) -> Floats:
    """From loudspeaker to microphone: the straight way of 1 m, and a room's echoes."""
    t = np.arange(round(0.25 * RATE)) / RATE
    echoes = np.random.default_rng(seed).normal(0, 0.05, len(t)) * np.exp(-6.9 * t / reverberates_s)
    echoes[:47] = 0
    echoes[47] = 1.0
    return (loudness * echoes).astype(np.float32)


def echo_of(far: Floats, *, delay_s: float = 0.0, seed: int = 0, noise: float = 0.0005) -> Floats:
    """[n] as `far`: what is heard of it, so late (less than 0: so early; also by parts of a sample), over a room's
    noise."""
    shift = math.floor(delay_s * RATE)
    moved = np.concatenate([np.zeros(max(shift, 0), np.float32), far[max(-shift, 0) :], np.zeros(max(-shift, 0))])
    size, part = 2 * len(moved), delay_s * RATE - shift
    turned = np.fft.rfft(moved, size) * np.exp(-2j * np.pi * np.fft.rfftfreq(size) * part)
    heard = np.convolve(np.fft.irfft(turned)[: len(moved)], response(seed))[: len(far)]
    return (heard + np.random.default_rng(seed).normal(0, noise, len(far))).astype(np.float32)


def level_db(sound: Floats) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-12))
