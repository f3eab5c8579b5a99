"""Which of the tasks a person means by a few words: "the kettle", 「电梯那个」, "the dog bark". Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from omni_watch.domain.tasks import Task
from omni_watch.watch.choosing import Phrase, Phrasebook, phrase_of
from omni_watch.watch.speech import Speech, Speechbook
from omni_watch.watch.tongues import Tongue


def meant(words: str, tasks: Iterable[Task], book: Speechbook) -> list[Task]:
    """The tasks whose own words, or whose rule's names and phrases in any language, hold these words."""
    said = [one for one in (_Said.of(words, speech, book) for speech in book.speeches) if one is not None]
    return [task for task in tasks if any(one.means(task) for one in said)]


def names_a_thing(words: str, book: Speechbook) -> bool:
    """Whether the words hold a name that a rule gives its thing: the doorbell, 电梯."""
    for speech in book.speeches:
        tongue = book.book.tongue(speech.language)
        said = phrase_of(words, tongue)
        names = (
            name for (_, language), some in book.book.names.items() if language == speech.language for name in some
        )
        if tongue.is_spaced and any(name.stems and name.stems <= said.stems for name in names):
            return True
        if not tongue.is_spaced and any(name.stripped and name.stripped in said.stripped for name in names):
            return True
    return False


class _Said:
    """The words as one language understands them."""

    def __init__(self, tongue: Tongue, stems: frozenset[str], characters: str, book: Phrasebook) -> None:
        self._tongue = tongue
        self._stems = stems
        self._characters = characters
        self._book = book
        self._known = {rule.id for rule in book.rules}  # a task may have been set when there were more

    @classmethod
    def of(cls, words: str, speech: Speech, book: Speechbook) -> _Said | None:
        """None when they say nothing in this language."""
        tongue = book.book.tongue(speech.language)
        if tongue.is_spaced:
            kept = " ".join(word for word in tongue.words(words) if word not in speech.noise)
            stems = phrase_of(kept, tongue).stems
            return cls(tongue, stems, "", book.book) if stems else None
        if not tongue.share(words):
            return None
        plain = tongue.key(words).replace(" ", "")
        for noise in sorted(speech.noise, key=len, reverse=True):
            plain = plain.replace(noise, "")
        characters = tongue.stripped(plain)
        return cls(tongue, frozenset(), characters, book.book) if characters else None

    def means(self, task: Task) -> bool:
        own = phrase_of(" ".join((task.text, task.message)), self._tongue)
        names = self._names(task)
        if self._tongue.is_spaced:
            stems = own.stems.union(*(name.stems for name in names))
            return self._stems <= stems or any(self._stems <= one.stems for one in self._phrases(task))
        texts = (own.stripped, *(one.stripped for one in (*names, *self._phrases(task))))
        return any(self._characters in text for text in texts)

    def _names(self, task: Task) -> Sequence[Phrase]:
        return self._book.names[task.rule, self._tongue.language] if task.rule in self._known else ()

    def _phrases(self, task: Task) -> Iterator[Phrase]:
        return (one for one in self._book.phrases[self._tongue.language] if one.rule == task.rule)
