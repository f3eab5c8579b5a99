"""The daemon: feeds, engine, store, relay and timers under one task group, with a designed start and a designed stop.

Start: lock the state folder, open the store (which upgrades it), load the engine, open the channels, then the feeds.
Stop: stop sensing, finish the unit, send what can be sent in time, silence the voice, say `offline`, close the store.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray
from rich.console import Console

from omni_watch.alerts.live_voice import LiveVoice
from omni_watch.alerts.rehearsal import fixed_sentences
from omni_watch.alerts.relay import Relay
from omni_watch.alerts.snapshots import SnapshotFolder, as_jpeg
from omni_watch.alerts.speech import Speech
from omni_watch.alerts.terminal import TerminalChannel
from omni_watch.alerts.wav import Sound
from omni_watch.app.answering import answer_wishes
from omni_watch.app.channels import Channels, speaker_for
from omni_watch.app.engines import Choice, lacks, open_cabinet, open_engine, step_limit_s, text_similarity
from omni_watch.app.errands import daemon_lock
from omni_watch.app.giving_way import GivingWay
from omni_watch.app.house import database_path
from omni_watch.app.household import Households, Planner, household_of
from omni_watch.app.listening import HeardFile, Listening
from omni_watch.app.publishing import Publisher
from omni_watch.app.remote import house_for_mqtt
from omni_watch.app.talking import Conversation
from omni_watch.app.words import LANGUAGES, Deaf, open_word_ears, spoken_languages
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import Rulebook, load_rulebook
from omni_watch.config.settings import Settings
from omni_watch.domain.decisions import Utterance
from omni_watch.domain.errors import ChannelUnavailable, ConfigError, FeedError, ModelError, OmniWatchError, StoreError
from omni_watch.domain.rules import Escalation, Language, Rule
from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.home_assistant.desk import Desk, Hands
from omni_watch.home_assistant.discovery import Discovery, DiscoverySettings
from omni_watch.sensing.opening import open_feed
from omni_watch.sensing.switch import SoundSwitch
from omni_watch.store.thread import SqlStore
from omni_watch.store.timers import Timers
from omni_watch.telemetry.clock import SystemClock
from omni_watch.telemetry.fanout import Observers
from omni_watch.telemetry.status import StatusObserver
from omni_watch.watch import modes, requests
from omni_watch.watch.conversing import Household
from omni_watch.watch.heartbeat import Heartbeat
from omni_watch.watch.ports import Clock, DuplexModel, Feed, LivePiece, Observer, WordListener
from omni_watch.watch.roster import Roster
from omni_watch.watch.stepping import ModelThread
from omni_watch.watch.supervise import supervise

CHANGES_EVERY_S: Final = 1.0  # how often the store is asked whether another process changed it
HEARD_FILE: Final = "heard.jsonl"
RETENTION: Final = "retention"  # the timer that asks for old things to be forgotten
RETENTION_EVERY_S: Final = 3600.0
STOP_HEARTS_S: Final = 3.0  # closing the feeds and finishing the unit
STOP_RELAY_S: Final = 3.0
PRONOUNCE_S: Final = 5.0  # for one sentence; it may hold up the stop for so long


def run_daemon(settings: Settings, observers: Sequence[Observer], console: Console | None = None) -> None:
    """Watch until SIGTERM or SIGINT, or until every feed was a clip that ended; then keep and close everything.

    Raises:
        ConfigError: another daemon runs on this state folder, or a rule file is wrong. StoreError, ModelError,
        FeedError: what trying again does not mend.
    """
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = daemon_lock(settings.state_dir)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"another omni-watch runs on {settings.state_dir}; stop it first, or give this one its own house.state_dir"
        ) from error
    with lock:
        try:
            asyncio.run(Daemon(settings, observers, console).run())
        except ExceptionGroup as group:
            raise _first_cause(group) from group


def _first_cause(error: Exception) -> Exception:
    """The first error of ours in a group, else the group: a bug keeps its whole traceback."""
    if not isinstance(error, ExceptionGroup):
        return error
    ours = error.subgroup(OmniWatchError)
    if ours is None or error.split(OmniWatchError)[1] is not None:
        return error
    return _first_cause(ours.exceptions[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the daemon is made of, once it is open."""

    store: SqlStore
    engine: DuplexModel
    snapshots: SnapshotFolder
    channels: Channels
    listen: Callable[[], Coroutine[Any, Any, None]]  # to what people say
    relay: Relay
    timers: Timers
    publisher: Publisher
    desk: Desk | None  # takes what is asked over MQTT
    households: Households
    model_thread: ModelThread
    fitting: ThreadPoolExecutor


@dataclass(frozen=True, slots=True)
class Watching:
    """One feed with what watches it."""

    feed: Feed
    roster: Roster
    heartbeat: Heartbeat


class Reactions:
    """An `Observer` through which events move the daemon itself: ready at the first beat, a look after a delivery."""

    def __init__(self, on_first_beat: Callable[[], None], on_delivery: Callable[[], None]) -> None:
        self._on_first_beat: Callable[[], None] | None = on_first_beat
        self._on_delivery = on_delivery

    def on(self, event: str, **_fields: Any) -> None:
        if event == "unit.decided" and self._on_first_beat is not None:
            first, self._on_first_beat = self._on_first_beat, None
            first()
        elif event.startswith("delivery."):
            self._on_delivery()


@dataclass(frozen=True, slots=True)
class ElsewhereObserver:
    """An `Observer` for other threads than the loop's."""

    on: Callable[..., None]


class Daemon:
    """One run of the daemon. Loop thread only."""

    def __init__(self, settings: Settings, observers: Sequence[Observer], console: Console | None = None) -> None:
        self._settings = settings
        self._console = console
        self._clock: Clock = SystemClock()
        status = next((one for one in observers if isinstance(one, StatusObserver)), None)
        self._status = status or StatusObserver(self._clock)
        own = [] if status else [self._status]
        self._stop = asyncio.Event()
        self._look = asyncio.Event()
        self._hang_up = asyncio.Event()  # SIGHUP
        self._is_watching = False  # a first second was decided
        self._observer = Observers(*observers, *own, Reactions(self._on_first_beat, self._look.set))
        self._rulebook: Rulebook  # as it was read last; at the start, by `_open`
        self._switches = {feed.name: SoundSwitch() for feed in settings.feeds}
        self._watched: list[Watching] = []
        self._failed: list[FeedError] = []
        self._giving_way = GivingWay(clock=self._clock, observer=self._observer)
        self._first_beat = asyncio.Event()
        self._listening: Listening | None = None  # to what people say; once it can
        self._conversation: Conversation | None = None  # with them
        self._live_voice: LiveVoice | None = None
        self._speech: Speech | None = None
        self._speaking_themselves: set[str] = set()  # feeds whose companion was heard to have a voice of its own

    async def run(self) -> None:
        """Start, watch, stop."""
        with _signals(
            {signal.SIGTERM: self._stop.set, signal.SIGINT: self._stop.set, signal.SIGHUP: self._hang_up.set}
        ):
            async with AsyncExitStack() as stack:
                parts = await self._open(stack)
                self._listen_to((await parts.store.transact(modes.modes)).deaf)  # before the first sample
                self._watched = [self._watching(feed, parts) for feed in self._feeds()]
                await self._work(parts)

    # --- start ---

    async def _open(self, stack: AsyncExitStack) -> Parts:
        """Open everything but the feeds; `stack` closes it in the opposite order."""
        settings, observer, clock = self._settings, self._observer, self._clock
        self._rulebook = load_rulebook(settings.rules_dir)
        store = await SqlStore.open(database_path(settings))
        stack.push_async_callback(store.close)
        observer.on("loading", what="models")
        cabinet = open_cabinet(settings)
        choice, engine = await self._open_engine(cabinet)
        stack.callback(engine.close)
        model_thread = ModelThread(engine, limit_s=step_limit_s(settings, choice))
        stack.push_async_callback(model_thread.stop)
        fitting = ThreadPoolExecutor(1, "fitting")
        stack.callback(fitting.shutdown, wait=False, cancel_futures=True)
        snapshots = SnapshotFolder(settings.state_dir / "snapshots", observer=observer)
        channels = Channels.open(
            *(settings, cabinet, snapshots, store),
            clock=clock,
            observer=observer,
            hush=engine.hush,
            giving_way=self._giving_way,
        )
        self._live_voice, self._speech = channels.live_voice, channels.speech
        if self._console is not None:
            channels.terminal = TerminalChannel(self._console, clock=clock)
        stack.push_async_callback(channels.close)
        households = Households(lambda: self._household(cabinet, choice))
        discovery = self._discovery(channels, store)
        timers = Timers(database_path(settings), on_wake=lambda _name: self._look.set(), clock=clock, observer=observer)
        await timers.start()
        stack.push_async_callback(timers.close)
        await timers.every(RETENTION, RETENTION_EVERY_S)
        relay = Relay(store, channels.all, clock, observer)
        channels.on_back = relay.retry_now
        return Parts(
            store=store,
            engine=engine,
            snapshots=snapshots,
            channels=channels,
            listen=partial(self._listen, cabinet, store, households, channels),
            relay=relay,
            timers=timers,
            publisher=Publisher(
                channels.mqtt,
                store,
                self._status,
                engine.name,
                clock=clock,
                zone=settings.zone,
                discovery=discovery,
            ),
            desk=self._desk(channels, store, cabinet, households, discovery),
            households=households,
            model_thread=model_thread,
            fitting=fitting,
        )

    def _discovery(self, channels: Channels, store: SqlStore) -> Discovery | None:
        """How Home Assistant finds the house."""
        if channels.mqtt is None:
            return None
        mqtt = self._settings.mqtt
        return Discovery(
            channels.mqtt,
            store,
            channels.mqtt.topics,
            [feed.name for feed in self._settings.feeds],
            settings=DiscoverySettings(form=mqtt.discovery, prefix=mqtt.discovery_prefix),
            observer=self._observer,
            silent={feed.name for feed in self._settings.feeds if feed.audio is None},
            on_change=self._look.set,
        )

    def _desk(
        self,
        channels: Channels,
        store: SqlStore,
        cabinet: Cabinet,
        households: Households,
        discovery: Discovery | None,
    ) -> Desk | None:
        """Where others ask over MQTT."""
        if channels.mqtt is None or not self._settings.mqtt.requests:
            return None
        hands = Hands(
            house=lambda: house_for_mqtt(households.now(), text_similarity(cabinet)),
            on_change=self._look.set,
            on_hush=channels.quiet,
            picture=self._picture,
            show=None if discovery is None else discovery.show,
        )
        return Desk(channels.mqtt, store, channels.mqtt.topics, hands, clock=self._clock, observer=self._observer)

    async def _picture(self, feed: str) -> bytes | None:
        """What a feed shows now, as JPEG."""
        watching = next((one for one in self._watched if one.feed.name == feed), None)
        frame = None if watching is None else watching.heartbeat.last_frame
        return None if frame is None else await asyncio.to_thread(as_jpeg, frame.rgb)

    async def _open_engine(self, cabinet: Cabinet) -> tuple[Choice, DuplexModel]:
        """Choose, say why, and load."""
        choice, engine = await asyncio.to_thread(
            open_engine,
            self._settings,
            clock=self._clock,
            tell=_on_the_loop(self._observer.on),
            aloud=_on_the_loop(self._play) if speaker_for(self._settings.voice) is not None else None,
            pronounce=self._pronouncing(asyncio.get_running_loop()),
        )
        for lack in await asyncio.to_thread(lacks, cabinet, choice):
            self._observer.on("model.lacking", ability=lack.ability, mend=lack.mend)
        return choice, engine

    async def _listen(self, cabinet: Cabinet, store: SqlStore, households: Households, channels: Channels) -> None:
        """Listen to people, until cancelled. Begins once the house is watched: what is needed takes seconds to open.
        Where nobody can be understood, the observer is told why."""
        await self._first_beat.wait()
        observer = ElsewhereObserver(_on_the_loop(self._observer.on))
        languages = spoken_languages(self._settings.language)
        try:
            ears: WordListener | Deaf = await asyncio.to_thread(open_word_ears, cabinet, languages, observer)
        except ModelError as error:
            ears = Deaf(str(error))
        if isinstance(ears, Deaf):
            self._observer.on("model.lacking", ability="understand what people say", mend=ears.why)
            return
        self._conversation = conversation = Conversation(store, await asyncio.to_thread(households.now))
        _rehearse_answers(channels, conversation.household)
        keep = HeardFile(self._settings.state_dir / HEARD_FILE) if self._settings.ears.keep_heard else None
        self._listening = Listening(
            ears,
            conversation,
            channels.answers,
            self._giving_way,
            clock=self._clock,
            observer=self._observer,
            on_change=self._look.set,
            on_hush=channels.quiet,
            language=self._settings.language,
            keep=keep,
        )
        self._look.set()
        try:
            await self._listening.run()
        finally:
            if keep is not None:
                keep.close()

    def _hear(self, feed: str, start_s: float, samples: NDArray[np.float32]) -> None:
        """A block of a feed's sound, as it comes."""
        if self._listening is not None:
            self._listening.hear(feed, start_s, samples)

    def _household(self, cabinet: Cabinet, choice: Choice) -> Household:
        """The house as a conversation knows it, with every pattern of its speech compiled: two seconds."""
        rulebook = self._rulebook
        planner = Planner(self._settings, rulebook, cabinet, choice)
        household = household_of(self._settings, rulebook, cabinet, planner.plan, set_by="voice")
        household.book.make_ready()
        return household

    def _pronouncing(self, loop: asyncio.AbstractEventLoop) -> Callable[[str, Language], NDArray[np.float32] | None]:
        """A sentence as samples at 16 kHz, for another thread than the loop's, which waits for it."""

        def pronounce(sentence: str, language: Language) -> NDArray[np.float32] | None:
            if self._speech is None:
                return None
            try:
                coming = asyncio.run_coroutine_threadsafe(self._speech.synthesize(sentence, language), loop)
                return Sound.from_wav(coming.result(PRONOUNCE_S)).at_rate(SAMPLE_RATE_HZ).samples()
            except (ChannelUnavailable, TimeoutError, RuntimeError, ValueError) as error:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(partial(self._observer.on, "request.unspoken", why=str(error)))
                return None

        return pronounce

    def _play(self, piece: LivePiece) -> None:
        """What an engine says with a voice of its own."""
        self._speaking_themselves.add(piece.feed)
        if self._live_voice is not None:
            self._live_voice.offer(piece)

    def _rules(self) -> dict[str, Rule]:
        """By id."""
        return {rule.id: rule for rule in self._rulebook.all()}

    def _feeds(self) -> list[Feed]:
        return [
            open_feed(
                feed.name,
                feed.video_address,
                feed.audio,
                clock=self._clock,
                observer=self._observer,
                on_sound=partial(self._hear, feed.name),
                cleaned=partial(self._giving_way.cleaned, feed.name),
                switch=self._switches[feed.name],
            )
            for feed in self._settings.feeds
        ]

    def _watching(self, feed: Feed, parts: Parts) -> Watching:
        roster = Roster(
            feed.name,
            store=parts.store,
            rules=self._rules(),
            model=parts.engine,
            fitting=parts.fitting,
            clock=self._clock,
            observer=self._observer,
        )
        heartbeat = Heartbeat(
            feed,
            roster,
            store=parts.store,
            snapshots=parts.snapshots,
            model_thread=parts.model_thread,
            clock=self._clock,
            observer=self._observer,
            expiries_s=parts.channels.expiries_s,
            on_alerts=lambda _alerts: self._alerted(parts),
            on_comments=lambda feed, comments: self._remark(parts, feed, comments),
        )
        return Watching(feed, roster, heartbeat)

    def _alerted(self, parts: Parts) -> None:
        parts.relay.wake()
        self._look.set()  # one that nobody takes note of needs a timer

    def _remark(self, parts: Parts, feed: str, comments: Sequence[Utterance]) -> None:
        """What a companion says of its own accord: live, never stored."""
        for comment in comments:
            self._observer.on("companion.said", feed=feed, letters=len(comment.text), text=comment.text)
            if feed in self._speaking_themselves:
                self._giving_way.barge_in.adds(comment.text)  # its sound was there first
            elif parts.channels.remarks is not None:
                parts.channels.remarks.offer(feed, comment.text)

    # --- work ---

    async def _work(self, parts: Parts) -> None:
        """Run every worker until the stop; the first error of any ends them all."""
        async with asyncio.TaskGroup() as group:
            hearts = [
                group.create_task(self._beat(watching), name=f"heart of {watching.feed.name}")
                for watching in self._watched
            ]
            others = [
                group.create_task(self._supervised("relay", parts.relay.run), name="relay"),
                group.create_task(self._keep_up(parts), name="changes"),
                group.create_task(self._reload_when_asked(parts), name="rules"),
                group.create_task(parts.publisher.run(), name="publisher"),
                *([group.create_task(parts.listen(), name="listening")] if self._has_ears else []),
                *(group.create_task(work(), name="channel") for work in parts.channels.workers),
                *([] if parts.desk is None else [group.create_task(parts.desk.run(), name="requests")]),
            ]
            ended = group.create_task(self._after(hearts), name="end of the feeds")
            await self._stop.wait()
            await self._end(hearts, parts)
            for worker in (*others, ended):
                worker.cancel()

    async def _supervised(self, name: str, work: Callable[[], Any]) -> None:
        await supervise(name, work, observer=self._observer, clock=self._clock)

    async def _beat(self, watching: Watching) -> None:
        """One feed, until it ends. A feed that can never work is told, and the others do not notice."""
        try:
            await watching.heartbeat.run()
        except FeedError as error:
            self._failed.append(error)
            self._observer.on("feed.failed", feed=watching.feed.name, why=str(error))

    async def _after(self, hearts: Sequence[asyncio.Task[None]]) -> None:
        """Clips end; a house in which nothing is watched any more need not run."""
        if hearts:
            await asyncio.wait(hearts)
        self._stop.set()
        if hearts and len(self._failed) == len(hearts):
            raise self._failed[0]

    async def _end(self, hearts: Sequence[asyncio.Task[None]], parts: Parts) -> None:
        """Each heart ends by itself after the unit it is deciding; the relay gets a moment for what waits."""
        self._observer.on("stopping")
        await asyncio.gather(*(watching.feed.close() for watching in self._watched))
        _, late = await asyncio.wait(hearts, timeout=STOP_HEARTS_S) if hearts else (set(), set())
        for heart in late:
            self._observer.on("stop.late", worker=heart.get_name())
            heart.cancel()
        await asyncio.gather(*(watching.roster.close() for watching in self._watched))
        self._observer.on("outbox", pending=await parts.relay.drain(STOP_RELAY_S))
        await parts.channels.close()  # while MQTT's own worker still runs: it has to say `offline`

    async def _keep_up(self, parts: Parts) -> None:
        """Notice what others changed (the command line, a timer, the relay) and act on it."""
        self._look.set()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHANGES_EVERY_S):
                    await self._look.wait()
            try:
                if await parts.store.changed_elsewhere() or self._look.is_set():
                    self._look.clear()
                    await self._look_around(parts)
            except StoreError as error:
                self._observer.on("store.failed", why=str(error))
                await asyncio.sleep(CHANGES_EVERY_S)

    async def _look_around(self, parts: Parts) -> None:
        store, now = parts.store, self._clock.now()
        for task in await store.transact(lambda tx: requests.settle(tx, now)):
            self._observer.on("task.changed", task_id=task.id, state=task.state.value)
        quiet_until, chosen = await store.transact(lambda tx: (modes.quiet_until(tx, now), modes.modes(tx)))
        self._listen_to(chosen.deaf)
        parts.channels.keep_quiet(quiet_until, is_silent=chosen.is_silent)
        for alert in await store.transact(lambda tx: requests.ring(tx, now, parts.channels.expiries_s)):
            self._observer.on("alert.queued", alert_id=alert.id, task_id=alert.task_id, feed=alert.feed)
        if self._listening is not None:
            await self._listening.look()
        await parts.relay.let_go()
        await self._escalate(parts)
        for watching in self._watched:
            with suppress(ModelError):  # told by the roster; the session that runs goes on
                await watching.roster.look(now)
        frames = {watching.feed.name: watching.heartbeat.last_frame for watching in self._watched}
        if await answer_wishes(store, frames, clock=self._clock, quiet=parts.channels.quiet):
            self._look.set()  # what was shown is for the next session
        await self._forget(parts)
        self._rehearse(parts)
        await parts.publisher.publish_tasks()
        self._observer.on("outbox", pending=await store.transact(lambda tx: tx.alerts.unfinished()))
        parts.relay.wake()

    def _listen_to(self, deaf: AbstractSet[str]) -> None:
        """All feeds but these."""
        for name, switch in self._switches.items():
            if switch.is_on is (name in deaf):
                switch.is_on = name not in deaf
                self._observer.on("feed.listening", feed=name, is_on=switch.is_on)

    async def _escalate(self, parts: Parts) -> None:
        """Tell again what nobody has acknowledged, and have a timer for when time alone will next change something."""
        now, expiries_s = self._clock.now(), parts.channels.expiries_s
        changed = await parts.store.transact(lambda tx: requests.escalate(tx, now, expiries_s, self._escalation_of))
        for alert, course in changed:
            event = "alert.repeated" if course.is_open else "alert.expired"
            self._observer.on(event, alert_id=alert.id, task_id=alert.task_id, repeats=course.repeats)
        tasks, next_at = await parts.store.transact(
            lambda tx: (tx.tasks.live(), requests.next_escalation(tx, self._escalation_of))
        )
        await parts.timers.sync(tasks, now, next_at)

    def _escalation_of(self, rule_id: str | None) -> Escalation:
        """Any thread."""
        rule = self._rulebook.get(rule_id) if rule_id is not None else None
        usual = self._settings.escalation
        return usual if rule is None else usual.tuned(rule.escalation)

    def _rehearse(self, parts: Parts) -> None:
        """Have the words of every watched task ready, so that an alert is spoken without waiting for the voice."""
        if parts.channels.rehearsal is not None:
            tasks = [task for watching in self._watched for task in watching.roster.tasks.values()]
            spoken = self._listening.answered if self._listening is not None else ()
            parts.channels.rehearsal.expect({(task.message, task.language) for task in tasks}, spoken)

    async def _forget(self, parts: Parts) -> None:
        """What is older than the retention says."""
        now, keeps = self._clock.now(), self._settings.retention
        alerts_since, snapshots_since = (
            now - timedelta(days=keeps.alerts_days),
            now - timedelta(days=keeps.snapshots_days),
        )
        served = [channel.name for channel in parts.channels.all]
        await parts.store.transact(lambda tx: requests.expire_unserved(tx, served, now))
        gone = await parts.store.transact(lambda tx: tx.alerts.forget_before(alerts_since))
        await parts.store.transact(lambda tx: tx.wishes.forget_before(now - timedelta(days=1)))
        await parts.snapshots.forget(gone)
        await parts.snapshots.forget_before(snapshots_since)

    @property
    def _has_ears(self) -> bool:
        return self._settings.ears.enabled and any(feed.audio is not None for feed in self._settings.feeds)

    def _on_first_beat(self) -> None:
        self._first_beat.set()
        self._is_watching = True
        self._observer.on("ready")

    async def _reload_when_asked(self, parts: Parts) -> None:
        while True:
            await self._hang_up.wait()
            self._hang_up.clear()
            await self._reload(parts)

    async def _reload(self, parts: Parts) -> None:
        """SIGHUP: read the rules again and look at every task anew, also in conversations; settings need a restart."""
        if self._is_watching:  # else whoever waits for "ready" would hear it too soon
            self._observer.on("reloading")
        try:
            self._rulebook = load_rulebook(self._settings.rules_dir)
        except ConfigError as error:
            self._observer.on("reload.failed", why=str(error))
        else:
            for watching in self._watched:
                watching.roster.rules = self._rules()
            self._look.set()
            await self._renew_conversations(parts)
        if self._is_watching:
            self._observer.on("ready")

    async def _renew_conversations(self, parts: Parts) -> None:
        """They go on where they were, by the rules of now."""
        try:
            await asyncio.to_thread(parts.households.renew)
        except ConfigError as error:
            self._observer.on("reload.failed", why=str(error))
            return
        if parts.desk is not None:
            await parts.desk.renew()
        if self._conversation is not None:
            self._conversation.household = await asyncio.to_thread(parts.households.now)
            _rehearse_answers(parts.channels, self._conversation.household)


def _rehearse_answers(channels: Channels, house: Household) -> None:
    """Have ready what we answer again and again."""
    if channels.rehearsal is not None:
        channels.rehearsal.answers = {each: fixed_sentences(house.book.speech(each).replies) for each in LANGUAGES}


def _on_the_loop(act: Callable[..., None]) -> Callable[..., None]:
    """The same, for other threads: done on the running loop's thread, a moment later and in order."""
    loop = asyncio.get_running_loop()

    def hand_over(*values: Any, **fields: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody listens any more
            loop.call_soon_threadsafe(partial(act, *values, **fields))

    return hand_over


@contextmanager
def _signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, handle in handlers.items():
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
