"""What may be asked of the house over MQTT: values only, and the table of what belongs to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from omni_watch.domain.errors import RequestError
from omni_watch.domain.rules import Priority
from omni_watch.watch.modes import Mode

Op = Literal[
    "task.add",
    "task.edit",
    "task.cancel",
    "task.enable",
    "task.disable",
    "task.list",
    "task.get",
    "alert.ack",
    "alert.snooze",
    "alert.list",
    "say",
    "ask",
    "mute",
    "mode",
    "listen",
    "snapshot",
    "show",
    "ping",
]
Code = Literal["bad_request", "not_found", "ambiguous", "too_large", "rate_limited", "conflict", "unavailable"]


class Refused(RequestError):  # noqa: N818 - what became of the request
    """It is not done. `field` names what was wrong, `details` are plain JSON values that may help."""

    def __init__(
        self, code: Code, message: str, field: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.field = field
        self.details = details or {}
        self.request_id: str | None = None  # of the request that is refused, when it could be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """What a request says besides its op; None: it does not say."""

    text: str | None = None
    message: str | None = None
    task_id: str | None = None
    match: str | None = None
    alert_id: str | None = None
    feed: str | None = None
    feeds: tuple[str, ...] | None = None
    once: bool | None = None
    cooldown_s: int | None = None
    expires_in_s: int | None = None
    priority: Priority | None = None
    minutes: int | None = None
    on: bool | None = None
    mode: Mode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, checked."""

    op: Op
    args: Args
    id: str | None = None  # the same one within ten minutes is done once
    source: str = ""  # who asks, as it says itself; for logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Which arguments an op takes."""

    needs: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()  # exactly one of these
    takes: tuple[str, ...] = ()
    is_change: bool = True  # it changes something, so it must not be done twice

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.needs, *self.one_of, *self.takes)


_TASK: Final = ("task_id", "match")
_OPTIONS: Final = ("message", "feeds", "once", "cooldown_s", "expires_in_s", "priority")

FORMS: Final[Mapping[Op, Form]] = {
    "task.add": Form(needs=("text",), takes=_OPTIONS),
    "task.edit": Form(one_of=_TASK, takes=_OPTIONS),
    "task.cancel": Form(one_of=_TASK),
    "task.enable": Form(one_of=_TASK),
    "task.disable": Form(one_of=_TASK),
    "task.list": Form(is_change=False),
    "task.get": Form(one_of=_TASK, is_change=False),
    "alert.ack": Form(takes=("alert_id", "task_id")),
    "alert.snooze": Form(takes=("alert_id", "task_id", "minutes")),
    "alert.list": Form(takes=("task_id",), is_change=False),
    "say": Form(needs=("text",)),
    "ask": Form(needs=("text",), is_change=False),
    "mute": Form(needs=("on",)),
    "mode": Form(needs=("mode",)),
    "listen": Form(needs=("feed", "on")),
    "snapshot": Form(needs=("feed",), is_change=False),
    "show": Form(takes=("task_id",), is_change=False),
    "ping": Form(is_change=False),
}
