"""From a sentence said to Assist to the request that reaches Omni Watch, with Home Assistant's own recogniser.

The files are those that a person copies; the templates of the package are rendered with what the sentence gave, and our
own understanding of sentences has the last word on what comes out.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hassil import Intents, TextSlotList, merge_dict, recognize_best
from home_assistant_intents import get_intents
from jinja2 import Environment

from omni_watch.domain.rules import Repeat
from omni_watch.home_assistant.parsing import parse_request
from omni_watch.watch.asking import Happened, List, Nothing, Snooze
from omni_watch.watch.phrases import understand
from omni_watch.watch.wording import read
from tests.fakes.hearing import BOOK, hearing

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ROOT / "deploy" / "home-assistant"
TABLE: Final[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "assist.yaml").read_text("utf-8"))
FOLDERS: Final = {"en": "en", "zh": "zh-CN"}
LIGHTS: Final = {"en": "kitchen light", "zh": "厨房灯"}
MEANT: Final = {
    "OmniWatchSnooze": Snooze,
    "OmniWatchList": List,
    "OmniWatchHappened": Happened,
}
LEAST: Final = 30  # sentences of each language


def ours(language: str) -> dict[str, Any]:
    path = FILES / "custom_sentences" / FOLDERS[language] / "omni_watch.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return content


@cache
def intents(language: str) -> Intents:
    """What Home Assistant understands, with our sentences beside its own, marked as it marks custom ones."""
    everything: dict[str, Any] = {}
    merge_dict(everything, get_intents(FOLDERS[language]) or {})
    custom = ours(language)
    for intent in custom["intents"].values():
        for data in intent["data"]:
            data["metadata"] = {"hass_custom_sentence": True}
    merge_dict(everything, custom)
    return Intents.from_dict(everything)


def recognised(sentence: str, language: str) -> tuple[str, dict[str, Any]] | None:
    """The intent and its slots, chosen as Home Assistant chooses."""
    names = TextSlotList.from_tuples([(LIGHTS[language], LIGHTS[language], {"domain": "light"})], name="name")
    areas = TextSlotList.from_strings(["kitchen" if language == "en" else "厨房"], name="area")
    found = recognize_best(
        sentence,
        intents(language),
        slot_lists={"name": names, "area": areas, "floor": TextSlotList.from_strings([])},
        best_metadata_key="hass_custom_sentence",
        best_slot_name="name",
        language=FOLDERS[language],
    )
    return None if found is None else (found.intent.name, {name: slot.value for name, slot in found.entities.items()})


@cache
def package() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FILES / "packages" / "omni_watch.yaml").read_text("utf-8"))
    return content


def environment() -> Environment:
    """As much of Home Assistant's templates as the package uses."""
    made = Environment()  # noqa: S701 - no HTML comes of it
    made.filters["to_json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return made


def rendered(value: Any, slots: dict[str, Any]) -> Any:
    """Templates anywhere inside a value, rendered; true and false become what they mean, as in Home Assistant."""
    if isinstance(value, dict):
        return {name: rendered(each, slots) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    text = environment().from_string(value).render(slots).strip()
    return {"True": True, "False": False}.get(text, text)


def sent(intent: str, slots: dict[str, Any]) -> dict[str, Any]:
    """What the package asks of its script."""
    ask = package()["intent_script"][intent]["action"][0]
    assert ask["action"] == "script.omni_watch_ask"
    data: dict[str, Any] = rendered(ask["data"], slots)
    return data


@pytest.mark.parametrize("language", FOLDERS)
def test_there_are_enough_sentences_to_prove_something(language: str) -> None:
    assert len({row["say"] for row in TABLE[language]}) >= LEAST
    told = {found[0] for row in TABLE[language] if (found := recognised(row["say"], language))}
    assert told == set(ours(language)["intents"]) == set(package()["intent_script"]), "every intent is tried"


@pytest.mark.parametrize(
    ("language", "row"),
    [pytest.param(language, row, id=row["say"]) for language in FOLDERS for row in TABLE[language]],
)
def test_what_is_said_to_assist_reaches_us_as_it_was_meant(language: str, row: dict[str, Any]) -> None:
    found = recognised(row["say"], language)
    assert found is not None, "not understood"
    intent, slots = found

    asked = sent(intent, slots)

    arguments = {name: value for name, value in row.items() if name not in ("say", "op")}
    assert (asked["op"], asked["language"], asked.get("args", {})) == (row["op"], language, arguments)
    request = {"v": 1, "id": "assist-1", "op": asked["op"], "source": "assist", "args": asked.get("args", {})}
    assert parse_request(json.dumps(request).encode()).op == row["op"], "the other side takes it"
    if asked["op"] == "task.add":
        wording = read(arguments["text"], BOOK.book.tongues)
        assert wording.language == language
        assert (wording.repeat is Repeat.EACH) is (slots["omni_say"] == "each")
        assert wording.condition.removeprefix("watch for ") in row["say"], "a word of the frame is taken for the thing"
    elif text := arguments.get("text"):
        assert isinstance(understand(text, BOOK, hearing()).request, MEANT[intent])


@pytest.mark.parametrize(
    ("language", "sentence"),
    [(language, sentence) for language in FOLDERS for sentence in TABLE["not_ours"][language]],
)
def test_what_home_assistant_does_itself_stays_its_own(language: str, sentence: str) -> None:
    found = recognised(sentence, language)

    assert found is None or not found[0].startswith("OmniWatch")


@pytest.mark.parametrize("language", FOLDERS)
def test_what_is_no_request_is_none_for_us_either(language: str) -> None:
    assert isinstance(understand(TABLE["not_ours"][language][0], BOOK, hearing()).request, Nothing)


def test_both_names_of_the_chinese_folder_hold_the_same() -> None:
    folders = FILES / "custom_sentences"

    assert (folders / "zh-CN/omni_watch.yaml").read_bytes() == (folders / "zh-cn/omni_watch.yaml").read_bytes()


def test_words_with_quotes_and_braces_arrive_as_they_were_said() -> None:
    words = 'the "big" {{ 1 + 1 }} pot is full'
    (publish,) = [
        step for step in package()["script"]["omni_watch_ask"]["sequence"][0]["repeat"]["sequence"] if "data" in step
    ]
    asked = sent("OmniWatchAdd", {"omni_language": "en", "omni_say": "when", "omni_condition": words})

    payload = environment().from_string(publish["data"]["payload"]).render(request_id="a-1", **asked)

    assert json.loads(payload) == {
        "v": 1,
        "id": "a-1",
        "op": "task.add",
        "source": "assist",
        "args": {"text": f"tell me when {words}"},
    }


def test_a_request_without_arguments_has_none() -> None:
    publish = package()["script"]["omni_watch_ask"]["sequence"][0]["repeat"]["sequence"][0]

    payload = environment().from_string(publish["data"]["payload"]).render(request_id="a-1", op="alert.ack")

    assert json.loads(payload)["args"] == {}


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (
            {"ok": True, "result": {"message": 'I will watch the "kettle".'}},
            {"ok": True, "message": 'I will watch the "kettle".', "code": ""},
        ),
        (
            {"ok": False, "error": {"code": "conflict", "message": "已经在看着了"}},
            {"ok": False, "message": "已经在看着了", "code": "conflict"},
        ),
    ],
)
def test_the_answer_is_what_omni_watch_says(reply: dict[str, Any], answer: dict[str, Any]) -> None:
    told = package()["script"]["omni_watch_ask"]["sequence"][0]["repeat"]["sequence"][2]["then"][0]["variables"][
        "answer"
    ]

    text = environment().from_string(told).render(wait={"trigger": {"payload_json": reply}})

    assert yaml.safe_load(text) == answer


@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        ({"ok": True}, {"en": "All right, I no longer watch for the kettle.", "zh": "好，不再看着水壶了。"}),
        ({"ok": False, "code": "not_found"}, {"en": "I am not watching for the kettle.", "zh": "我没有在看着水壶。"}),
        ({"ok": False, "code": "ambiguous"}, {"en": "Several may be meant; please say it more exactly."}),
        ({"ok": False, "code": "ambiguous"}, {"zh": "有好几个任务都可能是这个，请说得具体一点。"}),
        ({"ok": False, "code": "unavailable", "message": "Omni Watch 没有回答。"}, {"zh": "Omni Watch 没有回答。"}),
    ],
)
def test_a_cancel_is_answered_in_the_language_it_was_said_in(answer: dict[str, Any], spoken: dict[str, str]) -> None:
    speech = package()["intent_script"]["OmniWatchCancel"]["speech"]["text"]

    for language, words in spoken.items():
        slots = {"omni_language": language, "omni_thing": {"en": "the kettle", "zh": "水壶"}[language]}
        assert environment().from_string(speech).render(action_response=answer, **slots).strip() == words


def test_the_guide_fits_a_page_and_names_what_is_there() -> None:
    guide = (FILES / "README.md").read_text("utf-8")

    assert len(guide.splitlines()) <= 70
    for target in re.findall(r"\]\(([^)]+)\)", guide):
        assert (FILES / target).exists(), target
