"""A `RawPicture` without a camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError


@dataclass(eq=False)
class FakePicture:
    """One grey tone; counts how often it was converted."""

    tone: int = 0
    is_damaged: bool = False
    conversions: list[int] = field(default_factory=list)

    def fingerprint(self) -> int:
        return self.tone

    def rgb(self) -> NDArray[np.uint8]:
        self.conversions.append(self.tone)
        if self.is_damaged:
            raise FeedError("damaged")
        rgb = np.full((4, 6, 3), self.tone % 256, np.uint8)
        rgb.flags.writeable = False
        return rgb
