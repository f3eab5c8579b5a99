"""`omni-watch replay`: the daemon's own pipeline over a recording, on stream time, with a store in memory."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from omni_watch.alerts.relay import Relay
from omni_watch.app.engines import open_cabinet, open_engine, text_similarity
from omni_watch.app.lessons import Take, keep_lesson, lesson_from_clip, region_of
from omni_watch.app.wishes import rule_of, task_from
from omni_watch.config.rulebook import Rulebook, load_rulebook
from omni_watch.config.settings import Settings
from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Lesson
from omni_watch.domain.units import Frame, Unit
from omni_watch.replay.report import Replayed, Tally
from omni_watch.replay.run import replay
from omni_watch.sensing.recording import Recording
from omni_watch.store.thread import SqlStore
from omni_watch.telemetry.clock import StreamClock, SystemClock
from omni_watch.telemetry.fanout import Observers
from omni_watch.watch import judge, requests
from omni_watch.watch.briefing import BriefedTask, Plan
from omni_watch.watch.heartbeat import Heartbeat
from omni_watch.watch.ports import Channel, DuplexModel, Snapshots, TextSimilarity, Transaction
from omni_watch.watch.roster import Roster
from omni_watch.watch.stepping import ModelThread

FEED: Final = "clip"
BEGAN_AT: Final = datetime(2000, 1, 1, 12, tzinfo=UTC)  # a replay's dates follow from the recording alone
DELIVERY_EXPIRY_S: Final = 3600.0


class ReportChannel:
    """The report is who is told: always there, at once."""

    name = "report"

    def __init__(self, clock: StreamClock) -> None:
        self._clock = clock

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        return Receipt(channel=self.name, at=self._clock.now(), detail=f"listed at try {delivery.attempts}")

    def expiry_s(self, priority: Priority) -> float:
        return DELIVERY_EXPIRY_S

    async def close(self) -> None:
        """Nothing is held."""


class NoSnapshots:
    """A replay keeps no pictures: the recording is there."""

    async def keep(self, alert_id: str, frames: Mapping[str, Frame]) -> None:
        """Nothing is written."""

    async def load(self, alert_id: str, name: str = "now") -> bytes | None:
        return None

    async def forget(self, alert_ids: Sequence[str]) -> None:
        """There is nothing to forget."""


class Deliveries:
    """An `Observer` that lets the replay wait until every alert was told."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def on(self, event: str, **_fields: Any) -> None:
        if event.startswith("delivery."):
            self._ended.set()

    async def all_ended(self, store: SqlStore) -> None:
        while True:
            self._ended.clear()
            if await store.transact(lambda tx: tx.alerts.unfinished()) == 0:
                return
            await self._ended.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What to replay."""

    clip: Path
    tasks: Sequence[str]  # sentences
    takes: Sequence[tuple[Take, Path]] = ()  # a take serves the task whose text it names
    keeps_trace: bool = False


Progress = Callable[[float, float], None]  # stream seconds done, and in all


async def run_replay(
    settings: Settings,
    wanted: ReplayPlan,
    *,
    channels: Callable[[StreamClock], Sequence[Channel]] | None = None,
    snapshots: Snapshots | None = None,
    on_progress: Progress | None = None,
    began_at: datetime = BEGAN_AT,
    pace: Callable[[Unit], Awaitable[None]] | None = None,
) -> Replayed:
    """Replay a recording and say what was told.

    `channels` replaces the report as those who are told (`make demo` uses a broker and a voice); `pace` may hold each
    unit back, to replay at the speed of life.

    Raises:
        FeedError: the clip or a take cannot be read. ModelError: a model file is wrong. RequestError: a task says
        nothing to watch for. ConfigError: a rule file or a take's region cannot be used.
    """
    began_s = SystemClock().stopwatch()
    clock, tally, deliveries = StreamClock(began_at), Tally(keeps_trace=wanted.keeps_trace), Deliveries()
    rulebook = load_rulebook(settings.rules_dir)
    similarity = text_similarity(open_cabinet(settings))
    tasks = _tasks(wanted.tasks, began_at, rulebook, similarity)
    recording = Recording(wanted.clip, FEED)
    lessons = _lessons(tasks, wanted.takes, lambda words: rule_of(words, rulebook.phrasebook, similarity))
    choice, engine = open_engine(settings, clock=clock, tell=lambda _event, **_fields: None)
    told_by = channels(clock) if channels else [ReportChannel(clock)]
    async with _opened(
        recording, engine, rulebook, told_by, snapshots or NoSnapshots(), clock, Observers(tally, deliveries)
    ) as parts:
        await parts.store.transact(lambda tx: _keep(tx, tasks, lessons))
        await parts.look()

        async def tell() -> None:
            await deliveries.all_ended(parts.store)
            await parts.look()

        alerts = await replay(
            recording,
            parts.heartbeat,
            clock=clock,
            settle=parts.settle,
            tell=tell,
            pace=pace,
            on_unit=lambda unit: on_progress and on_progress(unit.end_s, recording.duration_s),
        )
        final = await parts.store.transact(lambda tx: tx.tasks.all())
    return Replayed(
        clip=str(wanted.clip),
        duration_s=recording.duration_s,
        engine=engine.name,
        warnings=[choice.why] if choice.is_second_best else [],
        tasks=final,
        plans=[_plan(engine, task, rulebook, lessons) for task in final],
        alerts=alerts,
        tally=tally,
        wall_s=SystemClock().stopwatch() - began_s,
        rss_mb_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a replay runs on, while it is open."""

    store: SqlStore
    roster: Roster
    heartbeat: Heartbeat
    model_thread: ModelThread
    clock: StreamClock

    async def settle(self) -> None:
        """Do what time alone does to tasks, and let the engine finish what it does ahead: no race decides an alert."""
        await self.model_thread.rest()
        now = self.clock.now()
        tasks = await self.store.transact(lambda tx: tx.tasks.live())
        if any(judge.due(task, now) != task for task in tasks):
            await self.store.transact(lambda tx: requests.settle(tx, now))
            await self.look()

    async def look(self) -> None:
        """Take up changed tasks before the next unit: a replay waits for what the daemon prepares beside its heart."""
        await self.roster.look(self.clock.now())
        await self.roster.settled()


@asynccontextmanager
async def _opened(
    recording: Recording,
    engine: DuplexModel,
    rulebook: Rulebook,
    told_by: Sequence[Channel],
    snapshots: Snapshots,
    clock: StreamClock,
    observer: Observers,
) -> AsyncIterator[_Parts]:
    """The daemon's parts around a store in memory."""
    async with AsyncExitStack() as stack:
        store = await SqlStore.open(None)
        stack.push_async_callback(store.close)
        stack.push_async_callback(recording.close)
        relay = Relay(store, told_by, clock, observer)
        relaying = asyncio.create_task(relay.run(), name="relay")
        stack.push_async_callback(_end, relaying, relay, told_by)
        model_thread = ModelThread(engine)
        stack.push_async_callback(model_thread.stop)
        fitting = stack.enter_context(ThreadPoolExecutor(1, "fitting"))
        rules = {rule.id: rule for rule in rulebook.all()}
        roster = Roster(FEED, store=store, rules=rules, model=engine, fitting=fitting, clock=clock, observer=observer)
        heartbeat = Heartbeat(
            recording,
            roster,
            store=store,
            snapshots=snapshots,
            model_thread=model_thread,
            clock=clock,
            observer=observer,
            expiries_s=lambda priority: {channel.name: channel.expiry_s(priority) for channel in told_by},
            on_alerts=lambda _alerts: relay.wake(),
        )
        yield _Parts(store, roster, heartbeat, model_thread, clock)


def _tasks(
    sentences: Sequence[str], now: datetime, rulebook: Rulebook, similarity: TextSimilarity | None
) -> list[Task]:
    """The tasks, called t1, t2, …, so that two replays give the same alert ids."""
    return [
        task_from(
            sentence,
            task_id=f"t{number}",
            set_by="replay",
            now=now,
            book=rulebook.phrasebook,
            similarity=similarity,
        )
        for number, sentence in enumerate(sentences, start=1)
    ]


def _lessons(
    tasks: Sequence[Task], takes: Sequence[tuple[Take, Path]], rule_of_words: Callable[[str], str | None]
) -> list[Lesson]:
    """What each take shows, for the tasks that it was made for."""
    return [
        lesson_from_clip(
            task_id=task.id,
            feed=FEED,
            clip=clip,
            times=take.times,
            region=region_of(take.region, f"{clip.name}: region"),
            display_region=region_of(take.display_region, f"{clip.name}: display_region"),
            taken_at=BEGAN_AT,
        )
        for task in tasks
        for take, clip in _takes_for(task, takes, rule_of_words)
    ]


def _takes_for(
    task: Task, takes: Sequence[tuple[Take, Path]], rule_of_words: Callable[[str], str | None]
) -> list[tuple[Take, Path]]:
    """Those that name the task's text; when none does, those that ask for the same in other words or another tongue."""
    exact = [(take, clip) for take, clip in takes if take.for_task.strip() == task.text]
    if exact or task.rule is None:
        return exact
    return [(take, clip) for take, clip in takes if rule_of_words(take.for_task) == task.rule]


def _keep(tx: Transaction, tasks: Sequence[Task], lessons: Sequence[Lesson]) -> None:
    for task in tasks:
        requests.add_task(tx, task=task)
    for lesson in lessons:
        keep_lesson(tx, lesson)


def _plan(engine: DuplexModel, task: Task, rulebook: Rulebook, lessons: Sequence[Lesson]) -> Plan:
    lesson = next((lesson for lesson in lessons if lesson.task_id == task.id), None)
    return engine.plan(BriefedTask(task=task, rule=rulebook.get(task.rule) if task.rule else None, lesson=lesson))


async def _end(relaying: asyncio.Task[None], relay: Relay, channels: Sequence[Channel]) -> None:
    await relay.drain(deadline_s=10)
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    for channel in channels:
        await channel.close()
