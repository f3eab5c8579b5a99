"""What we say to a person who asked something, in the person's language. Pure; the sentences are data in rules/speech/.

`REPLIES` names every sentence that a language must have, with the slots that it may use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from omni_watch.domain.rhythms import EVERY_DAY, WORKDAYS, EverySoLong, OnDays, Rhythm
from omni_watch.watch.speech import Speech

_ENDS: Final = ".。!?！？"
_WEEK: Final = 7

REPLIES: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(slots.split())
    for name, slots in {
        "clock": "hour hour12 minute minute_if half",
        "am": "",
        "pm": "",
        "today": "clock",
        "today_after": "clock",
        "yesterday": "clock",
        "tomorrow": "clock",
        "on_weekday": "weekday clock",
        "on_date": "day month clock",
        "every_day": "clock",
        "every_workday": "clock",
        "every_some_day": "days clock",
        "every_span": "span",
        "weekdays": "",
        "months": "",
        "seconds": "n",
        "minutes": "n",
        "hours": "n",
        "days": "n",
        "one_minute": "",
        "one_hour": "",
        "one_day": "",
        "comma": "",
        "last_comma": "",
        "or": "",
        "okay": "",
        "add": "condition limits",
        "add_each": "condition limits",
        "add_thing": "condition limits",
        "add_saying": "condition limits message",
        "add_saying_each": "condition limits message",
        "limit_feeds": "feeds",
        "limit_hours": "begins ends",
        "limit_until": "when",
        "already": "task",
        "too_many": "count",
        "by_sound": "",
        "by_beeps": "",
        "by_display": "",
        "by_taught": "",
        "by_level": "",
        "by_model": "",
        "blind": "ask",
        "blind_unasked": "",
        "changed": "",
        "cannot_change": "",
        "cancelled": "tasks",
        "cancelled_reminder": "tasks",
        "cancelled_all": "",
        "paused": "tasks",
        "paused_until": "tasks when",
        "resumed": "tasks",
        "snoozed": "tasks when",
        "tell_again": "when",
        "acknowledged": "alert",
        "alert_over": "alert",
        "nothing_to_acknowledge": "",
        "which": "options",
        "dropped": "",
        "none": "",
        "unknown": "words",
        "not_one_of_them": "",
        "not_kept": "",
        "failed": "why",
        "watching_nothing": "",
        "watching": "tasks",
        "reminders": "tasks",
        "paused_label": "task",
        "reminder_label": "when task",
        "happened": "alerts",
        "happened_one": "when text",
        "nothing_happened": "when",
        "no_alert_of": "when",
        "said_nothing": "",
        "quiet": "when",
        "quiet_now": "",
        "talking": "",
        "talking_later": "when",
        "missed": "alerts",
        "remind": "when message",
        "remind_bare": "when",
        "time_is_up": "",
        "not_understood": "",
    }.items()
}
OPTIONAL: Final[Mapping[str, frozenset[str]]] = {"minute_if": frozenset({"minute"})}  # left out at the full hour


class Replies:
    """One language's sentences, at one moment in one house."""

    def __init__(self, speech: Speech, *, now: datetime, zone: str) -> None:
        self._sentences = speech.replies
        self._now = now
        self._zone = ZoneInfo(zone)

    def say(self, name: str, **values: object) -> str:
        """The sentence of that name; KeyError when there is none, which the loader has ruled out."""
        return self._sentences[name].format(**values)

    def listed(self, items: Sequence[str], last: str = "last_comma") -> str:
        """`a, b and c`."""
        *first, end = items
        return self.say("comma").join(first) + (self.say(last) if first else "") + end

    # --- times ---

    def clock(self, at: time) -> str:
        minute = f"{at.minute:02}"
        minute_if = self._sentences.get("minute_if", "").format(minute=minute) if at.minute else ""
        half = self.say("am" if at.hour < 12 else "pm")
        return self.say("clock", hour=at.hour, hour12=at.hour % 12 or 12, minute=minute, minute_if=minute_if, half=half)

    def when(self, at: datetime, *, is_after: bool = False) -> str:
        """A moment as a person would say it: "at 7:00 pm", "tomorrow at 8:00 am", "on Friday at 5:00 pm".

        `is_after`: as it stands after "until" and "since".
        """
        local, today = at.astimezone(self._zone), self._now.astimezone(self._zone).date()
        clock, days = self.clock(local.time()), (local.date() - today).days
        near = {-1: "yesterday", 0: "today_after" if is_after else "today", 1: "tomorrow"}
        if days in near:
            return self.say(near[days], clock=clock)
        if 1 < days < _WEEK:
            return self.say("on_weekday", weekday=self._name("weekdays", local.weekday()), clock=clock)
        return self._on_date(local.date(), clock)

    def _on_date(self, day: date, clock: str) -> str:
        return self.say("on_date", day=day.day, month=self._name("months", day.month - 1), clock=clock)

    def rhythm(self, rhythm: Rhythm) -> str:
        match rhythm:
            case EverySoLong(interval=interval):
                return self.say("every_span", span=self.span(interval))
            case OnDays(days=days, at=at):
                clock = self.clock(at)
                if days in {EVERY_DAY, WORKDAYS}:
                    return self.say("every_day" if days == EVERY_DAY else "every_workday", clock=clock)
                named = self.listed([self._name("weekdays", day) for day in sorted(days)])
                return self.say("every_some_day", days=named, clock=clock)

    def span(self, lasting: timedelta) -> str:
        """`one hour and 30 minutes`."""
        seconds = round(lasting.total_seconds())
        parts: list[str] = []
        for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
            count, seconds = divmod(seconds, size)
            if count == 1 and unit != "second":
                parts.append(self.say(f"one_{unit}"))
            elif count:
                parts.append(self.say(f"{unit}s", n=count))
        return self.listed(parts or [self.say("seconds", n=0)])

    def _name(self, names: str, number: int) -> str:
        return self.say(names).split(", ")[number]


def joined(*sentences: str) -> str:
    """Sentences after one another; with a space between those of languages that have spaces."""
    kept = [sentence.strip() for sentence in sentences if sentence]
    text = ""
    for sentence in kept:
        gap = " " if text and text[-1].isascii() else ""
        text += gap + sentence
    return text


def bare(text: str) -> str:
    """Without the mark at its end, so that it can stand inside a sentence."""
    return text.strip().rstrip(_ENDS).strip()
