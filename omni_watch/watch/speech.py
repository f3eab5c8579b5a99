"""Speech: the forms in which a language's requests are taken by voice. Data in rules/speech/, parsed by
`omni_watch.config.speechbook`; `phrases` decides by it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final

from omni_watch.domain.rules import Language, Repeat
from omni_watch.watch import templates
from omni_watch.watch.choosing import Phrasebook
from omni_watch.watch.moments import TimeKind, TimeWords
from omni_watch.watch.templates import Node

# What was found in a sentence is replaced by one of these characters, which `tidy` lets nobody write.
MARKS: Final[Mapping[str, str]] = {
    TimeKind.RHYTHM.value: "\ue000",
    TimeKind.HOURS.value: "\ue001",
    TimeKind.UNTIL.value: "\ue002",
    TimeKind.MOMENT.value: "\ue003",
    TimeKind.DURATION.value: "\ue004",
    "feed": "\ue005",
}


class Deed(Enum):
    """What a form asks for; the names of the groups under `commands:`."""

    AGAIN = "again"
    TALK = "talk"
    QUIET = "quiet"
    LIST = "list"
    HAPPENED = "happened"
    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    CHANGE = "change"
    REMIND = "remind"
    ADD = "add"


class Need(Enum):
    """The context without which a form is not meant for us."""

    NONE = ""
    SPOKEN = "spoken"  # we said something a moment ago
    TOLD = "told"  # an alert was told a moment ago
    KNOWN = "known"  # what it names is being watched for; what it adds is a thing that the rules know


@dataclass(frozen=True, kw_only=True)
class CommandForm:
    """One way to ask for one deed; the groups of `pattern` are named as in `templates.pattern`.

    A pattern is compiled when a sentence first may fit it: all of them at once would take seconds.
    """

    deed: Deed
    node: Node
    typed: Mapping[str, str]
    source: str  # as written, for people
    need: Need = Need.NONE
    repeat: Repeat | None = None
    is_pointing: bool = False  # names no task, but means one
    is_naming: bool = False  # its condition is a thing ("watch for the elevator"), not something that happens

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return templates.pattern(self.node, self.typed)

    @cached_property
    def needed(self) -> frozenset[str]:
        """A sentence without any of these cannot fit."""
        return templates.needed(self.node)

    def may_fit(self, lowered: str) -> bool:
        return not self.needed or any(word in lowered for word in self.needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modifier:
    """Where, when and how often; may follow or precede a request."""

    at_end: re.Pattern[str]
    at_start: re.Pattern[str]
    repeat: Repeat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Ways to answer our question."""

    yes: tuple[re.Pattern[str], ...] = ()
    no: tuple[re.Pattern[str], ...] = ()
    all: tuple[re.Pattern[str], ...] = ()
    dropped: tuple[re.Pattern[str], ...] = ()
    number: tuple[re.Pattern[str], ...] = ()
    words: tuple[re.Pattern[str], ...] = ()
    ordinals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Speech:
    """What is said in one language. Compared by identity, so that what is made of it can be kept."""

    language: Language
    hesitations: re.Pattern[str]
    by_ear: tuple[str, ...]  # words of requests that recognisers write with others that sound the same
    called: Node  # a template with {name}
    lead: re.Pattern[str]  # what people say before a request: "hey, could you please"
    times: TimeWords
    commands: tuple[CommandForm, ...]  # the first that fits is taken
    modifiers: tuple[Modifier, ...]
    feed_at: Node  # a template with {place}
    places: Mapping[str, tuple[str, ...]]  # feed name -> how people call such a place
    pronouns: re.Pattern[str]
    everything: re.Pattern[str]
    noise: frozenset[str]
    open_ends: tuple[str, ...]
    refused: Mapping[str, tuple[re.Pattern[str], ...]]  # "condition", "message", "said", "thing"
    allowed: Mapping[str, tuple[re.Pattern[str], ...]]
    answers: Answers
    replies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Speechbook:
    """Every language of speech, with the rules and the normal forms of words; build it once."""

    book: Phrasebook
    speeches: tuple[Speech, ...]

    def make_ready(self) -> int:
        """Compile every pattern now, which takes about a second, instead of when a sentence first needs it; how many.
        For who listens; any thread."""
        forms = [form.pattern for speech in self.speeches for form in speech.commands]
        return len(forms) + sum(speech.times.make_ready() for speech in self.speeches)

    def speech(self, language: Language) -> Speech:
        """The language's; the first one when there is none, since an answer in some language is better than none."""
        return next((one for one in self.speeches if one.language == language), self.speeches[0])
