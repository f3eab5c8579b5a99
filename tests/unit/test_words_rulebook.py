"""Rule files that cannot be used are told all at once: the file, the field, the nearest right one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from omni_watch.config.rulebook import load_rulebook, shipped_rules
from omni_watch.domain.errors import ConfigError
from omni_watch.domain.rules import Repeat
from omni_watch.watch.choosing import choose
from omni_watch.watch.wording import read

PARROT = """
names: {en: [parrot], zh: [鹦鹉]}
phrases: {en: ["{name} (talks|speaks)"], zh: ["{name}说话"]}
message: {en: The parrot talks., zh: 鹦鹉说话了}
ask: {en: Let me hear it., zh: 让我听听。}
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our languages with one rule: quicker to read than all."""
    folder = tmp_path_factory.mktemp("few")
    shutil.copytree(shipped_rules() / "wording", folder / "wording")
    shutil.copy(shipped_rules() / "dog_barking.yaml", folder)
    return folder


def problems_of(folder: Path, few: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_rulebook(folder, few)
    return str(caught.value)


def test_a_rule_of_one_s_own_is_added(few: Path, tmp_path: Path) -> None:
    (tmp_path / "parrot.yaml").write_text(PARROT, encoding="utf-8")
    book = load_rulebook(tmp_path, few)
    for sentence in ("tell me when the parrot is speaking", "鹦鹉说话了告诉我"):
        assert choose(read(sentence, book.phrasebook.tongues), book.phrasebook).rule == "parrot"


def test_a_rule_of_one_s_own_replaces_ours_of_the_same_name(few: Path, tmp_path: Path) -> None:
    theirs = (
        (shipped_rules() / "dog_barking.yaml")
        .read_text(encoding="utf-8")
        .replace("repeat: once\n", "repeat: each\n", 1)
    )
    (tmp_path / "dog_barking.yaml").write_text(theirs, encoding="utf-8")
    own, ours = load_rulebook(tmp_path, few).get("dog_barking"), load_rulebook(None, few).get("dog_barking")
    assert own is not None
    assert ours is not None
    assert (own.repeat, ours.repeat) == (Repeat.EACH, Repeat.ONCE)


def test_a_rule_that_is_not_there_is_none(few: Path) -> None:
    assert load_rulebook(None, few).get("no_such_rule") is None


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("colldown_s: 3", "parrot.yaml: colldown_s: unknown field; did you mean cooldown_s?"),
        ("zzz: 3", "parrot.yaml: zzz: unknown field; known fields: names, phrases"),
        ("repeat: often", 'parrot.yaml: repeat: found \'often\'; expected "once" or "each"'),
        ("display: {text: [End]}", "parrot.yaml: display.text: unknown field; did you mean texts?"),
        ("display: {texts: [on]}", "parrot.yaml: display.texts[0]: found True; expected a list of texts"),
        ("sounds: dog", "parrot.yaml: sounds: found 'dog'; expected a list of sound groups"),
        ("beeps: 3000", "parrot.yaml: beeps: found 3000; expected a whole number from 0 to 20"),
        ("cooldown_s: -1", "parrot.yaml: cooldown_s: found -1; expected seconds"),
        ("escalation: {evry_s: 3}", "parrot.yaml: escalation.evry_s: unknown field; did you mean every_s?"),
        (
            "escalation: {times: 2.5}",
            "parrot.yaml: escalation.times: found 2.5; expected a whole number from 0 (never)",
        ),
        ("examples: [{sya: hello}]", "parrot.yaml: examples[0].sya: unknown field; did you mean say?"),
        ("beeps: 1\nbeeps: 2", "parrot.yaml: line 7, column 1: key 'beeps' is written twice"),
        ("sounds: [dog", "parrot.yaml: line 7, column 1: "),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(few: Path, tmp_path: Path, added: str, message: str) -> None:
    (tmp_path / "parrot.yaml").write_text(f"{PARROT}{added}\n", encoding="utf-8")
    assert message in problems_of(tmp_path, few)


def test_a_word_that_yaml_takes_for_true_is_explained(few: Path, tmp_path: Path) -> None:
    (tmp_path / "parrot.yaml").write_text(f"{PARROT}display: {{texts: [on]}}\n", encoding="utf-8")
    assert "put words like on, off, yes and no in quotes" in problems_of(tmp_path, few)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("{name} (talks", "{name} ((talks", "lacks a closing ')'"),
        ("{name} (talks", "{nmae} (talks", "has {nmae}, which is not one of: {name}"),
        ("{name} (talks", "{name} [talks", "where ']' was expected"),
        ('"{name} (talks|speaks)"', '"it is (there|that)"', "has no word that says anything"),
        ("ask: {en: Let me hear it., ", "ask: {", "parrot.yaml: ask.en: missing"),
        ("names: {en: [parrot], zh", "names: {en: [parrot], de: [Papagei], zh", "language 'de' is not known"),
        ("message: {en: The parrot talks., zh: 鹦鹉说话了}\n", "", "parrot.yaml: message: missing; expected for each"),
    ],
)
def test_a_wrong_phrase_or_language_is_named(few: Path, tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in PARROT
    (tmp_path / "parrot.yaml").write_text(PARROT.replace(before, after), encoding="utf-8")
    assert message in problems_of(tmp_path, few)


def test_all_problems_of_all_files_come_at_once(few: Path, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"{PARROT}repeat: often\nbeep: 3\n", encoding="utf-8")
    (tmp_path / "two.yaml").write_text("- a list\n", encoding="utf-8")
    told = problems_of(tmp_path, few)
    for part in ("one.yaml: repeat", "one.yaml: beep: unknown field; did you mean beeps?", "two.yaml: the file: found"):
        assert part in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[" * 20000, "nested too deeply"),
        (b"#" * 300_000, "has 300000 bytes; expected at most"),
        (b"", "found None; expected a table"),
        (b"a: *nobody", "undefined alias"),
        (b"a: \x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_rule_at_all_is_told_without_a_traceback(
    few: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "odd.yaml").write_bytes(content)
    told = problems_of(tmp_path, few)
    assert "odd.yaml: " in told
    assert message in told


def test_a_folder_that_is_not_there_is_told(few: Path, tmp_path: Path) -> None:
    assert "no such folder of rules" in problems_of(tmp_path / "nowhere", few)


def test_a_phrase_with_too_many_ways_is_refused(few: Path, tmp_path: Path) -> None:
    many = " ".join(["(a1|b1|c1|d1)"] * 8)
    (tmp_path / "parrot.yaml").write_text(PARROT.replace("{name} (talks|speaks)", many), encoding="utf-8")
    assert "more than 2000 ways" in problems_of(tmp_path, few)


def test_a_third_language_is_only_a_file(few: Path, tmp_path: Path) -> None:
    (tmp_path / "wording").mkdir()
    (tmp_path / "wording" / "de.yaml").write_text(
        """
language: de
script: latin
fillers: [der, die, das, ist, wenn]
harmless: [schon]
requests:
  - say: "sag mir[,] (wenn|sobald) {condition}"
  - {say: "sag mir jedes Mal[,] wenn {condition}", repeat: each}
""",
        encoding="utf-8",
    )
    (tmp_path / "parrot.yaml").write_text(
        PARROT.replace("names: {", "names: {de: [Papagei], ")
        .replace("phrases: {", 'phrases: {de: ["{name} spricht"], ')
        .replace("message: {", "message: {de: Der Papagei spricht., ")
        .replace("ask: {", "ask: {de: Lass es mich hören., "),
        encoding="utf-8",
    )
    book = load_rulebook(tmp_path, few)
    wording = read("Sag mir jedes Mal, wenn der Papagei spricht", book.phrasebook.tongues)
    assert (wording.language, wording.repeat) == ("de", Repeat.EACH)
    assert choose(wording, book.phrasebook).rule == "parrot"


@pytest.mark.parametrize(
    ("request_form", "message"),
    [
        ("tell me when {conditon}", "{conditon} is not one of condition, message, indirect"),
        ("tell me <wen> {condition}", "names <wen>, which is not one of"),
        ("tell me when", "expected {condition}"),
        ("(tell me {condition}", "lacks a closing ')'"),
        ("<me> {condition}", "within one another"),
    ],
)
def test_a_wrong_request_form_is_named(few: Path, tmp_path: Path, request_form: str, message: str) -> None:
    (tmp_path / "wording").mkdir()
    (tmp_path / "wording" / "de.yaml").write_text(
        f'language: de\nscript: latin\nparts: {{me: "<me>"}}\nrequests: [{{say: "{request_form}"}}]\n', encoding="utf-8"
    )
    told = problems_of(tmp_path, few)
    assert "de.yaml: requests[0].say: " in told
    assert message in told


def test_without_its_language_no_rule_is_blamed(few: Path, tmp_path: Path) -> None:
    shutil.copytree(few, tmp_path / "rules")
    (tmp_path / "rules" / "wording" / "en.yaml").write_text("language: en\nscirpt: latin\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_rulebook(shipped=tmp_path / "rules")
    assert all("en.yaml" in problem for problem in caught.value.problems)
