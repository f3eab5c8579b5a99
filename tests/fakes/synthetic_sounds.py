"""Household sounds made by formulas, for tests that must not depend on recordings. Mono, 16 kHz, float32, peak 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 16_000
Floats = NDArray[np.float32]
Rng = np.random.Generator


def seconds(length_s: float) -> NDArray[np.float64]:
    return np.arange(round(length_s * RATE)) / RATE


def silence(length_s: float) -> Floats:
    return np.zeros(round(length_s * RATE), np.float32)


def peak_one(sound: NDArray[np.float64] | Floats) -> Floats:
    return (sound / max(1e-9, float(np.abs(sound).max()))).astype(np.float32)


def beep(pitch_hz: float, length_s: float, *, square: bool = False) -> Floats:
    """A tone with 4 ms ramps, pure as from a speaker or with a piezo's odd harmonics."""
    t = seconds(length_s)
    tone = np.sin(2 * np.pi * pitch_hz * t)
    if square:
        tone = sum((np.sin(2 * np.pi * pitch_hz * k * t) / k for k in (3, 5) if pitch_hz * k < RATE / 2), tone)
    ramp = np.minimum(1, np.minimum(t, length_s - t) / 0.004)
    return np.asarray(tone * np.clip(ramp, 0, 1), np.float32)


def row(pitch_hz: float, length_s: float, gap_s: float, count: int, *, square: bool = False) -> Floats:
    one = np.concatenate([beep(pitch_hz, length_s, square=square), silence(gap_s)])
    return np.tile(one, count)


def bursts(pitch_hz: float, pips: int, pip_s: float, gap_s: float, pause_s: float, times: int) -> Floats:
    """What a bedside alarm clock does."""
    one = np.concatenate([row(pitch_hz, pip_s, gap_s, pips, square=True), silence(pause_s)])
    return np.tile(one, times)


def bell(pitch_hz: float, length_s: float, decay_s: float, *, partials: tuple[float, ...] = (1, 2.76, 5.4)) -> Floats:
    """A struck bar: partials that die away, the higher the sooner."""
    t = seconds(length_s)
    waves = (
        np.sin(2 * np.pi * pitch_hz * p * t) * np.exp(-t * p / decay_s) / (i + 1)
        for i, p in enumerate(partials)
        if pitch_hz * p < RATE / 2
    )
    return peak_one(sum(waves, np.zeros(len(t))))


def ding_dong(high_hz: float, interval: float, rng: Rng) -> Floats:
    decay_s = rng.uniform(0.5, 1.1)
    high, low = bell(high_hz, 2.2, decay_s), bell(high_hz * interval, 2.2, decay_s)
    out = np.concatenate([high, silence(1.0)])
    at = round(rng.uniform(0.45, 0.8) * RATE)
    out[at : at + len(low)] += low[: len(out) - at]
    return peak_one(out)


def knocks(count: int, rng: Rng) -> Floats:
    """Knuckles on a wooden door: short hits with a few low resonances."""
    t = seconds(0.18)
    out = silence(count * 0.4 + 0.3)
    resonances = [(rng.uniform(*span), rng.uniform(0.012, 0.04)) for span in ((90, 180), (200, 420), (450, 900))]
    every_s = rng.uniform(0.18, 0.3)
    for hit in range(count):
        thud = sum((np.sin(2 * np.pi * hz * t) * np.exp(-t / decay_s) for hz, decay_s in resonances), np.zeros(len(t)))
        thud += rng.normal(0, 0.6, len(t)) * np.exp(-t / 0.004)
        at = round((hit * every_s + rng.uniform(0, 0.02)) * RATE)
        out[at : at + len(t)] += (thud * rng.uniform(0.7, 1.0)).astype(np.float32)
    return peak_one(out)


def telephone_bell(rings: int, rng: Rng) -> Floats:
    """Two gongs struck twenty times a second, two seconds of ringing and a pause."""
    gongs = [
        bell(hz, 0.6, 0.25, partials=(1, 1.6, 2.4, 3.1)) for hz in (rng.uniform(900, 1200), rng.uniform(1200, 1500))
    ]
    one = silence(3.5)
    for strike in range(40):
        gong, at = gongs[strike % 2], round(strike * 0.05 * RATE)
        one[at : at + len(gong)] += gong * np.float32(rng.uniform(0.7, 1))
    return peak_one(np.tile(one, rings))


def kettle_whistle(length_s: float, rng: Rng) -> Floats:
    """Rises in pitch and loudness out of steam, then wavers."""
    t = seconds(length_s)
    top = rng.uniform(1800, 3200)
    hz = top * (1 - 0.35 * np.exp(-t / 1.2)) * (1 + 0.004 * np.sin(2 * np.pi * rng.uniform(4, 9) * t))
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    tone = np.sin(phase) + 0.3 * np.sin(2 * phase)
    steam = np.diff(rng.normal(0, 1, len(t) + 1))
    return peak_one((tone + 0.15 * steam) * np.minimum(1, t / 2))


def room(sound: Floats, rt60_s: float, direct: float, rng: Rng) -> Floats:
    """The sound as a room of that reverberation time gives it back, with its tail; `direct` 0..1 is how near it is."""
    t = seconds(rt60_s)
    tail = rng.normal(0, 1, len(t)) * 10 ** (-3 * t / rt60_s)
    tail *= (1 - direct) / np.sqrt((tail**2).sum())
    tail[0] += direct
    size = len(sound) + len(tail)
    fast = 1 << (size - 1).bit_length()
    return peak_one(np.fft.irfft(np.fft.rfft(sound, fast) * np.fft.rfft(tail, fast), fast)[:size])


def room_noise(length_s: float, rms: float, rng: Rng) -> Floats:
    """Noise that falls with frequency, as rooms and microphones have it."""
    size = round(length_s * RATE)
    spectrum = np.fft.rfft(rng.normal(0, 1, size))
    hz = np.maximum(20.0, np.fft.rfftfreq(size, 1 / RATE))
    noise = np.fft.irfft(spectrum / hz**0.7, size)
    return np.asarray(noise * rms / np.sqrt((noise**2).mean()), np.float32)


def loudness(sound: Floats, window_s: float = 0.5) -> float:
    """RMS of the loudest half second."""
    size = min(len(sound), round(window_s * RATE))
    energy = np.cumsum(np.concatenate([[0.0], sound.astype(np.float64) ** 2]))
    return float(np.sqrt(max(0.0, float((energy[size:] - energy[:-size]).max()) / size)))


def at_level(sound: Floats, dbfs: float) -> Floats:
    """The sound with its loudest half second at that many dB of full scale."""
    return (sound * (10 ** (dbfs / 20) / max(1e-9, loudness(sound)))).astype(np.float32)


def mixed(base: Floats, sound: Floats, at_s: float) -> Floats:
    out = base.copy()
    at = round(at_s * RATE)
    out[at : at + len(sound)] += sound[: len(out) - at]
    return np.clip(out, -1, 1)


SYNTHETIC: Final[dict[str, Callable[[Rng], Floats]]] = {
    # who makes it -> one random example of it
    "microwave": lambda r: row(
        r.uniform(1000, 2900),
        r.uniform(0.25, 0.9),
        r.uniform(0.3, 1.0),
        int(r.integers(3, 6)),
        square=bool(r.integers(2)),
    ),
    "timer": lambda r: row(
        r.uniform(1500, 4000),
        r.uniform(0.08, 0.3),
        r.uniform(0.08, 0.7),
        int(r.integers(4, 10)),
        square=bool(r.integers(2)),
    ),
    "alarm_clock": lambda r: bursts(
        r.uniform(1500, 3500),
        int(r.integers(2, 5)),
        r.uniform(0.05, 0.11),
        r.uniform(0.05, 0.11),
        r.uniform(0.3, 0.7),
        6,
    ),
    "smoke_alarm": lambda r: bursts(r.uniform(2800, 3500), 3, 0.5, 0.5, 1.0, 3),
    "doorbell": lambda r: ding_dong(r.uniform(500, 900), r.choice([0.8, 0.75, 0.84, 0.667]), r),
    "knock": lambda r: knocks(int(r.integers(3, 6)), r),
    "phone": lambda r: telephone_bell(2, r),
    "whistle": lambda r: kettle_whistle(7, r),
    "ding": lambda r: bell(r.uniform(700, 2400), 1.8, r.uniform(0.4, 1.2)),
}
