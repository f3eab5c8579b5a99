"""A language of speech is a file: what is wrong with one is told by its key, and a third language needs no code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_watch.config.rulebook import load_rulebook, shipped_rules
from omni_watch.config.speechbook import SPEECH, load_speechbook
from omni_watch.domain.errors import ConfigError
from omni_watch.watch.asking import Add, Cancel, Remind, Which
from omni_watch.watch.phrases import understand
from omni_watch.watch.replies import OPTIONAL, REPLIES
from tests.fakes.hearing import NOW, hearing
from tests.fakes.values import a_task

PHRASEBOOK = load_rulebook().phrasebook
ENGLISH = yaml.safe_load((shipped_rules() / SPEECH / "en.yaml").read_text("utf-8"))

GERMAN_WORDING = """
language: de
script: latin
pronoun: es
requests: [{say: "(sag|sage) (mir|uns) Bescheid, wenn {condition}"}]
fillers: [der, die, das, den, ein, eine, ist, mir, uns, bitte]
persons: {mein: dein, ich: du}
"""

GERMAN: dict[str, Any] = {
    "language": "de",
    "hesitations": ["äh"],
    "called": "[hallo ]{name}[,]",
    "lead": "[(kannst du|könntest du|bitte) ]",
    "pronouns": "(es|das)",
    "everything": "(alles|alle)",
    "times": {
        "numbers": {"eins": 1, "zwei": 2, "sieben": 7, "zehn": 10},
        "units": {"minute": ["minute", "minuten"], "hour": ["stunde", "stunden"]},
        "days": {"heute": 0, "morgen": 1},
        "weekdays": {"montag": 0, "freitag": 4},
        "parts": {"früh": [5, 12, "8:00"], "abend": [17, 24, "19:00"]},
        "part_words": {"früh": "früh", "abend": "abend"},
        "clocks": [{"say": "{hour} uhr"}],
        "durations": [{"say": "{n} {unit}"}],
        "moments": [{"say": "in {duration}"}, {"say": "[{day} ]um {clock}"}],
    },
    "feed_at": "(in der|im) {place}",
    "places": {"kitchen": ["küche"]},
    "modifiers": [{"say": "{feed}"}, {"say": "[bitte]"}],
    "commands": {
        "cancel": [{"say": "(achte nicht mehr auf|vergiss) {thing}"}],
        "remind": [{"say": "erinnere mich {moment} an {message}"}],
        "add": [{"say": "sag mir Bescheid[,] wenn {condition}"}],
    },
    "replies": {**dict.fromkeys(REPLIES, "gut")},
}


@pytest.fixture
def own(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Makes a folder of rules of a user's own, with this file of speech."""

    def make(content: dict[str, Any]) -> Path:
        (tmp_path / SPEECH).mkdir(exist_ok=True)
        path = tmp_path / SPEECH / f"{content.get('language', 'en')}.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
        return tmp_path

    return make


def changed(**changes: Any) -> dict[str, Any]:
    return {**ENGLISH, **changes}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"lead": "[hey"}, "lead: '[hey' lacks a closing ']'"),
        ({"commands": {"cancel": [{"say": "stop {kettle}"}]}}, "commands.cancel[0]: {kettle} is not one of"),
        ({"commands": {"add": [{"say": "{about} {condition} {message}"}]}}, "has 3 slots of free text; at most 2"),
        ({"commands": {"dance": []}}, "commands.dance"),
        ({"commands": {"add": [{"say": "tell me {condition}", "repeat": "often"}]}}, "repeat: found 'often'"),
        ({"refused": {"weather": []}}, "refused.weather"),
        ({"replies": {**ENGLISH["replies"], "add": "Okay, {wish}."}}, "replies.add: 'wish' cannot be filled in"),
        ({"replies": {"add": "Okay."}}, "replies.add_each: missing"),
        ({"replies": {**ENGLISH["replies"], "sing": "La."}}, "replies.sing: unknown sentence"),
        (
            {"times": {**ENGLISH["times"], "part_words": {"dusk": "twilight"}}},
            "part_words.dusk: 'twilight' is not one of",
        ),
        ({"times": {**ENGLISH["times"], "moments": [{"say": "at {condition}"}]}}, "times: {condition} is not one of"),
        ({"times": {**ENGLISH["times"], "parts": {"noon": [11, 15, "noon"]}}}, "parts.noon"),
        ({"language": "xx"}, "language 'xx' has no file in the folder wording/"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_key(
    own: Callable[[dict[str, Any]], Path], changes: dict[str, Any], complaint: str
) -> None:
    folder = own(changed(**changes))

    with pytest.raises(ConfigError) as caught:
        load_speechbook(PHRASEBOOK, folder)

    assert any(complaint in problem for problem in caught.value.problems), caught.value.problems


def test_ours_fill_in_every_sentence() -> None:
    for speech in load_speechbook(PHRASEBOOK).speeches:
        assert REPLIES.keys() <= speech.replies.keys() <= REPLIES.keys() | OPTIONAL.keys()


def test_a_third_language_is_a_file(own: Callable[[dict[str, Any]], Path]) -> None:
    folder = own(GERMAN)
    (folder / "wording").mkdir()
    (folder / "wording" / "de.yaml").write_text(GERMAN_WORDING, "utf-8")
    book = load_speechbook(load_rulebook(folder).phrasebook, folder)
    task = a_task(text="sag mir Bescheid, wenn der Kessel voll ist", language="de", message="Der Kessel ist voll.")
    house = hearing(tasks=(task,))

    added = understand("äh bitte sag mir Bescheid wenn der Hund bellt in der Küche", book, house)
    assert isinstance(added.request, Add)
    assert (added.request.condition, added.request.limits.feeds, added.language) == (
        "der Hund bellt",
        ("kitchen",),
        "de",
    )
    reminded = understand("erinnere mich morgen früh um sieben Uhr an die Milch", book, house)
    assert isinstance(reminded.request, Remind)
    assert (reminded.request.at - NOW).total_seconds() == (20 * 60 + 30) * 60
    assert understand("vergiss den Kessel", book, house).request == Cancel(Which("den Kessel"))
    assert not understand("der Kessel war gestern voll", book, house).is_request


def test_a_users_file_takes_the_place_of_ours(own: Callable[[dict[str, Any]], Path]) -> None:
    folder = own(changed(commands={"talk": [{"say": "sing again"}]}))
    book = load_speechbook(PHRASEBOOK, folder)

    assert understand("sing again", book, hearing()).is_request
    assert not understand("stop watching the kettle", book, hearing()).is_request
    assert understand("别看水壶了", book, hearing()).is_request


def test_without_any_language_of_speech_nothing_can_be_loaded(tmp_path: Path) -> None:
    shutil.copytree(shipped_rules(), tmp_path / "rules", ignore=shutil.ignore_patterns(SPEECH))

    with pytest.raises(ConfigError, match="holds no language"):
        load_speechbook(PHRASEBOOK, shipped=tmp_path / "rules")
