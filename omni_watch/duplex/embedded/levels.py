"""Fill level between a shown empty and a shown full.

The level is the height of the line that best parts cells that look full, below, from cells that look empty, above. A
line is found where a mean would drift: a jug that is full reads 1.00 even under other light, and one at 95 % reads
0.95. When much of the vessel looks like neither, something is in the way and nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.decisions import Means
from omni_watch.domain.regions import Region
from omni_watch.domain.units import Unit
from omni_watch.duplex.embedded.eyes import Picture
from omni_watch.duplex.embedded.likeness import Cells, Contrast, compare, contrast
from omni_watch.duplex.embedded.registration import Floats, Follower, Shift
from omni_watch.duplex.embedded.watcher import Evidence, Heard
from omni_watch.watch.deciding import GateSettings

# rows finer than the 3 % that matter, coarser than noise; columns need not be as fine, since water lies level
CELLS: Final = Cells(high=1.5, wide=4.0, most_rows=128, most_columns=48)
FULL: Final = 0.97  # of the taught level; measured: full vessels read 0.97-1.00, early alerts are the worst error
ALMOST: Final = 0.93  # full, if it stays so
STEADY: Final = 0.004  # levels per second: no longer filling
STEADY_OF: Final = 4  # seconds needed to call it steady
REMEMBERED_S: Final = 4.5  # of trusted levels
AHEAD_S: Final = 1.0  # how far the level is extrapolated: the gate's second second
FASTEST: Final = 0.06  # levels per second that are believed when extrapolating
NOT_FULL: Final = 0.85
TRUSTED_OFF: Final = 0.35  # measured: 0.01-0.2 undisturbed, above 0.4 with an arm across the vessel
NO_CONTRAST: Final = (
    "empty and full look the same in the marked region; mark a tighter region around the water, "
    "or show both again under better light"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What one picture says."""

    level: float  # 0 the shown empty, 1 the shown full
    off: float  # 0..1: how much of the deciding area looks like neither


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaughtLevel:
    """What empty (before) and full (after) look like."""

    looks: Contrast
    rows: NDArray[np.intp]  # rows of cells that take part, top first


def teach_level(empty: list[Picture], full: list[Picture], region: Region | None) -> TaughtLevel | None:
    """What the shown pictures teach, at least one of each; None when the two look the same in the region."""
    looks = contrast(empty, full, region, CELLS)
    return TaughtLevel(looks=looks, rows=_filled_rows(looks.weight)) if looks.is_clear else None


def _filled_rows(weight: Floats) -> NDArray[np.intp]:
    """The longest run of rows that change, small breaks allowed: a stream above the rim is not part of it."""
    strength = weight.sum(axis=1)
    busy = strength > 0.3 * np.percentile(strength[strength > 0], 75)
    closed = cv2.morphologyEx(busy.astype(np.uint8)[:, None], cv2.MORPH_CLOSE, np.ones((5, 1), np.uint8))[:, 0]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], closed, [0]])))
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    first, last = max(runs, key=lambda run: strength[run[0] : run[1]].sum())
    return np.arange(first, last)


def measure(taught: TaughtLevel, picture: Picture, shift: Shift) -> Level:
    """The level in one picture."""
    found = compare(taught.looks, picture, shift)
    weight, foreign = taught.looks.weight[taught.rows], found.foreign[taught.rows]
    known = np.asarray(np.where(foreign, 0.0, weight) + 1e-6, np.float32)
    rows = _medians(found.after[taught.rows], known)
    level, cost = part(rows, weight.sum(axis=1))
    return Level(level=level, off=max(cost, float((weight * foreign).sum() / weight.sum())))


def _medians(values: Floats, weights: Floats) -> NDArray[np.floating]:
    """[rows]: the weighted median of each row of [rows, columns]."""
    order = np.argsort(values, axis=1)
    total = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    middle = (total < total[:, -1:] / 2).sum(axis=1, keepdims=True)
    chosen: NDArray[np.floating] = np.take_along_axis(values, np.take_along_axis(order, middle, axis=1), axis=1)[:, 0]
    return chosen


def part(rows: NDArray[np.floating], weights: NDArray[np.floating]) -> tuple[float, float]:
    """(level, cost): the line that best parts full rows (1) below from empty rows (0) above; rows are top first."""
    count = len(rows)
    levels = np.linspace(0, 1, 4 * count + 1)
    filled = np.clip(levels[:, None] * count - (count - 1 - np.arange(count))[None, :], 0, 1)
    costs = (np.abs(filled - rows) * weights).sum(axis=1) / weights.sum()
    best = int(costs.argmin())
    return float(levels[best]), float(costs[best])


@dataclass(frozen=True, slots=True)
class Seen:
    """One trusted level and when it was seen."""

    at_s: float
    level: float


def rate(recent: list[Seen]) -> float:
    """Levels per second over the recent past, by least squares; 0 with too little to tell."""
    if len(recent) < 3:
        return 0.0
    times = np.array([seen.at_s for seen in recent])
    levels = np.array([seen.level for seen in recent])
    times = times - times.mean()
    return float((times * levels).sum() / (times**2).sum())


def fullness(recent: list[Seen]) -> float:
    """The score of the newest of `recent` (oldest first): its level, a confirmation's time ahead while it rises.

    The gate wants a second good second, in which a vessel that fills goes on filling. A vessel that stays just below
    its taught height has been filled a little less high this time, and is full.
    """
    level, rising = recent[-1].level, rate(recent)
    ahead = level + AHEAD_S * min(max(rising, 0.0), FASTEST)
    is_steady = len(recent) >= STEADY_OF and abs(rising) < STEADY
    return float(min(1.0, FULL if is_steady and ALMOST <= ahead < FULL else ahead))


class LevelWatcher:
    """Watches one vessel; its score is the level. Keeps the levels it last saw."""

    means = Means.LEVEL
    gate = GateSettings(on=FULL, off=NOT_FULL)

    def __init__(self, taught: TaughtLevel, camera: Follower) -> None:
        self._taught = taught
        self._camera = camera
        self._recent: list[Seen] = []

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        """The level of the unit's frame; no score while something is in the way. Model thread only."""
        frame = unit.frame
        if frame is None:
            return Evidence(score=None)
        found = measure(self._taught, frame.rgb, self._camera.step(frame.rgb))
        detail = f"level {found.level:.2f} off {found.off:.2f}"
        if found.off > TRUSTED_OFF:
            return Evidence(score=None, detail=f"{detail}, something is in the way")
        kept = [seen for seen in self._recent if seen.at_s > frame.at_s - REMEMBERED_S]
        self._recent = [*kept, Seen(frame.at_s, found.level)]
        score = fullness(self._recent)
        return Evidence(score=score, condition_at_s=frame.at_s if score >= FULL else None, detail=detail)
