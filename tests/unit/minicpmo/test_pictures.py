"""Frames become pictures of the sizes and the pixels that the published image processor gives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import VisionConfig, read_config
from omni_watch.duplex.minicpmo.pictures import Tiling, overview_size, picture_sizes, pictures_of

GOLDEN = Path(__file__).parents[2] / "golden" / "minicpmo" / "tiny-a"
SIZES: list[dict[str, Any]] = json.loads((GOLDEN / "components.json").read_text())["resize"]
SESSIONS = ("main_off", "basic_window", "context_window", "hd_slices")


@pytest.fixture(scope="module")
def config() -> VisionConfig:
    return read_config(json.loads((GOLDEN / "config.json").read_text())).vision


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    with np.load(GOLDEN / "inputs.npz") as inputs:
        return [inputs[name] for name in sorted(inputs.files) if name.startswith("frame_")]


@pytest.mark.parametrize("row", SIZES, ids=lambda row: "x".join(map(str, row["size"])))
def test_sizes_are_those_of_the_published_table(row: dict[str, Any], config: VisionConfig) -> None:
    width, height = row["size"]
    assert list(overview_size(width, height, config)) == row["single"]
    for most, tiles in row["grids"].items():
        expected = Tiling(
            overview=tuple(row["overview"] if tiles else row["single"]),
            grid=tuple(tiles["grid"]) if tiles else None,
            refined=tuple(tiles["refine"]) if tiles else None,
        )
        assert picture_sizes(width, height, int(most), config) == expected


@pytest.mark.parametrize("name", SESSIONS)
def test_pixels_of_every_golden_frame_are_those_of_the_reference(
    name: str, config: VisionConfig, frames: list[NDArray[np.uint8]]
) -> None:
    sessions = {session["name"]: session for session in json.loads((GOLDEN / "sessions.json").read_text())}
    expected = json.loads((GOLDEN / f"expected_{name}.json").read_text())["units"]
    seen = 0
    for unit, told in zip(sessions[name]["units"], expected, strict=True):
        most = unit.get("max_slice_nums", 1)
        limits = most if isinstance(most, list) else [most] * len(unit["frames"])
        shown = zip(unit["frames"], limits, strict=True)
        pictures = [picture for frame, limit in shown for picture in pictures_of(frames[frame], config, limit)]
        for picture, grid, (mean, std, _) in zip(
            pictures, told.get("tgt_sizes") or [], told.get("pixel_stats") or [], strict=True
        ):
            assert [side // config.patch_size for side in picture.shape[1:]] == grid
            assert picture.double().mean().item() == pytest.approx(mean, abs=1e-6)
            assert picture.double().std(correction=0).item() == pytest.approx(std, abs=1e-6)
            seen += 1
    assert seen > 0


def test_the_reference_was_given_exactly_these_pixels(config: VisionConfig, frames: list[NDArray[np.uint8]]) -> None:
    with np.load(GOLDEN / "expected_main_off.npz") as expected:
        strip = torch.from_numpy(expected["u000_pixels0"])  # [3, 14, 14 L]: the patches side by side
    (picture,) = pictures_of(frames[0], config)
    patches = picture.unfold(1, 14, 14).unfold(2, 14, 14)  # [3, rows, columns, 14, 14]
    assert torch.equal(patches.permute(0, 3, 1, 2, 4).reshape(3, 14, -1), strip)


def test_tiles_put_together_again_are_the_frame_at_the_refined_size(config: VisionConfig) -> None:
    ramp = np.linspace(0, 255, 1280, dtype=np.uint8)
    frame = np.stack(
        [np.tile(ramp, (720, 1)), np.tile(ramp[:720, None], (1, 1280)), np.zeros((720, 1280), np.uint8)], 2
    )
    sizes = picture_sizes(1280, 720, 9, config)
    overview, *tiles = pictures_of(frame, config, max_slices=9)
    assert sizes.grid == (3, 2)
    assert sizes.refined is not None
    assert overview.shape == (3, sizes.overview[1], sizes.overview[0])
    rows = [torch.cat(tiles[3 * row : 3 * row + 3], dim=2) for row in range(2)]
    whole = torch.cat(rows, dim=1)
    assert whole.shape == (3, sizes.refined[1], sizes.refined[0])
    assert (whole[0, 0].diff() >= 0).all()  # the ramp goes on across the seams
    assert (whole[1, :, 0].diff() >= 0).all()


@settings(deadline=None)
@given(width=st.integers(1, 8192), height=st.integers(1, 8192), most=st.integers(1, 9))
def test_every_size_has_pictures_of_about_the_model_s_area(width: int, height: int, most: int) -> None:
    config = _official()
    sizes = picture_sizes(width, height, most, config)
    shown = [sizes.overview]
    if sizes.grid is not None and sizes.refined is not None:
        columns, rows = sizes.grid
        assert 2 <= columns * rows <= most
        shown.append((sizes.refined[0] // columns, sizes.refined[1] // rows))
    for w, h in shown:
        assert w % 14 == 0
        assert h % 14 == 0
        assert min(w, h) >= 14
        if max(width / height, height / width) < 100:
            assert 0.7 * 1024 <= w * h / 14**2 <= 1.3 * 1024
        assert w * h / 14**2 <= 14_336


@pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 1280), (1280, 1), (2, 3), (1, 7680), (7680, 1), (13, 14), (7680, 4320), (4320, 7680)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
def test_a_frame_of_any_size_and_aspect_is_shown(size: tuple[int, int]) -> None:
    config = _official()
    width, height = size
    frame = np.full((height, width, 3), (0, 127, 255), np.uint8)
    (picture,) = pictures_of(frame, config)
    assert picture.shape == (3, *reversed(overview_size(width, height, config)))
    assert picture.dtype is torch.float32
    assert picture.is_contiguous()
    for plane, value in zip(picture, (0, 127, 255), strict=True):
        expected = (np.float32(value) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        assert (plane == float(expected)).all()


def test_a_frame_is_scaled_across_first_and_then_down_as_the_model_was_trained(config: VisionConfig) -> None:
    """Pillow 13 chooses the order by itself: for a tall frame it goes down first, and half the values differ."""
    tall = np.random.default_rng(0).integers(0, 256, (1000, 447, 3), np.uint8)
    overview, *_ = pictures_of(tall, config)
    rows, columns = overview.shape[1:]
    across = Image.fromarray(tall).resize((columns, 1000), Image.Resampling.BICUBIC)
    down = np.asarray(across.resize((columns, rows), Image.Resampling.BICUBIC))
    expected = torch.from_numpy(down.astype(np.float32) / 255).permute(2, 0, 1) * 2 - 1
    torch.testing.assert_close(overview, expected, rtol=0, atol=1e-6)


def test_high_definition_of_an_8k_frame_is_nine_tiles() -> None:
    pictures = pictures_of(np.zeros((4320, 7680, 3), np.uint8), _official(), max_slices=9)
    assert len(pictures) in {9, 10}
    assert all(math.prod(picture.shape[1:]) < 1.3 * 448**2 for picture in pictures)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 0, 3), np.uint8),
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
    ids=["no rows", "no columns", "grey", "with alpha", "float"],
)
def test_what_is_no_frame_is_refused_with_its_shape(frame: Any) -> None:
    with pytest.raises(ModelError, match=r"expected uint8 \[height, width, 3\]") as refusal:
        pictures_of(frame, _official())
    assert str(list(frame.shape)) in str(refusal.value)
    assert not refusal.value.can_retry


def test_no_slices_at_all_is_refused() -> None:
    with pytest.raises(ModelError, match="0 slices"):
        picture_sizes(640, 480, 0, _official())


def test_a_read_only_frame_is_left_as_it_was() -> None:
    frame = np.arange(30 * 40 * 3, dtype=np.uint32).astype(np.uint8).reshape(30, 40, 3)
    frame.setflags(write=False)
    before = frame.copy()
    pictures_of(frame, _official(), max_slices=2)
    assert np.array_equal(frame, before)


def _official() -> VisionConfig:
    return VisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_layers=27,
        num_heads=16,
        patch_size=14,
        positions_per_side=70,
        layer_norm_eps=1e-6,
        num_queries=64,
        scale_resolution=448,
    )
