"""From a camera's frame to what the vision tower takes: sizes, tiles, pixels.

A picture keeps its aspect and is scaled, up or down, to about the area of a 448 x 448 square, with sides that are
multiples of the patch. In high definition a large frame is also cut into tiles of that area, on the grid that fits its
aspect best. Sizes follow the model's published image processor number for number (its rounding is Python's, to even),
and the resampling is Pillow's bicubic on uint8: what the model was trained on, and no other library's.

Aspects: while both sides stay above one patch, a picture has about 1,024 patches whatever its shape. Beyond 1:1024
the short side is held at one patch and the number grows with the square root of the aspect (1 x 7680 gives 2,743
patches) to 14,336 at most; frames from the house, with a long side of at most 1280, stay below 1,150.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import VisionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How one frame is shown to the model; sizes are (width, height) in pixels."""

    overview: tuple[int, int]
    grid: tuple[int, int] | None = None  # (columns, rows) of tiles; None: the overview alone
    refined: tuple[int, int] | None = None  # the size that the frame is scaled to before it is cut into the grid


def overview_size(width: int, height: int, config: VisionConfig) -> tuple[int, int]:
    """The (width, height) of the picture that shows a whole frame of `width` x `height` pixels."""
    return _model_size(width, height, config)


def picture_sizes(width: int, height: int, max_slices: int, config: VisionConfig) -> Tiling:
    """What a frame of `width` x `height` pixels becomes with at most `max_slices` tiles.

    Raises:
        ModelError: a side or `max_slices` is below 1.
    """
    if min(width, height, max_slices) < 1:
        raise ModelError(f"a frame of {width} x {height} pixels in {max_slices} slices; expected at least 1 of each")
    overview = overview_size(width, height, config)
    wanted = min(math.ceil(width * height / config.scale_resolution**2), max_slices)
    if wanted <= 1:
        return Tiling(overview=overview)
    columns, rows = _best_grid(width / height, wanted, max_slices)
    tile_width, tile_height = _model_size(
        _nearest_multiple(width, columns) / columns, _nearest_multiple(height, rows) / rows, config
    )
    return Tiling(overview=overview, grid=(columns, rows), refined=(tile_width * columns, tile_height * rows))


def pictures_of(rgb: NDArray[np.uint8], config: VisionConfig, max_slices: int = 1) -> list[Tensor]:
    """The overview, then the tiles row by row; each [3, h, w] float32 in -1..1, sides multiples of the patch.

    Raises:
        ModelError: `rgb` is no uint8 [height, width, 3] picture with at least one pixel.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ModelError(
            f"a frame of {rgb.dtype} {list(rgb.shape)}; expected uint8 [height, width, 3] with at least one pixel"
        )
    frame = Image.fromarray(rgb)
    sizes = picture_sizes(frame.width, frame.height, max_slices, config)
    pictures = [_pixels(_resized(frame, sizes.overview))]
    if sizes.grid is not None and sizes.refined is not None:
        columns, rows = sizes.grid
        refined = _pixels(_resized(frame, sizes.refined))
        pictures += [tile for row in refined.chunk(rows, dim=1) for tile in row.chunk(columns, dim=2)]
    return pictures


def _model_size(width: float, height: float, config: VisionConfig) -> tuple[int, int]:
    """Scaled to the model's area with the aspect kept, then each side to its nearest multiple of the patch."""
    aspect = width / height
    scaled_height = int(config.scale_resolution / math.sqrt(aspect))
    scaled_width = int(scaled_height * aspect)
    return _nearest_multiple(scaled_width, config.patch_size), _nearest_multiple(scaled_height, config.patch_size)


def _nearest_multiple(length: float, step: int) -> int:
    """At least one step; halves go to the even multiple, as Python rounds."""
    return max(round(length / step) * step, step)


def _best_grid(aspect: float, wanted: int, most: int) -> tuple[int, int]:
    """(columns, rows) whose aspect is nearest to the frame's, of about `wanted` tiles; the first of equals."""
    counts = [count for count in (wanted - 1, wanted, wanted + 1) if 1 < count <= most]
    grids = [(columns, count // columns) for count in counts for columns in range(1, count + 1) if count % columns == 0]
    return min(grids, key=lambda grid: abs(math.log(aspect) - math.log(grid[0] / grid[1])))


def _resized(frame: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Across first, then down, each rounded to uint8: Pillow up to 12 did so in one call; Pillow 13 goes down first for
    a frame that loses much of its height, which changes half of the values by one or two steps."""
    width, height = size
    across = frame.resize((width, frame.height), resample=Image.Resampling.BICUBIC)
    return np.array(across.resize((width, height), resample=Image.Resampling.BICUBIC))


def _pixels(rgb: NDArray[np.uint8]) -> Tensor:
    """uint8 [h, w, 3] -> float32 [3, h, w] by (x / 255 - 0.5) / 0.5, in float32 and in that order."""
    planes = torch.from_numpy(rgb).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.div_(255).sub_(0.5).div_(0.5)
