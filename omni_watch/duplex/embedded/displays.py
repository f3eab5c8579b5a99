"""Displays that are read: countdowns followed, and the texts that mean "it is done".

A reading alone proves little: clocks, set times and misread digits look like anything. So a time counts as part of a
countdown only when it continues the last one, and where a rule says that a countdown comes first, its texts count only
after one was seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.decisions import Means
from omni_watch.domain.regions import Region
from omni_watch.domain.rules import DisplayCue
from omni_watch.domain.units import Unit
from omni_watch.duplex.embedded.eyes import Picture, Text, crop
from omni_watch.duplex.embedded.registration import Follower
from omni_watch.duplex.embedded.watcher import Evidence, Heard
from omni_watch.watch.deciding import GateSettings

LOOK_ALIKE: Final = str.maketrans("odqiljt|!sbzg;.,'：", "0001111115829:::::")
READABLE: Final = 0.5  # mean confidence of characters; wrong readings were mostly below it, right ones above 0.8
DROPS: Final = 2  # times that a countdown must have gone down before it is one
UNCHANGED: Final = 8.0  # grey levels; a region that differs less from the last reading's is not read again
NUMBER: Final = re.compile(r"^(?:(?:(\d{1,2}):)?(\d{1,2}):)?(\d{1,4})$")


class Reader(Protocol):
    """What reads one line of text in a picture of a display: `eyes.DisplayReader`."""

    def read(self, picture: Picture) -> Text: ...


def plain(text: str) -> str:
    """The text without case, spaces and the difference between characters that displays draw alike."""
    return "".join(text.casefold().split()).translate(LOOK_ALIKE)


def number(text: str) -> int | None:
    """Seconds that a plain text shows ("0:07", "1:02:03", "0130" or a lone "7"); None when it shows no number."""
    match = NUMBER.match(text)
    if match is None:
        return None
    hours, minutes, rest = match.groups()
    if minutes is None and len(rest) >= 3:  # the colon of a display is easily missed
        minutes, rest = rest[:-2], rest[-2:]
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(rest)


def means(text: str, wanted: str) -> bool:
    """Whether a plain reading is a plain wanted text. Numbers must agree exactly; words may have one slip."""
    target = number(wanted)
    if target is not None:
        return number(text) == target and len(text.replace(":", "")) == len(wanted.replace(":", ""))
    if number(text) is not None or len(wanted) < 3:
        return text == wanted
    return _is_one_edit(text, wanted)


def _is_one_edit(a: str, b: str) -> bool:
    """Whether at most one character was changed, added or lost."""
    if abs(len(a) - len(b)) > 1:
        return False
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[same + (len(a) >= len(b)) :] == b[same + (len(b) >= len(a)) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown:
    """What is known of a number that goes down."""

    value: int | None = None  # the last number believed
    at_s: float = 0.0
    drops: int = 0  # how often it went down without a break
    doubted: int | None = None  # a number that did not continue it; believed when it comes, or goes on, again
    doubted_at_s: float = 0.0

    @property
    def is_one(self) -> bool:
        return self.drops >= DROPS

    def after(self, value: int, at_s: float) -> Countdown:
        """The countdown after one more number."""
        if self.value is not None and _continues(self.value, self.at_s, value, at_s):
            return replace(self, value=value, at_s=at_s, drops=self.drops + (value < self.value), doubted=None)
        if self.doubted is not None and _continues(self.doubted, self.doubted_at_s, value, at_s):
            return Countdown(value=value, at_s=at_s, drops=int(value < self.doubted))
        return replace(self, doubted=value, doubted_at_s=at_s)


def _continues(value: int, at_s: float, later: int, later_s: float) -> bool:
    """Whether a number may stand there `later`: the same, or less by no more than the time that passed, one spare."""
    return 0 <= value - later <= (later_s - at_s) * 1.1 + 1.0


def is_last(text: str, countdown: Countdown) -> bool:
    """Whether a countdown has come to its end: a time at zero, a floor at one."""
    return countdown.is_one and countdown.value == (0 if ":" in text else 1)


@dataclass(slots=True)
class _Seen:
    """The region as it was last read."""

    grey: NDArray[np.uint8] | None = None
    text: Text = field(default_factory=lambda: Text(text="", confidence=0.0))


class DisplayWatcher:
    """Watches one display for one cue. Keeps the countdown and the last reading."""

    means = Means.DISPLAY
    gate = GateSettings()

    def __init__(self, region: Region, cue: DisplayCue, reader: Reader, camera: Follower | None = None) -> None:
        self._region = region
        self._cue = cue
        self._wanted = tuple(plain(text) for text in cue.texts)
        self._reader = reader
        self._camera = camera
        self._seen = _Seen()
        self._countdown = Countdown()

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        """1 when the display says so, 0 when it says something else, None when it cannot be read. Model thread only."""
        frame = unit.frame
        if frame is None:
            return Evidence(score=None)
        region = self._camera.step(frame.rgb).of(self._region) if self._camera else self._region
        read = self._read(crop(frame.rgb, region))
        text = plain(read.text)
        if not text or read.confidence < READABLE:
            return Evidence(score=None, detail="cannot be read")
        is_true = self._is_true(text, frame.at_s)
        return Evidence(
            score=1.0 if is_true else 0.0, condition_at_s=frame.at_s if is_true else None, detail=f"reads {read.text}"
        )

    def _is_true(self, text: str, at_s: float) -> bool:
        counted = self._countdown.is_one
        value = number(text)
        if value is not None:
            self._countdown = self._countdown.after(value, at_s)
        if self._cue.last_of_countdown and is_last(text, self._countdown):
            return True
        shows = any(means(text, wanted) for wanted in self._wanted)
        return shows and (counted or not self._cue.countdown)

    def _read(self, picture: Picture) -> Text:
        grey = cv2.blur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (3, 3))
        seen = self._seen
        if seen.grey is None or seen.grey.shape != grey.shape or cv2.norm(grey, seen.grey, cv2.NORM_INF) > UNCHANGED:
            self._seen = _Seen(grey=np.asarray(grey, np.uint8), text=self._reader.read(picture))
        return self._seen.text
