"""A typed or spoken sentence -> what should happen, what to say then, and whether each time. Pure.

"When the alarm rings, tell me the game is over" has the condition "the alarm rings" and the message "The game is
over."; 「狗每次叫都告诉我」 has the condition 「狗叫」 and asks for each time. Which rule a condition means is decided
in `choosing`. How requests are framed is data (`rules/wording/`), so another language is another file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from omni_watch.domain.errors import RequestError
from omni_watch.domain.rules import Language, Repeat
from omni_watch.watch.tongues import RequestForm, Tongue, tidy

LONGEST_SENTENCE: Final = 300  # characters; also bounds the time that matching can take
_LAST_MARKS: Final = ".。!?~…,; "
_EDGES: Final = _LAST_MARKS + "\"'-:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What a sentence asks for."""

    text: str  # the sentence, tidied
    language: Language
    condition: str  # what should happen, in the person's words
    message: str | None = None  # the person's own words to say then, as a sentence
    repeat: Repeat | None = None  # None: the words do not say


def read(sentence: str, tongues: Sequence[Tongue]) -> Wording:
    """What the sentence asks for; a sentence that is framed in no known way is taken as the condition itself.

    Raises:
        RequestError: nothing to watch for, or too long to be one wish.
    """
    text = tidy(sentence[: 4 * LONGEST_SENTENCE]).strip(_LAST_MARKS)
    if not any(character.isalnum() for character in text):
        raise RequestError(
            f"{sentence[:40]!r} says nothing to watch for; expected words like: tell me when the kettle is full"
        )
    if len(text) > LONGEST_SENTENCE or len(sentence) > 4 * LONGEST_SENTENCE:
        raise RequestError(
            f"the request has {len(sentence)} characters; at most {LONGEST_SENTENCE} are understood: "
            "say one thing in one sentence, and add a task for each further thing"
        )
    likeliest = sorted(tongues, key=lambda tongue: (-tongue.share(text), -tongue.known(text)))
    for tongue in likeliest:
        for form in tongue.requests:
            if wording := _fitted(text, tongue, form):
                return wording
    return Wording(text=text, language=likeliest[0].language, condition=text)


def _fitted(text: str, tongue: Tongue, form: RequestForm) -> Wording | None:
    """The wording when the form fits the whole text. Characters map one to one, so spans are those of `text`."""
    fit = form.pattern.fullmatch(text.translate(dict(tongue.variants)))
    if fit is None:
        return None
    gap = " " if tongue.is_spaced else ""
    condition = gap.join(_captured(text, fit, "condition"))
    if not condition:
        return None
    said = "".join(_captured(text, fit, "message"))
    reported = "".join(_captured(text, fit, "indirect"))
    message = said or turned(reported, tongue)
    return Wording(
        text=text,
        language=tongue.language,
        condition=condition,
        message=as_sentence(message, tongue) if message else None,
        repeat=form.repeat,
    )


def _captured(text: str, fit: re.Match[str], slot: str) -> list[str]:
    """What the slot's groups hold, in order, without marks at the edges; groups of options not taken hold nothing."""
    names = [name for name in fit.re.groupindex if name.startswith(f"{slot}_")]
    pieces = [text[slice(*fit.span(name))].strip(_EDGES) for name in names if fit[name] is not None]
    return [piece for piece in pieces if piece]


def turned(text: str, tongue: Tongue) -> str:
    """The text as we say it to the person who said it to us: "my tea is ready" -> "your tea is ready"."""
    if not tongue.persons:
        return text
    longest_first = sorted(tongue.persons, key=len, reverse=True)
    edge = r"(?<![\w'])", r"(?![\w'])"
    words = "|".join(map(re.escape, longest_first))
    pattern = f"{edge[0]}(?:{words}){edge[1]}" if tongue.is_spaced else words

    def other(found: re.Match[str]) -> str:  # a Turkish İ matches an i, and is none
        return tongue.persons.get(found[0].lower(), found[0])

    return re.sub(pattern, other, text, flags=re.IGNORECASE)


def as_sentence(text: str, tongue: Tongue) -> str:
    """With a capital first and the language's mark last."""
    bare = text.strip(_LAST_MARKS.replace("!", "").replace("?", ""))
    end = "" if bare.endswith(("!", "?")) else tongue.sentence_end
    return bare[:1].upper() + bare[1:] + end
