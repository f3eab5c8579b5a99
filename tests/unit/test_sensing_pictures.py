"""Pictures as arrays and as JPEG."""

from __future__ import annotations

import numpy as np
import pytest

from omni_watch.domain.errors import FeedError
from omni_watch.sensing.pictures import decode_jpeg, encode_jpeg, fitted, fitted_size


def test_a_picture_survives_being_written_and_read_with_its_colours_in_order() -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :32] = (250, 10, 10)
    back = decode_jpeg(encode_jpeg(rgb))
    assert back.shape == rgb.shape
    assert not back.flags.writeable
    np.testing.assert_allclose(back[20, 10], [250, 10, 10], atol=12)


def test_a_large_picture_is_scaled_to_a_long_side_of_1280_and_a_small_one_is_left() -> None:
    assert fitted_size(1920, 1080) == (1280, 720)
    assert fitted_size(1080, 1920) == (720, 1280)
    assert fitted_size(640, 360) == (640, 360)
    assert fitted_size(40_000, 1) == (1280, 1)
    assert decode_jpeg(encode_jpeg(np.zeros((1080, 1920, 3), np.uint8))).shape == (720, 1280, 3)
    small = np.zeros((4, 4, 3), np.uint8)
    assert fitted(small) is small


def test_lower_quality_is_smaller() -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert len(encode_jpeg(rgb, quality=30)) < len(encode_jpeg(rgb, quality=90))


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\xff\xd8\xff\xe0 broken off"])
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(FeedError, match="no picture"):
        decode_jpeg(data)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4), (4, 4, 4)])
def test_an_array_that_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a picture"):
        encode_jpeg(np.zeros(shape, np.uint8))
