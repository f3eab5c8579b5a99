"""Showing a feed's present picture to a task, whoever owns the camera: the daemon when it runs, else this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Self, TypeVar

from filelock import FileLock, Timeout

from omni_watch.config.settings import FeedSettings
from omni_watch.domain.errors import FeedError
from omni_watch.domain.regions import Region
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.units import Frame
from omni_watch.domain.wishes import Wish
from omni_watch.sensing.opening import open_feed
from omni_watch.telemetry.fanout import Observers
from omni_watch.watch.ports import Clock, Transaction

T = TypeVar("T")
Transact = Callable[[Callable[[Transaction], Any]], Any]

TEACH: Final = "teach"  # the kind of wish that `ask_daemon` leaves
LOCK: Final = "daemon.lock"
PATIENCE_S: Final = 15.0  # for a picture, or for the daemon's answer
POLL_S: Final = 0.2


def daemon_lock(state_dir: Path) -> FileLock:
    """The lock that a running daemon holds."""
    return FileLock(state_dir / LOCK)


def is_daemon_running(state_dir: Path) -> bool:
    try:
        with daemon_lock(state_dir).acquire(timeout=0):
            return False
    except Timeout:
        return True


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


def ask_daemon(transact: Transact, showing: Showing, *, clock: Clock) -> None:
    """Leave the wish in the store and wait until the daemon has kept the example. Blocks for up to 15 s.

    Raises:
        FeedError: the daemon sees nothing on this feed, or does not answer.
    """
    wish = Wish(id=token_hex(4), kind=TEACH, payload=showing.as_payload(), made_at=clock.now())
    transact(lambda tx: tx.wishes.leave(wish))
    until_s = clock.monotonic() + PATIENCE_S
    while clock.monotonic() < until_s:
        answered = transact(lambda tx: tx.wishes.get(wish.id))
        if answered is not None and answered.answer is not None:
            if error := answered.answer.get("error"):
                raise FeedError(str(error))
            return
        time.sleep(POLL_S)
    raise FeedError(f"the running daemon did not answer within {PATIENCE_S:g} s; `omni-watch doctor` looks closer")
