"""Which of two shown looks a place has now, cell by cell.

A lesson shows a place before and after. The cells that differ between the two are asked, each second, which of them
they resemble; light is learnt from the cells that do not differ (the region's surroundings, above all) and undone
first. A cell that resembles neither is foreign: something stands in the way. `levels.py` and `taught.py` make a level
and a state of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.regions import Region
from omni_watch.duplex.embedded.eyes import Picture
from omni_watch.duplex.embedded.registration import Floats, Outline, Shift, same_light

CONTEXT: Final = 0.5  # of the region's sides, looked at around it to learn light
FOREIGN: Final = 0.5  # of the taught difference: how far from both looks a cell may be
LEFT_BY_LIGHT: Final = 0.06  # log brightness; measured: undoing other light leaves 0.02-0.06 on a cell
COVERED: Final = 0.25  # log brightness; measured: 0.3-0.6 with an arm over the region and its surroundings
NOISE_FLOOR: Final = 0.01  # log brightness; a 1 % flicker is in every camera
DARK: Final = 8.0  # added before the logarithm: below it, a camera shows only its own noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """How finely a place is compared; the sizes are in pixels of the taught picture."""

    high: float
    wide: float
    most_rows: int
    most_columns: int

    def grid(self, window: Region, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of a window of a picture of that (width, height)."""
        rows = int(np.clip(window.height * size[1] / self.high, 8, self.most_rows))
        return rows, int(np.clip(window.width * size[0] / self.wide, 8, self.most_columns))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """What a place looks like before and after. Arrays are [rows, columns(, 3)] of the region with surroundings."""

    window: Region  # the region with its surroundings
    size: tuple[int, int]  # (width, height) of the taught pictures
    outline: Outline
    before: Floats  # log brightness
    after: Floats
    still: Floats  # weight of cells that do not change: light is judged by them
    weight: Floats  # weight of cells that do: inside the region, clearly different; 0..1
    noise: Floats  # log brightness, of each cell

    @property
    def is_clear(self) -> bool:
        """Whether the two looks differ by more than noise anywhere that counts."""
        return bool((self.weight > 0).sum() >= 4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """What the cells of one picture resemble. Both [rows, columns]."""

    after: Floats  # 0 as before, 1 as after
    foreign: NDArray[np.bool_]  # neither


def contrast(before: list[Picture], after: list[Picture], region: Region | None, cells: Cells) -> Contrast:
    """What the shown pictures teach; at least one of each."""
    inner = region or Region(0.0, 0.0, 1.0, 1.0)
    size = (before[0].shape[1], before[0].shape[0])
    window = with_surroundings(inner)
    shape = cells.grid(window, size)
    inside = _inside(inner, window, shape)
    around = np.where(inside, 0.02, 1.0).astype(np.float32)  # a region that fills the picture has no surroundings
    first = np.median([log_cells(picture, window, shape, size, Shift()) for picture in before], axis=0)
    old, new = (
        np.stack([same_light(log_cells(p, window, shape, size, Shift()), first, around) for p in pictures])
        for pictures in (before, after)
    )
    old_look, new_look = np.median(old, axis=0).astype(np.float32), np.median(new, axis=0).astype(np.float32)
    noise = np.maximum(_noise(old), _noise(new))
    change = np.linalg.norm(new_look - old_look, axis=2)
    strong = float(np.percentile(change[inside], 93)) + 1e-6
    least = np.maximum(4 * noise, 0.25 * strong)
    spread = cv2.dilate((change > np.minimum(least, 0.1)).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return Contrast(
        window=window,
        size=size,
        outline=Outline(before[0]),
        before=old_look,
        after=new_look,
        still=(np.where(spread, 0.0, 1.0) / (1 + (noise / 0.05) ** 2)).astype(np.float32),
        weight=np.where(inside & (change > least), np.minimum(change / strong, 1.0), 0.0).astype(np.float32),
        noise=noise,
    )


def with_surroundings(region: Region) -> Region:
    """The region and `CONTEXT` of its sides around it, inside the picture."""
    left, top = max(0.0, region.x - CONTEXT * region.width), max(0.0, region.y - CONTEXT * region.height)
    right = min(1.0, region.x + (1 + CONTEXT) * region.width)
    bottom = min(1.0, region.y + (1 + CONTEXT) * region.height)
    return Region(left, top, right - left, bottom - top)


def _inside(region: Region, window: Region, shape: tuple[int, int]) -> NDArray[np.bool_]:
    down = window.y + (np.arange(shape[0]) + 0.5) / shape[0] * window.height
    across = window.x + (np.arange(shape[1]) + 0.5) / shape[1] * window.width
    in_rows = (down >= region.y) & (down <= region.y + region.height)
    inside: NDArray[np.bool_] = in_rows[:, None] & ((across >= region.x) & (across <= region.x + region.width))[None, :]
    return inside


def log_cells(picture: Picture, window: Region, shape: tuple[int, int], size: tuple[int, int], shift: Shift) -> Floats:
    """[rows, columns, 3]: log brightness of the window, which `shift` says has moved in this picture."""
    if picture.shape[1::-1] != size:
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    wide, high = max(1, round(window.width * size[0])), max(1, round(window.height * size[1]))
    middle = (
        (window.x + shift.x + window.width / 2) * size[0] - 0.5,
        (window.y + shift.y + window.height / 2) * size[1] - 0.5,
    )
    patch = cv2.getRectSubPix(picture, (wide, high), middle)
    small = cv2.resize(patch.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(np.log(small + DARK), np.float32)


def _noise(takes: Floats) -> Floats:
    """[rows, columns]: how much a cell differs between pictures of one state.

    The median over pictures: a passer-by in one of them is no noise, a drum that turns in all of them is.
    """
    spread = 1.5 * np.median(np.abs(takes - np.median(takes, axis=0)), axis=0).max(axis=2)
    return np.asarray(cv2.blur(spread.astype(np.float32), (3, 3)) + NOISE_FLOOR, np.float32)


def compare(taught: Contrast, picture: Picture, shift: Shift) -> Likeness:
    """What each cell of the picture resembles, after its light has been made that of the lesson."""
    seen = log_cells(picture, taught.window, taught.weight.shape, taught.size, shift)
    moved = same_light(seen, taught.before, taught.still) - taught.before
    change = taught.after - taught.before
    power = (change**2).sum(axis=2) + 1e-6
    after = np.clip((moved * change).sum(axis=2) / power, 0.0, 1.0)
    rest = np.linalg.norm(moved - after[..., None] * change, axis=2)
    # light that could not be undone where nothing changes cannot be held against the cells that do; but where that is
    # much, no light did it: something large stands in front of both
    still = taught.still > 0.5
    unsettled = float(np.median(np.linalg.norm(moved, axis=2)[still])) if still.any() else 0.0
    least = np.maximum(FOREIGN * np.sqrt(power), np.maximum(4 * taught.noise, 3 * min(unsettled, LEFT_BY_LIGHT)))
    return Likeness(after=after, foreign=(rest > least) | (unsettled > COVERED))
