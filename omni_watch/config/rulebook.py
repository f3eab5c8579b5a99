"""Reads rules/*.yaml and rules/wording/*.yaml into rules and tongues, or into one list of everything wrong with them.

A rule file may write its phrases as templates with {name}; they are written out here, the plainest way of every
template first. Files of a user's folder are added to ours and replace those of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from omni_watch.domain.errors import ConfigError
from omni_watch.domain.rules import (
    DisplayCue,
    EscalationTuning,
    Language,
    ModelTuning,
    Priority,
    Repeat,
    Rule,
    SightKind,
)
from omni_watch.watch import templates
from omni_watch.watch.choosing import Phrasebook, phrase_of
from omni_watch.watch.tongues import RequestForm, Tongue, fold

WORDING: Final = "wording"  # the folder of languages, inside the folder of rules
LARGEST_FILE: Final = 256 * 1024  # bytes; ours have less than 20 kB
REQUEST_SLOTS: Final = ("condition", "message", "indirect")
MOST_SLOTS: Final = 3  # free texts in one request form: each further one costs a factor of the sentence's length

Model = TypeVar("Model", bound=BaseModel)
Line = Annotated[str, StringConstraints(min_length=1, max_length=600, strip_whitespace=True)]
ByLanguage = dict[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")], list[Line]]
OneByLanguage = dict[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")], Line]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class ExampleEntry(_Strict):
    """A sentence that must choose the rule it stands in."""

    say: Line = Field(description="a sentence as a person says it")
    repeat: Literal["once", "each"] | None = Field(default=None, description='what its task must be: "once" or "each"')
    message: Line | None = Field(default=None, description="what must be said")


class _DisplayEntry(_Strict):
    texts: list[Line] = Field(default=[], description="a list of texts that a display shows")
    countdown: bool = Field(default=False, description="true or false")
    last_of_countdown: bool = Field(default=False, description="true or false")


class _ModelEntry(_Strict):
    bias: float | None = Field(default=None, ge=-20, le=20, description="a number from -20 to 20")
    confirm_of: int | None = Field(default=None, ge=1, le=10, description="a whole number from 1 to 10")
    confirm_in: int | None = Field(default=None, ge=1, le=10, description="a whole number from 1 to 10")
    second_opinion: bool | None = Field(default=None, description="true or false")


class _EscalationEntry(_Strict):
    every_s: float | None = Field(default=None, ge=1, le=86400, description="seconds from 1 to 86400")
    times: int | None = Field(default=None, ge=0, le=1000, description="a whole number from 0 (never) to 1000")
    louder_after: int | None = Field(default=None, ge=1, le=1001, description="a whole number from 1 to 1001")
    every_channel_after: int | None = Field(default=None, ge=1, le=1001, description="a whole number from 1 to 1001")


class _RuleFile(_Strict):
    names: ByLanguage = Field(description="for each language a list of names of the thing")
    phrases: ByLanguage = Field(description="for each language a list of ways to say that it has happened")
    message: OneByLanguage = Field(description="for each language the sentence that is said")
    ask: OneByLanguage = Field(description="for each language the sentence that asks to be shown")
    contrasts: ByLanguage = Field(default={}, description="for each language a list of what is easily mistaken for it")
    sounds: list[Line] = Field(default=[], description="a list of sound groups")
    beeps: int = Field(default=0, ge=0, le=20, description="a whole number from 0 to 20")
    display: _DisplayEntry = Field(default=_DisplayEntry(), description="texts, countdown, last_of_countdown")
    sight: Literal["none", "state", "level"] = Field(default="none", description='"none", "state" or "level"')
    repeat: Literal["once", "each"] = Field(default="once", description='"once" or "each"')
    priority: Literal["low", "normal", "urgent"] = Field(default="normal", description='"low", "normal" or "urgent"')
    cooldown_s: float = Field(default=30.0, ge=0, le=86400, description="seconds from 0 to 86400")
    rearm_s: float = Field(default=10.0, ge=1, le=3600, description="seconds from 1 to 3600")
    model: _ModelEntry = Field(default=_ModelEntry(), description="bias, confirm_of, confirm_in, second_opinion")
    escalation: _EscalationEntry = Field(
        default=_EscalationEntry(), description="every_s, times, louder_after, every_channel_after"
    )
    examples: list[ExampleEntry] = Field(default=[], description="a list of sentences that must choose this rule")
    refusals: list[Line] = Field(default=[], alias="not", description="a list of sentences that must not choose it")


class _RequestEntry(_Strict):
    say: Line = Field(description="a template with {condition}")
    repeat: Literal["once", "each"] | None = Field(default=None, description='"once" or "each"')


class _TongueFile(_Strict):
    language: str = Field(pattern=r"^[a-z]{2,3}$", description='a language code like "en"')
    script: Line = Field(description='the name of its letters in Unicode: "latin", "han", "cyrillic"')
    requests: list[_RequestEntry] = Field(min_length=1, description="a list of ways to frame a request")
    parts: dict[str, str] = Field(default={}, description="named templates")
    fillers: list[str] = Field(default=[], description="a list of words")
    harmless: list[str] = Field(default=[], description="a list of words")
    tails: list[str] = Field(default=[], description="a list of words")
    heads: list[str] = Field(default=[], description="a list of words")
    vetoes: list[str] = Field(default=[], description="a list of words")
    forms: dict[str, list[str]] = Field(default={}, description="for a word the list of its forms")
    endings: list[str] = Field(default=[], description="a list of endings")
    spellings: dict[str, str] = Field(default={}, description="for a spelling what it is read as")
    variants: str = Field(default="", description="pairs of characters; the first is read as the second")
    persons: dict[str, str] = Field(default={}, description="for a word the word that answers it")
    others: list[Line] = Field(default=[], description="a list of conditions that no rule means")
    pronoun: str = Field(default="", description="the word that stands for any thing")
    sentence_end: str = Field(default=".", description="the mark that ends a sentence")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTests:
    """What a rule file says about itself; checked by `tests/unit/test_words_rules.py`."""

    examples: tuple[ExampleEntry, ...]
    refusals: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rulebook:
    """Every rule and every language."""

    phrasebook: Phrasebook
    tests: Mapping[str, RuleTests] = field(default_factory=dict)

    def get(self, rule_id: str) -> Rule | None:
        return next((rule for rule in self.phrasebook.rules if rule.id == rule_id), None)

    def all(self) -> tuple[Rule, ...]:
        """In the order of their ids."""
        return self.phrasebook.rules


def shipped_rules() -> Path:
    """Our rules: beside the code in an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "data" / "rules"
    return installed if installed.is_dir() else package.parent / "rules"


def load_rulebook(own: Path | None = None, shipped: Path | None = None) -> Rulebook:
    """Our rules and those of the folder `own`, which may also hold a folder wording/ with languages.

    Raises:
        ConfigError: lists every problem of every file.
    """
    problems: list[str] = []
    folders = [shipped or shipped_rules(), *([own] if own is not None else [])]
    problems += [
        f"{folder}: no such folder of rules; make it, or correct the setting that names it"
        for folder in folders
        if not folder.is_dir()
    ]
    tongue_files = yaml_files(folder / WORDING for folder in folders)
    tongues = [_tongue(path, problems) for path in tongue_files.values()]
    known = {tongue.language: tongue for tongue in tongues if tongue is not None}
    read = {stem: _rule_file(path, problems) for stem, path in yaml_files(folders).items()}
    paths = yaml_files(folders)
    rules: dict[str, Rule | None] = {}
    if None not in tongues:  # without its languages no rule can be judged
        rules = {stem: _rule(paths[stem], entry, known, problems) for stem, entry in read.items() if entry is not None}
    if not known and not problems:
        problems.append(f"{folders[0] / WORDING}: holds no language; expected files like en.yaml")
    if problems:
        raise ConfigError(*problems)
    return Rulebook(
        phrasebook=Phrasebook(rules=tuple(rule for rule in rules.values() if rule), tongues=tuple(known.values())),
        tests={
            stem: RuleTests(examples=tuple(entry.examples), refusals=tuple(entry.refusals))
            for stem, entry in read.items()
            if entry is not None
        },
    )


def yaml_files(folders: Iterable[Path]) -> dict[str, Path]:
    """Name without ending -> file, sorted by name; a later folder's file replaces an earlier one's."""
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))


def _rule_file(path: Path, problems: list[str]) -> _RuleFile | None:
    return checked_file(path, _RuleFile, problems)


def _tongue(path: Path, problems: list[str]) -> Tongue | None:
    entry = checked_file(path, _TongueFile, problems)
    if entry is None:
        return None
    before = len(problems)
    variants = _variants(path, entry.variants, problems)
    forms = [_request_form(path, at, request, entry.parts, problems) for at, request in enumerate(entry.requests)]
    if len(problems) > before:
        return None
    return Tongue(
        language=entry.language,
        script=entry.script,
        requests=tuple(form for form in forms if form is not None),
        fillers=_folded(entry.fillers),
        harmless=_folded(entry.harmless),
        tails=_folded(entry.tails),
        heads=_folded(entry.heads),
        vetoes=_folded(entry.vetoes),
        forms={fold(form): fold(word) for word, inflected in entry.forms.items() for form in inflected},
        endings=tuple(sorted(entry.endings, key=len, reverse=True)),
        spellings={fold(spelling): meant for spelling, meant in entry.spellings.items()},
        variants=variants,
        persons={word.lower(): answer for word, answer in entry.persons.items()},
        others=tuple(entry.others),
        pronoun=entry.pronoun,
        sentence_end=entry.sentence_end,
    )


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(fold(word) for word in words)


def _variants(path: Path, pairs: str, problems: list[str]) -> dict[int, str]:
    found = pairs.split()
    if wrong := [pair for pair in found if len(pair) != len("ab")]:
        problems.append(f"{path}: variants: found {wrong[0]!r}; expected pairs of characters with spaces between them")
        return {}
    return {ord(pair[0]): pair[1] for pair in found if pair[0] != pair[1]}


def _request_form(
    path: Path, at: int, request: _RequestEntry, parts: Mapping[str, str], problems: list[str]
) -> RequestForm | None:
    try:
        node = templates.parse(request.say, parts)
    except ValueError as error:
        problems.append(f"{path}: requests[{at}].say: {error}")
        return None
    slots = templates.slots(node)
    if unknown := [slot for slot in slots if slot not in REQUEST_SLOTS]:
        problems.append(f"{path}: requests[{at}].say: {{{unknown[0]}}} is not one of {', '.join(REQUEST_SLOTS)}")
        return None
    if "condition" not in slots or len(slots) > MOST_SLOTS + 1:
        problems.append(f"{path}: requests[{at}].say: expected {{condition}} and at most {MOST_SLOTS} slots")
        return None
    return RequestForm(pattern=templates.pattern(node), repeat=Repeat(request.repeat) if request.repeat else None)


def _rule(path: Path, entry: _RuleFile, tongues: Mapping[Language, Tongue], problems: list[str]) -> Rule | None:
    before = len(problems)
    _check_languages(path, entry, tongues, problems)
    phrases = {
        language: _written_out(f"{path}: phrases.{language}", lines, entry.names.get(language, []), problems)
        for language, lines in entry.phrases.items()
    }
    for language, texts in phrases.items():
        if language in tongues:
            _check_phrases(f"{path}: phrases.{language}", texts, tongues[language], problems)
    if len(problems) > before:
        return None
    return Rule(
        id=path.stem,
        phrases=phrases,
        names=_tuples(entry.names),
        message=entry.message,
        ask=entry.ask,
        contrasts=_tuples(entry.contrasts),
        sounds=tuple(entry.sounds),
        beeps=entry.beeps,
        display=DisplayCue(
            texts=tuple(entry.display.texts),
            countdown=entry.display.countdown,
            last_of_countdown=entry.display.last_of_countdown,
        ),
        sight=SightKind(entry.sight),
        repeat=Repeat(entry.repeat),
        priority=Priority(entry.priority),
        cooldown_s=entry.cooldown_s,
        rearm_s=entry.rearm_s,
        model=ModelTuning(**entry.model.model_dump()),
        escalation=EscalationTuning(**entry.escalation.model_dump()),
    )


def _tuples(lists: Mapping[Language, Sequence[str]]) -> dict[Language, tuple[str, ...]]:
    return {language: tuple(texts) for language, texts in lists.items()}


def _check_languages(path: Path, entry: _RuleFile, tongues: Mapping[Language, Tongue], problems: list[str]) -> None:
    """A rule says in each of its languages what it is called, how it is told and how it asks."""
    written = {
        "names": set(entry.names),
        "phrases": set(entry.phrases),
        "message": set(entry.message),
        "ask": set(entry.ask),
    }
    languages = set[Language]().union(*written.values())
    problems += [
        f"{path}: language {language!r} is not known; expected one of: {', '.join(tongues)}"
        for language in sorted(languages - set(tongues))
    ]
    for name, given in written.items():
        problems += [f"{path}: {name}.{language}: missing" for language in sorted(languages - given)]


def _written_out(where: str, lines: Sequence[str], names: Sequence[str], problems: list[str]) -> tuple[str, ...]:
    """Every phrase; first the first way of each template, then the second ways, and so on."""
    ways: list[list[str]] = []
    for at, line in enumerate(lines):
        try:
            ways.append(templates.expand(templates.parse(line), {"name": tuple(names)}))
        except ValueError as error:
            problems.append(f"{where}[{at}]: {line!r} {error}")
    ranked = (way for rank in zip_longest(*ways) for way in rank if way)
    return tuple(dict.fromkeys(ranked))


def _check_phrases(where: str, texts: Iterable[str], tongue: Tongue, problems: list[str]) -> None:
    """A phrase of nothing but fillers would fit everything."""
    empty = [text for text in texts if not phrase_of(text, tongue).weight]
    if empty:
        problems.append(f"{where}: {empty[0]!r} has no word that says anything; expected what happens: the bell rings")


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is written twice", key_node.start_mark
                )
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def checked_file(
    path: Path, model: type[Model], problems: list[str], tables: Mapping[str, type[BaseModel]] | None = None
) -> Model | None:
    """The file's content as `model`, or None and one more problem. `tables` names the models of nested tables."""
    try:
        raw = _raw(path)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems += [f"{path}: {_in_words(details, model, tables or _TABLES)}" for details in error.errors()]
        return None


def _raw(path: Path) -> Any:
    """The file's content; ValueError says what is wrong with it."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"has {path.stat().st_size} bytes; expected at most {LARGEST_FILE}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply to be a rule") from error


def _in_words(details: ErrorDetails, model: type[BaseModel], tables: Mapping[str, type[BaseModel]]) -> str:
    """`phrases.en[2]: found True; expected …`, with the nearest right key for an unknown one."""
    loc = details["loc"]
    key = _key_path(loc)
    table, expected = _schema_at(loc, model, tables)
    if details["type"] == "extra_forbidden":
        keys = [info.alias or name for name, info in table.model_fields.items()]
        near = get_close_matches(str(loc[-1]).lower().replace("-", "_"), keys, n=1)
        return f"{key}: unknown field; " + (f"did you mean {near[0]}?" if near else f"known fields: {', '.join(keys)}")
    if details["type"] == "missing":
        return f"{key}: missing; expected {expected}"
    found = repr(details["input"])
    shown = found if len(found) <= 60 else found[:59] + "…"
    hint = "; put words like on, off, yes and no in quotes" if isinstance(details["input"], bool) else ""
    return f"{key or 'the file'}: found {shown}; expected {expected}{hint}"


def _key_path(loc: Sequence[str | int]) -> str:
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]")
    return written.removeprefix(".")


def _schema_at(
    loc: Sequence[str | int], root: type[BaseModel], tables: Mapping[str, type[BaseModel]]
) -> tuple[type[BaseModel], str]:
    """The table that holds the last key of `loc`, and what was expected there."""
    table, expected = root, f"a table with {', '.join(info.alias or name for name, info in root.model_fields.items())}"
    for part in loc:
        fields = {info.alias or name: info for name, info in table.model_fields.items()}
        info = fields.get(str(part))
        if info is None:
            continue
        expected = info.description or expected
        table = tables.get(str(part), table) if part != loc[-1] else table
    return table, expected


_TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "display": _DisplayEntry,
    "model": _ModelEntry,
    "escalation": _EscalationEntry,
    "examples": ExampleEntry,
    "requests": _RequestEntry,
}
