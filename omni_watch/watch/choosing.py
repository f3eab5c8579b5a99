"""Which rule a condition means, and what will be said. Pure.

First by words: all words of one of a rule's phrases are there, and what else is there changes nothing. Then, for
languages with a text-similarity model, by meaning, with a clear lead over every other rule, over what is easily
mistaken for the rule, and over other things people ask for. Words that turn the sense ("not", "stops", 没, 停) always
win. A wrong rule is worse than none: with none, the person is asked to show it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from omni_watch.domain.rules import Language, Rule
from omni_watch.watch.ports import TextSimilarity
from omni_watch.watch.tongues import Tongue
from omni_watch.watch.wording import Wording, as_sentence, turned

ANCHORS: Final = 12  # phrases of a rule that are compared by meaning; the loader puts the plainest first
# Chosen on tests/golden/words_table.yaml and the `not` sentences of all rules, then tried on sentences written later.
ALIKE_NAMED: Final = 0.75  # cosine needed when the condition names the rule's thing
ALIKE_UNNAMED: Final = 0.80  # and when it does not
LEAD: Final = 0.05  # over the second rule, and over anything else
ALIKE_HAPPENING: Final = 0.70  # cosine of what happens, without the thing's name
LEAD_HAPPENING: Final = 0.10
LONGEST_HEAD: Final = 12  # characters before "的" that may narrow a known phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The rule that a condition means; `rule` None when no rule does, or more than one might."""

    rule: str | None
    why: str  # one sentence for people, in the wording's language
    score: float  # 1.0 by words, else the similarity of the nearest rule, 0..1
    runner_up: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """One way to say that a rule's condition came true, brought to normal form."""

    rule: str
    text: str
    words: frozenset[str]  # as written
    stems: frozenset[str]  # without fillers; languages with spaces
    stripped: str  # without fillers; languages without spaces

    @property
    def weight(self) -> int:
        """The longer phrase says more: "smoke alarm" over "alarm"."""
        return len(self.stems) or len(self.stripped)


@dataclass(frozen=True, kw_only=True)
class Phrasebook:
    """Rules and languages, with every phrase in normal form; build it once."""

    rules: tuple[Rule, ...]
    tongues: tuple[Tongue, ...]

    def tongue(self, language: Language) -> Tongue:
        """The language's tongue; KeyError when there is none."""
        return self._tongues[language]

    def rule(self, rule_id: str) -> Rule:
        return self._rules[rule_id]

    @cached_property
    def _tongues(self) -> Mapping[Language, Tongue]:
        return {tongue.language: tongue for tongue in self.tongues}

    @cached_property
    def _rules(self) -> Mapping[str, Rule]:
        return {rule.id: rule for rule in self.rules}

    @cached_property
    def phrases(self) -> Mapping[Language, tuple[Phrase, ...]]:
        """Longest first."""
        return {
            tongue.language: tuple(
                sorted(
                    (phrase for rule in self.rules for phrase in _phrases(rule, rule.phrases, tongue)),
                    key=lambda phrase: -phrase.weight,
                )
            )
            for tongue in self.tongues
        }

    @cached_property
    def contrasts(self) -> Mapping[Language, tuple[Phrase, ...]]:
        return {
            tongue.language: tuple(phrase for rule in self.rules for phrase in _phrases(rule, rule.contrasts, tongue))
            for tongue in self.tongues
        }

    @cached_property
    def names(self) -> Mapping[tuple[str, Language], tuple[Phrase, ...]]:
        """Each rule's names for its thing, longest first."""
        return {
            (rule.id, tongue.language): tuple(sorted(_phrases(rule, rule.names, tongue), key=lambda name: -name.weight))
            for rule in self.rules
            for tongue in self.tongues
        }


def _phrases(rule: Rule, texts: Mapping[Language, tuple[str, ...]], tongue: Tongue) -> Iterator[Phrase]:
    for text in texts.get(tongue.language, ()):
        yield phrase_of(text, tongue, rule.id)


def phrase_of(text: str, tongue: Tongue, rule: str = "") -> Phrase:
    """A text in the tongue's normal form."""
    words = tongue.words(text)
    stems = (tongue.stem(word) for word in words if word not in tongue.fillers)
    return Phrase(
        rule=rule,
        text=text,
        words=frozenset(words),
        stems=frozenset(stems) if tongue.is_spaced else frozenset(),
        stripped="" if tongue.is_spaced else tongue.stripped(text),
    )


def choose(wording: Wording, book: Phrasebook, similarity: TextSimilarity | None = None) -> Choice:
    """The rule that the condition means. `similarity` is asked only when no phrase fits, and only in English."""
    for tongue in _tongues_for(wording, book):
        fitting = _fitting(wording.condition, tongue, book)
        if fitting:
            return _by_words(wording, fitting)
    tongue = book.tongue(wording.language)
    if similarity is None or not tongue.is_spaced or not tongue.others:
        return Choice(rule=None, why=_say("unknown", wording), score=0.0)
    return _by_meaning(wording, tongue, book, similarity)


def _tongues_for(wording: Wording, book: Phrasebook) -> list[Tongue]:
    """The wording's own language first: a request in one language may name its condition in another."""
    return sorted(book.tongues, key=lambda tongue: tongue.language != wording.language)


def _by_words(wording: Wording, fitting: Sequence[Phrase]) -> Choice:
    """`fitting` is longest first."""
    best = fitting[0]
    rivals = [phrase for phrase in fitting if phrase.rule != best.rule]
    if rivals and rivals[0].weight == best.weight:
        why = _say("two", wording, rule=best.rule, other=rivals[0].rule)
        return Choice(rule=None, why=why, score=1.0, runner_up=rivals[0].rule)
    why = _say("words", wording, rule=best.rule, phrase=best.text)
    return Choice(rule=best.rule, why=why, score=1.0, runner_up=rivals[0].rule if rivals else None)


def _fitting(condition: str, tongue: Tongue, book: Phrasebook) -> list[Phrase]:
    """Every phrase that the condition says, longest first."""
    said = phrase_of(condition, tongue)
    if tongue.is_spaced:
        near = (phrase for phrase in book.phrases[tongue.language] if phrase.stems <= said.stems)
        fitting = [phrase for phrase in near if _fits_words(condition, phrase, tongue, book)]
    else:
        near = (phrase for phrase in book.phrases[tongue.language] if phrase.stripped in said.stripped)
        fitting = [phrase for phrase in near if _fits_characters(condition, phrase, tongue, book)]
    return [phrase for phrase in fitting if not _is_contrast(said, phrase, tongue, book)]


def _fits_words(condition: str, phrase: Phrase, tongue: Tongue, book: Phrasebook) -> bool:
    words = tongue.words(condition)
    named = frozenset(stem for name in book.names[phrase.rule, tongue.language] for stem in name.stems)
    return any(_covers(part, phrase, named, tongue) for part in _parts(words, tongue, phrase))


def _parts(words: Sequence[str], tongue: Tongue, phrase: Phrase) -> Iterator[Sequence[str]]:
    """The words, and the words without an addition: "the microwave is done | with my soup"."""
    yield words
    for at in range(len(words) - 1, 0, -1):
        if words[at] in tongue.tails and not _turning(words[at:], phrase, tongue):
            yield words[:at]


def _covers(words: Sequence[str], phrase: Phrase, named: frozenset[str], tongue: Tongue) -> bool:
    """Whether all of the phrase is said, and everything else changes nothing."""
    stems = {word: tongue.stem(word) for word in words if word not in tongue.fillers}
    if not phrase.stems <= set(stems.values()) or _turning(words, phrase, tongue):
        return False
    extras = ((word, stem) for word, stem in stems.items() if stem not in phrase.stems)
    return all(stem in named or word in tongue.harmless or stem in tongue.harmless for word, stem in extras)


def _turning(words: Sequence[str], phrase: Phrase, tongue: Tongue) -> list[str]:
    """Words that make another thing of the phrase; numbers do too."""
    return [word for word in words if word not in phrase.words and (word in tongue.vetoes or word[:1].isdigit())]


def _fits_characters(condition: str, phrase: Phrase, tongue: Tongue, book: Phrasebook) -> bool:
    names = [name.stripped for name in book.names[phrase.rule, tongue.language]]
    return any(_contains(part, phrase, names, tongue) for part in _tails(condition, tongue))


def _tails(condition: str, tongue: Tongue) -> Iterator[str]:
    """The condition, and what follows an addition: 「隔壁的 | 狗叫了」."""
    key = tongue.key(condition).replace(" ", "")
    yield key
    for at in range(1, min(len(key), LONGEST_HEAD)):
        if key[at] in tongue.heads and not any(veto in key[:at] for veto in tongue.vetoes):
            yield key[at + 1 :]


def _contains(part: str, phrase: Phrase, names: Sequence[str], tongue: Tongue) -> bool:
    """Whether the part is the phrase and nothing else but names and harmless words."""
    said = tongue.stripped(part)
    if phrase.stripped not in said:
        return False
    extra = said.replace(phrase.stripped, "", 1)
    for harmless in sorted((*names, *tongue.harmless), key=len, reverse=True):
        extra = extra.replace(harmless, "") if harmless else extra
    return not extra


def _is_contrast(said: Phrase, phrase: Phrase, tongue: Tongue, book: Phrasebook) -> bool:
    """Whether the condition says something that is easily mistaken for the phrase's rule.

    With spaces, a contrast counts when it says at least as much as the phrase; without, wherever it stands.
    """
    contrasts = (contrast for contrast in book.contrasts[tongue.language] if contrast.rule == phrase.rule)
    if tongue.is_spaced:
        return any(one.stems <= said.stems and one.weight >= phrase.weight for one in contrasts)
    return any(one.stripped in said.stripped for one in contrasts)


@dataclass(frozen=True, slots=True)
class _Near:
    """How alike a condition and one text are."""

    alike: float
    phrase: Phrase


def _by_meaning(wording: Wording, tongue: Tongue, book: Phrasebook, similarity: TextSimilarity) -> Choice:
    near = _nearest(wording.condition, _anchors(tongue, book), similarity)
    ranked = _best_by_rule(near)
    if not ranked:
        return Choice(rule=None, why=_say("unknown", wording), score=0.0)
    best, runner_up = ranked[0], ranked[1].phrase.rule if len(ranked) > 1 else None
    # what one rule is mistaken for may be just what another one means, so only its own contrasts count
    against = [phrase for phrase in _against(tongue, book) if phrase.rule in {best.phrase.rule, ""}]
    others = _nearest(wording.condition, against, similarity)
    rival = max((one.alike for one in (*ranked[1:], *others)), default=-1.0)
    said, score = phrase_of(wording.condition, tongue), max(0.0, best.alike)
    is_near = best.alike >= _needed(said, best.phrase, tongue, book) and best.alike - rival >= LEAD
    # who says less than the phrase means another thing: "turned off" is very like "not turned off"
    if not is_near or said.stems < best.phrase.stems:
        return Choice(rule=None, why=_say("unknown", wording), score=score, runner_up=runner_up)
    if turning := _turning(tongue.words(wording.condition), best.phrase, tongue):
        why = _say("turned", wording, rule=best.phrase.rule, word=turning[0])
        return Choice(rule=None, why=why, score=score, runner_up=runner_up)
    if not _same_happens(wording.condition, best.phrase.rule, tongue, book, similarity):
        return Choice(rule=None, why=_say("unknown", wording), score=score, runner_up=runner_up)
    why = _say("meaning", wording, rule=best.phrase.rule, phrase=best.phrase.text)
    return Choice(rule=best.phrase.rule, why=why, score=score, runner_up=runner_up)


def _nearest(text: str, phrases: Sequence[Phrase], similarity: TextSimilarity) -> list[_Near]:
    """Nearest first."""
    alike = similarity.similarity(text, [phrase.text for phrase in phrases]) if phrases else []
    near = [_Near(score, phrase) for score, phrase in zip(alike, phrases, strict=True)]
    return sorted(near, key=lambda one: -one.alike)


def _same_happens(condition: str, rule: str, tongue: Tongue, book: Phrasebook, similarity: TextSimilarity) -> bool:
    """Whether it is still alike without the thing's name.

    A shared name makes any two sentences alike ("the washing machine is spinning" and "... is done": 0.85), so what
    happens to the thing is compared by itself.
    """
    happens = _without_name(condition, rule, tongue, book)
    mine = [phrase for phrase in _anchors(tongue, book) if phrase.rule == rule]
    contrasts = [phrase for phrase in book.contrasts[tongue.language] if phrase.rule == rule]
    texts = [_without_name(phrase.text, rule, tongue, book) for phrase in (*mine, *contrasts)]
    alike = similarity.similarity(happens, texts)
    best, rival = max(alike[: len(mine)]), max(alike[len(mine) :], default=-1.0)
    return best >= ALIKE_HAPPENING and best - rival >= LEAD_HAPPENING


def _without_name(text: str, rule: str, tongue: Tongue, book: Phrasebook) -> str:
    """The text with the language's pronoun for the rule's thing: "the kettle boils" -> "it boils"."""
    named = {stem for name in book.names[rule, tongue.language] for stem in name.stems}
    words = [tongue.pronoun if tongue.stem(word) in named else word for word in tongue.words(text)]
    return " ".join(word for word, before in zip(words, ["", *words], strict=False) if word != before)


def _anchors(tongue: Tongue, book: Phrasebook) -> list[Phrase]:
    """The texts that stand for the rules."""
    texts = {rule.id: rule.phrases.get(tongue.language, ())[:ANCHORS] for rule in book.rules}
    return [phrase_of(text, tongue, rule) for rule, phrases in texts.items() for text in phrases]


def _against(tongue: Tongue, book: Phrasebook) -> list[Phrase]:
    """The texts that stand for everything else."""
    return [*book.contrasts[tongue.language], *(phrase_of(text, tongue) for text in tongue.others)]


def _best_by_rule(near: Sequence[_Near]) -> list[_Near]:
    """Each rule's nearest text, nearest rule first; `near` is in that order."""
    best: dict[str, _Near] = {}
    for one in near:
        best.setdefault(one.phrase.rule, one)
    return list(best.values())


def _needed(said: Phrase, phrase: Phrase, tongue: Tongue, book: Phrasebook) -> float:
    is_named = any(name.stems <= said.stems for name in book.names[phrase.rule, tongue.language])
    return ALIKE_NAMED if is_named else ALIKE_UNNAMED


def message_for(choice: Choice, wording: Wording, book: Phrasebook) -> str:
    """What will be said: the person's own words, else the rule's, else the condition made into a sentence."""
    if wording.message:
        return wording.message
    if choice.rule is not None and wording.language in (messages := book.rule(choice.rule).message):
        return messages[wording.language]
    tongue = book.tongue(wording.language)
    return as_sentence(turned(wording.condition, tongue), tongue)


_SENTENCES: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "words": 'Rule {rule}: "{condition}" says what "{phrase}" says.',
        "meaning": 'Rule {rule}: "{condition}" means about the same as "{phrase}".',
        "two": 'No rule: "{condition}" could be {rule} or {other}; say more exactly what should happen.',
        "turned": 'No rule: "{condition}" is near {rule}, but "{word}" changes what it means.',
        "unknown": 'No rule: "{condition}" is not a condition that comes ready-made.',
    },
    "zh": {
        "words": "规则 {rule}：「{condition}」就是「{phrase}」。",
        "meaning": "规则 {rule}：「{condition}」和「{phrase}」意思相近。",
        "two": "没有选规则：「{condition}」可能是 {rule}，也可能是 {other}；请说得更具体些。",
        "turned": "没有选规则：「{condition}」接近 {rule}，但「{word}」改变了意思。",
        "unknown": "没有选规则：「{condition}」不在现成的规则里。",
    },
}


def _say(sentence: str, wording: Wording, **values: str) -> str:
    sentences = _SENTENCES.get(wording.language, _SENTENCES["en"])
    return sentences[sentence].format(condition=wording.condition, **values)
