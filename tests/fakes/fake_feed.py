"""Units without devices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import numpy as np

from omni_watch.domain.units import SAMPLES_PER_UNIT, Frame, Gap, Unit


def unit(
    index: int,
    *,
    feed: str = "kitchen",
    start_s: float | None = None,
    audio: np.ndarray | None = None,
    frame: np.ndarray | None = None,
    gaps: tuple[Gap, ...] = (),
) -> Unit:
    """One second of silence (or `audio`) with one small grey picture (or `frame`)."""
    begins_s = float(index) if start_s is None else start_s
    picture = np.full((24, 32, 3), 90, np.uint8) if frame is None else frame
    return Unit(
        feed=feed,
        index=index,
        start_s=begins_s,
        audio=np.zeros(SAMPLES_PER_UNIT, np.float32) if audio is None else audio.astype(np.float32),
        frames=(Frame(at_s=begins_s + 0.97, rgb=picture),),
        gaps=gaps,
    )


class FakeFeed:
    """Gives the units it was made with, then ends."""

    def __init__(self, units: Iterable[Unit], name: str = "kitchen") -> None:
        self.name = name
        self._units = units

    async def units(self) -> AsyncGenerator[Unit, None]:
        for each in self._units:
            yield each

    async def close(self) -> None:
        pass
