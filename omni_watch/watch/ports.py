"""What the heart needs of the world, in its own words. Adapters implement these; tests use fakes of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.alerts import Alert, Course, Delivery, Receipt
from omni_watch.domain.decisions import Decision
from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Hearing
from omni_watch.domain.rules import Language, Priority
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.units import FeedState, Frame, Sense, Unit
from omni_watch.domain.wishes import Wish
from omni_watch.watch.briefing import BriefedTask, Briefing, Plan
from omni_watch.watch.ledger import Mark

T = TypeVar("T")


class Clock(Protocol):
    """Time as an argument. Only its adapter asks the operating system (or the recording) what time it is."""

    def monotonic(self) -> float:
        """Seconds that never jump; the zero point means nothing. A live feed's timeline is in these seconds."""

    def now(self) -> datetime:
        """Aware UTC."""

    def at(self, monotonic_s: float) -> datetime:
        """Aware UTC of a monotonic second."""

    def stopwatch(self) -> float:
        """Seconds of real elapsed time, for measuring how long work took; runs on while a recording's time stands."""


class Feed(Protocol):
    """One place that is watched: units come out of it, one a second, for as long as it lives.

    Losing a camera or microphone does not end it: units go on, with gaps. Only a recording ends.
    """

    name: str

    def units(self) -> AsyncGenerator[Unit, None]:
        """Units in order. Live: bounded to a few waiting units; the oldest is dropped, and reported, when we are late.

        Raises:
            FeedError: (not retryable) this feed can never work: missing file, no such scheme, nothing to decode.
        """

    async def close(self) -> None:
        """Stop the devices within two seconds; `units` then ends. May be called twice."""


class DuplexSession(Protocol):
    """One model memory, from briefing to close. Owned by the model thread once handed out by `open`."""

    briefing: Briefing

    def step(self, unit: Unit) -> Decision:
        """One unit in, one decision out. Model thread only.

        Raises:
            ModelError: retryable when a new session may work.
        """

    def close(self) -> None:
        """Free what the session holds. Model thread only."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One session with the unit that it is to decide."""

    session: DuplexSession
    unit: Unit


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LivePiece:
    """A piece of what an engine says with a voice of its own: to be played right after the one before it, now or never.

    A turn begins with a piece without sound, which comes before the decision in which its first word was said; it ends
    with one that `ends_turn`, possibly without sound too.
    """

    feed: str
    turn: int  # counts the turns of this feed's voice, from 0
    at_s: float  # feed timeline, the end of the unit that said it
    pcm: bytes = b""  # int16 little-endian, mono
    rate_hz: int
    ends_turn: bool = False
    is_lost: bool = False  # the rest of the turn could not be made into sound


Aloud = Callable[[LivePiece], None]  # any thread; must return at once
Pronounce = Callable[[str, Language], NDArray[np.float32] | None]
"""A sentence as [n] samples at 16 kHz; None where no voice can say it. May take seconds; not on the model thread."""


class DuplexModel(Protocol):
    """An engine: decides each second, by itself, to listen or to speak."""

    name: str
    most_together: int  # how many sessions one step may serve; 1: nothing is gained by packing

    def plan(self, briefed: BriefedTask) -> Plan:
        """How this engine would watch for the task. Pure, fast, any thread."""

    def open(self, briefing: Briefing, after: DuplexSession | None = None) -> DuplexSession:
        """A session for this briefing. May take seconds (fits what was taught), so it runs on a thread of its own
        while `after` goes on being stepped; it must not disturb `after`.

        `after` is the session that this one replaces: what its tasks have in common with the new briefing (what was
        heard, whether a condition holds, who was told) carries over at the first step.

        Raises:
            ModelError: a model file is missing or wrong, or an example cannot be read.
        """

    def step_together(self, steps: Sequence[Step]) -> Sequence[Decision | ModelError]:
        """Step sessions of different feeds at once, at most `most_together`; their decisions, in order. Model thread
        only. A session that fails gives its error and disturbs no other."""

    def work_ahead(self) -> bool:
        """Do one piece of work that no unit waits for (make ready what will be needed soon); whether there is more.
        Model thread only, and only while no unit waits."""

    def hush(self, feed: str) -> None:
        """End what is being said on a feed with a voice of the engine's own: no further piece of it comes, and the
        model ends its turn with the next unit. Without such a voice, nothing happens. Any thread."""

    def close(self) -> None:
        """Free the engine. After the last session was closed."""


class Tasks(Protocol):
    """The tasks of one transaction."""

    def add(self, task: Task) -> None: ...
    def get(self, task_id: str) -> Task | None: ...
    def all(self) -> list[Task]:
        """Every task that was kept, oldest first."""

    def live(self) -> list[Task]:
        """Tasks that have not ended, oldest first."""

    def save(self, task: Task) -> None:
        """Overwrite; StoreError when there is none."""

    def delete(self, task_id: str) -> None:
        """Forget the task, its lessons, marks and alerts."""


class Lessons(Protocol):
    """What was taught, in one transaction."""

    def of(self, task_id: str) -> list[Lesson]: ...
    def set_place(self, lesson: Lesson) -> None:
        """Create or overwrite regions of (task, feed); examples of `lesson` are ignored."""

    def add(self, task_id: str, feed: str, example: Example) -> None:
        """Keep an example; the (task, feed) lesson is created when there is none."""

    def remove(self, task_id: str, *, example_id: str | None = None, label: Label | None = None) -> int:
        """Forget one example, those of a label, or (neither given) the whole lesson; how many examples went."""


class Marks(Protocol):
    """The ledger, in one transaction."""

    def of(self, feed: str) -> dict[str, Mark]:
        """By task id."""

    def of_task(self, task_id: str) -> list[Mark]:
        """What is remembered of one task, one mark for each feed that saw it."""

    def save(self, mark: Mark) -> None: ...


class Alerts(Protocol):
    """Alerts, what became of them, and their deliveries, in one transaction."""

    def add(self, alert: Alert, deliveries: Sequence[Delivery]) -> None:
        """Keep both; the alert is open. StoreError when the alert id is already there."""

    def get(self, alert_id: str) -> Alert | None: ...
    def recent(self, limit: int = 50, task_id: str | None = None) -> list[Alert]:
        """Newest first."""

    def course(self, alert_id: str) -> Course | None:
        """What has become of it; None when there is no such alert."""

    def save_course(self, course: Course) -> None:
        """Overwrite; StoreError when there is no such alert."""

    def open_ones(self, task_id: str | None = None) -> list[tuple[Alert, Course]]:
        """Those that nobody has taken note of, oldest first; of one task when it is given."""

    def deliveries(self, alert_id: str) -> list[Delivery]:
        """In the order of what was told, then by channel."""

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Keep further ones; StoreError when one of that alert, channel and number is already there."""

    def due(self, channel: str, now: datetime, limit: int = 16) -> list[tuple[Alert, Delivery]]:
        """Pending deliveries of a channel that may go now: urgent first, then in order of decision, then of telling."""

    def next_due_at(self, channel: str) -> datetime | None:
        """When the earliest pending delivery of a channel may go; None when nothing is pending."""

    def waited_for(self) -> list[str]:
        """The channels that pending deliveries wait for, by name; some may no longer be configured."""

    def save_delivery(self, delivery: Delivery) -> None: ...
    def unfinished(self) -> int:
        """Deliveries pending or sending, over all channels."""

    def untold(self, task_id: str) -> int:
        """Those of one task's alerts that may still tell somebody what has happened."""

    def forget_before(self, cutoff: datetime) -> list[str]:
        """Delete finished alerts decided before `cutoff`; their ids (so that snapshots can go too)."""

    def reset_sending(self) -> int:
        """At start-up: deliveries found `sending` become pending again; how many."""


class Topics(Protocol):
    """Which retained MQTT topics hold something of ours, in one transaction; kept until they are cleared, also when
    their task is gone by then."""

    def remember(self, topic: str, task_id: str) -> None:
        """Again is no error; the last task counts."""

    def all(self) -> dict[str, str]:
        """Topic -> task id."""

    def of(self, task_id: str) -> list[str]:
        """The topics of one task."""

    def forget(self, topic: str) -> None:
        """No error when it was not remembered."""


class Wishes(Protocol):
    """What one process asks of another (the command line of the daemon, which owns the feeds), in one transaction."""

    def leave(self, wish: Wish) -> None: ...
    def open_ones(self, kind: str | None = None) -> list[Wish]:
        """Those without an answer, oldest first; of one kind when it is given."""

    def get(self, wish_id: str) -> Wish | None: ...
    def answer(self, wish_id: str, answer: Mapping[str, Any], at: datetime) -> None:
        """StoreError when there is no such wish, or it was answered before."""

    def forget_before(self, cutoff: datetime) -> int:
        """Delete wishes made before `cutoff`, answered or not; how many."""


class Notes(Protocol):
    """Small things the house remembers by name (until when to be quiet, what was just said), in one transaction."""

    def keep(self, name: str, value: Mapping[str, Any]) -> None:
        """Plain JSON values; replaces the note of that name."""

    def get(self, name: str) -> Mapping[str, Any] | None: ...
    def forget(self, name: str) -> None:
        """No error when there is none."""


class Transaction(Protocol):
    """One atomic change of the store: everything or nothing."""

    @property
    def tasks(self) -> Tasks: ...
    @property
    def lessons(self) -> Lessons: ...
    @property
    def marks(self) -> Marks: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def topics(self) -> Topics: ...
    @property
    def wishes(self) -> Wishes: ...
    @property
    def notes(self) -> Notes: ...


class Store(Protocol):
    """What must survive. All work runs on the one store thread, so a slow disk never stops the heart."""

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction on the store thread; commit when it returns, roll back when it raises.

        Raises:
            StoreError: damaged, read-only, disk full; retryable when merely busy.
        """

    async def changed_elsewhere(self) -> bool:
        """Whether another process committed since the last call (PRAGMA data_version)."""

    async def close(self) -> None: ...


@runtime_checkable
class Channel(Protocol):
    """A way to reach a person: a speaker, a broker, a terminal."""

    name: str

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        """Tell what `delivery` says of `alert`: that it is there, again, or what became of it; return once the far
        side has accepted it.

        May be called twice for one message: receivers key on `alert.id` and `delivery.number`. `delivery.attempts`
        counts the tries so far.

        Raises:
            Interrupted: a person spoke over it; offer it again soon.
            ChannelUnavailable: try again later (broker down, device busy).
            AlertRejected: never try again (payload refused).
        """

    def expiry_s(self, priority: Priority) -> float:
        """How long after the decision an alert is still worth telling on this channel."""

    async def close(self) -> None: ...


class Voice(Protocol):
    """Text to sound, by a separate program."""

    name: str

    def speaks(self, language: Language) -> bool: ...
    async def synthesize(self, text: str, language: Language) -> bytes:
        """A mono 16-bit WAV file's bytes. ChannelUnavailable when the program fails."""


class Snapshots(Protocol):
    """Pictures of the moment an alert was decided."""

    async def keep(self, alert_id: str, frames: Mapping[str, Frame]) -> None:
        """Write one JPEG for each name ("now", "before"); best effort, never raises for a full disk."""

    async def load(self, alert_id: str, name: str = "now") -> bytes | None: ...
    async def forget(self, alert_ids: Sequence[str]) -> None: ...


class WordListener(Protocol):
    """Ears for words. Sound goes in, what was said comes out; recognising happens elsewhere and delays nobody."""

    def hear(self, feed: str, start_s: float, samples: NDArray[np.float32]) -> None:
        """The next block of a feed: any number of samples, mono, 16 kHz, -1..1, the first at `start_s` on the feed's
        timeline. Returns at once. While recognition cannot take it, a few seconds wait; more is dropped, the oldest
        first, and the observer is told. The shorter the blocks, the sooner words come out."""

    def expect(self, hot_words: Mapping[Language, Sequence[str]]) -> None:
        """Words that are likely here, the likelier first, by language; those given before are forgotten."""

    async def settled(self) -> None:
        """Return once all that was handed over so far was listened to, and whatever ended in it was delivered. For
        recordings, which can wait for their ears. Only while `run` runs; when that ends, this never returns."""

    async def run(self, deliver: Callable[[Hearing], None]) -> None:
        """Listen until cancelled. What is heard is delivered once, on the loop thread, and kept by nobody here.

        Raises:
            ModelError: (also in a group) the recogniser died or hangs, retryable; or its models cannot be opened, not.
        """


class TextSimilarity(Protocol):
    """How alike two texts are in meaning; used when no phrase of a rule fits."""

    def similarity(self, text: str, others: Sequence[str]) -> list[float]:
        """Cosine -1..1 of `text` to each of `others`, in order."""


class Observer(Protocol):
    """Told of everything worth a log line or a number. Must return at once; loop thread only."""

    def on(self, event: str, **fields: Any) -> None:
        """`event` is a dotted name ("unit.decided", "alert.queued", "feed.state"), `fields` plain values without
        anything heard, seen or said."""


class FeedObserver(Protocol):
    """The part of observing that capture needs; loop thread only."""

    def feed_state(self, feed: str, sense: Sense, state: FeedState, detail: str = "") -> None: ...
    def dropped(self, feed: str, what: str, count: int) -> None:
        """`what` is "frame", "block" or "unit"."""
