"""Bytes from the broker -> what is asked, or why it is refused. Pure, strict and quick: it runs on the loop.

Nothing that came in is trusted: sizes are looked at before anything is decoded, unknown keys are refused, and what a
message says is repeated in an answer only cut short and with everything unprintable written out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, get_args

from omni_watch.alerts.messages import REPLY_TO, TOPIC_ID
from omni_watch.domain.rules import Priority
from omni_watch.home_assistant.asked import FORMS, Args, Asked, Code, Op, Refused
from omni_watch.home_assistant.devices import PRESS
from omni_watch.watch.modes import Mode
from omni_watch.watch.requests import TEXT_MAX, is_unseen

REQUEST_MAX: Final = 16_384  # bytes
COMMAND_MAX: Final = 2_048  # bytes of a plain command
NUMBER_MAX: Final = 20  # digits; a longer number means nothing here, and costs
FEEDS_MAX: Final = 16
SOURCE_MAX: Final = 64
MINUTES_MAX: Final = 1440
SHOWN: Final = 40  # characters of what came in that an answer repeats
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}")
_ALERT_ID: Final = re.compile(r"[a-z0-9_-]{1,64}")
_KEYS: Final = frozenset({"v", "id", "op", "source", "lang", "args"})
_OPS: Final = frozenset(get_args(Op))


def parse_request(payload: bytes) -> Asked:
    """What a message on the request topic asks.

    Raises:
        Refused: too large, not understood; with `request_id` when that could be read.
    """
    document = _object(_decoded(payload, REQUEST_MAX))
    request_id = _request_id(document)
    try:
        return _asked(document, request_id)
    except Refused as refusal:
        refusal.request_id = request_id
        raise


def parse_command(name: str, payload: bytes, task_id: str | None = None, feed: str | None = None) -> Asked:
    """What a plain command asks: of the house, of a task or of a feed.

    Raises:
        Refused: there is no such command, or not with such a payload.
    """
    if task_id is not None and not TOPIC_ID.fullmatch(task_id):
        _refuse("bad_request", f"{shown(task_id)} is no task id", "task_id")
    if feed is not None and not TOPIC_ID.fullmatch(feed):
        _refuse("bad_request", f"{shown(feed)} is no feed's name", "feed")
    commands = _TASK_COMMANDS if task_id is not None else _HOUSE_COMMANDS if feed is None else _FEED_COMMANDS
    if name not in commands:
        _refuse("bad_request", f"there is no command {shown(name)}; there are {', '.join(commands)}")
    return commands[name](_decoded(payload, COMMAND_MAX), task_id if feed is None else feed)


def shown(text: str) -> str:
    """What came in, safe to repeat."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


# --- the request ---


def _asked(document: Mapping[str, Any], request_id: str | None) -> Asked:
    for key in document.keys() - _KEYS:
        _refuse("bad_request", f"unknown key {shown(key)}; there are {', '.join(sorted(_KEYS))}", shown(key))
    if document.get("v") != 1 or type(document["v"]) is not int:
        _refuse("bad_request", '"v" must be 1', "v")
    op = document.get("op")
    if not isinstance(op, str) or op not in _OPS:
        found = f", found {shown(op)}" if isinstance(op, str) else ""
        _refuse("bad_request", f'"op" must be one of {", ".join(FORMS)}{found}', "op")
    source = document.get("source", "")
    if not isinstance(source, str) or len(source) > SOURCE_MAX or _unseen(source):
        _refuse("bad_request", f'"source" must be a text of at most {SOURCE_MAX} characters', "source")
    language = document.get("lang")
    if language is not None and not (isinstance(language, str) and _LANGUAGE.fullmatch(language)):
        _refuse("bad_request", '"lang" must be a language like "en" or "zh-CN"', "lang")
    args = document.get("args", {})
    if not isinstance(args, dict):
        _refuse("bad_request", '"args" must be an object', "args")
    return Asked(op=_known(op), args=_args(_known(op), args), id=request_id, source=source)


def _known(op: str) -> Op:
    return next(one for one in FORMS if one == op)


def _request_id(document: Mapping[str, Any]) -> str | None:
    request_id = document.get("id")
    if request_id is None:
        return None
    if not isinstance(request_id, str) or not REPLY_TO.fullmatch(request_id):
        _refuse("bad_request", '"id" must be 1 to 64 of A-Z, a-z, 0-9, _ and -', "id")
    return request_id


def _args(op: Op, given: Mapping[str, Any]) -> Args:
    form = FORMS[op]
    for key in given.keys() - set(form.all):
        takes = f"it takes {', '.join(form.all)}" if form.all else "it takes none"
        _refuse("bad_request", f"{op} has no argument {shown(key)}; {takes}", f"args.{shown(key)}")
    for key in form.needs:
        if key not in given:
            _refuse("bad_request", f"{op} needs {key}", f"args.{key}")
    if form.one_of and sum(key in given for key in form.one_of) != 1:
        _refuse("bad_request", f"{op} needs exactly one of {' and '.join(form.one_of)}", "args")
    return Args(**{key: _CHECKS[key](value, f"args.{key}") for key, value in given.items()})


# --- plain commands ---


def _switched(text: str, what: str) -> bool:
    if text not in ("ON", "OFF"):
        _refuse("bad_request", f"{what} takes ON or OFF, found {shown(text)}")
    return text == "ON"


def _pressed(text: str, what: str) -> None:
    if text != PRESS:
        _refuse("bad_request", f"{what} takes {PRESS}, found {shown(text)}")


def _snoozed(text: str, task_id: str | None) -> Asked:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MINUTES_MAX:
        _refuse("bad_request", f"snooze takes minutes from 1 to {MINUTES_MAX}, found {shown(text)}")
    return Asked(op="alert.snooze", args=Args(task_id=task_id, minutes=int(text)))


def _enabled(text: str, task_id: str | None) -> Asked:
    return Asked(op="task.enable" if _switched(text, "enabled") else "task.disable", args=Args(task_id=task_id))


def _acknowledged(text: str, task_id: str | None) -> Asked:
    _pressed(text, "ack")
    return Asked(op="alert.ack", args=Args(task_id=task_id))


def _deleted(text: str, task_id: str | None) -> Asked:
    _pressed(text, "delete")
    return Asked(op="task.cancel", args=Args(task_id=task_id))


_Command = Callable[[str, str | None], Asked]
_HOUSE_COMMANDS: Final[Mapping[str, _Command]] = {
    "mute": lambda text, _: Asked(op="mute", args=Args(on=_switched(text, "mute"))),
    "mode": lambda text, _: Asked(op="mode", args=Args(mode=_mode(text, "mode"))),
    "new_task": lambda text, _: Asked(op="task.add", args=Args(text=_sentence(text, "text"))),
    "say": lambda text, _: Asked(op="say", args=Args(text=_sentence(text, "text"))),
}
_TASK_COMMANDS: Final[Mapping[str, _Command]] = {
    "enabled": _enabled,
    "ack": _acknowledged,
    "snooze": _snoozed,
    "delete": _deleted,
}
_FEED_COMMANDS: Final[Mapping[str, _Command]] = {
    "listen": lambda text, feed: Asked(op="listen", args=Args(feed=feed, on=_switched(text, "listen"))),
}


# --- values ---


def _sentence(value: Any, field: str) -> str:
    if not isinstance(value, str):
        _refuse("bad_request", "must be a text", field)
    text = value.strip()
    if not text or len(text) > TEXT_MAX:
        _refuse("bad_request", f"must have 1 to {TEXT_MAX} characters, has {len(text)}", field)
    if _unseen(text):
        _refuse("bad_request", "holds control characters; use plain text on one line", field)
    return text


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        _refuse("bad_request", "must be true or false", field)
    return value


def _mode(value: Any, field: str) -> Mode:
    found = next((mode for mode in Mode if mode.value == value), None) if isinstance(value, str) else None
    if found is None:
        _refuse("bad_request", f"must be {', '.join(mode.value for mode in Mode)}", field)
    return found


def _priority(value: Any, field: str) -> Priority:
    found = next((one for one in Priority if one.value == value), None) if isinstance(value, str) else None
    if found is None:
        _refuse("bad_request", f"must be {', '.join(one.value for one in Priority)}", field)
    return found


def _number(least: int, most: int) -> Callable[[Any, str], int]:
    def check(value: Any, field: str) -> int:
        if type(value) is not int or not least <= value <= most:
            _refuse("bad_request", f"must be a whole number from {least} to {most}", field)
        return value

    return check


def _name(pattern: re.Pattern[str], what: str) -> Callable[[Any, str], str]:
    def check(value: Any, field: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            _refuse("bad_request", f"must be {what}", field)
        return value

    return check


_feed: Final = _name(TOPIC_ID, "a feed's name: 1 to 32 of a-z, 0-9, _ and -")


def _feeds(value: Any, field: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > FEEDS_MAX:
        _refuse("bad_request", f"must be a list of at most {FEEDS_MAX} feeds", field)
    return tuple(dict.fromkeys(_feed(one, field) for one in value))


_CHECKS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "text": _sentence,
    "message": _sentence,
    "match": _sentence,
    "task_id": _name(TOPIC_ID, "a task id: 1 to 32 of a-z, 0-9, _ and -"),
    "alert_id": _name(_ALERT_ID, "an alert id: 1 to 64 of a-z, 0-9, _ and -"),
    "feed": _feed,
    "feeds": _feeds,
    "once": _flag,
    "cooldown_s": _number(0, 86_400),
    "expires_in_s": _number(10, 2_592_000),
    "priority": _priority,
    "minutes": _number(1, MINUTES_MAX),
    "on": _flag,
    "mode": _mode,
}


# --- from bytes ---


def _decoded(payload: bytes, most: int) -> str:
    if len(payload) > most:
        _refuse("too_large", f"{len(payload)} bytes; the most is {most}")
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_request", f"byte {error.start} is not UTF-8") from error


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(
            text, object_pairs_hook=_unrepeated, parse_constant=_no_number, parse_int=_whole, parse_float=_no_number
        )
    except RecursionError as error:
        raise Refused("bad_request", "nested too deeply") from error
    except json.JSONDecodeError as error:
        raise Refused("bad_request", f"this is not JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(document, dict):
        _refuse("bad_request", "must be a JSON object")
    return document


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("bad_request", "a key is there twice")
    return found


def _no_number(written: str) -> NoReturn:
    _refuse("bad_request", f"{shown(written)} is not a whole number")


def _whole(digits: str) -> int:
    return int(digits) if len(digits) <= NUMBER_MAX else _no_number(digits)


def _unseen(text: str) -> bool:
    return any(is_unseen(letter) for letter in text)


def _refuse(code: Code, message: str, field: str | None = None) -> NoReturn:
    raise Refused(code, message, field)
