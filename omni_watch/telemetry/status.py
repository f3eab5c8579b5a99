"""The numbers of a running house, collected from events: for the live line, for MQTT's retained states, for tests."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from omni_watch.watch.ports import Clock

Phase = Literal["starting", "watching", "stopping"]

STEPS_KEPT: Final = 600  # steps that percentiles are taken of: ten minutes of one feed
SIGHTS_KEPT: Final = 30  # seconds that a feed's picture rate is taken of
LEVELS_KEPT: Final = 10  # seconds that a feed's sound level is taken of


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedNumbers:
    """One feed, as it is now."""

    states: Mapping[str, str]  # sense -> state; senses that the feed has
    fps: float  # pictures that reached the model, per second of the last half minute
    last_frame_age_s: float | None  # None: no picture yet
    lag_s: float | None  # None: no unit yet
    level_dbfs: float | None = None  # of the sound of the last ten seconds; None: there was none
    tasks: int
    reconnects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseNumbers:
    """The whole house, as it is now."""

    phase: Phase
    feeds: Mapping[str, FeedNumbers]
    units_decided: int
    units_missed: int  # skipped or dropped whole
    units_shed: int  # decided without their pictures
    frames_dropped: int
    blocks_dropped: int
    step_ms: Mapping[str, float]  # p50, p95, max of the last steps; empty before the first
    alerts: int
    outbox_pending: int | None  # None: nobody told yet
    restarts: int  # of workers and engines

    @property
    def is_ready(self) -> bool:
        return self.phase == "watching"

    @property
    def tasks_watched(self) -> int:
        """The most tasks that one feed's session has: most tasks are watched on every feed."""
        return max((feed.tasks for feed in self.feeds.values()), default=0)


@dataclass(slots=True)
class _Feed:
    """What is remembered of one feed."""

    states: dict[str, str] = field(default_factory=dict)
    sights: deque[bool] = field(default_factory=lambda: deque(maxlen=SIGHTS_KEPT))
    levels: deque[float | None] = field(default_factory=lambda: deque(maxlen=LEVELS_KEPT))  # dBFS
    last_sight_s: float | None = None  # monotonic
    lag_s: float | None = None
    tasks: int = 0
    reconnects: int = 0


class StatusObserver:
    """Implements `Observer`. Loop thread only; `numbers` too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._feeds: dict[str, _Feed] = {}
        self._steps_ms: deque[float] = deque(maxlen=STEPS_KEPT)
        self._counts: dict[str, int] = {}
        self._phase: Phase = "starting"
        self._outbox_pending: int | None = None

    def on(self, event: str, **fields: Any) -> None:
        self._counts[event] = self._counts.get(event, 0) + int(fields.get("count", 1))
        match event:
            case "unit.decided":
                self._decided(fields["feed"], fields["lag_s"], fields["step_ms"], fields["gaps"])
                self._feed(fields["feed"]).levels.append(fields.get("level_dbfs"))
            case "feed.state":
                self._moved(self._feed(fields["feed"]), fields["sense"], fields["state"])
            case "session.opened":
                self._feed(fields["feed"]).tasks = fields["tasks"]
            case "outbox":
                self._outbox_pending = fields["pending"]
            case "ready":
                self._phase = "watching"
            case "stopping":
                self._phase = "stopping"

    def numbers(self) -> HouseNumbers:
        """A picture of now; costs a sort of the last steps, so not to be taken for every unit."""
        return HouseNumbers(
            phase=self._phase,
            feeds={name: self._numbers_of(feed) for name, feed in sorted(self._feeds.items())},
            units_decided=self._count("unit.decided"),
            units_missed=self._count("unit.skipped", "unit.dropped"),
            units_shed=self._count("unit.shed"),
            frames_dropped=self._count("frame.dropped"),
            blocks_dropped=self._count("block.dropped"),
            step_ms=self._step_ms(),
            alerts=self._count("alert.queued"),
            outbox_pending=self._outbox_pending,
            restarts=self._count("worker.restarted", "engine.restarted"),
        )

    def _feed(self, name: str) -> _Feed:
        return self._feeds.setdefault(name, _Feed())

    def _decided(self, name: str, lag_s: float, step_ms: float, gaps: Sequence[str]) -> None:
        """`gaps` are "sight:lost", "hearing:absent" and so on."""
        feed = self._feed(name)
        self._steps_ms.append(step_ms)
        feed.lag_s = lag_s
        was_seen = not any(gap.startswith("sight:") for gap in gaps)
        feed.sights.append(was_seen)
        if was_seen:
            feed.last_sight_s = self._clock.monotonic() - lag_s

    @staticmethod
    def _moved(feed: _Feed, sense: str, state: str) -> None:
        feed.reconnects += state == "waiting" and feed.states.get(sense) in ("live", "stale")
        feed.states[sense] = state

    def _numbers_of(self, feed: _Feed) -> FeedNumbers:
        age_s = None if feed.last_sight_s is None else round(self._clock.monotonic() - feed.last_sight_s, 1)
        return FeedNumbers(
            states=dict(feed.states),
            fps=round(sum(feed.sights) / len(feed.sights), 2) if feed.sights else 0.0,
            last_frame_age_s=age_s,
            lag_s=feed.lag_s,
            level_dbfs=_mean_level(feed.levels),
            tasks=feed.tasks,
            reconnects=feed.reconnects,
        )

    def _step_ms(self) -> Mapping[str, float]:
        if not self._steps_ms:
            return {}
        steps = np.fromiter(self._steps_ms, dtype=np.float64)
        p50, p95 = np.percentile(steps, [50, 95])
        return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "max": round(float(steps.max()), 1)}

    def _count(self, *events: str) -> int:
        return sum(self._counts.get(event, 0) for event in events)


def _mean_level(levels: Sequence[float | None]) -> float | None:
    """Of the power, as a meter has it; None when nothing was heard."""
    heard = [level for level in levels if level is not None]
    return round(10 * math.log10(sum(10 ** (level / 10) for level in heard) / len(heard)), 1) if heard else None
