"""Events as log lines: an event's name and its fields, plain in a terminal, one JSON object a line in the journal.

A home is private: what was heard, seen or said never reaches a line, whatever an event carries; fields that could hold
such words are left out by name, and only plain values are written. Addresses lose their credentials.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum
from math import isfinite
from numbers import Real
from pathlib import PurePath
from typing import Any, Final, Literal

from omni_watch.domain.addresses import hide_credentials

LOGGER: Final = "omni_watch"

LEVELS: Final[Mapping[str, int]] = {
    # for those who look closely: one line a unit, and what comes as often
    "unit.decided": logging.DEBUG,
    "frame.dropped": logging.DEBUG,
    "block.dropped": logging.DEBUG,
    "alert.held": logging.DEBUG,
    "delivery.sending": logging.DEBUG,
    "outbox": logging.DEBUG,
    "voice.speaking": logging.DEBUG,
    "voice.silent": logging.DEBUG,  # it has finished speaking
    # a person may need to act
    "alert.repeated": logging.WARNING,
    "unit.skipped": logging.WARNING,
    "unit.dropped": logging.WARNING,
    "delivery.failed": logging.WARNING,
    "delivery.expired": logging.WARNING,
    "delivery.dead": logging.WARNING,
    "channel.away": logging.WARNING,
    "mqtt.refused": logging.WARNING,
    "mqtt.unreachable": logging.WARNING,
    "mqtt.topic_not_kept": logging.WARNING,
    "mqtt.retained_command": logging.WARNING,
    "mqtt.request_dropped": logging.WARNING,
    "mqtt.reply_dropped": logging.WARNING,
    "snapshot.not_kept": logging.WARNING,
    "snapshot.not_read": logging.WARNING,
    "snapshot.not_deleted": logging.WARNING,
    "voice.failed": logging.WARNING,
    "voice.not_prepared": logging.WARNING,
    "voice.not_kept": logging.WARNING,
    "model.lacking": logging.WARNING,
    "engine.failed": logging.WARNING,
    "engine.restarted": logging.WARNING,
    "session.failed": logging.WARNING,
    "session.not_prepared": logging.WARNING,
    "task.left_out": logging.WARNING,
    "words.failed": logging.WARNING,
    "words.dropped": logging.WARNING,
    "words.behind": logging.WARNING,
    "answer.dropped": logging.WARNING,
    "opinion.failed": logging.WARNING,
    "worker.restarted": logging.WARNING,
    "relay.store_busy": logging.WARNING,
    "reload.failed": logging.WARNING,
    "metrics.unavailable": logging.WARNING,
    "stop.late": logging.WARNING,
    "store.failed": logging.WARNING,
    # something was lost, or a bug was met
    "feed.failed": logging.ERROR,
    "verdict.dropped": logging.ERROR,
    "channel.bug": logging.ERROR,
}
TROUBLED: Final = frozenset({"waiting", "stale"})  # states of a feed that are worth a warning

# an event that carries one of these is at fault; the line goes without it
PRIVATE: Final = frozenset(
    {"text", "task_text", "message", "words", "utterance", "transcript", "heard", "seen", "said"}
)

_NEEDS_QUOTES: Final = re.compile(r'[\s"=]|^$')


def level_of(event: str, fields: Mapping[str, Any]) -> int:
    """How loud an event is; INFO unless the table says otherwise."""
    if event == "feed.state" and _plain(fields.get("state")) in TROUBLED:
        return logging.WARNING
    return LEVELS.get(event, logging.INFO)


class LogObserver:
    """Implements `Observer`. Any thread."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER)

    def on(self, event: str, **fields: Any) -> None:
        level = level_of(event, fields)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": public(fields)})


def public(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that may be written, as plain values; empty ones are left out."""
    plain = {name: _plain(value) for name, value in fields.items() if name not in PRIVATE}
    return {name: value for name, value in plain.items() if value not in (None, "", [], {})}


class PlainFormatter(logging.Formatter):
    """`12:00:03 INFO    alert.queued alert_id=k3-1 task_id=k3`, in the house's own time."""

    def __init__(self, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, self._zone)
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        return f"{at:%H:%M:%S} {record.levelname:<7} {_event(record)}{fields}{_traceback(self, record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at` (UTC), `level`, `event`, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"at": at, "level": record.levelname.lower(), "event": _event(record), **_fields(record)}
        if trace := _traceback(self, record):
            line["traceback"] = trace.strip()
        return json.dumps(line, ensure_ascii=False)


def set_up_logs(
    *,
    level: str,
    style: Literal["auto", "plain", "json"],
    is_supervised: bool,
    zone: tzinfo,
    handler: logging.Handler | None = None,
) -> None:
    """Send our events and other libraries' warnings to `handler` (standard error unless given), once per process.

    `auto` means JSON when a service manager reads along (`is_supervised`), plain otherwise.
    """
    handler = handler or logging.StreamHandler()
    as_json = style == "json" or (style == "auto" and is_supervised)
    handler.setFormatter(JsonFormatter() if as_json else PlainFormatter(zone))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(level.upper())


def _event(record: logging.LogRecord) -> str:
    """Our events are named; a library's message becomes the event `log`."""
    return record.getMessage() if hasattr(record, "fields") else "log"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is None:
        return {"logger": record.name, "message": hide_credentials(record.getMessage())}
    return fields


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return "" if not record.exc_info else "\n" + hide_credentials(formatter.formatException(record.exc_info))


def _plain(value: Any) -> Any:
    """A value as JSON knows it; what is none (a picture, bytes, an object) shows its kind and nothing else."""
    match value:
        case None | bool() | int():
            return value
        case Real():  # numpy's too; JSON knows neither infinity nor "not a number"
            return float(value) if isfinite(value) else str(float(value))
        case str():
            return hide_credentials(value)
        case Enum():
            return _plain(value.value)
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return str(value)
        case BaseException():
            return hide_credentials(str(value))
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items() if name not in PRIVATE}
        case bytes() | bytearray():
            return f"<{type(value).__name__}>"
        case Sequence() | AbstractSet():
            return [_plain(item) for item in value]
        case _:
            return f"<{type(value).__name__}>"


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _quoted(",".join(map(str, value)))
    if isinstance(value, dict):
        return _quoted(",".join(f"{name}:{item}" for name, item in value.items()))
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text
