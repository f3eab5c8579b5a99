"""What a spoken or typed sentence can ask for: a small closed union. Values only; `phrases` makes them of sentences,
`conversing` carries them out.

All moments are aware UTC. Which task a person means is kept in the person's words: only who knows the tasks can say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from omni_watch.domain.rhythms import Rhythm
from omni_watch.domain.rules import Language, Repeat
from omni_watch.domain.tasks import WatchWindow


@dataclass(frozen=True, slots=True)
class Which:
    """The task or tasks that are meant."""

    words: str = ""  # "the kettle"; empty: only pointed at, as in "stop watching it"
    is_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where and when a task is watched; None and empty leave it open."""

    repeat: Repeat | None = None
    feeds: tuple[str, ...] = ()
    window: WatchWindow | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return self == Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Watch for something new."""

    text: str  # the sentence, without the name we are called by
    condition: str  # what should happen
    message: str | None = None  # the person's own words to say then, as a sentence
    is_thing: bool = False  # the condition only names a thing: "watch for the elevator"
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Watch differently. `old` and `new` are words to exchange; `message` is what to say from now on."""

    which: Which = Which()
    old: str | None = None  # None with a `new`: the whole condition becomes `new`
    new: str | None = None
    message: str | None = None
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop watching for good."""

    which: Which = Which()


@dataclass(frozen=True, slots=True)
class Pause:
    """Do not watch until it is resumed, or until a moment."""

    which: Which = Which()
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Watch again."""

    which: Which = Which()


@dataclass(frozen=True, slots=True)
class Snooze:
    """Say it again later; with nothing to point at, what was told last."""

    which: Which = Which()
    until: datetime | None = None  # None: ten minutes


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The person has taken note of what was told last."""


@dataclass(frozen=True, slots=True)
class List:
    """What is being watched for, and which reminders are set."""


@dataclass(frozen=True, slots=True)
class Happened:
    """What has happened since a moment; `about` is empty for anything."""

    about: Which = Which(is_all=True)
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class SayAgain:
    """Repeat what was said last."""


@dataclass(frozen=True, slots=True)
class BeQuiet:
    """Say nothing aloud until a moment; None: only stop what is being said now."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Talk:
    """Speak again, before the quiet would have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remind:
    """Say something at a moment, and again in a rhythm if there is one."""

    text: str  # the sentence, without the name we are called by
    message: str | None = None  # as a sentence; None: only that the time has come
    at: datetime
    rhythm: Rhythm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to our open question. Exactly one field says something."""

    is_yes: bool | None = None  # yes or no
    is_all: bool = False  # "both", "all of them"
    is_dropped: bool = False  # "never mind"
    number: int | None = None  # 1 for the first; -1 for the last
    words: str | None = None  # "the kettle one"


@dataclass(frozen=True, slots=True)
class Nothing:
    """Not for us: a mention, television, or words in no known form."""


Request = (
    Add
    | Change
    | Cancel
    | Pause
    | Resume
    | Snooze
    | Acknowledge
    | List
    | Happened
    | SayAgain
    | BeQuiet
    | Talk
    | Remind
    | Answer
    | Nothing
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """What a sentence asks for."""

    request: Request
    language: Language
    why: str = ""  # which form fitted, or why nothing is done; for people who look into it, in English
    is_named: bool = False  # the sentence called us by our name

    @property
    def is_request(self) -> bool:
        return not isinstance(self.request, Nothing)
