"""The house as the command line sees it: tasks, lessons and alerts in one store, words turned into tasks.

Works beside a running daemon on the same database; the daemon notices what changed. One thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from omni_watch.app.engines import open_cabinet, text_similarity
from omni_watch.app.errands import QUIET, TEACH, ask_daemon, is_daemon_running
from omni_watch.app.household import Planner, household_of
from omni_watch.app.lessons import example_from, keep_lesson, lesson_from_clip
from omni_watch.app.showing import Showing, look_once
from omni_watch.app.told import Told
from omni_watch.app.wishes import TaskWish, task_from
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import Rulebook, load_rulebook
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.alerts import Alert, Course
from omni_watch.domain.errors import RequestError
from omni_watch.domain.regions import Region
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, WatchWindow
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.store.database import Database, open_store
from omni_watch.telemetry.clock import SystemClock
from omni_watch.watch import modes, requests
from omni_watch.watch.asking import BeQuiet
from omni_watch.watch.briefing import Plan
from omni_watch.watch.conversing import Reply, converse, note_of, talking_of
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Clock, Transaction
from omni_watch.watch.replies import Replies

T = TypeVar("T")
DATABASE = "omni-watch.db"
CLI = "cli"  # who asks, unless a call says otherwise
TALKING = "talking-cli"  # the note that keeps the conversation between two runs of the command line


def database_path(settings: Settings) -> Path:
    return settings.state_dir / DATABASE


def open_house(config_path: Path | None = None) -> House:
    """The house of this configuration file (None: the usual places, then defaults).

    Raises:
        ConfigError: the configuration or a rule file cannot be used. StoreError: the database cannot.
    """
    settings = read_settings(config_path)
    rulebook = load_rulebook(settings.rules_dir)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return House(settings, rulebook, open_store(database_path(settings)), SystemClock())


class House:
    """Open with `open_house`; close when done, or use as a context."""

    def __init__(self, settings: Settings, rulebook: Rulebook, store: Database, clock: Clock) -> None:
        self.settings = settings
        self.rulebook = rulebook
        self._store = store
        self._clock = clock
        self._cabinet: Cabinet = open_cabinet(settings)
        self._planner = Planner(settings, rulebook, self._cabinet)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._store.close()

    # --- tasks ---

    def add_task(
        self,
        text: str,
        *,
        feeds: Sequence[str] = (),
        repeat: Repeat | None = None,
        message: str | None = None,
        cooldown_s: float | None = None,
        window: WatchWindow | None = None,
        expires_in: timedelta | None = None,
        priority: Priority | None = None,
        set_by: str = "cli",
    ) -> Task:
        """Watch for something new; None leaves a choice to the words, then to the rule that they fit.

        Raises:
            RequestError: no such feed, nothing to watch for, already watched for, too many tasks.
        """
        for feed in feeds:
            self._require_feed(feed)
        wish = TaskWish(
            feeds=feeds,
            repeat=repeat,
            message=message,
            cooldown_s=cooldown_s,
            window=window,
            expires_in=expires_in,
            priority=priority,
        )
        task = task_from(
            text,
            task_id=requests.new_task_id(),
            set_by=set_by,
            now=self._clock.now(),
            book=self.rulebook.phrasebook,
            similarity=text_similarity(self._cabinet),
            wish=wish,
        )
        return self.transact(lambda tx: requests.add_task(tx, task=task))

    def say(self, sentence: str, *, set_by: str = "cli") -> Reply:
        """Do what a sentence asks, as if it had been spoken to the house; the answer.

        The conversation goes on with the next call, also in another process, while its question waits.
        """
        household = household_of(self.settings, self.rulebook, self._cabinet, self._planner.plan, set_by=set_by)

        def work(tx: Transaction) -> Reply:
            now = self._clock.now()
            requests.settle(tx, now)
            talking = talking_of(tx.notes.get(TALKING), tx, household, now)
            reply = converse(tx, sentence, household, talking, now)
            tx.notes.keep(TALKING, note_of(reply.talking))
            if reply.text:
                return reply
            replies = Replies(household.book.speech(reply.language), now=now, zone=household.zone)
            return replace(reply, text=replies.say("not_understood"))  # who types gets an answer all the same

        reply = self.transact(work)
        if isinstance(reply.understood.request, BeQuiet) and is_daemon_running(self.settings.state_dir):
            self.quiet()
        return reply

    def tasks(self) -> list[Task]:
        """Every task that was kept, oldest first, as time has made them by now."""
        return self.transact(lambda tx: (requests.settle(tx, self._clock.now()), tx.tasks.all())[1])

    def find(self, words: str) -> Task:
        return self.transact(lambda tx: requests.find(tx, words))

    def plan(self, task: Task) -> Plan:
        """How the engine would watch for it, on the first feed that fits; no weights are read."""
        return self._planner.plan(task, self.lessons(task), self.deaf())

    def marks(self, task: Task) -> list[Mark]:
        return self.transact(lambda tx: tx.marks.of_task(task.id))

    def cancel(self, task_id: str) -> Task:
        return self.transact(lambda tx: requests.cancel(tx, task_id, by=CLI, now=self._clock.now()))

    def pause(self, task_id: str) -> Task:
        return self.transact(lambda tx: requests.pause(tx, task_id, by=CLI, now=self._clock.now()))

    def resume(self, task_id: str) -> Task:
        return self.transact(lambda tx: requests.resume(tx, task_id))

    def snooze(self, task_id: str, lasting: timedelta) -> Task:
        now = self._clock.now()
        return self.transact(lambda tx: requests.snooze(tx, task_id, until=now + lasting, by=CLI, now=now))

    # --- teaching ---

    def teach_from_clip(
        self,
        task: Task,
        feed: str | None,
        clip: Path,
        times: Mapping[Label, Sequence[float]],
        region: Region | None,
        display_region: Region | None,
    ) -> Lesson:
        """Keep what a recording shows at these seconds, for the feed that it stands for.

        Raises:
            FeedError: the clip cannot be read. RequestError: it is not clear which feed it stands for.
        """
        lesson = lesson_from_clip(
            task_id=task.id,
            feed=self._feed_for(task, feed),
            clip=clip,
            times=times,
            region=region,
            display_region=display_region,
            taken_at=self._clock.now(),
        )
        return self.transact(lambda tx: keep_lesson(tx, lesson))

    def teach_live(
        self, task: Task, feed: str | None, label: Label, region: Region | None, display_region: Region | None
    ) -> Lesson:
        """Keep what the feed shows now; asks the daemon when it runs, since it owns the camera.

        Raises:
            FeedError: the feed shows nothing. RequestError: it is not clear which feed is meant, or the daemon sees
            nothing on it.
        """
        name = self._feed_for(task, feed)
        shown = Showing(task_id=task.id, feed=name, label=label, region=region, display_region=display_region)
        if is_daemon_running(self.settings.state_dir):
            ask_daemon(self.transact, TEACH, shown.as_payload(), clock=self._clock)
        else:
            camera = next(one for one in self.settings.feeds if one.name == name)
            example = example_from(
                look_once(camera, self._clock), label=label, taken_at=self._clock.now(), origin=f"feed {name}"
            )
            self.transact(lambda tx: keep_lesson(tx, shown.lesson(example)))
        return next(lesson for lesson in self.lessons(task) if lesson.feed == name)

    def lessons(self, task: Task) -> list[Lesson]:
        return self.transact(lambda tx: tx.lessons.of(task.id))

    def lacking(self, lesson: Lesson) -> list[str]:
        """What keeps its pictures from being used, one sentence each; empty when nothing does."""
        from omni_watch.duplex.embedded.sight import missing  # brings OpenCV, which only teaching needs here

        return missing(lesson)

    def forget_examples(self, task: Task, example_id: str | None = None, label: Label | None = None) -> int:
        """Forget one example, those of a label, or (neither given) all that was shown for the task; how many."""
        return self.transact(lambda tx: tx.lessons.remove(task.id, example_id=example_id, label=label))

    # --- what is being said ---

    def quiet(self) -> None:
        """End what companions are saying now; alerts are still told.

        Raises:
            RequestError: no daemon runs, or it does not answer.
        """
        if not is_daemon_running(self.settings.state_dir):
            raise RequestError("no daemon is running for this house, so nothing is being said")
        ask_daemon(self.transact, QUIET, {}, clock=self._clock)

    # --- where it listens ---

    def deaf(self) -> frozenset[str]:
        """The feeds to which nobody wants us to listen."""
        return self.transact(modes.modes).deaf

    def listen(self, feed: str, *, is_listening: bool) -> list[Task]:
        """Take the sound of a feed, or drop it before anybody hears it, until this is changed; the tasks that can then
        not be watched anywhere. A running daemon follows within a second.

        Raises:
            RequestError: there is no such feed, or it has no sound.
        """
        self._require_feed(feed)
        if not any(one.name == feed and one.audio is not None for one in self.settings.feeds):
            raise RequestError(f"feed {feed} has no sound; give it `audio` in the configuration first")
        self.transact(lambda tx: modes.set_listening(tx, feed, is_listening=is_listening))
        watching = [task for task in self.tasks() if task.is_live and task.watches(feed)]
        return [task for task in watching if self.plan(task).is_blind]

    # --- alerts ---

    def alerts(self, limit: int = 50, task_id: str | None = None) -> list[Told]:
        """Newest first, each with what became of it, and of what was told of it on every channel."""
        return self.transact(lambda tx: [_told(tx, alert) for alert in tx.alerts.recent(limit, task_id)])

    def acknowledge(self, alert_id: str | None = None) -> Told:
        """A person has taken note of this alert, or (None) of the last open one; how it is now."""
        now = self._clock.now()

        def work(tx: Transaction) -> Told:
            if alert_id is None:
                return _told(tx, requests.acknowledge_last(tx, by=CLI, now=now))
            return _told(tx, requests.acknowledge(tx, alert_id, by=CLI, now=now))

        return self.transact(work)

    def acknowledge_task(self, task_id: str) -> list[Told]:
        """The same for all open alerts of a task."""
        now = self._clock.now()
        return self.transact(
            lambda tx: [_told(tx, alert) for alert in requests.acknowledge_task(tx, task_id, by=CLI, now=now)]
        )

    def transact(self, work: Callable[[Transaction], T]) -> T:
        return self._store.transact(work)

    def _require_feed(self, name: str) -> None:
        known = [feed.name for feed in self.settings.feeds]
        if name not in known:
            raise RequestError(f"there is no feed {name!r}; configured: {', '.join(known) or 'none'}")

    def _feed_for(self, task: Task, named: str | None) -> str:
        """The feed that a lesson is for: the named one, else the only one that the task watches."""
        if named is not None:
            self._require_feed(named)
            return named
        candidates = [feed.name for feed in self.settings.feeds if feed.video and task.watches(feed.name)]
        if len(candidates) != 1:
            raise RequestError(
                f"say with --feed which camera this shows; task {task.id} watches {', '.join(candidates) or 'none'}"
            )
        return candidates[0]


def _told(tx: Transaction, alert: Alert) -> Told:
    course = tx.alerts.course(alert.id) or Course(alert_id=alert.id)
    return Told(alert=alert, course=course, deliveries=tuple(tx.alerts.deliveries(alert.id)))
