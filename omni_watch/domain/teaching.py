"""What a person showed us: examples of how a place looks before and after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from omni_watch.domain.regions import Region


class Label(Enum):
    """What an example shows."""

    NOT_YET = "not_yet"
    DONE = "done"
    EMPTY = "empty"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One shown picture."""

    id: str
    label: Label
    jpeg: bytes  # the whole picture, long side at most 1280, quality 95
    taken_at: datetime  # aware UTC
    origin: str  # "clip kettle_teach.mp4 at 2.0 s", "feed kitchen"; for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Everything shown for one task on one feed."""

    task_id: str
    feed: str  # the feed it was shown on, or the one it is meant for
    region: Region | None = None  # where to look; None: the whole picture
    display_region: Region | None = None  # where the display is; None: there is none
    examples: tuple[Example, ...] = ()  # oldest first

    def labelled(self, label: Label) -> tuple[Example, ...]:
        return tuple(example for example in self.examples if example.label is label)
