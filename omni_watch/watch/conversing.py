"""One sentence in, one reply out: the one way in which voice and `omni-watch say` change anything.

What a sentence asks for is `phrases`' business, how tasks change that of `requests`; here is what lies between: which
task is meant, the one question when it is not clear, and an answer that tells the truth about what will happen. Every
call works inside one transaction that its caller opened; time is an argument, and what a conversation remembers is a
value (`Talk`) that the caller keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from omni_watch.domain.alerts import Alert
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import RequestError
from omni_watch.domain.rhythms import Reminder
from omni_watch.domain.rules import Language, Repeat
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.watch import being_quiet, requests
from omni_watch.watch.asking import (
    Acknowledge,
    Add,
    Answer,
    BeQuiet,
    Cancel,
    Change,
    Happened,
    Limits,
    List,
    Nothing,
    Pause,
    Remind,
    Request,
    Resume,
    SayAgain,
    Snooze,
    Talk,
    Understood,
    Which,
)
from omni_watch.watch.briefing import Plan
from omni_watch.watch.meant import meant
from omni_watch.watch.phrases import Hearing, understand
from omni_watch.watch.ports import Transaction
from omni_watch.watch.replies import Replies, bare, joined
from omni_watch.watch.speech import Speechbook
from omni_watch.watch.tongues import Tongue
from omni_watch.watch.wording import Wording, as_sentence, read, turned

ANSWER_WITHIN: Final = timedelta(seconds=10)  # after which our question is forgotten
FOCUS_LASTS: Final = timedelta(minutes=2)  # "make it every time" means what was just added or changed
TELL_AGAIN_WITHIN: Final = timedelta(minutes=15)  # "remind me again" means an alert that was told no longer ago
SNOOZE: Final = timedelta(minutes=10)  # when a person does not say how long
LOOK_BACK: Final = timedelta(hours=12)  # "did anything happen"
MOST_OPTIONS: Final = 4  # in one question; more cannot be listened to
MOST_ALERTS: Final = 5  # in one answer

_COMMAND: Final = re.compile(r"\s*[(（]omni-watch[^)）]*[)）]")  # said to people who type, not to those who listen

_ABOUT_TASKS = Cancel | Pause | Resume | Snooze | Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What we asked, and until when we wait for the answer."""

    sentence: str  # what the person had said
    request: _ABOUT_TASKS
    options: tuple[str, ...]  # ids of the tasks that may be meant, in the order in which we named them
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Talking:
    """What a conversation remembers. One for each place where people speak; start with an empty one."""

    question: Question | None = None
    said: str = ""  # our last reply
    said_at: datetime | None = None
    focus: str | None = None  # id of the task that was last spoken of
    focus_at: datetime | None = None

    def asks(self, now: datetime) -> Question | None:
        """Our question, while it waits for an answer."""
        return self.question if self.question is not None and now <= self.question.until else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What we answer, and what was done."""

    text: str  # empty: say nothing
    language: Language
    deed: str  # what was understood: "add", "cancel", ..., "nothing"
    task_ids: tuple[str, ...] = ()  # the tasks that were added or changed, or that the question is about
    is_question: bool = False
    is_done: bool = False  # something was changed, or answered
    understood: Understood
    talking: Talking  # to be kept for the next sentence


@dataclass(frozen=True, kw_only=True)
class Household:
    """What a conversation needs to know of the house."""

    book: Speechbook
    zone: str  # IANA name
    feeds: tuple[str, ...]
    make: Callable[[Wording, Limits, datetime], Task]  # a new, armed task
    plan: Callable[[Transaction, Task], Plan]  # how it would be watched
    names: tuple[str, ...] = ()  # that we are called by
    is_name_needed: bool = False
    set_by: str = "voice"
    quiet_hours: WatchWindow | None = None  # in which only what is urgent is said aloud
    new_id: Callable[[], str] = requests.new_task_id  # of a task


def converse(tx: Transaction, sentence: str, house: Household, talking: Talking, now: datetime) -> Reply:
    """Understand a sentence and do what it asks. RequestErrors become replies; StoreErrors pass."""
    return carry_out(tx, hear(tx, sentence, house, talking, now), sentence, house, talking, now)


def hear(tx: Transaction, sentence: str, house: Household, talking: Talking, now: datetime) -> Understood:
    """What the sentence asks for, in this house at this moment."""
    hearing = Hearing(
        now=now,
        zone=house.zone,
        feeds=house.feeds,
        names=house.names,
        is_name_needed=house.is_name_needed,
        tasks=tuple(tx.tasks.live()),
        is_asked=talking.asks(now) is not None,
        spoken_at=talking.said_at,
        told_at=requests.last_told_at(tx),
    )
    return understand(sentence, house.book, hearing)


def carry_out(
    tx: Transaction, understood: Understood, sentence: str, house: Household, talking: Talking, now: datetime
) -> Reply:
    """Do what was understood, and say so."""
    return _Turn(tx, understood, sentence, house, talking, now).reply()


def confirmed(tx: Transaction, task: Task, house: Household, now: datetime) -> str:
    """What we answer to somebody who has just added this task, by whatever way."""
    nothing = Understood(request=Nothing(), language=task.language)
    return _Turn(tx, nothing, task.text, house, Talking(), now).confirmation(task)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one request came to."""

    text: str
    tasks: tuple[Task, ...] = ()
    question: Question | None = None
    is_done: bool = True
    deed: str | None = None  # when it is not what the sentence itself asked for, but what our question was about


class _Turn:
    """One sentence being answered; lives for one call."""

    def __init__(
        self,
        tx: Transaction,
        understood: Understood,
        sentence: str,
        house: Household,
        talking: Talking,
        now: datetime,
    ) -> None:
        self._tx = tx
        self._understood = understood
        self._sentence = sentence
        self._house = house
        self._talking = talking
        self._now = now
        self._replies = Replies(house.book.speech(understood.language), now=now, zone=house.zone)

    def reply(self) -> Reply:
        try:
            outcome = self._outcome(self._understood.request)
        except RequestError as error:
            outcome = _Outcome(self._replies.say("failed", why=str(error)), is_done=False)
        return self._as_reply(outcome)

    def confirmation(self, task: Task) -> str:
        return joined(self._replies.say("okay"), self._described(task), *self._means(task))

    def _as_reply(self, outcome: _Outcome) -> Reply:
        request, now, before = self._understood.request, self._now, self._talking
        talking = before
        if not isinstance(request, Nothing):
            only = outcome.tasks[0].id if len(outcome.tasks) == 1 and outcome.question is None else None
            talking = Talking(
                question=outcome.question,
                said=outcome.text,
                said_at=now,
                focus=only or before.focus,
                focus_at=now if only else before.focus_at,
            )
        return Reply(
            text=outcome.text,
            language=self._understood.language,
            deed=outcome.deed or _deed(request),
            task_ids=tuple(task.id for task in outcome.tasks),
            is_question=outcome.question is not None,
            is_done=outcome.is_done,
            understood=self._understood,
            talking=talking,
        )

    def _outcome(self, request: Request) -> _Outcome:
        match request:
            case Nothing():
                return _Outcome("", is_done=False)
            case Add():
                return self._add(request)
            case Remind():
                return self._remind(request)
            case Cancel() | Pause() | Resume() | Change():
                return self._for_tasks(request)
            case Snooze():
                return self._snooze(request)
            case Answer():
                return self._answer(request)
            case Acknowledge():
                return self._acknowledge()
            case List():
                return self._list()
            case Happened():
                return self._happened(request)
            case SayAgain():
                return self._again()
            case BeQuiet():
                return self._quiet(request)
            case Talk():
                return self._talk()
            case _:
                assert_never(request)

    # --- adding ---

    def _add(self, request: Add) -> _Outcome:
        wording = Wording(
            text=request.text,
            language=self._understood.language,
            condition=request.condition,
            message=request.message,
            repeat=request.limits.repeat,
        )
        task = replace(self._house.make(wording, request.limits, self._now), set_by=self._house.set_by)
        if (same := self._same(task)) is not None:
            return self._again_wanted(same, task, request)
        if len(self._tx.tasks.live()) >= requests.LIVE_MAX:
            return _Outcome(self._replies.say("too_many", count=requests.LIVE_MAX), is_done=False)
        added = requests.add_task(self._tx, task=task)
        okay = self._replies.say("okay")
        text = joined(okay, self._describe_added(request, added), *self._means(added))
        return _Outcome(text, (added,))

    def _same(self, task: Task) -> Task | None:
        """A live task that waits for the same on the same feeds."""
        for other in self._tx.tasks.live():
            is_alike = task.rule == other.rule if task.rule else _label(task, self._house) == _label(other, self._house)
            overlaps = not task.feeds or not other.feeds or not set(task.feeds).isdisjoint(other.feeds)
            if is_alike and overlaps and other.reminder is None and task.window == other.window:
                return other
        return None

    def _again_wanted(self, same: Task, task: Task, request: Add) -> _Outcome:
        """It is watched for already: said again with other words to say, or more often, it is changed."""
        changed = replace(same, repeat=task.repeat if request.limits.repeat else same.repeat)
        if request.message:
            changed = replace(changed, message=task.message)
        if request.limits.until is not None:
            changed = replace(changed, expires_at=task.expires_at)
        if changed == same:
            return _Outcome(self._replies.say("already", task=_label(same, self._house)), (same,))
        requests.change(self._tx, changed)
        return self._changed(changed)

    def _describe_added(self, request: Add, task: Task) -> str:
        tongue = self._house.book.book.tongue(self._understood.language)
        condition = turned(request.condition, tongue)
        each = "_each" if task.repeat is Repeat.EACH else ""
        limits = self._limits(task)
        if request.message is not None:
            return self._replies.say(
                f"add_saying{each}", condition=condition, limits=limits, message=self._inside(request.message)
            )
        name = "add_thing" if request.is_thing and not each else f"add{each}"
        return self._replies.say(name, condition=condition, limits=limits)

    def _inside(self, message: str) -> str:
        """A message at the end of a sentence that may end itself, as in Chinese."""
        return (
            message
            if self._replies.say("add_saying", condition="", limits="", message=message).endswith(message)
            else bare(message)
        )

    def _limits(self, task: Task) -> str:
        say, parts = self._replies.say, []
        if task.feeds:
            named = [feed.replace("-", " ").replace("_", " ") for feed in task.feeds]
            parts.append(say("limit_feeds", feeds=self._replies.listed(named)))
        if task.window is not None:
            clock = self._replies.clock
            parts.append(say("limit_hours", begins=clock(task.window.begins), ends=clock(task.window.ends)))
        if task.expires_at is not None:
            parts.append(say("limit_until", when=self._replies.when(task.expires_at, is_after=True)))
        return "".join(parts)

    def _means(self, task: Task) -> list[str]:
        """How it will be watched; what is missing when it cannot be."""
        plan = self._house.plan(self._tx, task)
        if plan.is_blind:
            ask = _COMMAND.sub("", plan.ask).strip()
            return [self._replies.say("blind", ask=ask) if ask else self._replies.say("blind_unasked")]
        names = [_BY_MEANS[means] for means in plan.means if means in _BY_MEANS]
        return [self._replies.say(name) for name in names[:1]]

    def _remind(self, request: Remind) -> _Outcome:
        tongue = self._house.book.book.tongue(self._understood.language)
        message = request.message or as_sentence(self._replies.say("time_is_up"), tongue)
        task = Task(
            id=self._house.new_id(),
            text=request.text,
            language=self._understood.language,
            message=message,
            set_by=self._house.set_by,
            set_at=self._now,
            repeat=Repeat.ONCE if request.rhythm is None else Repeat.EACH,
            cooldown_s=0.0,
            reminder=Reminder(at=request.at, rhythm=request.rhythm),
        )
        added = requests.add_task(self._tx, task=task)
        when = self._when(added)
        if request.message is None:
            return _Outcome(self._replies.say("remind_bare", when=when), (added,))
        return _Outcome(self._replies.say("remind", when=when, message=message), (added,))

    def _when(self, task: Task) -> str:
        assert task.reminder is not None  # noqa: S101 - callers know
        rhythm = task.reminder.rhythm
        return self._replies.rhythm(rhythm) if rhythm is not None else self._replies.when(task.reminder.at)

    # --- which task is meant ---

    def _for_tasks(self, request: _ABOUT_TASKS) -> _Outcome:
        candidates = self._candidates(request)
        if not candidates:
            words = request.which.words
            return _Outcome(
                self._replies.say("unknown", words=words) if words else self._replies.say("none"), is_done=False
            )
        if len(candidates) == 1 or request.which.is_all:
            return self._do(request, candidates)
        return self._ask(request, candidates)

    def _candidates(self, request: _ABOUT_TASKS) -> list[Task]:
        live = [task for task in self._tx.tasks.live() if _can_be_meant(request, task)]
        if request.which.is_all:
            return live
        if request.which.words:
            return meant(request.which.words, live, self._house.book)
        focus = self._focus() if isinstance(request, Change) else None
        return [focus] if focus is not None else live

    def _focus(self) -> Task | None:
        """What was last spoken of, or told; only for requests that do no harm when it was not meant."""
        talking, now = self._talking, self._now
        if talking.focus is None or talking.focus_at is None or now - talking.focus_at > FOCUS_LASTS:
            return None
        task = self._tx.tasks.get(talking.focus)
        return None if task is None or task.state is TaskState.CANCELLED else task  # what was cancelled stays so

    def _ask(self, request: _ABOUT_TASKS, candidates: Sequence[Task]) -> _Outcome:
        options = tuple(candidates[:MOST_OPTIONS])
        named = self._replies.listed([_label(task, self._house) for task in options], last="or")
        question = Question(
            sentence=self._sentence,
            request=request,
            options=tuple(task.id for task in candidates),
            until=self._now + ANSWER_WITHIN,
        )
        return _Outcome(self._replies.say("which", options=named), options, question, is_done=False)

    def _answer(self, answer: Answer) -> _Outcome:
        question = self._talking.asks(self._now)
        if question is None:
            return _Outcome("", is_done=False)
        found = (self._tx.tasks.get(task_id) for task_id in question.options)
        options = [task for task in found if task is not None]
        if answer.is_dropped or answer.is_yes is not None:
            return _Outcome(self._replies.say("dropped"), is_done=False)
        chosen = self._chosen(answer, options)
        if not chosen:
            return _Outcome(self._replies.say("not_one_of_them"), is_done=False)
        return replace(self._do(question.request, chosen), deed=_deed(question.request))

    def _chosen(self, answer: Answer, options: Sequence[Task]) -> list[Task]:
        if answer.is_all:
            return list(options)
        if answer.number is not None:
            at = answer.number - 1 if answer.number > 0 else answer.number
            return [options[at]] if -len(options) <= at < len(options) else []
        return meant(answer.words or "", options, self._house.book)

    # --- doing it ---

    def _do(self, request: _ABOUT_TASKS, tasks: Sequence[Task]) -> _Outcome:
        match request:
            case Cancel(which=which):
                return self._cancel(which, tasks)
            case Pause(until=until) if until is not None:
                return self._put_off(tasks, until, "paused_until")
            case Pause():
                by, now = self._house.set_by, self._now
                return self._told("paused", [requests.pause(self._tx, task.id, by=by, now=now) for task in tasks])
            case Resume():
                return self._told("resumed", [requests.resume(self._tx, task.id) for task in tasks])
            case Snooze(until=until):
                return self._put_off(tasks, until or self._now + SNOOZE, "snoozed")
            case Change():
                return self._change(request, tasks)
            case _:
                assert_never(request)

    def _told(self, name: str, tasks: Sequence[Task], **values: str) -> _Outcome:
        labels = self._replies.listed([_label(task, self._house) for task in tasks])
        return _Outcome(self._replies.say(name, tasks=labels, **values), tuple(tasks))

    def _cancel(self, which: Which, tasks: Sequence[Task]) -> _Outcome:
        ended = [self._cancelled(task) for task in tasks]
        if which.is_all:
            return _Outcome(self._replies.say("cancelled_all"), tuple(ended))
        are_reminders = all(task.reminder is not None for task in ended)
        return self._told("cancelled_reminder" if are_reminders else "cancelled", ended)

    def _cancelled(self, task: Task) -> Task:
        return requests.cancel(self._tx, task.id, by=self._house.set_by, now=self._now)

    def _put_off(self, tasks: Sequence[Task], until: datetime, name: str) -> _Outcome:
        by, now = self._house.set_by, self._now
        put_off = [requests.snooze(self._tx, task.id, until=until, by=by, now=now) for task in tasks]
        return self._told(name, put_off, when=self._replies.when(until, is_after=name == "paused_until"))

    def _snooze(self, request: Snooze) -> _Outcome:
        """With nothing named, what was told last is told again later; else the task is not watched for a while."""
        alert = None if request.which.words or request.which.is_all else self._last_told()
        if alert is None:
            return self._for_tasks(request)
        until = request.until or self._now + SNOOZE
        again = requests.snooze_alert(self._tx, alert.id, until=until, by=self._house.set_by, now=self._now)
        return _Outcome(self._replies.say("tell_again", when=self._replies.when(until)), (again,))

    # --- changing ---

    def _change(self, request: Change, tasks: Sequence[Task]) -> _Outcome:
        changed: list[Task] = []
        for task in tasks:
            after = self._with_words(request, task) if request.new is not None else self._with_limits(request, task)
            if after is None:
                return _Outcome(self._replies.say("cannot_change"), is_done=False)
            changed.append(after)
        return self._changed(*changed)

    def _changed(self, *tasks: Task) -> _Outcome:
        said = [self._described(task) for task in tasks]
        means = self._means(tasks[0]) if len(tasks) == 1 and tasks[0].reminder is None else []
        return _Outcome(joined(self._replies.say("changed"), *said, *means), tasks)

    def _described(self, task: Task) -> str:
        wording = read(task.text, self._house.book.book.tongues)
        add = Add(text=task.text, condition=wording.condition, message=_own_message(task, self._house))
        return self._describe_added(add, task)

    def _with_limits(self, request: Change, task: Task) -> Task | None:
        """The task with what was said of it; one that has ended is set anew."""
        limits = request.limits
        after = replace(
            task,
            repeat=limits.repeat or task.repeat,
            feeds=limits.feeds or task.feeds,
            window=limits.window or task.window,
            expires_at=limits.until or task.expires_at,
            message=request.message or task.message,
        )
        if task.is_live:
            return requests.change(self._tx, after)
        return requests.add_task(self._tx, task=_anew(after, self._now))

    def _with_words(self, request: Change, task: Task) -> Task | None:
        """Another condition is another task: what was seen and shown of the old one says nothing about it."""
        if task.reminder is not None or request.new is None:
            return None
        wording = read(task.text, self._house.book.book.tongues)
        tongue = self._house.book.book.tongue(task.language)
        message = request.message or _own_message(task, self._house)
        if request.old is None:
            condition: str | None = request.new
        else:
            condition = _exchanged(wording.condition, request.old, request.new, tongue)
            message = message and (_exchanged(message, request.old, request.new, tongue) or message)
        if condition is None:
            return None
        text = task.text.replace(wording.condition, condition) if wording.condition in task.text else condition
        limits = Limits(
            repeat=request.limits.repeat or task.repeat,
            feeds=request.limits.feeds or task.feeds,
            window=request.limits.window or task.window,
            until=request.limits.until or task.expires_at,
        )
        again = replace(wording, text=text, condition=condition, message=message, language=task.language)
        if task.is_live:
            self._cancelled(task)
        made = replace(self._house.make(again, limits, self._now), set_by=self._house.set_by, priority=task.priority)
        return requests.add_task(self._tx, task=made)

    # --- what was told ---

    def _last_told(self) -> Alert | None:
        """The alert that is meant by one who wants to hear it again later; None when the last one is long past."""
        told_at = requests.last_told_at(self._tx)
        if told_at is None or self._now - told_at > TELL_AGAIN_WITHIN:
            return None
        return requests.last_open(self._tx) or self._tx.alerts.recent(1)[0]

    def _acknowledge(self) -> _Outcome:
        meant = requests.last_open(self._tx) or next(iter(self._tx.alerts.recent(1)), None)
        if meant is None:
            return _Outcome(self._replies.say("nothing_to_acknowledge"), is_done=False)
        try:
            requests.acknowledge(self._tx, meant.id, by=self._house.set_by, now=self._now)
        except RequestError:
            return _Outcome(self._replies.say("alert_over", alert=meant.text), is_done=False)
        task = self._tx.tasks.get(meant.task_id)
        said = self._replies.say("acknowledged", alert=meant.text)
        return _Outcome(said, (task,) if task is not None else ())

    def _list(self) -> _Outcome:
        live = self._tx.tasks.live()
        watched = [self._as_listed(task) for task in live if task.reminder is None]
        reminders = [
            self._replies.say("reminder_label", when=self._when(task), task=bare(task.message))
            for task in live
            if task.reminder is not None
        ]
        if not live:
            return _Outcome(self._replies.say("watching_nothing"))
        named = (("watching", watched), ("reminders", reminders))
        said = (self._replies.say(name, tasks=self._replies.listed(labels)) for name, labels in named if labels)
        return _Outcome(joined(*said), tuple(live))

    def _as_listed(self, task: Task) -> str:
        label = _label(task, self._house)
        return self._replies.say("paused_label", task=label) if task.state is TaskState.PAUSED else label

    def _happened(self, request: Happened) -> _Outcome:
        since = request.since or self._now - LOOK_BACK
        alerts = [alert for alert in self._tx.alerts.recent(200) if alert.decided_at >= since]
        if request.about.words:
            ids = {task.id for task in meant(request.about.words, self._tx.tasks.all(), self._house.book)}
            alerts = [alert for alert in alerts if alert.task_id in ids]
        if not alerts:
            name = "no_alert_of" if request.about.words else "nothing_happened"
            return _Outcome(self._replies.say(name, when=self._replies.when(since, is_after=True)))
        return _Outcome(self._replies.say("happened", alerts=self._list_of(alerts[:MOST_ALERTS][::-1])))

    def _list_of(self, alerts: Sequence[Alert]) -> str:
        """A sentence for each."""
        tongue = self._house.book.book.tongue(self._understood.language)
        said = (
            self._replies.say("happened_one", when=self._replies.when(alert.decided_at), text=alert.text)
            for alert in alerts
        )
        return joined(*(as_sentence(each, tongue) for each in said))

    def _again(self) -> _Outcome:
        recent = self._tx.alerts.recent(1)
        said, said_at = self._talking.said, self._talking.said_at
        if recent and (said_at is None or not said or recent[0].decided_at >= said_at):
            return _Outcome(recent[0].text)
        return _Outcome(said) if said else _Outcome(self._replies.say("said_nothing"), is_done=False)

    def _talk(self) -> _Outcome:
        """Whoever lets us speak again is told what we kept to ourselves."""
        missed = being_quiet.kept_quiet(self._tx, self._now)[-MOST_ALERTS:]
        being_quiet.speak_again(self._tx)
        hours = self._house.quiet_hours
        if hours is None or not hours.contains(self._now):
            reply = self._replies.say("talking")
        else:
            ends = self._replies.when(hours.next_edge(self._now), is_after=True)
            reply = self._replies.say("talking_later", when=ends)
        return _Outcome(joined(reply, self._replies.say("missed", alerts=self._list_of(missed))) if missed else reply)

    def _quiet(self, request: BeQuiet) -> _Outcome:
        if request.until is None:
            return _Outcome(self._replies.say("quiet_now"))
        being_quiet.be_quiet(self._tx, request.until, self._now)
        return _Outcome(self._replies.say("quiet", when=self._replies.when(request.until, is_after=True)))


_BY_MEANS: Final[Mapping[Means, str]] = {
    Means.SOUND: "by_sound",
    Means.BEEPS: "by_beeps",
    Means.DISPLAY: "by_display",
    Means.TAUGHT: "by_taught",
    Means.LEVEL: "by_level",
    Means.MODEL: "by_model",
}


def _can_be_meant(request: _ABOUT_TASKS, task: Task) -> bool:
    """Whether the request makes sense for this task: what is not paused cannot be resumed."""
    match request:
        case Resume():
            return task.state is TaskState.PAUSED or task.snoozed_until is not None
        case Pause():
            return task.state is not TaskState.PAUSED
        case Change(new=new):
            return new is None or task.reminder is None
        case _:
            return True


def _label(task: Task, house: Household) -> str:
    """How we call a task: what it waits for, in the person's words said back; what a reminder says."""
    tongue = house.book.book.tongue(task.language)
    if task.reminder is not None:
        return bare(task.message)
    condition = turned(read(task.text, house.book.book.tongues).condition, tongue)
    return bare(condition)


def _own_message(task: Task, house: Household) -> str | None:
    """What is said then, when a person chose the words; None when the rule or the condition gave them."""
    tongue = house.book.book.tongue(task.language)
    usual = {as_sentence(_label(task, house), tongue)}
    rule = next((rule for rule in house.book.book.rules if rule.id == task.rule), None)
    if rule is not None:
        usual |= set(rule.message.values())
    return None if task.message in usual else task.message


def _exchanged(text: str, old: str, new: str, tongue: Tongue) -> str | None:
    """The text with one thing for another, None when it is not in it. "A cup" is found in "the cup is full"."""
    for before, after in ((old, new), (_core(old, tongue), _core(new, tongue))):
        at = text.lower().find(before.lower())
        if before and at >= 0:
            return text[:at] + after + text[at + len(before) :]
    return None


def _core(words: str, tongue: Tongue) -> str:
    """Without the words that carry no meaning, where words stand apart."""
    kept = [word for word in words.split() if word.lower() not in tongue.fillers] if tongue.is_spaced else [words]
    return " ".join(kept)


def _deed(request: Request) -> str:
    return type(request).__name__.lower()


def _anew(task: Task, now: datetime) -> Task:
    """A task that has ended, to be set again."""
    return replace(
        task,
        id=requests.new_task_id(),
        set_at=now,
        state=TaskState.ARMED,
        fired_count=0,
        last_fired_at=None,
        last_told_at=None,
        snoozed_until=None,
        expires_at=task.expires_at if task.expires_at is None or task.expires_at > now else None,
    )


# --- between two runs of the command line ---


def note_of(talking: Talking) -> Mapping[str, Any]:
    """A conversation as plain JSON values."""
    question = talking.question
    return {
        "said": talking.said,
        "said_at": talking.said_at and talking.said_at.isoformat(),
        "focus": talking.focus,
        "focus_at": talking.focus_at and talking.focus_at.isoformat(),
        "question": question
        and {
            "sentence": question.sentence,
            "options": list(question.options),
            "until": question.until.isoformat(),
        },
    }


def talking_of(note: Mapping[str, Any] | None, tx: Transaction, house: Household, now: datetime) -> Talking:
    """The conversation of such a note; the sentence that we asked about is understood again."""
    if note is None:
        return Talking()
    talking = Talking(
        said=note["said"], said_at=_moment(note["said_at"]), focus=note["focus"], focus_at=_moment(note["focus_at"])
    )
    asked = note["question"]
    until = _moment(asked["until"]) if asked else None
    if asked is None or until is None or now > until:
        return talking
    request = hear(tx, asked["sentence"], house, talking, now).request
    if not isinstance(request, _ABOUT_TASKS):
        return talking
    options = tuple(asked["options"])
    return replace(
        talking, question=Question(sentence=asked["sentence"], request=request, options=options, until=until)
    )


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)
