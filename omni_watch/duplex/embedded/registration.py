"""Where the picture has moved to since it was taught, and how its light has changed: so that "the same place" stays so.

A camera gets nudged and a room gets darker between the lesson and the watching. Both are measured on what the lesson
shows unchanged, and undone before pixels are compared (`likeness.py`). Pure functions of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.regions import Region

Floats = NDArray[np.float32]

WORK_WIDTH: Final = 320  # pixels; a whole picture is compared at this width
FARTHEST: Final = 0.05  # of the sides; a camera that moved farther shows another place
ALIKE: Final = 0.3  # correlation of outlines; unrelated pictures stay below 0.1
CLEARLY: Final = 0.03  # by how much a new place must fit better than the present one before it is believed
ROUNDS: Final = 4  # of fitting light and leaving out what does not fit
REMEMBERED: Final = 3  # seconds that must agree on a move: a person walking past does not move the camera


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """By how much the picture has moved, as fractions of its width and height."""

    x: float = 0.0
    y: float = 0.0

    def of(self, region: Region) -> Region:
        """Where the region has moved to, kept inside the picture."""
        x = min(max(region.x + self.x, 0.0), max(0.0, 1.0 - region.width))
        y = min(max(region.y + self.y, 0.0), max(0.0, 1.0 - region.height))
        return Region(x, y, region.width, region.height)


class Outline:
    """The slopes of brightness of a whole picture, as light-independent as a picture can be."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        height, width = picture.shape[:2]
        self.size = (WORK_WIDTH, max(16, round(WORK_WIDTH * height / width)))
        grey = cv2.cvtColor(cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        # light multiplies, so in a logarithm it only adds, and is gone from its slopes
        logs = cv2.GaussianBlur(np.log(grey.astype(np.float32) + 8.0), (0, 0), 1.0)
        slopes = np.stack([cv2.Sobel(logs, cv2.CV_32F, 1, 0), cv2.Sobel(logs, cv2.CV_32F, 0, 1)], axis=2)
        limit = 3 * float(np.abs(slopes).mean()) + 1e-6
        self.slopes: Floats = np.clip(slopes, -limit, limit) / limit  # no single edge may decide alone

    def fits(self, other: Outline) -> Floats | None:
        """[2 * far_y + 1, 2 * far_x + 1] correlations, one for each shift of `other`; None: other shape of picture."""
        if self.size != other.size:
            return None
        far_x, far_y = self.farthest
        inner = self.slopes[far_y : self.size[1] - far_y, far_x : self.size[0] - far_x]
        return np.asarray(cv2.matchTemplate(other.slopes, inner, cv2.TM_CCORR_NORMED), np.float32)

    @property
    def farthest(self) -> tuple[int, int]:
        """The search range in working pixels, across and down."""
        return round(FARTHEST * self.size[0]), round(FARTHEST * self.size[1])


@dataclass(slots=True)
class Follower:
    """Follows a picture that may be nudged. A new place is believed when it fits clearly better, several times over."""

    taught: Outline
    place: tuple[float, float] = (0.0, 0.0)  # working pixels, across and down
    proposals: list[tuple[float, float]] = field(default_factory=list)
    last: NDArray[np.uint8] | None = None

    def step(self, picture: NDArray[np.uint8]) -> Shift:
        """The present shift against the taught picture; zero as long as nothing fits clearly better.

        The watchers of one lesson share a follower: the same picture a second time costs and changes nothing.
        """
        if picture is not self.last:
            self.last = picture
            fits = self.taught.fits(Outline(picture))
            if fits is not None:
                self._consider(fits)
        return Shift(x=self.place[0] / self.taught.size[0], y=self.place[1] / self.taught.size[1])

    def _consider(self, fits: Floats) -> None:
        far_x, far_y = self.taught.farthest
        here = float(fits[round(self.place[1]) + far_y, round(self.place[0]) + far_x])
        row, column = (int(v) for v in np.unravel_index(int(fits.argmax()), fits.shape))
        best = float(fits[row, column])
        if best < max(ALIKE, here):
            return
        found = (column - far_x + _between(fits[row], column), row - far_y + _between(fits[:, column], row))
        near = max(abs(found[0] - self.place[0]), abs(found[1] - self.place[1])) < 1.5
        if not near and best < here + CLEARLY:
            return
        self.proposals = [*self.proposals, found][-REMEMBERED:]
        if len(self.proposals) == REMEMBERED or self.place == (0.0, 0.0):
            self.place = (
                float(np.median([p[0] for p in self.proposals])),
                float(np.median([p[1] for p in self.proposals])),
            )


def _between(fits: Floats, peak: int) -> float:
    """How far the true peak lies from the best whole pixel, -0.5..0.5: a parabola through three points."""
    if not 0 < peak < len(fits) - 1:
        return 0.0
    left, middle, right = (float(v) for v in fits[peak - 1 : peak + 2])
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def same_light(seen: Floats, taught: Floats, weights: Floats) -> Floats:
    """`seen` as it would look under the light of `taught`. Both [rows, columns, 3], logarithms of brightness.

    Each channel of `seen` is fitted as gain * taught + offset + a gentle bowl across and down the picture (lamps and
    lenses are brighter on one side, or in the middle), on the cells with weight [rows, columns], robustly: what stands
    in the way is left out of the fit. Near-constant surroundings say nothing about contrast, so the gain is held near
    one, and the bowl near flat.
    """
    bowl = _bowl(*weights.shape)
    given = weights.ravel().astype(np.float64)
    out, trust = np.empty_like(seen), given + 1e-9
    for _ in range(ROUNDS):
        for channel in range(3):
            out[..., channel] = _fitted(seen[..., channel], taught[..., channel], bowl, trust)
        left_over = np.abs(out - taught).sum(axis=2).ravel()
        scale = float(np.median(left_over[given > 0])) + 0.02
        trust = given / (1 + ((left_over / (2 * scale)) ** 2) ** 2) + 1e-9  # what differs far more is out
    return out


@cache
def _bowl(rows: int, columns: int) -> NDArray[np.float64]:
    """[rows * columns, 5]: constant, across, down, and the squares of both."""
    down, across = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    basis = [np.ones(rows * columns), across.ravel(), down.ravel(), across.ravel() ** 2, down.ravel() ** 2]
    return np.stack(basis, axis=1)


def _fitted(seen: Floats, taught: Floats, bowl: NDArray[np.float64], trust: NDArray[np.float64]) -> Floats:
    """One channel [rows, columns] of `seen` under the light of `taught`."""
    reference, found = taught.ravel(), seen.ravel()
    middle = float(np.average(reference, weights=trust))
    basis = np.concatenate([(reference - middle)[:, None], bowl], axis=1)
    weighted = basis * trust[:, None]
    pull = np.diag([0.01, 1e-6, 0.01, 0.01, 0.01, 0.01]) * float(trust.sum())
    gain, *shape = np.linalg.solve(basis.T @ weighted + pull, weighted.T @ (found - reference))
    corrected = (found - middle - bowl @ np.array(shape)) / np.clip(1 + gain, 0.6, 1.6) + middle
    return np.asarray(corrected.reshape(seen.shape), np.float32)
