"""A spoken or typed sentence -> what it asks for. Pure, and strict: a house hears people talk, and television.

Only the forms of rules/speech/ are requests, and what people ask of one another in the same form ("tell me when you
are ready") is refused. A sentence with our name is certainly meant for us, so what it may be about is wider.
`wording.read` stays the lenient way for words that were typed as a task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from omni_watch.domain.rhythms import EverySoLong, OnDays
from omni_watch.domain.tasks import Task, WatchWindow
from omni_watch.watch import templates
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
from omni_watch.watch.meant import meant, names_a_thing
from omni_watch.watch.moments import Moment, TimeValue
from omni_watch.watch.speech import MARKS, CommandForm, Deed, Modifier, Need, Speech, Speechbook
from omni_watch.watch.tongues import Tongue, tidy
from omni_watch.watch.wording import as_sentence, turned

LONGEST_SPOKEN: Final = 200  # characters; a request is shorter, and this bounds the time that matching can take
SHORTEST_QUIET: Final = timedelta(minutes=1)  # "be quiet for a second" is said to people
A_MOMENT: Final = timedelta(seconds=60)  # after which "say that again" is not meant for us any more
_LAST_MARKS: Final = ".。!?~…,; "
_EDGES: Final = _LAST_MARKS + "\"'-:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """What a sentence is understood by, besides its words."""

    now: datetime  # aware
    zone: str  # IANA name
    feeds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # that we are called by
    is_name_needed: bool = False
    tasks: tuple[Task, ...] = ()  # that are live
    is_asked: bool = False  # our question waits for an answer
    spoken_at: datetime | None = None  # when we last said anything
    told_at: datetime | None = None  # when we last told an alert

    def was_just(self, at: datetime | None) -> bool:
        return at is not None and self.now - at <= A_MOMENT


def understand(sentence: str, book: Speechbook, hearing: Hearing) -> Understood:
    """What the sentence asks for; `Nothing` when it is not certainly a request. Never raises."""
    text = tidy(sentence[: 4 * LONGEST_SPOKEN]).strip(_LAST_MARKS)
    if len(text) > LONGEST_SPOKEN:
        return _nothing(book.speeches[0], f"longer than {LONGEST_SPOKEN} characters")
    if not any(character.isalnum() for character in text):
        return _nothing(book.speeches[0], "no words")
    text, is_named = _without_name(text, book, hearing.names)
    likeliest = _likeliest(text, book)
    if hearing.is_name_needed and not is_named and not hearing.is_asked:
        return _nothing(likeliest[0], "our name was not called")
    sayings = [_Saying(text, speech, book, hearing, is_named=is_named) for speech in likeliest]
    if hearing.is_asked and (answer := _first(saying.answer() for saying in sayings)):
        return answer
    if request := _first(saying.request() for saying in sayings):
        return request
    if hearing.is_asked and (answer := _first(saying.words_of_answer() for saying in sayings)):
        return answer
    return _nothing(likeliest[0], next((saying.why_not for saying in sayings if saying.why_not), "no known form"))


def _first(found: Iterator[Understood | None]) -> Understood | None:
    return next((one for one in found if one is not None), None)


def _nothing(speech: Speech, why: str) -> Understood:
    return Understood(request=Nothing(), language=speech.language, why=why)


def _likeliest(text: str, book: Speechbook) -> list[Speech]:
    def rank(speech: Speech) -> tuple[float, int]:
        tongue = book.book.tongue(speech.language)
        return -tongue.share(text), -tongue.known(text)

    return sorted(book.speeches, key=rank)


# --- our name, and the places we watch ---


def _without_name(text: str, book: Speechbook, names: tuple[str, ...]) -> tuple[str, bool]:
    """The text without our name before or behind it, and whether it was there."""
    for speech in book.speeches if names else ():
        before, behind = _called(speech, names)
        for hit in (before.match(text), behind.search(text)):
            rest = text.replace(hit[0], "", 1).strip(_EDGES) if hit else ""
            if hit and rest:
                return rest, True
    return text, False


@lru_cache(maxsize=16)
def _called(speech: Speech, names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    name = speech.times.any_of(name.lower() for name in names)
    called = templates.expression(speech.called, {"name": name})
    return re.compile(called, re.IGNORECASE), re.compile(rf"[ ,]+{name}$", re.IGNORECASE)


@lru_cache(maxsize=16)
def _places(speech: Speech, feeds: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Where a feed is named, and which one by which words."""
    feed_of: dict[str, str] = {}
    for feed in feeds:
        plain = re.sub(r"[-_\s]+", "_", feed.lower())
        bare = re.sub(r"_(camera|cam|mic|feed|\d+)$", "", plain)
        for words in (plain.replace("_", " "), *speech.places.get(bare, ())):
            feed_of.setdefault(words, feed)
    place = speech.times.any_of(feed_of)
    return re.compile(templates.expression(speech.feed_at, {"place": place}), re.IGNORECASE), feed_of


# --- one sentence in one language ---

Span = tuple[int, int]  # of the marked text


class _Saying:
    """One sentence as one language reads it; lives for one call of `understand`.

    Times and places are replaced by one mark each, so that forms can name them; `_text` gives a span's own words back.
    """

    def __init__(self, text: str, speech: Speech, book: Speechbook, hearing: Hearing, *, is_named: bool) -> None:
        self._speech = speech
        self._book = book
        self._hearing = hearing
        self._is_named = is_named
        self._tongue: Tongue = book.book.tongue(speech.language)
        self._own = speech.hesitations.sub("", text).strip(_EDGES)
        self._plain = self._own.translate(dict(self._tongue.variants))
        self._values: dict[int, TimeValue | str] = {}  # position of a mark -> what it stands for
        self._origins: list[Span] = []  # of each character of the marked text, in the sentence
        self._marked = self._mark()
        self.why_not = ""

    def _mark(self) -> str:
        hearing = self._hearing
        found = self._speech.times.find(self._plain, now=hearing.now, zone=hearing.zone)
        stands: list[tuple[Span, str, TimeValue | str]] = [
            ((one.begins, one.ends), MARKS[one.kind.value], one.value) for one in found
        ]
        stands += [stand for stand in self._feeds_named() if all(_is_apart(stand[0], other[0]) for other in stands)]
        marked: list[str] = []
        at = 0
        for (begins, ends), mark, value in sorted(stands, key=lambda stand: stand[0]):
            self._origins += [(n, n + 1) for n in range(at, begins)] + [(begins, ends)]
            marked += [self._plain[at:begins], mark]
            self._values[len(self._origins) - 1] = value
            # in Chinese a comma behind a time says no more than a breath; recognisers write one, people often do not
            at = ends + (not self._tongue.is_spaced and self._plain[ends : ends + 1] == ",")
        self._origins += [(n, n + 1) for n in range(at, len(self._plain))]
        return "".join((*marked, self._plain[at:]))

    def _feeds_named(self) -> list[tuple[Span, str, TimeValue | str]]:
        if not self._hearing.feeds:
            return []
        pattern, feed_of = _places(self._speech, self._hearing.feeds)
        return [
            (hit.span(), MARKS["feed"], feed_of[hit["place_0"].lower()])
            for hit in pattern.finditer(self._plain)
            if hit["place_0"].lower() in feed_of
        ]

    # --- reading spans ---

    def _text(self, span: Span, *, is_plain: bool = False) -> str:
        """A span's words as they were said (or, `is_plain`, in the characters that forms are written in)."""
        begins, ends = span
        if begins >= ends:
            return ""
        sentence = self._plain if is_plain else self._own
        return sentence[self._origins[begins][0] : self._origins[ends - 1][1]].strip(_EDGES)

    def _span(self, hit: re.Match[str], slot: str) -> Span | None:
        names = [name for name in hit.re.groupindex if name.rpartition("_")[0] == slot and hit[name] is not None]
        return hit.span(names[0]) if names else None

    def _value(self, hit: re.Match[str], *slots: str) -> TimeValue | str | None:
        spans = (self._span(hit, slot) for slot in slots)
        return next((self._values[span[0]] for span in spans if span is not None), None)

    def _at(self, hit: re.Match[str], *slots: str) -> datetime | None:
        """The moment that one of the slots names."""
        value = self._value(hit, *slots)
        if isinstance(value, Moment):
            return value.at
        if isinstance(value, timedelta):
            return self._hearing.now + value
        return None

    # --- requests ---

    def request(self) -> Understood | None:
        """What is asked; None when nothing is."""
        whole = (0, len(self._marked))
        if found := self._fitting(whole, Limits()):
            return found
        inner, limits = self._peeled(whole)
        return self._fitting(inner, limits) if inner != whole and not limits.is_empty else None

    def _fitting(self, span: Span, limits: Limits) -> Understood | None:
        """What the span asks for, after what people say before a request; or as it stands."""
        lead = self._speech.lead.match(self._marked, *span)
        begins = lead.end() if lead is not None else span[0]
        found = self._form_for((begins, span[1]), limits)
        return found if found is not None or begins == span[0] else self._form_for(span, limits)

    def _form_for(self, span: Span, limits: Limits) -> Understood | None:
        lowered = self._marked[slice(*span)].lower()
        for form in self._speech.commands:
            if not form.may_fit(lowered) or not self._is_called_for(form):
                continue
            if not limits.is_empty and form.deed not in {Deed.ADD, Deed.CHANGE}:
                continue
            hit = form.pattern.fullmatch(self._marked, *span)
            request = self._made(form, hit, limits) if hit is not None else None
            if request is not None:
                return self._understood(request, form.source)
        return None

    def _understood(self, request: Request, why: str) -> Understood:
        return Understood(request=request, language=self._speech.language, why=why, is_named=self._is_named)

    def _is_called_for(self, form: CommandForm) -> bool:
        hearing = self._hearing
        if self._is_named or form.need in {Need.NONE, Need.KNOWN}:
            return True
        if form.need is Need.TOLD:
            return hearing.was_just(hearing.told_at)
        return hearing.was_just(hearing.spoken_at) or hearing.was_just(hearing.told_at)

    def _made(self, form: CommandForm, hit: re.Match[str], limits: Limits) -> Request | None:
        match form.deed:
            case Deed.ADD:
                return self._add(form, hit, limits)
            case Deed.REMIND:
                return self._remind(hit)
            case Deed.CHANGE:
                return self._change(form, hit, limits)
            case Deed.HAPPENED:
                return self._happened(form, hit)
            case Deed.QUIET:
                until = self._at(hit, "until", "duration", "moment")
                is_meant = until is None or until >= self._hearing.now + SHORTEST_QUIET
                return BeQuiet(until) if is_meant else None
            case Deed.AGAIN:
                return SayAgain()
            case Deed.TALK:
                return Talk()
            case Deed.LIST:
                return List()
            case Deed.ACKNOWLEDGE:
                return Acknowledge()
            case Deed.SNOOZE | Deed.PAUSE | Deed.RESUME | Deed.CANCEL:
                return self._about_a_task(form, hit)

    def _about_a_task(self, form: CommandForm, hit: re.Match[str]) -> Request | None:
        which = self._which(hit)
        if which is None or (form.need is Need.KNOWN and which == Which()):
            return None
        until = self._at(hit, "until", "duration", "moment")
        match form.deed:
            case Deed.SNOOZE:
                return Snooze(which, until)
            case Deed.PAUSE:
                return Pause(which, until)
            case Deed.RESUME:
                return Resume(which)
            case _:
                return Cancel(which)

    def _happened(self, form: CommandForm, hit: re.Match[str]) -> Request | None:
        value = self._value(hit, "moment", "duration")
        now = self._hearing.now
        since = value.since if isinstance(value, Moment) else now - value if isinstance(value, timedelta) else None
        if self._span(hit, "thing") is None:
            return Happened(Which(is_all=True), since)
        which = self._which(hit)
        return None if which is None or not which.words else Happened(which, since)

    # --- which task ---

    def _which(self, hit: re.Match[str]) -> Which | None:
        """Which task is meant; None when nobody could mean one of ours."""
        return self._meant(self._span(hit, "thing"))

    def _meant(self, span: Span | None) -> Which | None:
        if span is None:
            return Which()
        words = self._text(span, is_plain=True)
        if self._speech.everything.fullmatch(words):
            return Which(is_all=True) if self._hearing.tasks or self._is_named else None
        if self._is_known(words):
            return Which(self._text(span))
        if self._speech.pronouns.fullmatch(words):
            return Which() if self._hearing.tasks or self._is_named else None
        inner, limits = self._peeled(span)
        if limits.until is None and self._is_known(peeled := self._text(inner, is_plain=True)):
            return Which(peeled)
        if self._is_named and not _fits(words, self._speech.refused.get("thing", ())):
            return Which(self._text(span))
        self.why_not = f"nothing that is being watched is called {words!r}"
        return None

    def _is_known(self, words: str) -> bool:
        return bool(words) and bool(meant(words, self._hearing.tasks, self._book))

    # --- limits ---

    def _peeled(self, span: Span) -> tuple[Span, Limits]:
        """The span without what only limits a request, at both its ends, and these limits."""
        limits = Limits()
        while True:
            peeled = next(self._peels(span, limits), None)
            if peeled is None:
                return span, limits
            span, limits = peeled

    def _peels(self, span: Span, limits: Limits) -> Iterator[tuple[Span, Limits]]:
        for modifier in self._speech.modifiers:
            if hit := modifier.at_end.search(self._marked, *span):
                rest = (span[0], hit.start())
                is_cut = self._span(hit, "feed") is not None and self._is_open(rest)
                if hit.end() > hit.start() and not is_cut:
                    yield rest, self._limited(limits, modifier, hit)
            if (hit := modifier.at_start.match(self._marked, *span)) and hit.end() > hit.start():
                yield (hit.end(), span[1]), self._limited(limits, modifier, hit)

    def _is_open(self, span: Span) -> bool:
        """Whether a sentence cannot end there: "someone is | in the kitchen"."""
        words = self._text(span, is_plain=True).lower()
        if not self._tongue.is_spaced:
            return words.endswith(self._speech.open_ends)
        return bool(words) and (words.split()[-1] in self._speech.open_ends or words.endswith("'s"))

    def _limited(self, limits: Limits, modifier: Modifier, hit: re.Match[str]) -> Limits:
        if modifier.repeat is not None:
            limits = replace(limits, repeat=modifier.repeat)
        until = self._at(hit, "until", "duration")
        if until is not None:
            limits = replace(limits, until=until)
        window, feed = self._value(hit, "hours"), self._value(hit, "feed")
        if isinstance(window, WatchWindow):
            limits = replace(limits, window=window)
        if isinstance(feed, str):
            limits = replace(limits, feeds=(*limits.feeds, feed))
        return limits

    # --- adding and changing ---

    def _add(self, form: CommandForm, hit: re.Match[str], limits: Limits) -> Request | None:
        span = self._span(hit, "condition") or self._span(hit, "completed")
        if span is None:
            return None
        inner, more = self._peeled(span)
        about, of_about = self._peeled(self._span(hit, "about") or (0, 0))
        condition = self._with(self._text(about), self._text(inner))
        is_alone = condition == self._text(inner)
        if not condition or not self._may_be("condition", self._text(inner, is_plain=True) if is_alone else condition):
            return None
        is_said, message = self._message(hit)
        if is_said and message is None:
            return None
        if form.need is Need.KNOWN and not self._is_named and not names_a_thing(condition, self._book):
            return None
        if not more.feeds:
            more = replace(more, feeds=tuple(dict.fromkeys(self._feeds_in(span))))
        return Add(
            text=self._own,
            condition=condition,
            message=message,
            is_thing=form.is_naming,
            limits=_merged(more, of_about, limits, Limits(repeat=form.repeat)),
        )

    def _with(self, about: str, condition: str) -> str:
        """The condition with what it is about: "the kettle and tell me when it boils"."""
        if not about or about.lower() in condition.lower():
            return condition
        if not self._tongue.is_spaced:
            return about + condition
        begins = re.match(rf"(?:{self._tongue.pronoun}|they)('s|'re)?\b", condition, re.IGNORECASE)
        if begins is None:
            return condition
        verb = {"'s": " is", "'re": " are"}.get(begins[1] or "", "")
        return f"{about}{verb}{condition[begins.end() :]}"

    def _feeds_in(self, span: Span) -> Iterator[str]:
        for at in range(*span):
            value = self._values.get(at)
            if isinstance(value, str):
                yield value

    def _message(self, hit: re.Match[str]) -> tuple[bool, str | None]:
        """Whether words to say were given, and those words as a sentence; None when they cannot be meant so."""
        said, reported = self._span(hit, "message"), self._span(hit, "indirect")
        span = said or reported
        if span is None:
            return False, None
        if not self._may_be("message" if said is None else "said", self._text(span, is_plain=True)):
            return True, None
        words = self._text(span)
        if not any(character.isalnum() for character in words):
            return True, None
        return True, as_sentence(words if said else turned(words, self._tongue), self._tongue)

    def _may_be(self, what: str, words: str) -> bool:
        """Whether these words can be a condition (or a message) that is meant for us."""
        speech = self._speech
        if sum(character.isalnum() for character in words) < (1 if what == "thing" else 2):
            return False
        is_for_us = self._is_named and what == "condition"
        if is_for_us or _fits(words, speech.allowed.get(what, ())):
            return True
        if _fits(words, speech.refused.get(what, ())):
            self.why_not = f"people say {words!r} to one another"
            return False
        return True

    def _change(self, form: CommandForm, hit: re.Match[str], limits: Limits) -> Request | None:
        span = self._span(hit, "limits") or self._span(hit, "thing")
        rest = None
        if span is not None:
            rest, more = self._peeled(span)
            if more.is_empty or (form.is_pointing and self._text(rest)):
                return None
            limits = _merged(more, limits)
        old, new = self._span(hit, "old"), self._span(hit, "new")
        which = self._pointed() if form.is_pointing else self._meant(old or rest)
        is_said, message = self._message(hit)
        if which is None or (is_said and message is None) or (old is not None and not which.words):
            return None
        if new is not None and not self._may_be(
            "condition" if old is None else "thing", self._text(new, is_plain=True)
        ):
            return None
        return Change(
            which=which,
            old=self._text(old) if old is not None else None,
            new=self._text(new) if new is not None else None,
            message=message,
            limits=_merged(limits, Limits(repeat=form.repeat)),
        )

    def _pointed(self) -> Which | None:
        hearing = self._hearing
        is_near = hearing.was_just(hearing.spoken_at) or hearing.was_just(hearing.told_at)
        return Which() if hearing.tasks or self._is_named or is_near else None

    # --- reminders ---

    def _remind(self, hit: re.Match[str]) -> Request | None:
        now = self._hearing.now
        value = self._value(hit, "rhythm")
        rhythm = value if isinstance(value, OnDays | EverySoLong) else None
        at = rhythm.after(now) if rhythm is not None else self._at(hit, "moment", "until", "duration")
        is_said, message = self._message(hit)
        if at is None or at <= now or (is_said and message is None):
            return None
        return Remind(text=self._own, message=message, at=at, rhythm=rhythm)

    # --- answers ---

    def answer(self) -> Understood | None:
        """The sentence as an answer in one of the known forms."""
        answers = self._speech.answers
        whole = (0, len(self._marked))
        text = self._text(whole, is_plain=True)
        for pattern in answers.number:
            if hit := pattern.fullmatch(text):
                number = answers.ordinals[hit["ordinal_0"].lower()] if hit["ordinal_0"] else -1
                return self._understood(Answer(number=number), "answer: number")
        known = (
            (answers.all, Answer(is_all=True)),
            (answers.dropped, Answer(is_dropped=True)),
            (answers.no, Answer(is_yes=False)),
            (answers.yes, Answer(is_yes=True)),
        )
        fitting = (answer for patterns, answer in known if _fits(text, patterns))
        return next((self._understood(answer, "answer") for answer in fitting), None)

    def words_of_answer(self) -> Understood | None:
        """The sentence as words for one of the tasks that we asked about."""
        text = self._text((0, len(self._marked)))
        for pattern in self._speech.answers.words:
            hit = pattern.fullmatch(text)
            if hit and self._is_known(hit["thing_0"]):
                return self._understood(Answer(words=hit["thing_0"].strip(_EDGES)), "answer: words")
        return None


def _merged(first: Limits, *others: Limits) -> Limits:
    """What the first says, and for the rest what the next ones say."""
    for other in others:
        first = Limits(
            repeat=first.repeat or other.repeat,
            feeds=first.feeds or other.feeds,
            window=first.window or other.window,
            until=first.until or other.until,
        )
    return first


def _is_apart(one: Span, other: Span) -> bool:
    return one[1] <= other[0] or one[0] >= other[1]


def _fits(text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    return any(pattern.fullmatch(text) for pattern in patterns)
