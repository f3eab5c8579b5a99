"""The words for what is wrong in a configuration file: key, what was found and expected, the nearest right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from omni_watch.domain.addresses import HIDDEN, hide_credentials

LONGEST_SHOWN: Final = 60  # characters of a wrong value that a message repeats


def in_words(details: ErrorDetails, raw: Mapping[str, Any], root: type[BaseModel]) -> str:
    """One line for one of pydantic's findings about `raw`, checked as `root`."""
    loc = details["loc"]
    key = _key_path(loc, raw)
    schema = _schema_at(loc, root)
    if details["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest_key(loc, raw, root)}"
    if details["type"] == "missing":
        return f"{key}: missing; expected {schema.expected}"
    if details["type"] == "value_error":
        return f"{key}: {details['ctx']['error']}"
    found = HIDDEN if "password" in key else _shown(details["input"])
    return f"{key}: found {found}; expected {schema.expected}{_nearest_choice(details, schema)}"


@dataclass(frozen=True, slots=True)
class _Schema:
    """What the file may hold at one place."""

    expected: str
    keys: Sequence[str] = ()  # of a table
    choices: Sequence[str] = ()  # of a field with few values


def _schema_at(loc: Sequence[str | int], root: type[BaseModel]) -> _Schema:
    model = root
    expected = "tables like [house] and [[feeds]]"
    choices: Sequence[str] = ()
    for part in loc:
        if isinstance(part, int):
            expected = "a [[feeds]] table"
            continue
        found = model.model_fields.get(part)
        if found is None:  # an unknown key: what is known is that of its table
            break
        expected, choices = found.description or "another value", _choices(found.annotation)
        model = _tables(root).get(part, model)
    return _Schema(expected, tuple(model.model_fields), choices)


@cache
def _tables(root: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The file's tables by name; `feeds` stands for one of its tables."""
    annotations = {name: info.annotation for name, info in root.model_fields.items()}
    kinds = {name: next(iter(get_args(annotation)), annotation) for name, annotation in annotations.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _choices(annotation: Any) -> Sequence[str]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _key_path(loc: Sequence[str | int], raw: Mapping[str, Any]) -> str:
    """`feeds.porch.video`; a feed without a usable name is `feeds[1]`, counted from 0 as TOML tools do."""
    if len(loc) > 1 and loc[0] == "feeds" and isinstance(loc[1], int):
        feed = raw["feeds"][loc[1]]
        name = feed.get("name") if isinstance(feed, dict) else None
        known = isinstance(name, str) and name and "name" not in loc[2:]
        head = f"feeds.{name}" if known else f"feeds[{loc[1]}]"
        return ".".join([head, *map(str, loc[2:])])
    return ".".join(map(str, loc))


def _nearest_key(loc: Sequence[str | int], raw: Mapping[str, Any], root: type[BaseModel]) -> str:
    wrong, table = str(loc[-1]), list(loc[:-1])
    own_keys = _schema_at(table, root).keys
    if near := get_close_matches(wrong.lower().replace("-", "_"), own_keys, n=1):
        return f"did you mean {_key_path([*table, near[0]], raw)}?"
    for name, model in _tables(root).items():
        if wrong in model.model_fields:
            return f"did you mean {name}.{wrong}?"
    return f"known keys here: {', '.join(own_keys)}"


def _nearest_choice(details: ErrorDetails, schema: _Schema) -> str:
    found = details["input"]
    near = get_close_matches(found.lower(), schema.choices, n=1) if isinstance(found, str) else []
    return f'; did you mean "{near[0]}"?' if near else ""


def _shown(value: Any) -> str:
    """A wrong value as it may be repeated: short, and without credentials."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = hide_credentials(str(value))
    text = text.lower() if isinstance(value, bool) else text  # as TOML writes it
    text = text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
    return repr(text) if isinstance(value, str) else text
