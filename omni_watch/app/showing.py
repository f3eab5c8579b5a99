"""Showing a feed's present picture to a task, whoever owns the camera: the daemon when it runs, else this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from omni_watch.config.settings import FeedSettings
from omni_watch.domain.errors import FeedError
from omni_watch.domain.regions import Region
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.units import Frame
from omni_watch.sensing.opening import open_feed
from omni_watch.telemetry.fanout import Observers
from omni_watch.watch.ports import Clock

PATIENCE_S: Final = 15.0  # for a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """One press of a button: what this feed shows now is an example of that."""

    task_id: str
    feed: str
    label: Label
    region: Region | None = None
    display_region: Region | None = None

    def as_payload(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "feed": self.feed,
            "label": self.label.value,
            "region": self.region.as_tuple() if self.region else None,
            "display_region": self.display_region.as_tuple() if self.display_region else None,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """ValueError or KeyError when the payload is not one of `as_payload`."""
        region, display = payload["region"], payload["display_region"]
        return cls(
            task_id=payload["task_id"],
            feed=payload["feed"],
            label=Label(payload["label"]),
            region=Region(*region) if region else None,
            display_region=Region(*display) if display else None,
        )

    def lesson(self, example: Example) -> Lesson:
        return Lesson(
            task_id=self.task_id,
            feed=self.feed,
            region=self.region,
            display_region=self.display_region,
            examples=(example,),
        )


def look_once(feed: FeedSettings, clock: Clock) -> Frame:
    """The first frame that the feed's camera gives. Blocks for up to 15 s.

    Raises:
        FeedError: it gives none.
    """
    return asyncio.run(_first_frame(feed, clock))


async def _first_frame(feed: FeedSettings, clock: Clock) -> Frame:
    live = open_feed(feed.name, feed.video_address, None, clock=clock, observer=Observers())
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for unit in live.units():
                if unit.frame is not None:
                    return unit.frame
    except TimeoutError:
        pass  # told below, as when the feed ended
    finally:
        await live.close()
    raise FeedError(f"feed {feed.name} gave no picture within {PATIENCE_S:g} s; `omni-watch doctor` looks closer")
