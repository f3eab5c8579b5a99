"""Which of the prompt's tasks an utterance is about, if any. Pure.

The model says sentences, not task ids. An utterance belongs to a task when one of its clauses says what the task's
message or condition says, more clearly than anything it could be mistaken for and than any other task. Questions,
promises ("I'll tell you when ...") and turned senses ("not full", 快满了) report nothing. In doubt it is a comment: a
wrong alert is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from omni_watch.duplex.minicpmo.prompts import PromptedTask, words_for
from omni_watch.watch.ports import TextSimilarity
from omni_watch.watch.tongues import Tongue

# Chosen on the sentences of tests/unit/minicpmo/test_attribution.py.
COVERED: Final = 0.8  # part of what a task says that the utterance must say
ALIKE: Final = 0.6  # harmonic mean of that and of the part of the clause that the task says
LEAD: Final = 0.1  # over every other task
CLEAR: Final = 0.3  # a lead that leaves no doubt
NUMBERED: Final = 0.2  # what a named number adds
BY_NUMBER: Final = 0.7  # confidence when the number is all there is
ALIKE_IN_MEANING: Final = 0.8  # cosine, with LEAD over other tasks and contrasts
SPARE: Final = 0.5  # weight of a word that may be added to any sentence

_SENTENCE: Final = re.compile(r"[^.。!！?？…\n]+[.。!！?？…\n]*")
_CLAUSE_MARKS: Final = r"[,，、;；:：–—]+"
_LEADING_NUMBER: Final = re.compile(r"^\W*(\d{1,2}) ?[.)、:：–-]\s*(?=\D)")
_NUMERALS: Final = "一二三四五六七八九"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whose utterance it is."""

    task_id: str | None  # None: a comment
    confidence: float  # 0..1, of `task_id`, or of `nearest` when that was not enough
    nearest: str | None = None  # the task that came nearest, for the trace


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A text in its language's normal form."""

    raw: str
    stripped: str  # languages without spaces: no fillers; else empty
    words: tuple[str, ...]  # languages with spaces: all of them, as written; else empty
    tokens: Mapping[str, float]  # what is compared -> its weight: stems, or characters and pairs of them
    digits: frozenset[str]
    has_clauses: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentence:
    """One sentence of an utterance that neither asks nor promises."""

    number: int
    dense: str  # normal form without spaces
    whole: _Text
    clauses: tuple[_Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    """One task in normal form."""

    task: PromptedTask
    reader: _Reader
    texts: tuple[_Text, ...]  # any of them will do
    contrasts: tuple[_Text, ...]


@dataclass(frozen=True, slots=True)
class _Score:
    """How well one clause fits one task."""

    alike: float
    is_enough: bool = False
    task_id: str = ""
    sentence: int = 0
    clause: str = ""

    def rivals(self, other: _Score) -> bool:
        """Whether both are about the same words; an utterance may report two tasks, one after the other."""
        is_same = self.clause in other.clause or other.clause in self.clause
        return self.task_id != other.task_id and self.sentence == other.sentence and is_same


class Attributor:
    """The tasks of one prompt, ready for comparing. Any thread."""

    def __init__(
        self, tasks: Sequence[PromptedTask], tongues: Sequence[Tongue], similarity: TextSimilarity | None = None
    ) -> None:
        """`similarity` is asked only when words do not decide, and only about languages with spaces."""
        known = {tongue.language: tongue for tongue in tongues}
        languages = dict.fromkeys(task.language for task in tasks)
        self._readers = {
            language: _Reader(known.get(language) or Tongue(language=language, script="latin", requests=()))
            for language in languages
        }
        self._expected = [_expected(task, self._readers[task.language]) for task in tasks]
        self._similarity = similarity

    def attribute(self, utterance: str) -> Attribution:
        """The task that the utterance, which may still be going on, reports on."""
        named = _named_numbers(utterance)
        leading = _LEADING_NUMBER.match(utterance)
        said = utterance[leading.end() :] if leading else utterance
        numbers = named | {int(leading[1])} if leading else named
        sentences = {language: tuple(reader.sentences(said)) for language, reader in self._readers.items()}
        scores = [s for one in self._expected for s in _scores(one, sentences[one.task.language], numbers)]
        best, rival = _two_best(scores)
        if best.is_enough and best.alike >= ALIKE:
            if best.alike - rival < LEAD:
                return Attribution(task_id=None, confidence=ALIKE / 2, nearest=best.task_id)
            clarity = min(1.0, (best.alike - rival) / CLEAR)
            confidence = min(1.0, best.alike) * (0.5 + 0.5 * clarity)
            return Attribution(task_id=best.task_id, confidence=confidence, nearest=best.task_id)
        return (
            self._by_number(named, sentences)
            or self._by_meaning(sentences)
            or Attribution(task_id=None, confidence=min(best.alike, ALIKE) / 2, nearest=best.task_id or None)
        )

    def _by_number(self, numbers: set[int], sentences: Mapping[str, Sequence[_Sentence]]) -> Attribution | None:
        """For an utterance that names one task by its number and neither asks, promises nor denies."""
        named = [one for one in self._expected if one.task.number in numbers]
        if len(named) != 1:
            return None
        one = named[0]
        reports = [sentence.whole for sentence in sentences[one.task.language] if _named_numbers(sentence.whole.raw)]
        if not reports or any(one.reader.turns(report, None) for report in reports):
            return None
        return Attribution(task_id=one.task.task_id, confidence=BY_NUMBER, nearest=one.task.task_id)

    def _by_meaning(self, sentences: Mapping[str, Sequence[_Sentence]]) -> Attribution | None:
        """For a clause that means about what a task's sentences mean, in other words."""
        if self._similarity is None:
            return None
        found: list[_Score] = []
        for language, reader in self._readers.items():
            expected = [one for one in self._expected if one.task.language == language and reader.is_spaced]
            owners = [(one.task.task_id, text.raw) for one in expected for text in one.texts]
            owners += [("", text.raw) for one in expected for text in one.contrasts]
            clauses = [clause for sentence in sentences[language] for clause in sentence.clauses]
            for clause in clauses if owners else ():
                if len(clause.tokens) < 2 or reader.turns(clause, None):
                    continue
                cosines = self._similarity.similarity(clause.raw, [text for _, text in owners])
                scores = (_Score(cosine, True, owner) for cosine, (owner, _) in zip(cosines, owners, strict=True))
                best, rival = _two_best(scores)
                if best.task_id and best.alike >= ALIKE_IN_MEANING and best.alike - rival >= LEAD:
                    found.append(best)
        if not found:
            return None
        best = max(found, key=lambda score: score.alike)
        return Attribution(task_id=best.task_id, confidence=min(1.0, best.alike), nearest=best.task_id)


class _Reader:
    """Brings one language's texts to normal form and compares them."""

    def __init__(self, tongue: Tongue) -> None:
        table = words_for(tongue.language)["attribution"]
        self.is_spaced = tongue.is_spaced
        self._tongue = tongue
        edge = r"\b" if tongue.is_spaced else ""
        joints = "|".join(map(re.escape, table["joints"]))
        self._between_clauses = re.compile(rf"{_CLAUSE_MARKS}|{edge}(?:{joints}){edge}", re.IGNORECASE)
        self._promises: Sequence[str] = table["promises"]
        self._echoes: Sequence[str] = table["echoes"]
        self._vetoes = tongue.vetoes | frozenset(table["unfinished"])
        self._spare = sorted(tongue.harmless, key=len, reverse=True)

    def text(self, raw: str) -> _Text:
        """One text in normal form."""
        stripped = "" if self.is_spaced else self._tongue.stripped(raw)
        words = self._tongue.words(raw) if self.is_spaced else ()
        telling: Sequence[str] = [word for word in words if word not in self._tongue.fillers]
        telling = telling if len(telling) > 1 else words  # "the elevator is there" must not become "elevator"
        pairs = (stripped[at : at + 2] for at in range(len(stripped) - 1))
        return _Text(
            raw=raw,
            stripped=stripped,
            words=words,
            tokens={self._tongue.stem(word): _weight(word) for word in telling} | dict.fromkeys((*stripped, *pairs), 1),
            digits=frozenset(re.findall(r"\d+", raw)),
            has_clauses=len(list(self._clauses(raw))) > 1,
        )

    def sentences(self, said: str) -> Iterator[_Sentence]:
        """The sentences that report something rather than ask or promise."""
        for number, sentence in enumerate(_SENTENCE.findall(said)):
            bare = sentence.strip()
            key = self._tongue.key(bare)
            if not key or bare.endswith(("?", "？")) or bare.rstrip("。.").endswith("吗"):
                continue
            dense = key.replace(" ", "")
            spoken = f" {key} " if self.is_spaced else dense
            if any((f" {promise} " if self.is_spaced else promise) in spoken for promise in self._promises):
                continue
            clauses = tuple(self.text(clause) for clause in self._clauses(bare))
            yield _Sentence(number=number, dense=dense, whole=self.text(bare), clauses=clauses)

    def _clauses(self, text: str) -> Iterator[str]:
        pieces = self._between_clauses.split(text)
        return (piece.strip() for piece in pieces if any(character.isalnum() for character in piece))

    def echoes(self, sentence: _Sentence, text: _Text) -> bool:
        """Whether the sentence repeats the request for the text: 「水满了提醒你」."""
        found = (sentence.dense.find(token) for token in text.tokens)
        begins = min((at for at in found if at >= 0), default=len(sentence.dense))
        return any(sentence.dense.find(echo) > begins for echo in self._echoes)

    def turns(self, clause: _Text, text: _Text | None) -> bool:
        """Whether a word that turns the sense stands before the last word that the text shares with the clause.

        "Not full" and 没满 say no; "full, not empty" does not. Without a text, anywhere.
        """
        if not self.is_spaced:
            before, known = clause.stripped[: _end_of_shared(clause, text)], text.stripped if text else ""
            return any(veto in before and veto not in known for veto in self._vetoes)
        shared = [at for at, w in enumerate(clause.words) if text is None or self._tongue.stem(w) in text.tokens]
        sought = text.words if text else ()
        return any(word in self._vetoes and word not in sought for word in clause.words[: max(shared, default=-1) + 1])

    def compare(self, text: _Text, clause: _Text, contrasts: Iterable[_Text]) -> tuple[float, bool]:
        """How alike the clause and one of a task's texts are, and whether the clause says enough of it."""
        nothing = 0.0, False
        if not text.tokens.keys() & clause.tokens.keys() or self.turns(clause, text):
            return nothing
        if text.digits and clause.digits and not text.digits & clause.digits:
            return nothing
        weights = self._weights(clause, text)
        missing = [token for token in text.tokens if not _is_said(token, self._telling(clause, text))]
        extra = [token for token in clause.tokens if weights[token] > SPARE and not _is_said(token, text)]
        alike = self._alike(text, clause)
        if any(self._is_mistaken(contrast, text, clause, alike) for contrast in contrasts):
            return nothing
        # a word instead of another makes another thing: the blue ball for the red one
        is_replaced = self.is_spaced and bool(missing) and bool(extra)
        covered = 1.0 - sum(text.tokens[token] for token in missing) / sum(text.tokens.values())
        return alike, covered >= COVERED and not is_replaced

    def _is_mistaken(self, contrast: _Text, text: _Text, clause: _Text, alike: float) -> bool:
        """Whether the clause is rather about what is easily mistaken for the text."""
        if self.is_spaced:
            return self._alike(contrast, clause) >= alike
        return contrast.stripped in clause.stripped and contrast.stripped not in text.stripped

    def _alike(self, text: _Text, clause: _Text) -> float:
        """Harmonic mean of the part of `text` that the clause says and the part of the clause that `text` says."""
        covered = _share(text.tokens, self._telling(clause, text))
        precise = _share(self._weights(clause, text), text)
        return 2 * covered * precise / (covered + precise) if covered and precise else 0.0

    def _weights(self, clause: _Text, text: _Text) -> Mapping[str, float]:
        """The clause's tokens; those that may be added to any sentence weigh less."""
        if self.is_spaced:
            spare = {self._tongue.stem(word) for word in clause.words if word in self._tongue.harmless}
            return {t: w * SPARE if t in spare and t not in text.tokens else w for t, w in clause.tokens.items()}
        telling = self._telling(clause, text).tokens
        return {token: weight if token in telling else weight * SPARE for token, weight in clause.tokens.items()}

    def _telling(self, clause: _Text, text: _Text) -> _Text:
        """The clause without what may be added to any sentence, so that the 到 of 看到 is not that of 电梯到了."""
        if self.is_spaced:
            return clause
        rest = clause.stripped
        for harmless in self._spare:
            if harmless in rest and harmless not in text.stripped:
                rest = rest.replace(harmless, "\0")
        return replace(clause, tokens={token: weight for token, weight in clause.tokens.items() if token in rest})


def _expected(task: PromptedTask, reader: _Reader) -> _Expected:
    texts = dict.fromkeys((task.message, task.condition, *task.phrases))
    return _Expected(
        task=task,
        reader=reader,
        texts=tuple(reader.text(text) for text in texts if text),
        contrasts=tuple(reader.text(text) for text in task.contrasts),
    )


def _scores(expected: _Expected, sentences: Sequence[_Sentence], numbers: set[int]) -> Iterator[_Score]:
    """How well each clause fits the task; a whole sentence, where the task's text has clauses itself."""
    lift = NUMBERED if expected.task.number in numbers else 0.0
    for sentence in sentences:
        for text in expected.texts:
            if expected.reader.echoes(sentence, text):
                continue
            for clause in (sentence.whole,) if text.has_clauses else sentence.clauses:
                alike, is_enough = expected.reader.compare(text, clause, expected.contrasts)
                if alike:
                    yield _Score(alike + lift, is_enough, expected.task.task_id, sentence.number, clause.raw)


def _weight(word: str) -> float:
    """Short words say less; a number says as much as any word."""
    return 1.0 if word[0].isdigit() else min(1.0, len(word) / 4)


def _share(tokens: Mapping[str, float], other: _Text) -> float:
    """Part of the tokens' weight that the other text says."""
    total = sum(tokens.values())
    return sum(weight for token, weight in tokens.items() if _is_said(token, other)) / total if total else 0.0


def _is_said(token: str, text: _Text) -> bool:
    """Whether the text has the token, a form of it, or the beginning of it where a word is cut short."""
    return token in text.tokens or (len(token) >= 4 and any(_are_akin(token, other) for other in text.tokens))


def _are_akin(one: str, other: str) -> bool:
    shorter, longer = (one, other) if len(one) <= len(other) else (other, one)
    return len(shorter) >= 4 and len(shorter) >= 0.7 * len(longer) and longer.startswith(shorter)


def _end_of_shared(clause: _Text, text: _Text | None) -> int:
    """Where in the clause's characters the last of what it shares with the text ends."""
    if text is None:
        return len(clause.stripped)
    shared = [token for token in text.tokens if token in clause.stripped]
    pairs = [token for token in shared if len(token) > 1] or shared  # one character may come again elsewhere
    return max((clause.stripped.find(token) + len(token) for token in pairs), default=0)


def _named_numbers(utterance: str) -> set[int]:
    """Numbers of tasks that the utterance names, in any language: "task 2", 第二件."""
    patterns = [pattern for language in ("en", "zh") for pattern in words_for(language)["attribution"]["numbered"]]
    found = {match for pattern in patterns for match in re.findall(pattern, utterance, re.IGNORECASE)}
    return {_NUMERALS.index(one) + 1 if one in _NUMERALS else int(one) for one in found}


def _two_best(scores: Iterable[_Score]) -> tuple[_Score, float]:
    """The best score, the first of several, and how alike another task is to the same words."""
    ranked = sorted(scores, key=lambda score: (-score.alike, not score.is_enough, score.sentence))
    best = ranked[0] if ranked else _Score(0.0)
    return best, max((score.alike for score in ranked if score.rivals(best)), default=0.0)
