"""Rows of like beeps, as timers, microwaves and alarms make them, found without a model.

A beep is a stretch of spectrogram frames that one steady tone rules; a row is beeps of like pitch and length that
follow one another. All memory goes in and comes out as `BeepState`, so that where the sound is cut cannot matter.
Crying babies, crowing cocks, whistling kettles and
music make rows too: `ears.py` has YAMNet refuse those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from omni_watch.domain.units import SAMPLE_RATE_HZ

FFT: Final = 1024  # samples of a frame: 64 ms, 15.6 Hz a bin
HOP: Final = 256  # 16 ms
HOP_S: Final = HOP / SAMPLE_RATE_HZ
BIN_HZ: Final = SAMPLE_RATE_HZ / FFT
FIRST_BIN: Final = round(700 / BIN_HZ)  # below are voices and motors
LAST_BIN: Final = round(5000 / BIN_HZ)
QUIETEST: Final = 1e-10  # of full-scale power: keeps the logarithm of digital silence finite

# A frame is tonal when one bin rules it, newly and not as an echo.
OVER_MEDIAN_DB: Final = 15.0  # the top bin over the frame's median
PEAK_REACH: Final = 3  # bins each side that belong to the tone
PEAK_SHARE: Final = 0.45  # of the band's energy lies in them
OVER_PAST_DB: Final = 12.0  # the top bin over its own past
PAST_FRAMES: Final = round(3.0 / HOP_S)
PAST_PERCENTILE: Final = 15  # so that a tone may sound for five sixths of the time
ECHO_DB: Final = 9.0  # that much under its own recent peak
ECHO_FRAMES: Final = round(0.5 / HOP_S)

SHORTEST_FRAMES: Final = 4
LONGEST_FRAMES: Final = round(2.5 / HOP_S)  # a longer tone is a whistle or a hum
STEADY_BINS: Final = 0.8  # how far a tone may stray from its mean
GLIDE_BINS: Final = 12.0  # a tone that goes over into one so near glides, as voices and whistles do, and is no beep ...
STRAY_FRAMES: Final = 3  # ... unless only its fading strays

LIKE_PITCH: Final = 0.015  # machines keep their pitch
LIKE_LENGTH: Final = 1.5
SHORTEST_GAP_S: Final = 0.03
LONGEST_GAP_S: Final = 1.7
LIKE_PERIOD: Final = 1.15  # ... and time
SLACK_S: Final = 2 * HOP_S  # what noise and echoes add to or take from either

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beep:
    """One steady tone; seconds since the stream began."""

    pitch_hz: float
    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Like beeps one after another; remembers no more of an alarm that rings for hours than of three beeps."""

    count: int
    first: Beep
    last: Beep
    periods_s: tuple[float, ...] = ()  # between the last beginnings, newest last
    is_regular: bool = False  # the beginnings kept time at least once

    @property
    def is_believable(self) -> bool:
        """Two beeps may be anything; three and more are a row only when they keep time."""
        return self.count == 2 or self.is_regular

    def with_beep(self, beep: Beep) -> Row:
        periods_s = (*self.periods_s, beep.start_s - self.last.start_s)[-4:]
        return replace(
            self,
            count=self.count + 1,
            last=beep,
            periods_s=periods_s,
            is_regular=self.is_regular or _keeps_time(periods_s),
        )

    def takes(self, beep: Beep) -> bool:
        """Whether the beep is like the last one and follows it in time."""
        return (
            SHORTEST_GAP_S <= beep.start_s - self.last.end_s <= LONGEST_GAP_S
            and abs(beep.pitch_hz / self.last.pitch_hz - 1) <= LIKE_PITCH
            and _alike(beep.length_s, self.last.length_s, LIKE_LENGTH)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """A tone that goes on."""

    first: int  # frame
    frames: int
    bins: float  # sum of the ruling bins, for their mean
    strayed: int = 0  # frames since, in which it was near its mean but not at it

    @property
    def mean_bin(self) -> float:
        return self.bins / self.frames


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeepState:
    """What the detector remembers."""

    samples: Floats  # [n], from the next frame's first sample on
    levels: Floats  # [m <= PAST_FRAMES, bins], dB of the frames before
    frame: int = 0  # index of the next frame
    tone: Tone | None = None
    rows: tuple[Row, ...] = ()  # that may still grow, single beeps among them

    @classmethod
    def start(cls) -> BeepState:
        return cls(samples=np.zeros(0, np.float32), levels=np.zeros((0, LAST_BIN - FIRST_BIN), np.float32))


def step(audio: Floats, past: BeepState) -> tuple[tuple[Row, ...], BeepState]:
    """[n] samples, any n -> the rows as they grew, one for each beep that ended within them."""
    fresh, samples = _levels(np.concatenate([past.samples, audio]))
    levels = np.concatenate([past.levels, fresh])
    tone, rows, grown = past.tone, past.rows, []
    for number, bin_ in enumerate(_ruling_bins(levels, len(past.levels))):
        tone, beep = _after_frame(tone, bin_, past.frame + number)
        if beep is not None:
            row, rows = _with_beep(rows, beep)
            grown.append(row)
    return tuple(grown), BeepState(
        samples=samples,
        levels=levels[-PAST_FRAMES:].copy(),
        frame=past.frame + len(fresh),
        tone=tone,
        rows=_open(rows, (past.frame + len(fresh)) * HOP_S),
    )


def _levels(samples: Floats) -> tuple[Floats, Floats]:
    """Every whole frame [k, bins] in dB of full scale, and the samples from the next frame's beginning on."""
    count = max(0, (len(samples) - FFT) // HOP + 1)
    if count == 0:
        return np.zeros((0, LAST_BIN - FIRST_BIN), np.float32), samples
    windows = sliding_window_view(samples, FFT)[::HOP][:count]
    power = np.abs(np.fft.rfft(windows * _hann(), axis=1)[:, FIRST_BIN:LAST_BIN]) ** 2
    return (10 * np.log10(power + QUIETEST)).astype(np.float32), samples[count * HOP :].copy()


@cache
def _hann() -> Floats:
    """Scaled so that a full-scale tone on a bin has 0 dB."""
    window = np.hanning(FFT + 1)[:-1]
    return np.asarray(window * 2 / window.sum(), np.float32)


def _ruling_bins(levels: Floats, known: int) -> Iterator[float | None]:
    """For each frame after the first `known`: the bin whose tone rules it (refined between bins), or None."""
    fresh = levels[known:]
    tops = fresh.argmax(axis=1)
    is_high = fresh.max(axis=1) - np.median(fresh, axis=1) >= OVER_MEDIAN_DB
    for now, top in enumerate(tops.tolist()):
        frame, past = fresh[now], levels[max(0, known + now - PAST_FRAMES) : known + now]
        is_ruled = is_high[now] and _share(frame, top) >= PEAK_SHARE and _is_new(past[:, top], float(frame[top]))
        yield _refined(frame, top) if is_ruled else None


def _share(frame: Floats, top: int) -> float:
    """How much of the band's energy the bins around the top one hold."""
    power = 10 ** (frame / 10)
    return float(power[max(0, top - PEAK_REACH) : top + PEAK_REACH + 1].sum() / power.sum())


def _is_new(past: Floats, level: float) -> bool:
    """Whether a bin of that level is louder than it usually was, and no echo of itself."""
    if len(past) == 0:
        return True
    usual = np.partition(past, len(past) * PAST_PERCENTILE // 100)[len(past) * PAST_PERCENTILE // 100]
    return bool(level >= usual + OVER_PAST_DB and level >= past[-ECHO_FRAMES:].max() - ECHO_DB)


def _refined(frame: Floats, top: int) -> float:
    """The tone's place between bins, by the parabola through three levels."""
    if top == 0 or top == len(frame) - 1:
        return float(top)
    left, mid, right = (float(level) for level in frame[top - 1 : top + 2])
    curve = left - 2 * mid + right
    return top + (0.5 * (left - right) / curve if curve < 0 else 0.0)


def _after_frame(tone: Tone | None, bin_: float | None, frame: int) -> tuple[Tone | None, Beep | None]:
    """The tone that goes on after one frame, and the beep that ended with it, if one did."""
    if bin_ is None:
        return None, None if tone is None else _beep(tone)
    begun = Tone(first=frame, frames=1, bins=bin_)
    if tone is None:
        return begun, None
    away = abs(bin_ - tone.mean_bin)
    if away <= STEADY_BINS:
        return replace(tone, frames=tone.frames + 1, bins=tone.bins + bin_), None
    if away <= GLIDE_BINS:
        return replace(tone, strayed=tone.strayed + 1, bins=tone.bins + bin_, frames=tone.frames + 1), None
    return begun, _beep(tone)


def _beep(tone: Tone) -> Beep | None:
    """The beep that an ended tone was; None when it was too short, too long or not steady.

    Times are those of the frames' middles.
    """
    if tone.strayed > STRAY_FRAMES or not SHORTEST_FRAMES <= tone.frames <= LONGEST_FRAMES:
        return None
    start_s = tone.first * HOP_S + FFT / 2 / SAMPLE_RATE_HZ
    pitch_hz = (tone.mean_bin + FIRST_BIN) * BIN_HZ
    return Beep(pitch_hz=pitch_hz, start_s=start_s, end_s=start_s + tone.frames * HOP_S)


def _with_beep(rows: tuple[Row, ...], beep: Beep) -> tuple[Row, tuple[Row, ...]]:
    """The row that the beep continues or begins, and all rows with it."""
    liked = [row for row in rows if row.takes(beep)]
    if not liked:
        row = Row(count=1, first=beep, last=beep)
        return row, (*rows, row)
    longest = max(liked, key=lambda row: row.count)
    row = longest.with_beep(beep)
    return row, (*(other for other in rows if other is not longest), row)


def _open(rows: tuple[Row, ...], now_s: float) -> tuple[Row, ...]:
    """The rows that a beep which ends later could still continue."""
    oldest_s = now_s - LONGEST_GAP_S - (LONGEST_FRAMES + 1) * HOP_S
    return tuple(row for row in rows if row.last.end_s >= oldest_s)


def _keeps_time(periods_s: tuple[float, ...]) -> bool:
    """Whether the last two periods are alike, or the last two pairs: some alarm clocks ring in pairs with pauses."""
    newest_first = periods_s[::-1]
    return any(
        len(newest_first) >= 2 * lag
        and all(_alike(newest_first[i], newest_first[i + lag], LIKE_PERIOD) for i in range(lag))
        for lag in (1, 2)
    )


def _alike(one_s: float, other_s: float, ratio: float) -> bool:
    less_s, more_s = sorted((one_s, other_s))
    return more_s <= less_s * ratio or more_s - less_s <= SLACK_S
