"""The one way to change tasks and alerts, whoever asks: command line, voice, MQTT, a timer or the judge.

Every function works inside one transaction that its caller opened, and takes the time as an argument.
"""

from __future__ import annotations

import re
import secrets
import string
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from math import isfinite
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from omni_watch.domain.alerts import (
    DELIVERY_MOVES,
    Alert,
    AlertState,
    Course,
    Delivery,
    DeliveryState,
    Transition,
)
from omni_watch.domain.errors import RequestError
from omni_watch.domain.rhythms import Reminder
from omni_watch.domain.rules import Escalation, Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.watch import escalating, judge
from omni_watch.watch.judge import Verdict
from omni_watch.watch.ports import Transaction

LIVE_MAX: Final = 64  # live tasks; each costs the engine time every second
TEXT_MAX: Final = 500  # characters of a request or a message
PREFIX_MIN: Final = 3  # characters of an id that are enough to name a task
END_IS_TOLD_FOR: Final = timedelta(days=1)  # to a channel that is away: what it was told must not stand for ever
ID: Final = re.compile(r"[a-z0-9_-]{1,32}")
_LETTERS: Final = string.ascii_lowercase + string.digits
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode categories that would not show, or break a line
_JOINERS: Final = "\u200c\u200d"  # unseen too, but part of emoji and of some scripts
_ENDED: Final = {
    AlertState.ACKNOWLEDGED: "was acknowledged",
    AlertState.SNOOZED: "was put off, to be told again later",
    AlertState.EXPIRED: "has expired, since nobody took note of it in time",
    AlertState.CANCELLED: "was cancelled with its task",
}
_FINISHED: Final = frozenset(state for state, moves in DELIVERY_MOVES.items() if not moves)


def new_task_id() -> str:
    """Eight random letters and digits: 41 bits, so that two of a house's tasks never meet."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


# --- what people ask for ---


def add_task(tx: Transaction, *, task: Task) -> Task:
    """Keep a new task.

    Raises:
        RequestError: it cannot be watched as it is, a like one is being watched, or there are too many.
    """
    _require_sound(task)
    live = tx.tasks.live()
    if tx.tasks.get(task.id) is not None:
        raise RequestError(f"the task id {task.id} is taken; ask again")
    same = next((other for other in live if _asks_the_same(task, other)), None)
    if same is not None:
        raise RequestError(
            f"already watching for that: task {same.id} {same.text!r} is {same.state.value}; "
            f"`omni-watch task cancel {same.id}` first, or use other words"
        )
    if len(live) >= LIVE_MAX:
        raise RequestError(f"{LIVE_MAX} tasks are being watched, which is the most; cancel one of them first")
    tx.tasks.add(task)
    return task


def cancel(tx: Transaction, task_id: str, *, by: str, now: datetime) -> Task:
    """Stop watching for good; what is being told of it ends too. Again is no error."""
    task = _get(tx, task_id)
    if task.state is TaskState.CANCELLED:
        return task
    if not task.is_live:
        raise RequestError(f"task {task.id} is {task.state.value} already; there is nothing to cancel")
    cancelled = _save(tx, task.to(TaskState.CANCELLED))
    _close_all(tx, tx.alerts.open_ones(task.id), AlertState.CANCELLED, by=by, now=now)
    return cancelled


def pause(tx: Transaction, task_id: str, *, by: str, now: datetime) -> Task:
    """Keep the task, but do not watch until it is resumed. Again is no error.

    Whoever pauses a task that is being told knows what has happened: its alerts are acknowledged, and fall silent. One
    that was for once, and has happened, is then done.
    """
    told = tx.alerts.open_ones(_get(tx, task_id).id)
    _close_all(tx, told, AlertState.ACKNOWLEDGED, by=by, now=now)
    task = _get(tx, task_id)
    if task.state is TaskState.PAUSED or (told and not task.is_live):
        return task
    if task.state is TaskState.FIRED and task.repeat is Repeat.ONCE:
        raise RequestError(f"task {task.id} has happened and is being told; it ends by itself, or cancel it")
    if not task.is_live:
        raise RequestError(f"task {task.id} is {task.state.value}; only a task that is being watched can be paused")
    return _save(tx, task.to(TaskState.PAUSED))


def resume(tx: Transaction, task_id: str) -> Task:
    """Watch again, at once: ends a pause and a snooze. Again is no error."""
    task = _get(tx, task_id)
    if not task.is_live:
        raise RequestError(f"task {task.id} is {task.state.value}; add it again to watch for it again")
    awake = replace(task, snoozed_until=None)
    if awake.state is TaskState.PAUSED:
        awake = awake.to(TaskState.ARMED)
    return task if awake == task else _save(tx, awake)


def snooze(tx: Transaction, task_id: str, *, until: datetime, by: str, now: datetime) -> Task:
    """Do not watch before `until` (aware), and tell nothing of it any more until then."""
    task = _get(tx, task_id)
    if not task.is_live:
        raise RequestError(f"task {task.id} is {task.state.value}; only a task that is being watched can be snoozed")
    if until <= now:
        raise RequestError(f"task {task.id} cannot be snoozed until {until:%Y-%m-%d %H:%M}: that is in the past")
    _close_all(tx, tx.alerts.open_ones(task.id), AlertState.SNOOZED, by=by, now=now)
    return _save(tx, replace(_get(tx, task_id), snoozed_until=until))


def change(tx: Transaction, task: Task) -> Task:
    """Keep a live task with other words to say, for other feeds, hours or occurrences. What it waits for stays: for
    another condition add another task, since what was seen and shown belongs to the old one.

    Raises:
        RequestError: it cannot be watched as it would be, has ended, or waits for something else.
    """
    before = _get(tx, task.id)
    if not before.is_live:
        raise RequestError(f"task {task.id} is {before.state.value}; add it again to watch for it again")
    if (task.text, task.rule) != (before.text, before.rule):
        raise RequestError(f"task {task.id} waits for {before.text!r}; add another task for {task.text!r}")
    changed = replace(task, state=before.state)
    _require_sound(replace(changed, state=TaskState.ARMED))
    return before if changed == before else _save(tx, changed)


def find(tx: Transaction, id_or_words: str) -> Task:
    """The task that somebody means: its id, the beginning of its id, or words of its text; live ones come first.

    Raises:
        RequestError: no task, or more than one, is meant.
    """
    asked = id_or_words.strip()
    if not asked:
        raise RequestError("say which task: its id, the beginning of its id, or some of its words")
    meant = candidates(tx, asked)
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise RequestError(f"{asked!r} may mean {len(meant)} tasks; use an id:\n{_listed(meant)}")
    live = tx.tasks.live()
    known = f"these are being watched:\n{_listed(live)}" if live else "no task is being watched"
    raise RequestError(f"no task is called {asked!r}; {known}")


def candidates(tx: Transaction, asked: str) -> list[Task]:
    """Every task that an id, the beginning of one, or words may mean; when live ones are among them, only those."""
    tasks = tx.tasks.all()
    exact = next((task for task in tasks if task.id == asked.lower()), None)
    if exact is not None:
        return [exact]
    meant = [task for task in tasks if _means(asked, task)]
    return [task for task in meant if task.is_live] or meant


# --- what people say of alerts ---


def acknowledge(tx: Transaction, alert_id: str, *, by: str, now: datetime) -> Alert:
    """A person has taken note of an alert: it is told, and nobody need be told any more. Again is no error.

    Raises:
        RequestError: there is no such alert, or it ended in another way.
    """
    alert, course = _get_alert(tx, alert_id)
    if course.is_open:
        _close(tx, alert, course, AlertState.ACKNOWLEDGED, by=by, now=now)
    elif course.state is not AlertState.ACKNOWLEDGED:
        raise RequestError(f"alert {alert.id} {_ENDED[course.state]}; there is nothing to acknowledge any more")
    return alert


def acknowledge_last(tx: Transaction, *, by: str, now: datetime) -> Alert:
    """The same for the alert that a person means who names none: `last_open`.

    Raises:
        RequestError: no alert is open, and what became of the last one.
    """
    alert = last_open(tx)
    if alert is None:
        recent = tx.alerts.recent(1)
        if not recent:
            raise RequestError("nothing was told yet, so there is nothing to acknowledge")
        return acknowledge(tx, recent[0].id, by=by, now=now)
    return acknowledge(tx, alert.id, by=by, now=now)


def acknowledge_task(tx: Transaction, task_id: str, *, by: str, now: datetime) -> list[Alert]:
    """The same for all open alerts of a task, oldest first; the last one again when none is open.

    Raises:
        RequestError: nothing was told of the task, or the last alert ended in another way.
    """
    task = _get(tx, task_id)
    meant = [alert for alert, _ in tx.alerts.open_ones(task.id)] or tx.alerts.recent(1, task.id)
    if not meant:
        raise RequestError(f"nothing was told of task {task.id} yet, so there is nothing to acknowledge")
    return [acknowledge(tx, alert.id, by=by, now=now) for alert in meant]


def snooze_alert(tx: Transaction, alert_id: str, *, until: datetime, by: str, now: datetime) -> Task:
    """Tell of this alert no more, and again at `until` (aware): the reminder that will do that.

    One that is not open any more is told again all the same.

    Raises:
        RequestError: there is no such alert, that is in the past, or there are too many tasks.
    """
    alert, course = _get_alert(tx, alert_id)
    if until <= now:
        raise RequestError(f"alert {alert.id} cannot be told again at {until:%Y-%m-%d %H:%M}: that is in the past")
    again = Task(
        id=new_task_id(),
        text=alert.text,
        language=alert.language,
        message=alert.text,
        set_by=by,
        set_at=now,
        priority=alert.priority,
        cooldown_s=0.0,
        reminder=Reminder(at=until),
    )
    add_task(tx, task=again)  # first: one that cannot be told again must not fall silent
    if course.is_open:
        _close(tx, alert, course, AlertState.SNOOZED, by=by, now=now)
    return again


def last_open(tx: Transaction) -> Alert | None:
    """The alert that a person means who says "got it": of the open ones an urgent one, which is being repeated, before
    others, and then the one that was told last."""
    alerts = tx.alerts.open_ones()
    meant = max(alerts, key=lambda one: (one[0].priority is Priority.URGENT, _last_at(*one)), default=None)
    return meant[0] if meant is not None else None


def last_told_at(tx: Transaction) -> datetime | None:
    """When the house last told something, or told it again; None: never."""
    recent = [alert.decided_at for alert in tx.alerts.recent(1)]
    return max((*recent, *(_last_at(alert, course) for alert, course in tx.alerts.open_ones())), default=None)


def _last_at(alert: Alert, course: Course) -> datetime:
    return course.last_at or alert.decided_at


# --- what time, the judge and the relay change ---


def settle(tx: Transaction, now: datetime) -> list[Task]:
    """Apply what time alone does (expiry, the end of a cooldown or snooze) to all live tasks; those that changed."""
    before = tx.tasks.live()
    pairs = ((task, judge.due(task, now)) for task in before)
    return [_save(tx, after) for task, after in pairs if after != task]


def ring(tx: Transaction, now: datetime, expiries_s: Callable[[Priority], Mapping[str, float]]) -> tuple[Alert, ...]:
    """Say every reminder whose time has come: its task's transition, its alert and one delivery for each channel in
    one transaction, so that it is said once, also after a crash. One that came due while nobody ran is said now."""
    due = (judge.reminded(judge.due(task, now), now) for task in tx.tasks.live() if task.reminder is not None)
    alerts: list[Alert] = []
    for task, alert in (one for one in due if one is not None):
        deliveries = judge.deliveries(alert, expiries_s(alert.priority))
        tx.tasks.save(task if deliveries else judge.given_up(task))
        tx.alerts.add(alert, deliveries)
        alerts.append(alert)
    return tuple(alerts)


def escalate(
    tx: Transaction,
    now: datetime,
    expiries_s: Callable[[Priority], Mapping[str, float]],
    escalation_of: Callable[[str | None], Escalation],
) -> tuple[tuple[Alert, Course], ...]:
    """Tell again what nobody has taken note of, and give up what nobody will; what was repeated or has expired.

    A repeat is counted and gets its deliveries in one transaction, so that a crash neither loses nor doubles it.
    `escalation_of` gives the escalation of a rule by its id, or that of tasks without a rule.
    """
    changed: list[tuple[Alert, Course]] = []
    for alert, course in tx.alerts.open_ones():
        escalation = _escalation(tx, alert, escalation_of)
        look_at = escalating.next_look(alert, course, escalation)
        if look_at is None or now < look_at:
            continue
        told = tx.alerts.deliveries(alert.id)
        step = escalating.step(alert, course, told, escalation, expiries_s(alert.priority), now)
        if step is None:
            continue
        if step.course.is_open:
            tx.alerts.save_course(step.course)
            tx.alerts.add_deliveries(step.deliveries)
        else:
            _end(tx, alert, step.course, now)
        if step.course.state is not course.state or step.course.repeats > course.repeats:
            changed.append((alert, step.course))
    return tuple(changed)


def next_escalation(tx: Transaction, escalation_of: Callable[[str | None], Escalation]) -> datetime | None:
    """When `escalate` will next have something to do; None: as things stand, never."""
    looks = (
        escalating.next_look(alert, course, _escalation(tx, alert, escalation_of))
        for alert, course in tx.alerts.open_ones()
    )
    return min((look for look in looks if look is not None), default=None)


def _escalation(tx: Transaction, alert: Alert, escalation_of: Callable[[str | None], Escalation]) -> Escalation:
    """That of the alert's rule; only an urgent one needs one."""
    task = tx.tasks.get(alert.task_id) if alert.priority is Priority.URGENT else None
    return escalation_of(task.rule if task is not None else None)


def commit_verdict(
    tx: Transaction, verdict: Verdict, expiries_s: Callable[[Priority], Mapping[str, float]]
) -> tuple[Alert, ...]:
    """Keep what one decision changed: marks, and for each alert its task's transition and one delivery per channel.

    Tasks are read again first: the verdict was judged from what was known a moment ago, and a person or another feed
    may have come between. An alert of a task that is no longer watched is not kept; one of a task that has fired on
    another feed meanwhile becomes its next occurrence. `expiries_s` gives the patience of every channel for alerts of
    a priority. Returns the alerts that were kept.
    """
    kept = [alert for alert in (_commit_alert(tx, alert, expiries_s) for alert in verdict.alerts) if alert is not None]
    for mark in verdict.marks:
        if tx.tasks.get(mark.task_id) is not None:  # else the task was deleted, and its marks with it
            tx.marks.save(mark)
    return tuple(kept)


def _commit_alert(tx: Transaction, alert: Alert, expiries_s: Callable[[Priority], Mapping[str, float]]) -> Alert | None:
    task = tx.tasks.get(alert.task_id)
    now = alert.decided_at
    if task is None:
        return None
    task = judge.due(task, now)
    if task.state is TaskState.COOLING or not task.is_watched(now):
        return None
    fired = judge.fired(task, now)
    alert = replace(alert, id=judge.alert_id(fired), occurrence=fired.fired_count)
    deliveries = judge.deliveries(alert, expiries_s(alert.priority))
    tx.tasks.save(fired if deliveries else judge.given_up(fired))  # no channel at all: nobody will ever tell it
    tx.alerts.add(alert, deliveries)
    return alert


def after_delivery(tx: Transaction, alert: Alert, delivery: Delivery, now: datetime) -> Task | None:
    """Keep a delivery's new state and what it means for the alert and its task; the task if it changed.

    The first channel that told the alert begins the cooldown (or ends a task that was for once). When all deliveries
    ended and nobody was told, the task is given up.
    """
    before = tx.alerts.deliveries(alert.id)
    tx.alerts.save_delivery(delivery)
    if delivery.state not in _FINISHED or not delivery.transition.is_telling:
        return None
    course = tx.alerts.course(alert.id)
    if delivery.state is DeliveryState.SENT and course is not None and course.is_open:
        tx.alerts.save_course(replace(course, last_at=now))
    task = tx.tasks.get(alert.task_id)
    if task is None:
        return None
    was_told = any(other.state is DeliveryState.SENT and other.transition.is_telling for other in before)
    after = task
    if delivery.state is DeliveryState.SENT and not was_told:
        after = judge.told(task, now)
    elif tx.alerts.untold(task.id) == 0:  # of its later alerts neither: each of them may still be told
        after = judge.given_up(task)
    return None if after == task else _save(tx, after)


def no_longer_told(tx: Transaction, delivery: Delivery) -> str | None:
    """Why a delivery that was to tell a person what has happened need not do so any more; None while it must."""
    course = tx.alerts.course(delivery.alert_id)
    is_moot = delivery.transition.is_telling and course is not None and not course.is_open
    return f"it {_ENDED[course.state]}" if is_moot and course is not None else None


def expire_unserved(tx: Transaction, served: Collection[str], now: datetime) -> int:
    """Let go of deliveries that grew too old for channels that nobody serves any more; how many.

    A channel that was switched off has no worker to expire them, and may be switched on again before they do.
    """
    waiting = [
        row for channel in tx.alerts.waited_for() if channel not in served for row in tx.alerts.due(channel, now)
    ]
    old = [(alert, delivery) for alert, delivery in waiting if now >= delivery.expires_at]
    for alert, delivery in old:
        after_delivery(tx, alert, delivery.to(DeliveryState.EXPIRED, detail="the channel is switched off"), now)
    return len(old)


# --- parts ---


def _close_all(
    tx: Transaction, alerts: Iterable[tuple[Alert, Course]], state: AlertState, *, by: str, now: datetime
) -> None:
    for alert, course in alerts:
        _close(tx, alert, course, state, by=by, now=now)


def _close(tx: Transaction, alert: Alert, course: Course, state: AlertState, *, by: str, now: datetime) -> None:
    """A person has decided about an open alert; who did that knows what has happened."""
    task = tx.tasks.get(alert.task_id)
    if task is not None and task.state is TaskState.FIRED and judge.alert_id(task) == alert.id:
        _save(tx, judge.told(task, now))
    _end(tx, alert, course.to(state, at=now, by=by), now)


def _end(tx: Transaction, alert: Alert, course: Course, now: datetime) -> None:
    """Keep how an alert ended: no channel begins to tell it any more, and those that may have told it are told that."""
    tx.alerts.save_course(course)
    telling = [one for one in tx.alerts.deliveries(alert.id) if one.transition.is_telling]
    for delivery in telling:
        if delivery.state is DeliveryState.PENDING:
            ended = delivery.to(DeliveryState.EXPIRED, detail=f"it {_ENDED[course.state]}")
            after_delivery(tx, alert, ended, now)
    tx.alerts.add_deliveries(
        [
            Delivery(
                alert_id=alert.id,
                channel=channel,
                number=course.repeats + 1,
                transition=Transition(course.state.value),
                due_at=now,
                expires_at=now + END_IS_TOLD_FOR,
            )
            for channel in dict.fromkeys(one.channel for one in telling if one.attempts > 0)
        ]
    )


def _get_alert(tx: Transaction, alert_id: str) -> tuple[Alert, Course]:
    alert, course = tx.alerts.get(alert_id), tx.alerts.course(alert_id)
    if alert is None or course is None:
        raise RequestError(f"there is no alert {alert_id!r}; `omni-watch alerts list` shows the last ones")
    return alert, course


def _get(tx: Transaction, task_id: str) -> Task:
    task = tx.tasks.get(task_id)
    if task is None:
        raise RequestError(f"there is no task {task_id!r}; `omni-watch task list --all` shows every task")
    return task


def _save(tx: Transaction, task: Task) -> Task:
    tx.tasks.save(task)
    return task


def _require_sound(task: Task) -> None:
    """RequestError when the task could never be watched or told."""
    if not ID.fullmatch(task.id):
        raise RequestError(f"the task id {task.id!r} must be 1 to 32 of a-z, 0-9, _ and -")
    _require_text("the request", task.text)
    _require_text("the message", task.message)
    if not (isfinite(task.cooldown_s) and task.cooldown_s >= 0):
        raise RequestError(f"a cooldown of {task.cooldown_s} s makes no sense; it must be 0 or more seconds")
    if task.state is not TaskState.ARMED:
        raise RequestError(f"a new task must be armed, not {task.state.value}")
    if task.expires_at is not None and task.expires_at <= task.set_at:
        raise RequestError(f"the task would end at {task.expires_at:%Y-%m-%d %H:%M}, before it begins")
    if task.window is not None:
        _require_window(task.window)


def _require_text(what: str, text: str) -> None:
    if not text.strip():
        raise RequestError(f"{what} has no words; say what to watch for, for example 'tell me when the kettle is full'")
    if len(text) > TEXT_MAX:
        raise RequestError(f"{what} has {len(text)} characters; the most is {TEXT_MAX}")
    unseen = next((letter for letter in text if is_unseen(letter)), None)
    if unseen is not None:
        raise RequestError(f"{what} holds the control character U+{ord(unseen):04X}; use plain text on one line")


def is_unseen(letter: str) -> bool:
    """Whether a character would not show, or would break a line."""
    return unicodedata.category(letter) in _UNSEEN and letter not in _JOINERS


def _require_window(window: WatchWindow) -> None:
    if window.begins == window.ends:
        raise RequestError(
            f"the hours {window.begins:%H:%M} to {window.ends:%H:%M} are empty; leave them out for all day"
        )
    try:
        ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RequestError(f"there is no time zone {window.zone!r}; expected a name like Europe/Berlin") from error


def _asks_the_same(task: Task, other: Task) -> bool:
    overlaps = not task.feeds or not other.feeds or not set(task.feeds).isdisjoint(other.feeds)
    return (
        overlaps
        and task.reminder == other.reminder
        and task.window == other.window
        and _plain(task.text) == _plain(other.text)
    )


def _plain(text: str) -> str:
    """For comparing what people said: without case, width of letters, punctuation and spacing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = (" " if unicodedata.category(letter)[0] in "PZC" else letter for letter in folded)
    return " ".join("".join(letters).split())


def _means(asked: str, task: Task) -> bool:
    if len(asked) >= PREFIX_MIN and task.id.startswith(asked.lower()):
        return True
    words, text = _plain(asked).split(), _plain(task.text)
    return bool(words) and all(word in text for word in words)


def _listed(tasks: Iterable[Task]) -> str:
    return "\n".join(f"  {task.id}  {task.state.value:9}  {task.text}" for task in tasks)
