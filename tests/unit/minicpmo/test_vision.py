"""The vision tower and the resampler give the reference's numbers, and pictures served together stay apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import ModelConfig, read_config
from omni_watch.duplex.minicpmo.pictures import pictures_of
from omni_watch.duplex.minicpmo.vision import Resampler, VisionTower, grid_of, position_ids, side_waves

GOLDEN = Path(__file__).parents[2] / "golden" / "minicpmo" / "tiny-a"
SESSIONS = ("main_off", "basic_window", "context_window", "hd_slices")
GRIDS = [(32, 32), (28, 37), (24, 43), (10, 101), (3, 5), (1, 9)]
CLOSE = 2e-5  # largest difference from the reference that its kit allows
CPU = torch.device("cpu")


class Eyes:
    """The tiny golden checkpoint's vision, as the model uses it."""

    def __init__(self) -> None:
        self.config: ModelConfig = read_config(json.loads((GOLDEN / "config.json").read_text()))
        self.tower = VisionTower(self.config.vision)
        self.resampler = Resampler(self.config.vision, self.config.language.hidden_size)
        with safe_open(GOLDEN / "model.safetensors", framework="pt") as weights:
            for prefix, module in (("vpm.", self.tower), ("resampler.", self.resampler)):
                names = [name for name in weights.keys() if name.startswith(prefix)]  # noqa: SIM118 - no mapping
                module.load_state_dict({name.removeprefix(prefix): weights.get_tensor(name) for name in names})

    @torch.inference_mode()
    def see(self, pictures: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        features = self.tower(pictures)
        grids = [grid_of(picture, self.config.vision.patch_size) for picture in pictures]
        return features, self.resampler(features, grids)


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes()


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    with np.load(GOLDEN / "inputs.npz") as inputs:
        return [inputs[name] for name in sorted(inputs.files) if name.startswith("frame_")]


@pytest.fixture(scope="module")
def components() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN / "components.npz") as tables:
        return {name: tables[name] for name in tables.files if "pos" in name}


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_patches_take_the_trained_positions_that_the_reference_gives_them(
    rows: int, columns: int, components: dict[str, NDArray[Any]]
) -> None:
    assert position_ids(rows, columns, 70, CPU).tolist() == components[f"posids_{rows}x{columns}"].tolist()


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_the_resampler_s_sines_are_the_reference_s(
    rows: int, columns: int, components: dict[str, NDArray[Any]]
) -> None:
    every = max(1, rows * columns // 16)
    across = side_waves(columns, 128, CPU, torch.float32).expand(rows, -1, -1)
    down = side_waves(rows, 128, CPU, torch.float32)[:, None].expand(-1, columns, -1)
    table = torch.cat([across, down], dim=2).flatten(0, 1)[::every]
    expected = torch.from_numpy(components[f"resampler_pos_{rows}x{columns}"])
    if len(expected):  # grids beyond the reference's own table of 70 x 70 were not recorded
        torch.testing.assert_close(table, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SESSIONS)
def test_every_golden_picture_is_seen_as_the_reference_saw_it(
    name: str, eyes: Eyes, frames: list[NDArray[np.uint8]]
) -> None:
    sessions = {session["name"]: session for session in json.loads((GOLDEN / "sessions.json").read_text())}
    compared = 0
    with np.load(GOLDEN / f"expected_{name}.npz") as expected:
        for index, unit in enumerate(sessions[name]["units"]):
            recorded = [f"u{index:03}_resampler{call}" for call in range(9)]
            recorded = [key for key in recorded if key in expected.files]
            if not recorded:
                continue
            most = unit.get("max_slice_nums", 1)
            limits = most if isinstance(most, list) else [most] * len(unit["frames"])
            shown = zip(unit["frames"], limits, strict=True)
            pictures = [p for frame, limit in shown for p in pictures_of(frames[frame], eyes.config.vision, limit)]
            features, found = eyes.see(pictures)
            wanted = torch.from_numpy(np.concatenate([expected[key] for key in recorded]))
            torch.testing.assert_close(torch.stack(found), wanted, rtol=0, atol=CLOSE)
            if f"u{index:03}_vpm" in expected.files:
                tower = torch.from_numpy(expected[f"u{index:03}_vpm"])
                torch.testing.assert_close(torch.stack(features), tower, rtol=0, atol=CLOSE)
            compared += 1
    assert compared >= 2


@settings(deadline=None, max_examples=30)
@given(
    grids=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
)
def test_packing_pictures_together_never_changes_any_of_them(
    eyes: Eyes, grids: list[tuple[int, int]], seed: int
) -> None:
    torch.manual_seed(seed)
    pictures = [torch.rand(3, 14 * rows, 14 * columns) * 2 - 1 for rows, columns in grids]
    features, packed = eyes.see(pictures)
    for picture, patches, vectors in zip(pictures, features, packed, strict=True):
        (alone_patches,), (alone,) = eyes.see([picture])
        for together, apart in ((patches, alone_patches), (vectors, alone)):
            assert (together - apart).abs().max() <= 1e-6 * apart.abs().max()  # a few roundings of float32


def test_where_a_thing_is_matters(eyes: Eyes) -> None:
    torch.manual_seed(0)
    picture = torch.rand(3, 42, 70) * 2 - 1
    _, (seen, mirrored, upside_down) = eyes.see([picture, picture.flip(2), picture.flip(1)])
    assert (seen - mirrored).abs().max() > 100 * CLOSE
    assert (seen - upside_down).abs().max() > 100 * CLOSE


@pytest.mark.parametrize("size", [(1, 1), (1, 7680), (7680, 1), (7680, 4320)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_frames_of_any_size_become_as_many_finite_vectors(size: tuple[int, int], eyes: Eyes) -> None:
    width, height = size
    pictures = pictures_of(np.full((height, width, 3), 90, np.uint8), eyes.config.vision)
    _, (vectors,) = eyes.see(pictures)
    assert vectors.shape == (64, 256)
    assert vectors.isfinite().all()


def test_grids_beyond_the_trained_table_share_its_places() -> None:
    assert position_ids(1, 14_336, 70, CPU).tolist()[::14_335] == [0, 69]
    assert set(position_ids(1, 14_336, 70, CPU).tolist()) == set(range(70))


def test_no_pictures_at_all_is_an_empty_answer(eyes: Eyes) -> None:
    assert eyes.see([]) == ([], [])


def test_half_precision_stays_near_full_precision(eyes: Eyes, frames: list[NDArray[np.uint8]]) -> None:
    halved = Eyes()
    halved.tower.bfloat16()
    halved.resampler.bfloat16()
    pictures = pictures_of(frames[0], eyes.config.vision)
    _, (full,) = eyes.see(pictures)
    _, (half,) = halved.see(pictures)
    assert half.dtype is torch.bfloat16
    error = (half.float() - full).norm() / full.norm()
    assert error < 0.03


def test_a_picture_that_is_no_whole_number_of_patches_is_refused(eyes: Eyes) -> None:
    for shape in [(3, 28, 30), (1, 28, 28), (28, 28), (3, 0, 14)]:
        with pytest.raises(ModelError, match=r"expected \[3, h, w\] with sides multiples of 14"):
            eyes.see([torch.zeros(shape)])


def test_a_grid_that_does_not_hold_the_patches_is_refused(eyes: Eyes) -> None:
    with pytest.raises(ModelError, match="6 patches for a grid of 2 x 4; expected 8"):
        eyes.resampler([torch.zeros(6, 48)], [(2, 4)])


def test_tables_made_for_inference_serve_outside_of_it(eyes: Eyes) -> None:
    torch.manual_seed(0)
    picture = torch.rand(3, 70, 14) * 2 - 1
    (inside,), _ = eyes.see([picture])
    (outside,) = eyes.tower([picture])
    torch.testing.assert_close(outside, inside, rtol=0, atol=CLOSE)
