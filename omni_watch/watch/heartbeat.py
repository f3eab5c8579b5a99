"""The loop: take a unit, ask the model, judge the decision, commit what follows, wake the relay.

One heartbeat per feed; all share one model thread. When deciding falls behind, a unit first loses its pictures, then
is skipped whole; both are recorded, and the delay never grows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from omni_watch.domain.alerts import Alert
from omni_watch.domain.decisions import Decision, Speak, Utterance
from omni_watch.domain.errors import ModelError, StoreError
from omni_watch.domain.rules import Priority
from omni_watch.domain.units import Frame, Unit
from omni_watch.watch.judge import Verdict, judge
from omni_watch.watch.ports import Clock, Feed, Observer, Snapshots, Store
from omni_watch.watch.requests import commit_verdict
from omni_watch.watch.roster import Roster
from omni_watch.watch.stepping import ModelThread

FAILURES_MAX = 5  # of sessions in a row; then the process should be started anew
FAINTEST = 1e-10  # power that is told as -100 dBFS, as is digital silence
UNCOMMITTED_MAX = 64  # verdicts kept while the store cannot be written; the oldest is dropped, and reported


@dataclass(frozen=True, slots=True, kw_only=True)
class LagLimits:
    """How late deciding may be before it lets something go, in seconds after the unit's end."""

    shed_s: float = 2.0  # beyond: the unit loses its pictures
    skip_s: float = 3.0  # beyond: the unit is skipped whole


class Heartbeat:
    """One feed's loop. Loop thread only."""

    def __init__(
        self,
        feed: Feed,
        roster: Roster,
        *,
        store: Store,
        snapshots: Snapshots,
        model_thread: ModelThread,
        clock: Clock,
        observer: Observer,
        expiries_s: Callable[[Priority], Mapping[str, float]],
        on_alerts: Callable[[tuple[Alert, ...]], None],
        on_comments: Callable[[str, tuple[Utterance, ...]], None] = lambda _feed, _comments: None,
        limits: LagLimits | None = None,
    ) -> None:
        self._feed = feed
        self._roster = roster
        self._store = store
        self._snapshots = snapshots
        self._model_thread = model_thread
        self._clock = clock
        self._observer = observer
        self._expiries_s = expiries_s
        self._on_alerts = on_alerts
        self._on_comments = on_comments
        self._limits = limits or LagLimits()
        self._recent: deque[Frame | None] = deque(maxlen=3)  # the model's frames of this and the two units before
        self._uncommitted: deque[tuple[Verdict, Mapping[str, Frame]]] = deque(maxlen=UNCOMMITTED_MAX)

    @property
    def last_frame(self) -> Frame | None:
        """The model's frame of the last unit; None when that had no picture."""
        return self._recent[-1] if self._recent else None

    async def run(self) -> None:
        """Beat until the feed ends. A session that fails is replaced by a fresh one; the unit it failed on is lost.

        Raises:
            FeedError: this feed can never work.
            ModelError: the engine cannot go on, or sessions failed `FAILURES_MAX` times in a row.
        """
        await self._reopen()
        failures = 0
        async with aclosing(self._feed.units()) as units:
            async for unit in units:
                try:
                    await self.beat(unit)
                    failures = 0
                except ModelError as error:
                    failures += 1
                    if not error.can_retry or failures >= FAILURES_MAX:
                        raise
                    await self._reopen()
                    self._observer.on("engine.restarted", feed=unit.feed, why=str(error))

    async def _reopen(self) -> None:
        await self._roster.look(self._clock.now())
        await self._roster.settled()

    async def beat(self, unit: Unit) -> tuple[Alert, ...]:
        """One unit, from model to store; the alerts that were committed because of it."""
        lag_s = self._clock.monotonic() - unit.end_s
        if lag_s > self._limits.skip_s:
            self._observer.on("unit.skipped", feed=unit.feed, index=unit.index, lag_s=round(lag_s, 3))
            return ()
        if lag_s > self._limits.shed_s and unit.frames:
            unit = unit.without_frames()
            self._observer.on("unit.shed", feed=unit.feed, index=unit.index, what="frames", lag_s=round(lag_s, 3))
        self._recent.append(unit.frame)
        began_s = self._clock.stopwatch()
        decision = await self._decide(unit)
        step_ms = (self._clock.stopwatch() - began_s) * 1000
        verdict = self._judge(decision, unit)
        if verdict.comments:  # live speech: told at once or never, and kept nowhere
            self._on_comments(unit.feed, verdict.comments)
        alerts = await self._commit(verdict)
        self._observer.on(
            "unit.decided",
            feed=unit.feed,
            index=unit.index,
            lag_s=round(self._clock.monotonic() - unit.end_s, 3),
            step_ms=round(step_ms, 2),
            spoke=isinstance(decision, Speak),
            level_dbfs=level_dbfs(unit),
            gaps=[f"{gap.sense.value}:{gap.cause.value}" for gap in unit.gaps],
            margins={r.task_id: round(r.margin, 2) for r in decision.readings if r.margin is not None},
        )
        return alerts

    async def _decide(self, unit: Unit) -> Decision:
        session, replaced = self._roster.take()
        try:
            decision = await self._model_thread.step(session, unit)
        except ModelError as error:
            self._observer.on("engine.failed", feed=unit.feed, why=str(error))
            self._roster.lose()
            raise
        if replaced is not None:  # only now: the new session takes over its memory at its first step
            await self._model_thread.close_session(replaced)
        return decision

    def _judge(self, decision: Decision, unit: Unit) -> Verdict:
        spoken = decision.utterances if isinstance(decision, Speak) else ()
        return judge(
            decision,
            unit=unit,
            tasks=self._roster.tasks,
            marks=self._roster.marks,
            now=self._clock.at(unit.end_s),
            condition_at={u.task_id: self._clock.at(u.condition_at_s) for u in spoken if u.task_id is not None},
        )

    async def _commit(self, verdict: Verdict) -> tuple[Alert, ...]:
        """Commit this verdict and any that the store refused before, in order."""
        for task_id, why in verdict.held_back:
            self._observer.on("alert.held", task_id=task_id, why=why)
        if not verdict.is_empty:
            self._roster.remember(verdict)
            if len(self._uncommitted) == UNCOMMITTED_MAX:
                self._observer.on("verdict.dropped", feed=self._feed.name, kept=UNCOMMITTED_MAX)
            self._uncommitted.append((verdict, self._moment()))
        committed: list[Alert] = []
        while self._uncommitted:
            waiting, moment = self._uncommitted[0]
            try:
                alerts = await self._store.transact(lambda tx, v=waiting: commit_verdict(tx, v, self._expiries_s))  # type: ignore[misc]
            except StoreError as error:
                self._observer.on("store.failed", feed=self._feed.name, why=str(error))
                break
            self._uncommitted.popleft()
            for alert in alerts:
                await self._snapshots.keep(alert.id, moment)
                self._observer.on(
                    "alert.queued",
                    alert_id=alert.id,
                    task_id=alert.task_id,
                    feed=alert.feed,
                    means=[means.value for means in alert.means],
                    confidence=round(alert.confidence, 3),
                    delay_s=round((alert.decided_at - alert.condition_at).total_seconds(), 3),
                )
            committed += alerts
        if committed:
            self._on_alerts(tuple(committed))
        return tuple(committed)

    def _moment(self) -> dict[str, Frame]:
        """The pictures of the decision: now, and about two seconds before."""
        before, now = self._recent[0], self._recent[-1]
        named = {"now": now, "before": before if len(self._recent) > 1 else None}
        return {name: frame for name, frame in named.items() if frame is not None}


def level_dbfs(unit: Unit) -> float | None:
    """How loud a second was, 0 for the loudest square wave; None when it was not heard."""
    if not unit.is_heard:
        return None
    power = float(np.dot(unit.audio, unit.audio)) / len(unit.audio)
    return round(10 * math.log10(max(power, FAINTEST)), 1)
