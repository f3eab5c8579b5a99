"""Which frames the model must be shown: those with something new in them, and one every few seconds anyway.

A picture costs the model 66 of its 8192 trained positions and most of a second's arithmetic; most of a house's seconds
look like the one before. Each frame is therefore compared with the last one that was fed, not with the one before it,
so that slow change adds up until it counts. The comparison is made on a small grey picture:

- A camera's exposure breathes. A gain and an offset for the whole picture are fitted, without the places that changed,
  and taken out within limits; beyond them the light itself changed, and that is news.
- A camera is noisy, more so at night and along edges that its codec redraws. Each place has a noise of its own, learned
  from how unevenly it goes from frame to frame: what fades in slowly and evenly is not taken for noise, nor is what
  jumps, and `NOISIEST` bounds it. So each second of a countdown is seen, and what really moves all the time (a
  television) is simply always fed.

Nothing here knows the model; pure numpy, one gate for each feed, its memory a few pictures of 160 x 160 at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

LONGEST_SIDE: Final = (
    160  # cells of the small picture; at 640 x 480 a cell is 4 x 4 pixels and a small digit 5 x 7 cells
)
GREY: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: a red lamp that turns green is seen
LEAST_CHANGE: Final = 4.0  # grey levels of 255, after smoothing; rounding and recompression stay below
SIGMAS: Final = (
    6.0  # a place must differ by this many times its noise; with 10,000 places four or five happen by chance
)
LEAST_CELLS: Final = 3  # a change has some extent
START_NOISE: Final = 2.0  # grey levels; learned within seconds
NOISIEST: Final = 3.0  # no place is trusted less: a change of 18 grey levels is seen wherever it is
LEARNING: Final = 0.1  # share of the newest frame in the noise: about ten seconds of memory
MOST_GAIN: Final = 1.15  # what exposure control does between two looks; more light than that was switched on
MOST_OFFSET: Final = 10.0  # grey levels
DARK, BRIGHT = 4.0, 250.0  # outside, a sensor is cut off and tells nothing about exposure
CUT_S: Final = 2.5  # frames further apart than this have a cut between them
SLACK_S: Final = 0.5  # half a unit: frames come near whole seconds, not at them

Cells: TypeAlias = NDArray[np.float32]


class Reason(Enum):
    """Why a frame is fed, or that it is not."""

    CUT = "cut"  # the first frame, or the first after the feed was away
    CHANGED = "changed"  # something is not as it was in the last frame fed
    SETTLING = "settling"  # something changed a moment ago
    DUE = "due"  # nothing changed, but the last one fed is old
    STILL = "still"  # not fed


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the gate thinks of one frame."""

    reason: Reason
    changed: float = 0.0  # share of the picture, 0..1, that differs from the last frame fed

    @property
    def is_fed(self) -> bool:
        return self.reason is not Reason.STILL


class StillnessGate:
    """Says for each frame of one feed whether it must be fed. One thread; its memory does not grow.

    Args:
        longest_s: a frame is fed at least this often, whatever it shows.
        settling_s: how long frames are fed after a change.
    """

    def __init__(self, *, longest_s: float = 5.0, settling_s: float = 3.0) -> None:
        self._longest_s = longest_s
        self._settling_s = settling_s
        self._fed: _Fed | None = None
        self._before: _Before | None = None
        self._changed_s = -np.inf

    def cut(self) -> None:
        """The next frame is fed whatever it shows: the feed was away, or a frame said to be fed was not."""
        self._fed = None

    def look(self, rgb: NDArray[np.uint8], at_s: float) -> Look:
        """Whether the frame `rgb` [h, w, 3] of time `at_s` must be fed; it then is what later frames are compared with.

        `at_s` is in seconds on the feed's timeline. A frame of another size, one more than `CUT_S` after the frame
        before, or one from before it, comes after a cut.
        """
        cells = small_picture(rgb)
        before = self._before
        if before is None or before.cells.shape != cells.shape or not 0 <= at_s - before.at_s <= CUT_S:
            self.cut()
            self._before = _Before.first(cells, at_s)
        else:
            self._before = before.followed_by(cells, at_s)
        look = self._compared(cells, at_s, self._before.noise)
        if look.reason in {Reason.CUT, Reason.CHANGED}:
            self._changed_s = at_s
        if look.is_fed:
            self._fed = _Fed(cells=cells, at_s=at_s)
        return look

    def _compared(self, cells: Cells, at_s: float, noise: Cells) -> Look:
        fed = self._fed
        if fed is None:
            return Look(reason=Reason.CUT)
        stands_out = np.abs(difference(cells, fed.cells)) > _limits(noise)
        changed = float(stands_out.mean())
        if np.count_nonzero(stands_out) >= min(LEAST_CELLS, stands_out.size):
            return Look(reason=Reason.CHANGED, changed=changed)
        if at_s - self._changed_s < self._settling_s - SLACK_S:
            return Look(reason=Reason.SETTLING, changed=changed)
        is_due = at_s - fed.at_s >= self._longest_s - SLACK_S
        return Look(reason=Reason.DUE if is_due else Reason.STILL, changed=changed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fed:
    """The last frame that the model was shown."""

    cells: Cells
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Before:
    """The frame before this one, fed or not, and what is known of each place's noise."""

    cells: Cells
    at_s: float
    step: Cells | None  # its difference from the one before
    noise: Cells  # variance of the difference of two frames, grey levels squared

    @classmethod
    def first(cls, cells: Cells, at_s: float) -> _Before:
        return cls(cells=cells, at_s=at_s, step=None, noise=np.full(cells.shape, START_NOISE**2, np.float32))

    def followed_by(self, cells: Cells, at_s: float) -> _Before:
        step = difference(cells, self.cells)
        noise = self.noise if self.step is None else learned(self.noise, self.step, step)
        return _Before(cells=cells, at_s=at_s, step=step, noise=noise)


def small_picture(rgb: NDArray[np.uint8]) -> Cells:
    """uint8 [h, w, 3] -> grey levels [rows, columns], at most 160 x 160: means of cells, smoothed over 3 x 3 of them.

    Cells are square and whole; what is left over at the right and lower edges, less than a cell, is not looked at.
    """
    height, width = rgb.shape[:2]
    cell = -(-max(height, width) // LONGEST_SIDE)
    down, across = min(cell, height), min(cell, width)
    rows, columns = height // down, width // across
    whole = rgb[: rows * down, : columns * across].reshape(rows, down, columns * across * 3)
    sums = whole.sum(axis=1, dtype=np.uint32).reshape(rows, columns, across, 3).sum(axis=2)
    return _smoothed((sums.astype(np.float32) @ GREY) / np.float32(down * across))


def difference(cells: Cells, reference: Cells) -> Cells:
    """What is new in `cells` against `reference`, in grey levels, apart from a change of exposure."""
    gain, offset = exposure(cells, reference)
    return cells - (gain * reference + offset)


def exposure(cells: Cells, reference: Cells) -> tuple[np.float32, np.float32]:
    """The (gain, offset) that make `reference` most like `cells`, by least squares over the places that did not change.

    Both are held within what exposure control does; see `MOST_GAIN`.
    """
    usable = (reference > DARK) & (reference < BRIGHT) & (cells > DARK) & (cells < BRIGHT)
    gain, offset = np.float32(1), np.float32(0)
    for _ in range(2):  # the first fit finds what does not belong, the second goes without it
        rest = cells - (gain * reference + offset)
        middle = np.median(rest)
        spread = np.median(np.abs(rest - middle))
        kept = usable & (np.abs(rest - middle) <= 4 * spread + 1)
        gain, offset = _line(reference[kept], cells[kept])
    return gain, offset


def learned(noise: Cells, last: Cells, step: Cells) -> Cells:
    """The noise after one more frame, `step` from the one before, which was `last` from the one before that.

    If frames are independent with variance v, steps have 2 v and the difference of two steps in a row has 6 v.
    A median over the whole picture holds at once: when a camera turns its gain up at dusk, every place is noisier.
    """
    uneven = np.square(step - last) / np.float32(3)
    everywhere = np.median(uneven) / np.float32(0.455)  # the median of a squared normal variable of variance 1
    floor = np.minimum(everywhere, np.float32(NOISIEST**2))
    limits = _limits(np.maximum(noise, floor))
    is_quiet = (np.abs(step) <= limits) & (np.abs(last) <= limits)
    newer = np.where(is_quiet, noise + np.float32(LEARNING) * (uneven - noise), noise)
    bounded: Cells = np.clip(newer, floor, np.float32(NOISIEST**2)).astype(np.float32)
    return bounded


def _limits(noise: Cells) -> Cells:
    """How much each place must differ to stand out."""
    return np.maximum(np.float32(LEAST_CHANGE), np.float32(SIGMAS) * np.sqrt(noise))


def _line(x: Cells, y: Cells) -> tuple[np.float32, np.float32]:
    """The (gain, offset) of the least-squares line through the points, within limits; without texture, offset alone."""
    if x.size < 2:
        return np.float32(1), np.float32(0)
    middle_x, middle_y = x.mean(), y.mean()
    spread = np.square(x - middle_x).mean()
    gain = ((x - middle_x) * (y - middle_y)).mean() / spread if spread > 1 else np.float32(1)
    gain = np.clip(gain, np.float32(1 / MOST_GAIN), np.float32(MOST_GAIN))
    return gain, np.clip(middle_y - gain * middle_x, np.float32(-MOST_OFFSET), np.float32(MOST_OFFSET))


def _smoothed(cells: Cells) -> Cells:
    """Each cell's mean with its eight neighbours; edges are repeated outwards."""
    padded = np.pad(cells, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    sums: Cells = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return sums / np.float32(9)
