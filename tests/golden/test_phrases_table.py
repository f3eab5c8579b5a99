"""Every sentence of the two tables asks for what is written beside it, and none of the others asks for anything."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from omni_watch.domain.rhythms import EverySoLong, OnDays
from omni_watch.watch.asking import Limits, Nothing, Request, Which
from omni_watch.watch.phrases import understand
from tests.fakes.hearing import BOOK, TABLES, ZONE, hearing


def written(request: Request) -> dict[str, Any]:
    """A request as the tables write it: what is empty is left out."""
    document: dict[str, Any] = {"do": _DEEDS[type(request).__name__]}
    for name in request.__slots__:
        document |= _written(name, getattr(request, name))
    document.pop("text", None)
    document.pop("thing", None)
    return {key: value for key, value in document.items() if value not in (None, "", (), [])}


_DEEDS = {"SayAgain": "again", "BeQuiet": "quiet"} | {
    name: name.lower()
    for name in (
        "Add",
        "Change",
        "Cancel",
        "Pause",
        "Resume",
        "Snooze",
        "Acknowledge",
        "List",
        "Happened",
        "Talk",
        "Remind",
        "Answer",
        "Nothing",
    )
}


def _written(name: str, value: Any) -> dict[str, Any]:
    match value:
        case Which():
            return {"which": value.words, "all": value.is_all or None}
        case Limits():
            return {
                key: each for field in value.__slots__ for key, each in _written(field, getattr(value, field)).items()
            }
        case OnDays():
            return {name: f"{'-'.join(map(str, sorted(value.days)))} {value.at:%H:%M}"}
        case EverySoLong():
            return {name: str(value.interval)}
        case datetime():
            return {name: f"{value.astimezone(ZoneInfo(ZONE)):%Y-%m-%d %H:%M}"}
        case tuple():
            return {name: list(value)}
        case bool():
            return {name.removeprefix("is_"): value if name == "is_yes" else value or None}
        case None | str() | int():
            return {name: value}
    if name == "window":
        return {name: f"{value.begins:%H:%M}-{value.ends:%H:%M}"}
    return {name: value.value}


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(language, each, id=f"{language}: {each['say'] if kind == 'requests' else each}")
        for language, table in TABLES.items()
        for each in table[kind]
    ]


@pytest.mark.parametrize(("language", "entry"), cases("requests"))
def test_a_sentence_asks_for_what_is_meant(language: str, entry: Mapping[str, Any]) -> None:
    expected = {key: value for key, value in entry.items() if key not in {"say", "after"}}

    understood = understand(entry["say"], BOOK, hearing(entry.get("after")))

    assert written(understood.request) == expected, understood.why
    assert understood.language == language


@pytest.mark.parametrize(("language", "sentence"), cases("nothing"))
def test_what_is_not_meant_for_us_does_nothing(language: str, sentence: str) -> None:
    understood = understand(sentence, BOOK, hearing())

    assert isinstance(understood.request, Nothing), understood


@pytest.mark.parametrize("language", TABLES)
def test_the_tables_are_as_long_as_was_promised(language: str) -> None:
    table = TABLES[language]
    said = [entry["say"] for entry in table["requests"]]

    assert len(set(said)) == len(said) >= 60
    assert len(set(table["nothing"])) == len(table["nothing"]) >= 40
