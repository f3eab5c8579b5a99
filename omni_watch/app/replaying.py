"""`omni-watch replay`: the daemon's own pipeline over a recording, on stream time, with a store in memory."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from omni_watch.alerts.relay import Relay
from omni_watch.app.engines import open_cabinet, open_engine, text_similarity
from omni_watch.app.household import household_of
from omni_watch.app.lessons import Take, keep_lesson, lesson_from_clip, region_of
from omni_watch.app.overhearing import Overhearing
from omni_watch.app.talking import Conversation
from omni_watch.app.wishes import rule_of, task_from
from omni_watch.app.words import Deaf, open_word_ears, spoken_languages
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import Rulebook, load_rulebook
from omni_watch.config.settings import Settings
from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import FeedError, ModelError
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Lesson
from omni_watch.domain.units import Frame, Sense, Unit
from omni_watch.replay.report import Replayed, Tally
from omni_watch.replay.run import replay
from omni_watch.sensing.recording import Recording
from omni_watch.store.thread import SqlStore
from omni_watch.telemetry.clock import StreamClock, SystemClock
from omni_watch.telemetry.fanout import Observers
from omni_watch.watch import judge, requests
from omni_watch.watch.briefing import BriefedTask, Plan
from omni_watch.watch.conversing import Household
from omni_watch.watch.heartbeat import Heartbeat
from omni_watch.watch.ports import Channel, DuplexModel, Snapshots, TextSimilarity, Transaction, WordListener
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


class Warnings:
    """An `Observer` that keeps what a person should know before trusting a replay."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on(self, event: str, **fields: Any) -> None:
        if event == "words.model" and fields["instead_because"]:
            self.told.append(f"speech is recognised by {fields['model']}, because {fields['instead_because']}")


class Teaching:
    """What the takes show, for the tasks that they were made for. One thread at a time."""

    def __init__(self, takes: Sequence[tuple[Take, Path]], rule_of_words: Callable[[str], str | None]) -> None:
        self._takes = takes
        self._rule_of_words = rule_of_words
        self._lessons: dict[str, list[Lesson]] = {}  # by task
        self._kept: set[str] = set()  # tasks whose lessons the store has

    def of(self, task: Task) -> list[Lesson]:
        """One lesson for each take. Decodes pictures when a task is first asked about.

        Raises:
            FeedError: a take cannot be read. ConfigError: its region cannot be used.
        """
        if task.id not in self._lessons:
            self._lessons[task.id] = [_lesson(task, take, clip) for take, clip in self._takes_for(task)]
        return self._lessons[task.id]

    def keep(self, tx: Transaction) -> None:
        """Have the store know what is shown for each task that is live."""
        for task in tx.tasks.live():
            if task.id not in self._kept:
                self._kept.add(task.id)
                for lesson in self.of(task):
                    keep_lesson(tx, lesson)

    def _takes_for(self, task: Task) -> list[tuple[Take, Path]]:
        """Those that name the task's text; when none does, those that ask for the same in other words or another
        tongue."""
        exact = [(take, clip) for take, clip in self._takes if take.for_task.strip() == task.text]
        if exact or task.rule is None:
            return exact
        return [(take, clip) for take, clip in self._takes if self._rule_of_words(take.for_task) == task.rule]


def _lesson(task: Task, take: Take, clip: Path) -> Lesson:
    return lesson_from_clip(
        task_id=task.id,
        feed=FEED,
        clip=clip,
        times=take.times,
        region=region_of(take.region, f"{clip.name}: region"),
        display_region=region_of(take.display_region, f"{clip.name}: display_region"),
        taken_at=BEGAN_AT,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What to replay."""

    clip: Path
    tasks: Sequence[str] = ()  # sentences
    listens: bool = False  # to what is said in the clip
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
        FeedError: the clip or a take cannot be read, or shall be listened to and has no sound. ModelError: a model file
        is wrong, or one for words is missing. RequestError: a task says nothing to watch for. ConfigError: a rule file
        or a take's region cannot be used.
    """
    began_s = SystemClock().stopwatch()
    clock, tally, deliveries = StreamClock(began_at), Tally(keeps_trace=wanted.keeps_trace), Deliveries()
    rulebook, cabinet, names = load_rulebook(settings.rules_dir), open_cabinet(settings), _names()
    similarity = text_similarity(cabinet)
    tasks = _tasks(wanted.tasks, names, began_at, rulebook, similarity)
    recording = Recording(wanted.clip, FEED)
    warnings = Warnings()
    ears = _open_ears(settings, cabinet, recording, warnings) if wanted.listens else None
    teaching = Teaching(wanted.takes, lambda words: rule_of(words, rulebook.phrasebook, similarity))
    choice, engine = open_engine(settings, clock=clock, tell=lambda _event, **_fields: None)
    if choice.is_second_best:
        warnings.told.append(choice.why)

    def plan(task: Task) -> Plan:
        return _plan(engine, task, rulebook, teaching.of(task))

    told_by = channels(clock) if channels else [ReportChannel(clock)]
    async with _opened(
        recording, engine, rulebook, told_by, snapshots or NoSnapshots(), clock, Observers(tally, deliveries)
    ) as parts:
        await parts.store.transact(lambda tx: _keep(tx, tasks, teaching))
        await parts.look()

        async def tell() -> None:
            await deliveries.all_ended(parts.store)
            await parts.look()

        async def changed() -> None:
            await parts.store.transact(teaching.keep)
            await parts.look()

        overhearing = None
        if ears is not None:
            household = _household(settings, rulebook, cabinet, plan, names)
            conversation = Conversation(parts.store, household)
            overhearing = Overhearing(ears, conversation, clock, on_change=changed)
        async with overhearing.running() if overhearing is not None else nullcontext():
            alerts = await replay(
                recording,
                parts.heartbeat,
                clock=clock,
                settle=parts.settle,
                hear=overhearing.hear if overhearing is not None else None,
                tell=tell,
                pace=pace,
                on_unit=lambda unit: on_progress and on_progress(unit.end_s, recording.duration_s),
            )
            if overhearing is not None:
                await overhearing.end(FEED, clock.monotonic())
        final = await parts.store.transact(lambda tx: tx.tasks.all())
    return Replayed(
        clip=str(wanted.clip),
        duration_s=recording.duration_s,
        began_at=began_at,
        engine=engine.name,
        warnings=warnings.told,
        tasks=final,
        plans=[plan(task) for task in final],
        commands=overhearing.commands if overhearing is not None else [],
        alerts=alerts,
        tally=tally,
        wall_s=SystemClock().stopwatch() - began_s,
        rss_mb_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a replay runs on, while it is open."""

    store: SqlStore
    relay: Relay
    roster: Roster
    heartbeat: Heartbeat
    model_thread: ModelThread
    clock: StreamClock
    expiries_s: Callable[[Priority], Mapping[str, float]]

    async def settle(self) -> tuple[Alert, ...]:
        """Do what time alone does to tasks, and let the engine finish what it does ahead: no race decides an alert.
        The reminders whose time has come."""
        await self.model_thread.rest()
        now = self.clock.now()
        tasks = await self.store.transact(lambda tx: tx.tasks.live())
        if any(judge.due(task, now) != task for task in tasks):
            await self.store.transact(lambda tx: requests.settle(tx, now))
            await self.look()
        if all(task.reminder is None for task in tasks):
            return ()
        rung = await self.store.transact(lambda tx: requests.ring(tx, now, self.expiries_s))
        self.relay.wake()
        return tuple(replace(alert, stream_s=self.clock.monotonic()) for alert in rung)

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

        def expiries_s(priority: Priority) -> Mapping[str, float]:
            return {channel.name: channel.expiry_s(priority) for channel in told_by}

        heartbeat = Heartbeat(
            recording,
            roster,
            store=store,
            snapshots=snapshots,
            model_thread=model_thread,
            clock=clock,
            observer=observer,
            expiries_s=expiries_s,
            on_alerts=lambda _alerts: relay.wake(),
        )
        yield _Parts(store, relay, roster, heartbeat, model_thread, clock, expiries_s)


def _names() -> Callable[[], str]:
    """What tasks are called: t1, t2, …, so that two replays give the same alert ids."""
    numbers = count(1)
    return lambda: f"t{next(numbers)}"


def _tasks(
    sentences: Sequence[str],
    names: Callable[[], str],
    now: datetime,
    rulebook: Rulebook,
    similarity: TextSimilarity | None,
) -> list[Task]:
    return [
        task_from(
            sentence,
            task_id=names(),
            set_by="replay",
            now=now,
            book=rulebook.phrasebook,
            similarity=similarity,
        )
        for sentence in sentences
    ]


def _open_ears(settings: Settings, cabinet: Cabinet, recording: Recording, warnings: Warnings) -> WordListener:
    """What listens to the recording.

    Raises:
        FeedError: it has no sound. ModelError: a model file is missing or wrong.
    """
    if Sense.HEARING not in recording.senses:
        raise FeedError(f"{recording.path}: has no sound, so nothing can be heard in it", can_retry=False)
    ears = open_word_ears(cabinet, spoken_languages(settings.language), warnings)
    if isinstance(ears, Deaf):
        raise ModelError(f"cannot listen for words: {ears.why}")
    return ears


def _household(
    settings: Settings, rulebook: Rulebook, cabinet: Cabinet, plan: Callable[[Task], Plan], names: Callable[[], str]
) -> Household:
    """The house as those know it who talk in the recording. It is one place, which has no name there."""
    return household_of(
        replace(settings, feeds=()),
        rulebook,
        cabinet,
        lambda task, _lessons, _deaf: plan(task),
        set_by="voice",
        new_id=names,
    )


def _keep(tx: Transaction, tasks: Sequence[Task], teaching: Teaching) -> None:
    for task in tasks:
        requests.add_task(tx, task=task)
    teaching.keep(tx)


def _plan(engine: DuplexModel, task: Task, rulebook: Rulebook, lessons: Sequence[Lesson]) -> Plan:
    if task.reminder is not None:
        return Plan(task_id=task.id, means=(Means.CLOCK,), why=("nothing is watched: it is said at its time",))
    rule = rulebook.get(task.rule) if task.rule else None
    return engine.plan(BriefedTask(task=task, rule=rule, lesson=lessons[0] if lessons else None))


async def _end(relaying: asyncio.Task[None], relay: Relay, channels: Sequence[Channel]) -> None:
    await relay.drain(deadline_s=10)
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    for channel in channels:
        await channel.close()
