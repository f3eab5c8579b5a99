"""Where to look: fractions of a picture, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.regions import Region


@pytest.mark.parametrize(
    "typed", ["0,0,0,0", "2,3,4,5", "0.5,0.5,0.6,0.2", "-0.1,0,0.5,0.5", "0.1,0.1,0.5,0.001", "nan,0,0.5,0.5"]
)
def test_a_region_outside_the_picture_or_too_small_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(ValueError, match=r"for example 0\.36"):
        Region.parse(typed)


@pytest.mark.parametrize("typed", ["", "1,2,3", "a,b,c,d", "0.1 0.2 0.3 0.4", "0.1,0.2,0.3,0.4,0.5"])
def test_what_is_not_four_numbers_says_what_was_expected(typed: str) -> None:
    with pytest.raises(ValueError, match="four numbers"):
        Region.parse(typed)


@given(
    x=st.floats(0, 0.98),
    y=st.floats(0, 0.98),
    width=st.floats(0.01, 1),
    height=st.floats(0.01, 1),
    columns=st.integers(1, 4000),
    rows=st.integers(1, 4000),
)
def test_every_region_covers_at_least_one_pixel_and_none_outside(
    x: float, y: float, width: float, height: float, columns: int, rows: int
) -> None:
    region = Region(x, y, min(width, 1 - x), min(height, 1 - y))
    down, across = region.pixels(columns, rows)
    assert 0 <= down.start < down.stop <= rows
    assert 0 <= across.start < across.stop <= columns
