"""Times in a sentence: "in ten minutes", "tomorrow at seven", 「每个工作日八点」 -> moments, spans and rhythms. Pure.

The words are data (`times:` in rules/wording/); what they mean is decided here, the same for every language:

- A time of day without a half ("at seven") is the next one of either half of the day. With a day that is not today, or
  in a rhythm, 7 to 11 are in the morning, 12 is noon and 1 to 6 are in the afternoon.
- A part of the day ("in the evening", 早上) chooses the half; alone, it stands for its own usual hour.
- What has passed today means the next one; a day alone means nine in the morning.
- A weekday is the coming one; with "next" it is that of the next week, which begins on Monday.
- Days and hours are those of the house's zone. A skipped hour of spring is taken as the clock before the change shows
  it, a doubled hour of autumn is its first.

Why no date library: the well-kept one for many languages, dateparser 1.5.0, takes "at seven" for the month of July
and reads neither 「明天早上七点」 nor 「十分钟后」 (tried in November 2026). Its answers also do not tell "until six"
from "at six", and it knows no rhythms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from omni_watch.domain.rhythms import EVERY_DAY, EverySoLong, OnDays, Rhythm, moment_on
from omni_watch.domain.tasks import WatchWindow
from omni_watch.watch.templates import Node, needed, pattern, plain_expression

DAY_AT: Final = time(9)  # when only a day is said
LONGEST: Final = timedelta(days=400)  # that a duration may last; more is a mistake
_DAY: Final = 24 * 60  # minutes
_FIRST_MORNING_HOUR: Final = 7  # of a bare hour on another day; the hours before it are in the afternoon


class TimeKind(Enum):
    """What an expression says; looked for in this order, so that the longer ones come first."""

    RHYTHM = "rhythm"  # "every weekday at eight"
    HOURS = "hours"  # "between ten and six": hours of the day
    UNTIL = "until"  # "until six"
    MOMENT = "moment"  # "in ten minutes", "tomorrow at seven"
    DURATION = "duration"  # "ten minutes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the day, as a range of hours in which a bare hour is looked for; `ends` may lie after midnight."""

    begins: int
    ends: int
    at: time  # when no hour is said

    def holds(self, minutes: int) -> bool:
        """Whether these minutes of a day are in it."""
        return any(self.begins * 60 <= later < self.ends * 60 for later in (minutes, minutes + _DAY))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeForm:
    """One way to say a time, with what its words leave to be known."""

    node: Node
    factor: float | None = None  # of a duration: instead of a number
    plus: float = 0.0  # of a duration: so much of its last unit more
    span: timedelta | None = None  # of a duration or moment without a number: "a while"
    hour: int | None = None  # of a time of day
    minute: int | None = None
    is_before: bool = False  # the minutes are missing to the hour
    begins: time | None = None  # of hours of the day that have a name
    ends: time | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment that was named."""

    at: datetime  # the next one, aware UTC
    since: datetime  # the last one, aware UTC: "did anything happen since seven"; of a day, its beginning


TimeValue = Moment | timedelta | WatchWindow | Rhythm


@dataclass(frozen=True, slots=True)
class TimeFound:
    """Where in the text a time stands."""

    begins: int
    ends: int
    kind: TimeKind
    value: TimeValue


@dataclass(frozen=True, slots=True)
class _Clock:
    hour: int  # 0..24
    minute: int
    is_exact: bool  # of 24 hours: 19:30, noon

    @property
    def halves(self) -> list[int]:
        """Minutes of the day that it may mean, both halves."""
        if self.is_exact:
            return [self.hour * 60 + self.minute]
        return [(self.hour % 12 + 12 * half) * 60 + self.minute for half in (0, 1)]

    @property
    def usual(self) -> int:
        """The one that is meant on another day than today."""
        is_afternoon = not self.is_exact and self.hour % 12 < _FIRST_MORNING_HOUR
        return self.halves[-1 if is_afternoon else 0]


@dataclass(frozen=True, slots=True)
class _Day:
    """A day that was named: the dates that it can be, soonest first; None: none was."""

    dates: tuple[date, ...] | None
    part: Part | None = None

    def is_other_than(self, today: date) -> bool:
        return self.dates is not None and self.dates[0] > today


@dataclass(frozen=True, kw_only=True)
class TimeWords:
    """How one language tells the time. Words are in lower case."""

    is_spaced: bool
    numbers: Mapping[str, int]
    multipliers: Mapping[str, int]
    units: Mapping[str, timedelta]  # word -> its length
    days: Mapping[str, int]  # word -> days from today
    weekdays: Mapping[str, int]  # word -> 0 for Monday
    next_week: tuple[str, ...]  # before a weekday: that of the next week
    this_week: tuple[str, ...]
    months: Mapping[str, int]
    ordinals: Mapping[str, int]  # words for days of the month
    parts: Mapping[str, Part]
    part_words: Mapping[str, str]  # after a day: "tomorrow morning"
    after_words: Mapping[str, str]  # after a time of day: "seven in the morning"
    day_parts: Mapping[str, tuple[int | None, str]]  # "tonight": of today, and which part
    day_sets: Mapping[str, frozenset[int]]  # "weekday"
    day_joints: tuple[str, ...]  # between weekdays: "and"
    clocks: tuple[TimeForm, ...]
    dates: tuple[TimeForm, ...]
    durations: tuple[TimeForm, ...]
    forms: Mapping[TimeKind, tuple[TimeForm, ...]]

    # --- finding ---

    def find(self, text: str, *, now: datetime, zone: str) -> list[TimeFound]:
        """Every time that the text names, in order, none within another."""
        lowered = text.lower()
        found: list[TimeFound] = []
        for kind, forms in self._patterns.items():
            hits = (hit for form in forms for hit in form.hits(lowered))
            for hit, form in sorted(hits, key=lambda one: (one[0].start(), one[0].start() - one[0].end())):
                is_free = all(hit.end() <= other.begins or hit.start() >= other.ends for other in found)
                value = _Reader(self, now, zone).value(kind, hit, form) if is_free else None
                if value is not None:
                    found.append(TimeFound(hit.start(), hit.end(), kind, value))
        return sorted(found, key=lambda one: one.begins)

    def make_ready(self) -> int:
        """Compile every pattern; how many."""
        others = (*self.clock_patterns, *self.date_patterns)
        return len([one.pattern for some in (*self._patterns.values(), others) for one in some])

    @cached_property
    def _patterns(self) -> Mapping[TimeKind, tuple[_Pattern, ...]]:
        others = {kind: tuple(_Pattern(form, self.typed) for form in self.forms.get(kind, ())) for kind in TimeKind}
        return others | {TimeKind.DURATION: self.duration_patterns}

    @cached_property
    def duration_patterns(self) -> tuple[_Pattern, ...]:
        return tuple(_Pattern(form, self.typed) for form in self.durations)

    @cached_property
    def clock_patterns(self) -> tuple[_Pattern, ...]:
        return tuple(_Pattern(form, self.typed) for form in self.clocks)

    @cached_property
    def date_patterns(self) -> tuple[_Pattern, ...]:
        return tuple(_Pattern(form, self.typed) for form in self.dates)

    # --- what slots of time templates may hold ---

    @cached_property
    def typed(self) -> Mapping[str, str]:
        """Slot name -> expression without groups."""
        not_unit = rf"(?![ -]?{self.any_of(self.units)})" if self.is_spaced else ""
        simple = {
            "n": rf"(?:\d{{1,4}}(?:\.\d{{1,2}})?|{self._number_words(4)})",
            # not "two" of "two hours"
            "hour": rf"(?:(?<!\d)\d{{1,2}}(?!\d)|{self._number_words(1 if self.is_spaced else 3)}){not_unit}",
            "minute": rf"(?:(?<!\d)\d{{1,2}}(?!\d)|{self._number_words(3)})",
            "unit": self.any_of(self.units),
            "month": self.any_of(self.months) if self.months else r"(?!)",
            "dom": rf"(?:(?<!\d)\d{{1,2}}(?:st|nd|rd|th)?(?![\da-z])|{self._ordinal_words})",
            "after": self.any_of(self.after_words),
            "days": self._day_sets,
            "set": self.any_of(self.day_sets),
            "part": self.any_of(self.part_words),
        }
        clock = self._either(self.clocks, simple)
        dated = self._either(self.dates, simple)
        return simple | {
            "clock": clock,
            "day": rf"(?:{dated}(?: ?{self.any_of(self.part_words)})?|{self._day})" if self.dates else self._day,
            "duration": self._either(self.durations, simple),
        }

    def any_of(self, words: Iterable[str]) -> str:
        """One of these words, longest first."""
        longest_first = sorted(words, key=len, reverse=True)
        inner = "|".join(map(re.escape, longest_first))
        if not inner:
            return r"(?!)"
        # not \b: "7pm" has no edge before its "pm"
        return rf"(?<![a-z'])(?:{inner})(?![a-z'])" if self.is_spaced else f"(?:{inner})"

    def _number_words(self, most: int) -> str:
        words = self.any_of([*self.numbers, *self.multipliers])
        joint = "[ -]" if self.is_spaced else ""
        return rf"(?:{words}(?:{joint}{words}){{0,{most - 1}}})" if most > 1 else words

    @property
    def _ordinal_words(self) -> str:
        return self.any_of(self.ordinals) if self.is_spaced else self._number_words(3)

    @property
    def _weekday(self) -> str:
        prefix = self.any_of([*self.next_week, *self.this_week])
        return rf"(?:(?:{prefix} ?)?{self.any_of(self.weekdays)})"

    @property
    def _day(self) -> str:
        part = self.any_of(self.part_words)
        named = rf"(?:{self.any_of(self.days)}|{self._weekday})(?: ?{part})?"
        alone = "" if self.is_spaced else f"|{part}"
        return rf"(?:{self.any_of(self.day_parts)}|{named}{alone})"

    @property
    def _day_sets(self) -> str:
        joint = "|".join(map(re.escape, self.day_joints))
        day = self.any_of(self.weekdays)
        return rf"(?:{self.any_of(self.day_sets)}|{day}(?: ?(?:{joint}) ?{day}){{0,6}})"

    def _either(self, forms: Iterable[TimeForm], typed: Mapping[str, str]) -> str:
        return "(?:" + "|".join(plain_expression(form.node, typed) for form in forms) + ")"

    # --- what words say ---

    def number(self, text: str) -> float:
        """Digits or words; ValueError when it is no number."""
        if text[:1].isdigit():
            return float(text)
        total, last = 0, 0
        for word in self._number_parts(text):
            if word in self.multipliers:
                total, last = total + (last or 1) * self.multipliers[word], 0
            else:
                last += self.numbers[word]
        return total + last

    def _number_parts(self, text: str) -> list[str]:
        if self.is_spaced:
            return re.split("[ -]", text)
        return re.findall("|".join(sorted(map(re.escape, [*self.numbers, *self.multipliers]), key=len)[::-1]), text)


@dataclass(frozen=True)
class _Pattern:
    """A time form made ready to be looked for; compiled when a sentence first may hold it, which takes milliseconds."""

    form: TimeForm
    typed: Mapping[str, str]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return pattern(self.form.node, self.typed)

    @cached_property
    def needed(self) -> frozenset[str]:
        return needed(self.form.node)

    def hits(self, text: str) -> Iterator[tuple[re.Match[str], TimeForm]]:
        if not self.needed or any(word in text for word in self.needed):
            for hit in self.pattern.finditer(text):
                yield hit, self.form


class _Reader:
    """Reads the matches of one sentence; what is impossible ("at 25:70") reads as None."""

    def __init__(self, words: TimeWords, now: datetime, zone: str) -> None:
        self._words = words
        self._now = now
        self._zone = zone
        self._today = now.astimezone(ZoneInfo(zone)).date()

    def value(self, kind: TimeKind, hit: re.Match[str], form: TimeForm) -> TimeValue | None:
        if kind is TimeKind.DURATION:
            return self._duration(hit, form)
        if kind is TimeKind.RHYTHM:
            return self._rhythm(hit)
        if kind is TimeKind.HOURS:
            return self._hours(hit, form)
        if form.span is not None:
            return Moment(at=self._now + form.span, since=self._now - form.span)
        return self._moment(hit)

    # --- durations ---

    def _duration(self, hit: re.Match[str], form: TimeForm) -> timedelta | None:
        if form.span is not None:
            return form.span
        units = [self._words.units[word] for word in _held(hit, "unit")]
        numbers = [self._words.number(text) for text in _held(hit, "n")]
        if form.factor is not None:
            numbers.append(form.factor)
        numbers[-1] += form.plus
        lasting = sum((n * unit for n, unit in zip(numbers, units, strict=True)), timedelta())
        return lasting if timedelta() < lasting <= LONGEST else None

    def _duration_of(self, text: str) -> timedelta | None:
        for one in self._words.duration_patterns:
            if hit := one.pattern.fullmatch(text):
                return self._duration(hit, one.form)
        return None

    # --- moments ---

    def _moment(self, hit: re.Match[str]) -> Moment | None:
        if spans := _held(hit, "duration"):
            lasting = self._duration_of(spans[0])
            return None if lasting is None else Moment(at=self._now + lasting, since=self._now - lasting)
        days = [self._day(text) for text in _held(hit, "day")]
        day = days[0] if days else _Day(None)
        after = _held(hit, "after")
        part = self._part_after(after[0]) if after else day.part
        clocks = _held(hit, "clock")
        if not clocks:
            return self._whole(day, part)
        clock = self._clock(clocks[0])
        return None if clock is None else self._pick(day, self._choices(clock, part, day.is_other_than(self._today)))

    def _whole(self, day: _Day, part: Part | None) -> Moment | None:
        """A day or part of the day without an hour."""
        at = part.at if part is not None else DAY_AT
        minutes = at.hour * 60 + at.minute
        if part is not None and minutes < part.begins * 60:  # its usual hour lies after midnight
            minutes += _DAY
        picked = self._pick(day, [minutes])
        begins = part.begins if part is not None else 0
        first = (day.dates or (self._today,))[0]
        return picked and Moment(at=picked.at, since=min(self._on(first, begins * 60), self._now))

    def _pick(self, day: _Day, minutes: Sequence[int]) -> Moment:
        """The first of these minutes of the day that lies ahead; `minutes` may lie after midnight."""
        dates = day.dates or tuple(self._today + timedelta(days=ahead) for ahead in (-1, 0, 1, 2))
        if dates[0] == self._today and max(minutes) >= _DAY:  # "tonight", said after midnight
            dates = (self._today - timedelta(days=1), *dates)
        moments = sorted(self._on(one, minute) for one in dates for minute in minutes)
        ahead = [moment for moment in moments if moment > self._now]
        earlier = [self._on(self._today - timedelta(days=back), minute) for back in (0, 1, 2) for minute in minutes]
        past = [moment for moment in earlier if moment <= self._now]
        return Moment(at=ahead[0] if ahead else moments[-1], since=max(past))

    def _on(self, day: date, minutes: int) -> datetime:
        later, minutes = divmod(minutes, _DAY)
        return moment_on(day + timedelta(days=later), time(minutes // 60, minutes % 60), self._zone)

    def _choices(self, clock: _Clock, part: Part | None, is_other_day: bool) -> list[int]:
        """Minutes of the day that a time of day may mean."""
        if part is not None and not clock.is_exact:
            after_midnight = [minutes + _DAY for minutes in clock.halves]
            within = [m for m in (*clock.halves, *after_midnight) if part.begins * 60 <= m < part.ends * 60]
            if within:
                return within[:1]
        return [clock.usual] if is_other_day else clock.halves

    def _clock(self, text: str) -> _Clock | None:
        for one in self._words.clock_patterns:
            if hit := one.pattern.fullmatch(text):
                return self._read_clock(hit, one.form)
        return None

    def _read_clock(self, hit: re.Match[str], form: TimeForm) -> _Clock | None:
        hours, minutes = _held(hit, "hour"), _held(hit, "minute")
        hour = form.hour if form.hour is not None else int(self._words.number(hours[0]))
        minute = form.minute if form.minute is not None else int(self._words.number(minutes[0])) if minutes else 0
        if not (0 <= hour <= 24 and 0 <= minute < 60) or (hour == 24 and minute):
            return None
        is_exact = form.hour is not None or hour > 12 or hour == 0 or bool(hours and hours[0].startswith("0"))
        if form.is_before:
            hour, minute = (hour - 1, 60 - minute) if hour else (23, 60 - minute)
        return _Clock(hour, minute, is_exact)

    # --- days ---

    def _day(self, text: str) -> _Day:
        words = self._words
        if text in words.day_parts:
            ahead, part = words.day_parts[text]
            return _Day(None if ahead is None else self._from_today(ahead), words.parts[part])
        name, part_word = _split_end(text, words.part_words)
        part_found = words.parts[words.part_words[part_word]] if part_word else None
        for one in words.date_patterns:
            if hit := one.pattern.fullmatch(name):
                return _Day(self._calendar(hit), part_found)
        if not name:
            return _Day(None, part_found)
        if name in words.days:
            return _Day(self._from_today(words.days[name]), part_found)
        return _Day(self._weekday(name), part_found)

    def _from_today(self, ahead: int) -> tuple[date, ...]:
        day = self._today + timedelta(days=ahead)
        return (day, day + timedelta(days=1)) if ahead == 0 else (day,)

    def _weekday(self, text: str) -> tuple[date, ...]:
        words = self._words
        name = next(word for word in sorted(words.weekdays, key=len, reverse=True) if text.endswith(word))
        wanted = words.weekdays[name]
        prefix = text.removesuffix(name).strip()
        if prefix in words.next_week:
            monday = self._today + timedelta(days=7 - self._today.weekday())
            return (monday + timedelta(days=wanted),)
        coming = self._today + timedelta(days=(wanted - self._today.weekday()) % 7)
        return (coming, coming + timedelta(days=7))

    def _calendar(self, hit: re.Match[str]) -> tuple[date, ...]:
        """This year's day of that name, or the next one's; a day that a month lacks is its last one."""
        months, day = _held(hit, "month"), _held(hit, "dom")[0]
        number = self._words.ordinals.get(day) or int(self._words.number(re.sub(r"(?<=\d)[a-z]+$", "", day)))
        first = self._today.replace(day=1)
        if months:
            month = self._words.months[months[0]]
            firsts = [first.replace(year=first.year + later, month=month) for later in (0, 1)]
        else:
            firsts = [first, (first + timedelta(days=32)).replace(day=1)]
        days = [_day_of_month(one, number) for one in firsts]
        return tuple(day for day in days if day >= self._today) or (days[-1],)

    def _part(self, text: str) -> Part:
        return self._words.parts[self._words.part_words[text]]

    def _part_after(self, text: str) -> Part:
        return self._words.parts[self._words.after_words[text]]

    # --- hours of the day, and rhythms ---

    def _hours(self, hit: re.Match[str], form: TimeForm) -> WatchWindow | None:
        if form.begins is not None and form.ends is not None:
            return WatchWindow(begins=form.begins, ends=form.ends, zone=self._zone)
        clocks = [self._clock(text) for text in _held(hit, "clock")]
        first, second = clocks[0], clocks[1]
        if first is None or second is None:
            return None
        begins, ends = _nearest_hours(first, second, *self._parts_of_hours(hit))
        if begins == ends:
            return None
        return WatchWindow(begins=_time_of(begins), ends=_time_of(ends), zone=self._zone)

    def _parts_of_hours(self, hit: re.Match[str]) -> tuple[Part | None, Part | None]:
        """The part of the day that stands by each of the two times of day."""
        first: Part | None = None
        second: Part | None = None
        for name in (name for name in hit.re.groupindex if name.startswith(("after_", "part_"))):
            if hit[name] is None:
                continue
            is_after = name.startswith("after_")  # a part stands before its time of day, as in 晚上十点
            part = self._part_after(hit[name]) if is_after else self._part(hit[name])
            is_of_second = hit.start(name) > (hit.start("clock_1") if is_after else hit.end("clock_0") - 1)
            first, second = (first, part) if is_of_second else (part, second)
        return first, second

    def _rhythm(self, hit: re.Match[str]) -> Rhythm | None:
        if spans := _held(hit, "duration"):
            lasting = self._duration_of(spans[0])
            return EverySoLong(interval=lasting) if lasting is not None and lasting >= timedelta(minutes=1) else None
        if units := _held(hit, "unit"):
            lasting = self._words.units[units[0]]
            if lasting == timedelta(days=1):
                return OnDays(at=DAY_AT, zone=self._zone)
            return EverySoLong(interval=lasting) if lasting >= timedelta(minutes=1) else None
        days = (
            frozenset[int]().union(*(self._day_set(text) for text in [*_held(hit, "days"), *_held(hit, "set")]))
            or EVERY_DAY
        )
        part = self._named_part(hit)
        clocks = _held(hit, "clock")
        if not clocks:
            return OnDays(days=days, at=part.at if part else DAY_AT, zone=self._zone)
        clock = self._clock(clocks[0])
        if clock is None:
            return None
        minutes = self._choices(clock, part, is_other_day=True)[0] % _DAY
        return OnDays(days=days, at=_time_of(minutes), zone=self._zone)

    def _named_part(self, hit: re.Match[str]) -> Part | None:
        after = [self._part_after(text) for text in _held(hit, "after")]
        named = [self._part(text) for text in _held(hit, "part")]
        return next(iter([*after, *named]), None)

    def _day_set(self, text: str) -> frozenset[int]:
        words = self._words
        if text in words.day_sets:
            return words.day_sets[text]
        return frozenset(words.weekdays[name] for name in re.findall(words.any_of(words.weekdays), text))


def _held(hit: re.Match[str], slot: str) -> list[str]:
    """What the slot's groups hold, in order."""
    return [hit[name] for name in hit.re.groupindex if name.rpartition("_")[0] == slot and hit[name] is not None]


def _nearest_hours(first: _Clock, second: _Clock, begins_in: Part | None, ends_in: Part | None) -> tuple[int, int]:
    """Minutes of the day from and to: of the halves that fit what was said, those that are nearest together. Without a
    part of the day anywhere, the first is as on another day: "from nine to five" begins in the morning."""

    def rank(pair: tuple[int, int]) -> tuple[bool, bool, int, bool, bool]:
        begins, ends = pair
        is_usual = begins_in is not None or ends_in is not None or begins == first.usual
        length = (ends - begins) % _DAY
        is_begin_right = begins_in is None or begins_in.holds(begins)
        is_end_right = ends_in is None or ends_in.holds(ends)
        shared = ends_in if begins_in is None else begins_in
        is_either_right = shared is None or (shared.holds(begins) and shared.holds(ends))
        return not is_usual, not (is_begin_right and is_end_right), length, not is_either_right, begins > ends

    return min(((begins, ends) for begins in first.halves for ends in second.halves), key=rank)


def _split_end(text: str, words: Mapping[str, str]) -> tuple[str, str]:
    """The text without one of these words at its end, and the word."""
    for word in sorted(words, key=len, reverse=True):
        if text.endswith(word):
            return text.removesuffix(word).strip(), word
    return text, ""


def _time_of(minutes: int) -> time:
    return time(minutes // 60, minutes % 60)


def _day_of_month(first: date, number: int) -> date:
    last = ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).day
    return first.replace(day=min(max(number, 1), last))
