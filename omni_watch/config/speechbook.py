"""Reads rules/speech/*.yaml: what people say to the house and how it answers, one file for each language.

Only who listens needs it: it takes longer to read than all the rest of the rules. Files of a user's folder speech/
replace ours of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from omni_watch.config.rulebook import checked_file, shipped_rules, yaml_files
from omni_watch.domain.errors import ConfigError
from omni_watch.domain.rhythms import EVERY_DAY, WORKDAYS
from omni_watch.domain.rules import Repeat
from omni_watch.watch import templates
from omni_watch.watch.choosing import Phrasebook
from omni_watch.watch.moments import Part, TimeForm, TimeKind, TimeWords
from omni_watch.watch.replies import OPTIONAL, REPLIES
from omni_watch.watch.speech import MARKS, Answers, CommandForm, Deed, Modifier, Need, Speech, Speechbook
from omni_watch.watch.templates import Node

SPEECH: Final = "speech"  # the folder, inside the folder of rules
MOST_FREE_SLOTS: Final = 2  # in one form: each further one costs a factor of the sentence's length
FREE_SLOTS: Final = frozenset(
    {"condition", "completed", "message", "indirect", "thing", "old", "new", "about", "limits", "rest", "name", "place"}
)
UNITS: Final = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
DAY_SETS: Final = {"everyday": EVERY_DAY, "workdays": WORKDAYS, "weekend": EVERY_DAY - WORKDAYS}

Line = Annotated[str, StringConstraints(min_length=1, max_length=900)]


def _clock_time(written: Any) -> Any:
    if not isinstance(written, str) or not re.fullmatch(r"\d{1,2}:\d\d", written):
        raise ValueError('expected a time like "22:00"')
    hour, minute = written.split(":")
    return time(int(hour), int(minute))


ClockTime = Annotated[time, BeforeValidator(_clock_time)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TimeEntry(_Strict):
    """One way to say a time, and what its words leave to be known."""

    say: Line = Field(description="a template")
    factor: float | None = Field(default=None, description="a number")
    plus: float = Field(default=0.0, description="a number")
    seconds: float | None = Field(default=None, description="seconds")
    hour: int | None = Field(default=None, ge=0, le=24, description="a whole number from 0 to 24")
    minute: int | None = Field(default=None, ge=0, le=59, description="a whole number from 0 to 59")
    before: bool = Field(default=False, description="true or false")
    begins: ClockTime | None = Field(default=None, description='a time like "22:00"')
    ends: ClockTime | None = Field(default=None, description='a time like "22:00"')


class TimesEntry(_Strict):
    """How the time is told."""

    numbers: dict[str, int] = Field(description="for each word its number")
    multipliers: dict[str, int] = Field(default={}, description="for each word the number it multiplies by")
    units: dict[Literal["second", "minute", "hour", "day", "week"], list[str]] = Field(description="lists of words")
    days: dict[str, int] = Field(description="for each word the days from today")
    weekdays: dict[str, int] = Field(description="for each word 0 (Monday) to 6")
    next_week: list[str] = Field(default=[], description="a list of words")
    this_week: list[str] = Field(default=[], description="a list of words")
    months: dict[str, int] = Field(default={}, description="for each word 1 to 12")
    ordinals: dict[str, int] = Field(default={}, description="for each word 1 to 31")
    parts: dict[str, Annotated[tuple[int, int, ClockTime], Field(strict=False)]] = Field(
        description="from, to and usual hour of parts of the day"
    )
    part_words: dict[str, str] = Field(default={}, description="for each word a part")
    after_words: dict[str, str] = Field(default={}, description="for each word a part")
    day_parts: dict[str, Annotated[tuple[int | None, str], Field(strict=False)]] = Field(
        default={}, description="days from today, and a part"
    )
    day_sets: dict[str, Literal["everyday", "workdays", "weekend"] | list[int]] = Field(
        default={}, description="everyday, workdays, weekend or a list of days from 0 (Monday) to 6"
    )
    day_joints: list[str] = Field(default=[], description="a list of words")
    clocks: list[TimeEntry] = Field(description="a list of ways to say a time of day")
    dates: list[TimeEntry] = Field(default=[], description="a list of ways to say a date")
    durations: list[TimeEntry] = Field(description="a list of ways to say how long")
    rhythms: list[TimeEntry] = Field(default=[], description="a list of ways to say how often")
    hours: list[TimeEntry] = Field(default=[], description="a list of ways to say from when to when")
    untils: list[TimeEntry] = Field(default=[], description="a list of ways to say until when")
    moments: list[TimeEntry] = Field(description="a list of ways to say when")


class CommandEntry(_Strict):
    """One way to ask for something."""

    say: Line = Field(description="a template")
    repeat: Literal["once", "each"] | None = Field(default=None, description='"once" or "each"')
    needs: Literal["spoken", "told", "known"] | None = Field(default=None, description="spoken, told or known")
    points: bool = Field(default=False, description="true or false")
    names: bool = Field(default=False, description="true or false")


class ModifierEntry(_Strict):
    """One way to say where, when or how often."""

    say: Line = Field(description="a template")
    repeat: Literal["once", "each"] | None = Field(default=None, description='"once" or "each"')


class AnswersEntry(_Strict):
    """Ways to answer a question."""

    yes: list[Line] = Field(default=[], description="a list of templates")
    no: list[Line] = Field(default=[], description="a list of templates")
    all: list[Line] = Field(default=[], description="a list of templates")
    dropped: list[Line] = Field(default=[], description="a list of templates")
    number: list[Line] = Field(default=[], description="a list of templates with {ordinal}")
    words: list[Line] = Field(default=[], description="a list of templates with {thing}")
    ordinals: dict[str, int] = Field(default={}, description="for each word its number; -1 for the last")


_Deeds = Literal[
    "again",
    "talk",
    "quiet",
    "list",
    "happened",
    "acknowledge",
    "snooze",
    "pause",
    "resume",
    "cancel",
    "change",
    "remind",
    "add",
]
_Refusable = Literal["condition", "message", "said", "thing"]


class SpeechFile(_Strict):
    """One language."""

    language: str = Field(pattern=r"^[a-z]{2,3}$", description='a language code like "en"')
    hesitations: list[str] = Field(default=[], description="a list of words")
    by_ear: list[str] = Field(default=[], description="a list of words")
    called: Line = Field(description="a template with {name}")
    lead: Line = Field(description="a template")
    parts: dict[str, Line] = Field(default={}, description="named templates")
    pronouns: Line = Field(description="a template")
    everything: Line = Field(description="a template")
    noise: list[str] = Field(default=[], description="a list of words")
    times: TimesEntry = Field(description="how the time is told")
    feed_at: Line = Field(description="a template with {place}")
    places: dict[str, list[str]] = Field(default={}, description="for a feed's name a list of words")
    completed: list[str] = Field(default=[], description="a list of endings")
    open_ends: list[str] = Field(default=[], description="a list of words")
    modifiers: list[ModifierEntry] = Field(default=[], description="a list of templates")
    commands: dict[_Deeds, list[CommandEntry]] = Field(description="for each deed a list of templates")
    refused: dict[_Refusable, list[Line]] = Field(default={}, description="lists of templates")
    allowed: dict[_Refusable, list[Line]] = Field(default={}, description="lists of templates")
    answers: AnswersEntry = Field(default=AnswersEntry(), description="ways to answer")
    replies: dict[str, str] = Field(default={}, description="for each reply a sentence")


_TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "times": TimesEntry,
    "commands": CommandEntry,
    "modifiers": ModifierEntry,
    "answers": AnswersEntry,
    **dict.fromkeys(("clocks", "dates", "durations", "rhythms", "hours", "untils", "moments"), TimeEntry),
}


def load_speechbook(book: Phrasebook, own: Path | None = None, shipped: Path | None = None) -> Speechbook:
    """Our languages of speech and those of the folder `own`/speech, beside the rules and languages of `book`.

    Raises:
        ConfigError: lists every problem of every file.
    """
    problems: list[str] = []
    folders = [shipped or shipped_rules(), *([own] if own is not None else [])]
    speeches = [_speech(path, book, problems) for path in yaml_files(folder / SPEECH for folder in folders).values()]
    if not speeches:
        problems.append(f"{folders[0] / SPEECH}: holds no language; expected files like en.yaml")
    if problems:
        raise ConfigError(*problems)
    return Speechbook(book=book, speeches=tuple(speech for speech in speeches if speech is not None))


def _speech(path: Path, book: Phrasebook, problems: list[str]) -> Speech | None:
    entry = checked_file(path, SpeechFile, problems, _TABLES)
    if entry is None:
        return None
    tongue = next((tongue for tongue in book.tongues if tongue.language == entry.language), None)
    if tongue is None:
        problems.append(f"{path}: language {entry.language!r} has no file in the folder wording/")
        return None
    return _Builder(str(path), entry, tongue.is_spaced, problems).speech()


class _Builder:
    """Parses one file's templates; lives for one call of `_speech`."""

    def __init__(self, where: str, entry: SpeechFile, is_spaced: bool, problems: list[str]) -> None:
        self._where = where
        self._entry = entry
        self._is_spaced = is_spaced
        self._problems = problems
        endings = "|".join(sorted(map(re.escape, entry.completed), key=len, reverse=True))
        completed = {"completed": rf"{templates.FREE}(?:{endings})"} if endings else {}
        # where words have edges, free text is whole words: "not the cup" has no "t the cup"
        words = dict.fromkeys(FREE_SLOTS, rf"(?<!\w){templates.FREE}(?!\w)") if is_spaced else {}
        self._typed = {**words, **MARKS, **completed}

    def speech(self) -> Speech | None:
        before = len(self._problems)
        entry = self._entry
        times = self._times(entry.times)
        commands = [
            self._command(f"commands.{deed}[{at}]", Deed(deed), command)
            for deed, commands in entry.commands.items()
            for at, command in enumerate(commands)
        ]
        modifiers = [self._modifier(f"modifiers[{at}]", one) for at, one in enumerate(entry.modifiers)]
        lead = self._pattern("lead", entry.lead)
        called, feed_at = self._node("called", entry.called), self._node("feed_at", entry.feed_at)
        pronouns, everything = self._pattern("pronouns", entry.pronouns), self._pattern("everything", entry.everything)
        refused, allowed = self._conditions("refused", entry.refused), self._conditions("allowed", entry.allowed)
        answers = self._answers(entry.answers)
        self._check_replies(entry.replies)
        if len(self._problems) > before or times is None:
            return None
        return Speech(
            language=entry.language,
            hesitations=self._hesitations(),
            by_ear=tuple(entry.by_ear),
            called=called or templates.Row(()),
            lead=lead or re.compile(""),
            times=times,
            commands=tuple(one for one in commands if one is not None),
            modifiers=tuple(one for one in modifiers if one is not None),
            feed_at=feed_at or templates.Row(()),
            places={name: tuple(words) for name, words in entry.places.items()},
            pronouns=pronouns or re.compile(r"(?!)"),
            everything=everything or re.compile(r"(?!)"),
            noise=frozenset(entry.noise),
            open_ends=tuple(entry.open_ends),
            refused=refused,
            allowed=allowed,
            answers=answers,
            replies=entry.replies,
        )

    # --- templates ---

    def _node(self, key: str, template: str) -> Node | None:
        try:
            return templates.parse(template, self._entry.parts)
        except ValueError as error:
            self._problems.append(f"{self._where}: {key}: {error}")
            return None

    def _pattern(
        self, key: str, template: str, typed: Mapping[str, str] | None = None, slots: frozenset[str] = FREE_SLOTS
    ) -> re.Pattern[str] | None:
        node = self._node(key, template)
        if node is None or not self._is_sound(key, node, slots):
            return None
        return templates.pattern(node, {**self._typed, **(typed or {})})

    def _patterns(self, key: str, lines: Iterable[str]) -> tuple[re.Pattern[str], ...]:
        found = (self._pattern(f"{key}[{at}]", line, {"rest": ".*"}) for at, line in enumerate(lines))
        return tuple(one for one in found if one is not None)

    def _conditions(self, key: str, lists: Mapping[_Refusable, list[str]]) -> dict[str, tuple[re.Pattern[str], ...]]:
        return {what: self._patterns(f"{key}.{what}", lines) for what, lines in lists.items()}

    def _is_sound(self, key: str, node: Node, known: frozenset[str]) -> bool:
        """Slots that are known, and few enough of free text that matching takes no time worth speaking of."""
        slots = templates.slots(node)
        if unknown := [slot for slot in slots if slot not in known and slot not in MARKS]:
            expected = ", ".join(sorted(known | set(MARKS)))
            self._problems.append(f"{self._where}: {key}: {{{unknown[0]}}} is not one of {expected}")
        free = templates.most_slots(node, lambda slot: slot not in MARKS)
        if free > MOST_FREE_SLOTS:
            self._problems.append(
                f"{self._where}: {key}: has {free} slots of free text; at most {MOST_FREE_SLOTS} are matched fast"
            )
        return not unknown and free <= MOST_FREE_SLOTS

    # --- parts ---

    def _command(self, key: str, deed: Deed, entry: CommandEntry) -> CommandForm | None:
        node = self._node(key, entry.say)
        if node is None or not self._is_sound(key, node, FREE_SLOTS):
            return None
        return CommandForm(
            deed=deed,
            node=node,
            typed=self._typed,
            source=entry.say,
            need=Need(entry.needs or ""),
            repeat=Repeat(entry.repeat) if entry.repeat else None,
            is_pointing=entry.points,
            is_naming=entry.names,
        )

    def _modifier(self, key: str, entry: ModifierEntry) -> Modifier | None:
        node = self._node(key, entry.say)
        if node is None or not self._is_sound(key, node, frozenset()):
            return None
        said = templates.expression(node, self._typed)
        return Modifier(
            at_end=re.compile(rf"[, ]*{said}$", re.IGNORECASE),
            at_start=re.compile(rf"{said}[, ]*", re.IGNORECASE),
            repeat=Repeat(entry.repeat) if entry.repeat else None,
        )

    def _hesitations(self) -> re.Pattern[str]:
        words = "|".join(sorted(map(re.escape, self._entry.hesitations), key=len, reverse=True)) or r"(?!)"
        # between ideographs there are no words: there a hesitation is one only at the start or after a comma
        edged = rf"(?:^|(?<=[ ,]))(?:{words})(?:[, ]+|$)" if self._is_spaced else rf"(?:^|(?<=,))(?:{words})+,?"
        return re.compile(edged, re.IGNORECASE)

    def _answers(self, entry: AnswersEntry) -> Answers:
        ordinals = "|".join(sorted(map(re.escape, entry.ordinals), key=len, reverse=True)) or r"(?!)"

        def read(key: str, lines: Sequence[str]) -> tuple[re.Pattern[str], ...]:
            typed, slots = {"ordinal": f"(?:{ordinals})"}, FREE_SLOTS | {"ordinal"}
            found = (self._pattern(f"answers.{key}[{at}]", line, typed, slots) for at, line in enumerate(lines))
            return tuple(one for one in found if one is not None)

        return Answers(
            yes=read("yes", entry.yes),
            no=read("no", entry.no),
            all=read("all", entry.all),
            dropped=read("dropped", entry.dropped),
            number=read("number", entry.number),
            words=read("words", entry.words),
            ordinals=entry.ordinals,
        )

    def _check_replies(self, replies: Mapping[str, str]) -> None:
        """Every sentence is there, and fills in only what there is."""
        missing, unknown = sorted(set(REPLIES) - set(replies)), sorted(set(replies) - set(REPLIES) - set(OPTIONAL))
        self._problems += [f"{self._where}: replies.{name}: missing; expected a sentence" for name in missing]
        self._problems += [f"{self._where}: replies.{name}: unknown sentence" for name in unknown]
        for name, slots in {**REPLIES, **OPTIONAL}.items():
            try:
                replies.get(name, "").format(**dict.fromkeys(slots, "x"))
            except (KeyError, ValueError, IndexError) as error:
                known = ", ".join(f"{{{slot}}}" for slot in sorted(slots)) or "no slots"
                self._problems.append(f"{self._where}: replies.{name}: {error} cannot be filled in; expected {known}")

    def _times(self, entry: TimesEntry) -> TimeWords | None:
        before = len(self._problems)
        forms: Callable[[str, Sequence[TimeEntry]], tuple[TimeForm, ...]] = self._time_forms
        kinds = {
            TimeKind.RHYTHM: forms("rhythms", entry.rhythms),
            TimeKind.HOURS: forms("hours", entry.hours),
            TimeKind.UNTIL: forms("untils", entry.untils),
            TimeKind.MOMENT: forms("moments", entry.moments),
        }
        words = TimeWords(
            is_spaced=self._is_spaced,
            numbers=entry.numbers,
            multipliers=entry.multipliers,
            units={word: UNITS[unit] for unit, words in entry.units.items() for word in words},
            days=entry.days,
            weekdays=entry.weekdays,
            next_week=tuple(entry.next_week),
            this_week=tuple(entry.this_week),
            months=entry.months,
            ordinals=entry.ordinals,
            parts={name: Part(begins=part[0], ends=part[1], at=part[2]) for name, part in entry.parts.items()},
            part_words=self._to_parts("part_words", entry.part_words),
            after_words=self._to_parts("after_words", entry.after_words),
            day_parts=entry.day_parts,
            day_sets={
                word: DAY_SETS[days] if isinstance(days, str) else frozenset(days)
                for word, days in entry.day_sets.items()
            },
            day_joints=tuple(entry.day_joints),
            clocks=forms("clocks", entry.clocks),
            dates=forms("dates", entry.dates),
            durations=forms("durations", entry.durations),
            forms=kinds,
        )
        if len(self._problems) > before:
            return None
        self._check_slots(words)
        return words

    def _to_parts(self, key: str, words: Mapping[str, str]) -> Mapping[str, str]:
        known = self._entry.times.parts
        self._problems += [
            f"{self._where}: times.{key}.{word}: {part!r} is not one of {', '.join(known)}"
            for word, part in words.items()
            if part not in known
        ]
        return words

    def _time_forms(self, key: str, entries: Sequence[TimeEntry]) -> tuple[TimeForm, ...]:
        nodes = [(self._node(f"times.{key}[{at}]", entry.say), entry) for at, entry in enumerate(entries)]
        return tuple(
            TimeForm(
                node=node,
                factor=entry.factor,
                plus=entry.plus,
                span=None if entry.seconds is None else timedelta(seconds=entry.seconds),
                hour=entry.hour,
                minute=entry.minute,
                is_before=entry.before,
                begins=entry.begins,
                ends=entry.ends,
            )
            for node, entry in nodes
            if node is not None
        )

    def _check_slots(self, words: TimeWords) -> None:
        """Every slot of a time template must be one that times have: there is no free text in a time."""
        forms = [
            *words.clocks,
            *words.dates,
            *words.durations,
            *(form for some in words.forms.values() for form in some),
        ]
        self._problems += [
            f"{self._where}: times: {{{slot}}} is not one of {', '.join(sorted(words.typed))}"
            for form in forms
            for slot in templates.slots(form.node)
            if slot not in words.typed
        ]
