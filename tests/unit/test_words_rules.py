"""Every rule keeps its own promises, and the sentences of the table choose what they should."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from omni_watch.config.rulebook import Rulebook, load_rulebook
from omni_watch.domain.rules import Escalation, Priority, Repeat, SightKind
from omni_watch.duplex.embedded.sounds import TABLE
from omni_watch.watch.choosing import Choice, choose, message_for
from omni_watch.watch.wording import Wording, read

BOOK: Rulebook = load_rulebook()
WORDS_TABLE = yaml.safe_load((Path(__file__).parents[1] / "golden" / "words_table.yaml").read_text(encoding="utf-8"))
EXAMPLES = [(rule, example) for rule, tests in BOOK.tests.items() for example in tests.examples]
REFUSALS = [(rule, sentence) for rule, tests in BOOK.tests.items() for sentence in tests.refusals]
WANTED = {
    "kettle_full", "kettle_boiling", "elevator_arrived", "microwave_done", "oven_timer", "washing_machine_done",
    "alarm_clock", "smoke_alarm", "doorbell", "knock", "phone", "baby_crying", "dog_barking", "glass_breaking",
    "water_running",
}  # fmt: skip


def understood(sentence: str) -> tuple[Wording, Choice]:
    wording = read(sentence, BOOK.phrasebook.tongues)
    return wording, choose(wording, BOOK.phrasebook)


def test_every_rule_that_the_house_promises_is_shipped() -> None:
    assert {rule.id for rule in BOOK.all()} >= WANTED


@pytest.mark.parametrize(("rule_id", "example"), EXAMPLES, ids=[f"{rule}: {one.say}" for rule, one in EXAMPLES])
def test_a_rule_s_own_example_chooses_it(rule_id: str, example: object) -> None:
    say, repeat, message = (getattr(example, name) for name in ("say", "repeat", "message"))
    wording, choice = understood(say)
    assert choice.rule == rule_id, choice.why
    if repeat is not None:
        assert wording.repeat is Repeat(repeat)
    if message is not None:
        assert message_for(choice, wording, BOOK.phrasebook) == message


@pytest.mark.parametrize(("rule_id", "sentence"), REFUSALS, ids=[f"{rule}: {say}" for rule, say in REFUSALS])
def test_what_a_rule_refuses_does_not_choose_it(rule_id: str, sentence: str) -> None:
    assert understood(sentence)[1].rule != rule_id


@pytest.mark.parametrize(("sentence", "rule_id"), WORDS_TABLE["words"], ids=[row[0] for row in WORDS_TABLE["words"]])
def test_words_alone_choose_the_right_rule(sentence: str, rule_id: str) -> None:
    assert understood(sentence)[1].rule == rule_id


@pytest.mark.parametrize("sentence", WORDS_TABLE["nothing"])
def test_a_wish_that_no_rule_means_chooses_none_and_says_so(sentence: str) -> None:
    wording, choice = understood(sentence)
    assert choice.rule is None
    assert wording.condition in choice.why


@pytest.mark.parametrize(("sentence", "rule_id"), WORDS_TABLE["meaning"])
def test_words_alone_never_choose_a_wrong_rule_for_a_synonym(sentence: str, rule_id: str) -> None:
    assert understood(sentence)[1].rule in {rule_id, None}


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(WORDS_TABLE["words"]) >= 60
    assert len(WORDS_TABLE["nothing"]) >= 60
    in_rules = {example.say for _, example in EXAMPLES}
    assert not in_rules & {row[0] for row in WORDS_TABLE["words"] + WORDS_TABLE["meaning"]}


@pytest.mark.parametrize("rule", BOOK.all(), ids=lambda rule: rule.id)
def test_a_rule_speaks_both_languages_and_tests_both(rule: object) -> None:
    rule_id = getattr(rule, "id", "")
    found = BOOK.get(rule_id)
    assert found is not None
    assert set(found.phrases) == set(found.names) == set(found.message) == set(found.ask) == {"en", "zh"}
    for sentences in ([one.say for one in BOOK.tests[rule_id].examples], BOOK.tests[rule_id].refusals):
        assert len(sentences) >= 6
        in_chinese = [bool(re.search(r"[\u4e00-\u9fff]", sentence)) for sentence in sentences]
        assert any(in_chinese)
        assert not all(in_chinese)


def test_every_sound_group_that_a_rule_names_can_be_heard() -> None:
    groups = tomllib.loads(TABLE.read_text(encoding="utf-8"))["groups"]
    named = {(rule.id, group) for rule in BOOK.all() for group in rule.sounds}
    assert named
    assert {(rule_id, group) for rule_id, group in named if group not in groups} == set()


def test_every_rule_has_a_means_or_can_be_shown() -> None:
    for rule in BOOK.all():
        assert rule.sounds or rule.beeps or rule.sight is not SightKind.NONE, rule.id


def test_running_water_and_key_presses_alone_prove_nothing_about_kettle_and_microwave() -> None:
    kettle, microwave, elevator = (BOOK.get(one) for one in ("kettle_full", "microwave_done", "elevator_arrived"))
    assert kettle is not None
    assert microwave is not None
    assert elevator is not None
    assert (kettle.sounds, microwave.sounds, elevator.sounds) == ((), (), ())
    assert microwave.beeps >= 3
    assert microwave.display.countdown


def test_danger_is_urgent_and_only_danger() -> None:
    assert {rule.id for rule in BOOK.all() if rule.priority is Priority.URGENT} == {"smoke_alarm", "glass_breaking"}


def test_a_phrase_said_plainly_chooses_its_own_rule_or_is_refused_for_a_reason() -> None:
    """No rule's phrase belongs to another rule."""
    wrong = [
        (rule.id, language, phrase, choice.rule)
        for rule in BOOK.all()
        for language, phrases in rule.phrases.items()
        for phrase in phrases[:40]
        if (choice := choose(Wording(text=phrase, language=language, condition=phrase), BOOK.phrasebook)).rule
        not in {rule.id, None}
    ]
    assert wrong == []


def test_urgent_rules_escalate_as_they_say_and_a_fire_more_than_all_others() -> None:
    usual = Escalation()
    of = {rule.id: usual.tuned(rule.escalation) for rule in BOOK.all() if rule.priority is Priority.URGENT}
    assert set(of) == {"smoke_alarm", "glass_breaking"}
    assert of["smoke_alarm"].every_s == min(one.every_s for one in of.values())
    assert of["smoke_alarm"].times == max(one.times for one in of.values())
    assert all(one.every_channel_after == 1 for one in of.values())
