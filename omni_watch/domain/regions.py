"""A rectangle of a picture, in fractions, so that it means the same at every resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

SMALLEST_SIDE = 0.01  # of the picture; less than that is a slip of the mouse
ROUNDING = 1e-4  # typed fractions rarely add up to exactly 1


@dataclass(frozen=True, slots=True)
class Region:
    """x, y of the upper left corner, width and height; all fractions of the picture, 0..1."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        right, bottom = self.x + self.width, self.y + self.height
        inside = min(self.x, self.y) >= 0 and max(right, bottom) <= 1 + ROUNDING
        if not inside or min(self.width, self.height) < SMALLEST_SIDE:
            raise ValueError(
                f"region {self.x:g},{self.y:g},{self.width:g},{self.height:g} does not lie inside the picture; "
                "expected x,y,width,height as fractions between 0 and 1, each side at least "
                f"{SMALLEST_SIDE:g}, for example 0.36,0.30,0.34,0.52"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """`x,y,w,h` as typed on a command line; ValueError says what was expected."""
        parts = text.replace(" ", "").split(",")
        try:
            x, y, width, height = (float(part) for part in parts)
        except ValueError as error:
            expected = "four numbers x,y,width,height like 0.36,0.30,0.34,0.52"
            raise ValueError(f"region {text!r} is not {expected}") from error
        return cls(x, y, width, height)

    def pixels(self, picture_width: int, picture_height: int) -> tuple[slice, slice]:
        """Row and column slices of this region in a picture of that size; never empty."""
        left, top = round(self.x * picture_width), round(self.y * picture_height)
        right, bottom = round((self.x + self.width) * picture_width), round((self.y + self.height) * picture_height)
        left, top = min(left, picture_width - 1), min(top, picture_height - 1)
        return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))

    def as_tuple(self) -> tuple[float, float, float, float]:
        return (self.x, self.y, self.width, self.height)
