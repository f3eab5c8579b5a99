"""A house to talk with: the real store, judge and requests; what happens in its rooms is scripted.

Each second every task that is watched is judged by whether its condition's word is happening, and what is decided is
told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from omni_watch.app.wishes import TaskWish, task_of
from omni_watch.domain.alerts import DeliveryState
from omni_watch.domain.decisions import Decision, Listen, Speak
from omni_watch.domain.rules import Priority
from omni_watch.domain.tasks import Task
from omni_watch.duplex.embedded.planner import Abilities, plan
from omni_watch.store.database import Database
from omni_watch.watch import requests
from omni_watch.watch.asking import Limits
from omni_watch.watch.briefing import BriefedTask, Plan
from omni_watch.watch.conversing import Household, Reply, Talking, converse
from omni_watch.watch.judge import judge
from omni_watch.watch.ports import Transaction
from omni_watch.watch.wording import Wording
from tests.fakes.fake_feed import unit
from tests.fakes.hearing import BOOK, NOW, ZONE
from tests.fakes.values import a_reading, an_utterance

FEED = "kitchen"
LATENCY_S = 1  # from an event to the unit that decides it


def patience(_priority: Priority) -> Mapping[str, float]:
    return {"voice": 60.0}


def make(wording: Wording, limits: Limits, now: datetime) -> Task:
    wish = TaskWish(
        feeds=limits.feeds,
        repeat=limits.repeat,
        window=limits.window,
        expires_in=limits.until - now if limits.until else None,
        cooldown_s=0.0,
    )
    return task_of(
        wording,
        text=wording.text,
        task_id=requests.new_task_id(),
        set_by="voice",
        now=now,
        book=BOOK.book,
        similarity=None,
        wish=wish,
    )


def planned(tx: Transaction, task: Task) -> Plan:
    rule = BOOK.book.rule(task.rule) if task.rule else None
    lessons = tx.lessons.of(task.id)
    return plan(BriefedTask(task=task, rule=rule, lesson=lessons[0] if lessons else None), Abilities())


HOUSEHOLD = Household(
    book=BOOK, zone=ZONE, feeds=(FEED, "front-door", "garage"), make=make, plan=planned, names=("Omni",)
)


@dataclass
class TalkingHouse:
    """Close it when done, or use it as a context."""

    household: Household = HOUSEHOLD
    store: Database = field(default_factory=lambda: Database(None))
    talking: Talking = field(default_factory=Talking)
    now: datetime = NOW
    told: list[tuple[float, str, str]] = field(default_factory=list)  # second, task id, text
    is_quiet: bool = False  # then its voice refuses what it is given

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.store.close()

    def say(self, sentence: str) -> Reply:
        reply = self.store.transact(lambda tx: converse(tx, sentence, self.household, self.talking, self.now))
        self.talking = reply.talking
        return reply

    @property
    def live(self) -> list[Task]:
        return self.store.transact(lambda tx: tx.tasks.live())

    @property
    def texts(self) -> list[str]:
        return [task.text for task in self.live]

    @property
    def second(self) -> float:
        return (self.now - NOW).total_seconds()

    def local(self, at: datetime) -> str:
        return f"{at.astimezone(ZoneInfo(ZONE)):%d %H:%M}"

    def pass_seconds(
        self, seconds: float, happening: Callable[[Task, float], bool] = lambda _task, _second: False
    ) -> None:
        """Live so long; `happening` says whether a task's condition holds in a second."""
        for _ in range(round(seconds)):
            self.now += timedelta(seconds=1)
            for task in self._watched():
                self._decide(task, happens=happening(task, self.second - LATENCY_S))
            self._ring()

    def happen(self, word: str) -> None:
        """Something is false for a while, then true for three seconds, then over."""
        self.pass_seconds(2)
        self.pass_seconds(3, lambda task, _second: word in task.text)
        self.pass_seconds(2)

    def _watched(self) -> list[Task]:
        self.store.transact(lambda tx: requests.settle(tx, self.now))
        return [task for task in self.live if task.is_watched(self.now)]

    def _decide(self, task: Task, *, happens: bool) -> None:
        marks = self.store.transact(lambda tx: tx.marks.of(FEED))
        was = task.id in marks and marks[task.id].holds
        decision: Decision = Listen(readings=(a_reading(happens, task.id),))
        if happens and not was:
            said = replace(an_utterance(task.id), text=task.message)
            decision = Speak(utterances=(said,), readings=decision.readings)
        verdict = judge(decision, unit=unit(1, feed=FEED), tasks={task.id: task}, marks=marks, now=self.now)
        self.store.transact(lambda tx: requests.commit_verdict(tx, verdict, patience))
        self._tell()

    def _ring(self) -> None:
        self.store.transact(lambda tx: requests.ring(tx, self.now, patience))
        self._tell()

    def _tell(self) -> None:
        due = self.store.transact(lambda tx: tx.alerts.due("voice", self.now))
        for alert, delivery in due:
            if self.is_quiet:
                refused = delivery.to(DeliveryState.SENDING).to(DeliveryState.DEAD)
                self.store.transact(lambda tx, a=alert, r=refused: requests.after_delivery(tx, a, r, self.now))  # type: ignore[misc]
                continue
            sent = delivery.to(DeliveryState.SENDING).to(DeliveryState.SENT)
            self.store.transact(lambda tx, a=alert, s=sent: requests.after_delivery(tx, a, s, self.now))  # type: ignore[misc]
            self.told.append((self.second, alert.task_id, alert.text))


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """In November 2026, as the clock of the house shows it."""
    return datetime(2026, 11, day, hour, minute, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
