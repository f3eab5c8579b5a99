"""What is asked over MQTT, done: the same functions that the command line and a voice use, inside one transaction.

A request that changes something and has an id is done once: its answer is kept for ten minutes together with the
change, so also a crash between the two, a second delivery or a restart do not repeat it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from omni_watch import __version__
from omni_watch.alerts.messages import rfc3339, task_object
from omni_watch.domain.alerts import Alert
from omni_watch.domain.errors import RequestError
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import Task
from omni_watch.domain.wishes import Wish
from omni_watch.home_assistant.asked import FORMS, Args, Asked, Refused
from omni_watch.home_assistant.devices import SNOOZE_MIN
from omni_watch.watch import modes, requests
from omni_watch.watch.asking import BeQuiet, Happened, List, Nothing, SayAgain
from omni_watch.watch.conversing import Household, Talking, carry_out, confirmed, hear, note_of, talking_of
from omni_watch.watch.meant import meant
from omni_watch.watch.ports import Transaction
from omni_watch.watch.replies import Replies

BY: Final = "mqtt"  # who takes note, in the record
KIND: Final = "mqtt"  # of the wishes that keep answers
TALKING: Final = "talking-mqtt"  # the note that keeps the conversation
REMEMBERED: Final = timedelta(minutes=10)
ALERTS_MAX: Final = 20  # in one answer
CANDIDATES_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What is needed to do what is asked."""

    household: Household
    new_task: Callable[[Args, datetime], Task]  # RequestError: the words say nothing to watch for


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a request."""

    result: Mapping[str, Any]  # plain JSON values, with a `message` for people
    is_change: bool = False
    is_hush: bool = False  # what is being said shall end


def do(tx: Transaction, asked: Asked, house: House, now: datetime) -> Done:
    """Do it, once.

    Raises:
        Refused: it is not done; nothing was changed. The transaction must then be rolled back.
    """
    is_kept = asked.id is not None and FORMS[asked.op].is_change
    earlier = earlier_answer(tx, asked, now) if is_kept else None
    if earlier is not None:
        return Done(result=earlier)
    requests.settle(tx, now)
    try:
        done = _DOERS[asked.op](tx, asked.args, house, now)
    except Refused:
        raise
    except RequestError as error:
        raise Refused("conflict", str(error)) from error
    if is_kept:
        keep_answer(tx, asked, {"result": done.result}, now)
    return replace(done, is_change=FORMS[asked.op].is_change)


def earlier_answer(tx: Transaction, asked: Asked, now: datetime) -> Mapping[str, Any] | None:
    """The result that this request had before.

    Raises:
        Refused: as it was then; or the id was used for another request.
    """
    wish = tx.wishes.get(_wish_id(asked))
    if wish is None or wish.kind != KIND or wish.answer is None or now - wish.made_at > REMEMBERED:
        return None
    if wish.payload.get("digest") != _digest(asked):
        raise Refused("conflict", "this id was used for another request; give each its own", "id")
    if (error := wish.answer.get("error")) is not None:
        raise Refused(error["code"], error["message"], error.get("field"), error.get("details"))
    result: Mapping[str, Any] = wish.answer["result"]
    return result


def keep_answer(tx: Transaction, asked: Asked, answer: Mapping[str, Any], now: datetime) -> None:
    """Remember it for ten minutes; older ones are forgotten on the way, so there are never more than ten minutes'."""
    tx.wishes.forget_before(now - REMEMBERED)
    if tx.wishes.get(_wish_id(asked)) is not None:  # kept when the clock was later than it is now
        return
    payload = {"op": asked.op, "digest": _digest(asked)}
    wish = Wish(id=_wish_id(asked), kind=KIND, payload=payload, made_at=now, answered_at=now, answer=answer)
    tx.wishes.leave(wish)


def as_error(refusal: Refused) -> dict[str, Any]:
    """The refusal as plain JSON values."""
    error: dict[str, Any] = {"code": refusal.code, "message": str(refusal)}
    if refusal.field is not None:
        error["field"] = refusal.field
    if refusal.details:
        error["details"] = dict(refusal.details)
    return error


# --- tasks ---


def _add(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    _require_feeds(args, house)
    task = requests.add_task(tx, task=house.new_task(args, now))
    return Done(result={"task": as_shown(task), "message": confirmed(tx, task, house.household, now)})


def _edit(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    _require_feeds(args, house)
    task = _task(tx, args, house)
    changed = replace(
        task,
        message=args.message if args.message is not None else task.message,
        feeds=args.feeds if args.feeds is not None else task.feeds,
        repeat=_repeat(args) or task.repeat,
        cooldown_s=float(args.cooldown_s) if args.cooldown_s is not None else task.cooldown_s,
        expires_at=now + timedelta(seconds=args.expires_in_s) if args.expires_in_s is not None else task.expires_at,
        priority=args.priority or task.priority,
    )
    return _about(requests.change(tx, changed), f"changed: {task.text}")


def _cancel(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    task = requests.cancel(tx, _task(tx, args, house).id, by=BY, now=now)
    return _about(task, f"no longer watched: {task.text}")


def _enable(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    task = requests.resume(tx, _task(tx, args, house).id)
    return _about(task, f"watched: {task.text}")


def _disable(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    task = requests.pause(tx, _task(tx, args, house).id, by=BY, now=now)
    return _about(task, f"{'paused' if task.is_live else 'noted, and done'}: {task.text}")


def _list(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    live = tx.tasks.live()
    return Done(result={"tasks": [as_shown(task) for task in live], "message": f"{len(live)} tasks"})


def _get(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    task = _task(tx, args, house)
    return _about(task, f"{task.state.value}: {task.text}")


# --- alerts ---


def _acknowledge(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    alert = requests.acknowledge(tx, _alert(tx, args).id, by=BY, now=now)
    return Done(result={"alert_id": alert.id, "task_id": alert.task_id, "message": f"noted: {alert.text}"})


def _snooze(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    """An alert is told again later; a task of which none is open is not watched for a while."""
    minutes = args.minutes or SNOOZE_MIN
    until = now + timedelta(minutes=minutes)
    if args.task_id is not None and args.alert_id is None and not tx.alerts.open_ones(args.task_id):
        task = requests.snooze(tx, _known(tx, args.task_id).id, until=until, by=BY, now=now)
        return _about(task, f"not before {minutes} minutes: {task.text}")
    alert = _alert(tx, args)
    again = requests.snooze_alert(tx, alert.id, until=until, by=BY, now=now)
    told = {"alert_id": alert.id, "task_id": alert.task_id, "again_task_id": again.id}
    return Done(result={**told, "message": f"told again in {minutes} minutes: {alert.text}"})


def _alerts(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    recent = tx.alerts.recent(ALERTS_MAX, args.task_id)
    return Done(result={"alerts": [_alert_as_shown(alert) for alert in recent], "message": f"{len(recent)} alerts"})


def _alert(tx: Transaction, args: Args) -> Alert:
    """The alert that is meant: the named one; else the task's, or of all, that one would mean by voice."""
    if args.alert_id is not None:
        alert = tx.alerts.get(args.alert_id)
    else:
        is_open = requests.last_open(tx) if args.task_id is None else None
        alert = is_open or next(iter(tx.alerts.recent(1, args.task_id)), None)
    if alert is None or args.task_id not in (None, alert.task_id):
        raise Refused("not_found", "there is no such alert", "args")
    return alert


# --- sentences ---


def _say(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    """As if it had been spoken to the house; the conversation goes on with the next sentence."""
    household = house.household
    sentence = args.text or ""
    talking = talking_of(tx.notes.get(TALKING), tx, household, now)
    understood = hear(tx, sentence, household, talking, now)
    if isinstance(understood.request, Nothing):
        raise Refused("bad_request", _not_understood(house, understood.language, now), "args.text")
    reply = carry_out(tx, understood, sentence, household, talking, now)
    if not (reply.is_done or reply.is_question):
        raise Refused("conflict", reply.text)
    tx.notes.keep(TALKING, note_of(reply.talking))
    result = {
        "message": reply.text,
        "lang": reply.language,
        "deed": reply.deed,
        "task_ids": list(reply.task_ids),
        "is_question": reply.is_question,
    }
    return Done(result=result, is_hush=isinstance(understood.request, BeQuiet))


def _ask(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    """A question: what is watched for, what has happened. Changes nothing."""
    sentence = args.text or ""
    understood = hear(tx, sentence, house.household, Talking(), now)
    if not isinstance(understood.request, List | Happened | SayAgain):
        raise Refused("bad_request", "ask only answers questions; to change something, say it", "args.text")
    reply = carry_out(tx, understood, sentence, house.household, Talking(), now)
    return Done(result={"message": reply.text, "lang": reply.language, "task_ids": list(reply.task_ids)})


def _not_understood(house: House, language: str, now: datetime) -> str:
    book = house.household.book
    return Replies(book.speech(language), now=now, zone=house.household.zone).say("not_understood")


# --- the house ---


def _mute(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    chosen = modes.set_mute(tx, is_muted=args.on is True)
    message = "muted: nothing is said aloud" if chosen.is_muted else "not muted"
    return Done(result={"mute": chosen.is_muted, "message": message}, is_hush=chosen.is_muted)


def _mode(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    chosen = modes.set_mode(tx, args.mode or modes.Mode.NORMAL)
    result = {"mode": chosen.mode.value, "message": f"mode {chosen.mode.value}"}
    return Done(result=result, is_hush=chosen.is_silent)


def _listen(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    feed, is_on = args.feed or "", args.on is True
    if feed not in house.household.feeds:
        known = ", ".join(house.household.feeds) or "none"
        raise Refused("not_found", f"there is no feed {feed}; there are {known}", "args.feed")
    modes.set_listening(tx, feed, is_listening=is_on)
    watching = [task for task in tx.tasks.live() if task.watches(feed)]
    blind = [task for task in watching if house.household.plan(tx, task).is_blind]
    message = f"{feed} is listened to" if is_on else f"{feed} is not listened to"
    if blind:
        message += f"; not watched now: {', '.join(task.text for task in blind)}"
    return Done(result={"feed": feed, "listen": is_on, "cannot_watch": [one.id for one in blind], "message": message})


def _ping(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    return Done(result={"version": __version__, "now": rfc3339(now), "message": "here"})


def _elsewhere(tx: Transaction, args: Args, house: House, now: datetime) -> Done:
    raise Refused("unavailable", "this is not done here")


_Doer = Callable[[Transaction, Args, House, datetime], Done]
_DOERS: Final[Mapping[str, _Doer]] = {
    "task.add": _add,
    "task.edit": _edit,
    "task.cancel": _cancel,
    "task.enable": _enable,
    "task.disable": _disable,
    "task.list": _list,
    "task.get": _get,
    "alert.ack": _acknowledge,
    "alert.snooze": _snooze,
    "alert.list": _alerts,
    "say": _say,
    "ask": _ask,
    "mute": _mute,
    "mode": _mode,
    "listen": _listen,
    "snapshot": _elsewhere,  # by whoever has the pictures
    "show": _elsewhere,  # by discovery
    "ping": _ping,
}


# --- parts ---


def _task(tx: Transaction, args: Args, house: House) -> Task:
    """The one task that is meant; never a guess."""
    if args.task_id is not None:
        return _known(tx, args.task_id)
    words = args.match or ""
    found: Sequence[Task] = requests.candidates(tx, words) or meant(words, tx.tasks.live(), house.household.book)
    if not found:
        raise Refused("not_found", "no task is meant by these words", "args.match")
    if len(found) > 1:
        named = [{"task_id": task.id, "text": task.text} for task in found[:CANDIDATES_MAX]]
        raise Refused(
            "ambiguous", f"{len(found)} tasks may be meant; use a task_id", "args.match", {"candidates": named}
        )
    return found[0]


def _known(tx: Transaction, task_id: str) -> Task:
    task = tx.tasks.get(task_id)
    if task is None:
        raise Refused("not_found", f"there is no task {task_id}", "args.task_id")
    return task


def _require_feeds(args: Args, house: House) -> None:
    for feed in args.feeds or ():
        if feed not in house.household.feeds:
            known = ", ".join(house.household.feeds) or "none"
            raise Refused("not_found", f"there is no feed {feed}; there are {known}", "args.feeds")


def _repeat(args: Args) -> Repeat | None:
    return None if args.once is None else Repeat.ONCE if args.once else Repeat.EACH


def _about(task: Task, message: str) -> Done:
    return Done(result={"task": as_shown(task), "message": message})


def as_shown(task: Task) -> dict[str, Any]:
    state = task_object(task)
    return {
        "task_id": task.id,
        **{key: value for key, value in state.items() if key not in ("v", "active")},
        "message": task.message,
        "lang": task.language,
        "feeds": list(task.feeds),
        "once": task.repeat is Repeat.ONCE,
        "priority": task.priority.value,
        "cooldown_s": task.cooldown_s,
        "expires_at": None if task.expires_at is None else rfc3339(task.expires_at),
    }


def _alert_as_shown(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.id,
        "task_id": alert.task_id,
        "feed": alert.feed,
        "text": alert.text,
        "priority": alert.priority.value,
        "decided_at": rfc3339(alert.decided_at),
    }


def _wish_id(asked: Asked) -> str:
    return "m" + sha256((asked.id or "").encode()).hexdigest()[:24]


def _digest(asked: Asked) -> str:
    said = json.dumps({"op": asked.op, "args": asdict(asked.args)}, default=lambda one: one.value, sort_keys=True)
    return sha256(said.encode()).hexdigest()[:32]
