"""The plan says which means will watch, what is lacking, and what a person should do."""

from __future__ import annotations

import re

import pytest

from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.decisions import Means
from omni_watch.domain.regions import Region
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.duplex.embedded.planner import Abilities, plan
from omni_watch.watch.briefing import BriefedTask, Plan
from tests.fakes.values import a_task, an_example

BOOK = load_rulebook()
ALL = Abilities()
CORNER = Region(0.1, 0.1, 0.2, 0.2)


def shown(*labels: Label, display: bool = False) -> Lesson:
    examples = tuple(an_example(f"e{at}", label) for at, label in enumerate(labels))
    return Lesson(task_id="kettle01", feed="kitchen", display_region=CORNER if display else None, examples=examples)


def planned(rule: str | None, lesson: Lesson | None = None, abilities: Abilities = ALL, language: str = "en") -> Plan:
    task = a_task(language=language, rule=rule)
    return plan(BriefedTask(task=task, rule=BOOK.get(rule) if rule else None, lesson=lesson), abilities)


BOTH, ENDS = (Label.NOT_YET, Label.DONE), (Label.EMPTY, Label.FULL)


@pytest.mark.parametrize(
    ("rule", "lesson", "means"),
    [
        ("dog_barking", None, (Means.SOUND,)),
        ("alarm_clock", None, (Means.SOUND, Means.BEEPS)),
        ("microwave_done", None, (Means.BEEPS,)),
        ("microwave_done", shown(display=True), (Means.BEEPS, Means.DISPLAY)),
        ("microwave_done", shown(*BOTH, display=True), (Means.BEEPS, Means.DISPLAY, Means.TAUGHT)),
        ("elevator_arrived", None, ()),
        ("elevator_arrived", shown(*BOTH), (Means.TAUGHT,)),
        ("elevator_arrived", shown(*BOTH, display=True), (Means.TAUGHT,)),
        ("kettle_full", None, ()),
        ("kettle_full", shown(*BOTH), (Means.TAUGHT,)),
        ("kettle_full", shown(*ENDS), (Means.LEVEL,)),
        ("kettle_full", shown(*BOTH, *ENDS), (Means.LEVEL,)),
        ("kettle_full", shown(Label.DONE, Label.FULL), ()),
        (None, None, ()),
        (None, shown(*BOTH), (Means.TAUGHT,)),
        (None, shown(*BOTH, *ENDS), (Means.LEVEL,)),
        (None, shown(display=True), ()),
        ("dog_barking", shown(*BOTH), (Means.SOUND, Means.TAUGHT)),
    ],
)
def test_the_rule_and_what_was_shown_choose_the_means(
    rule: str | None, lesson: Lesson | None, means: tuple[Means, ...]
) -> None:
    found = planned(rule, lesson)
    assert found.means == means
    assert found.why
    assert bool(found.ask) or found.means


@pytest.mark.parametrize("language", ["en", "zh", "fr"])
@pytest.mark.parametrize("rule", [None, *(rule.id for rule in BOOK.all())])
def test_every_plan_is_in_whole_sentences_of_the_task_s_language(rule: str | None, language: str) -> None:
    for abilities in (
        ALL,
        Abilities(hears=False, reads=False, sees=False),
        Abilities(has_camera=False, has_microphone=False),
    ):
        for lesson in (None, shown(*BOTH), shown(Label.DONE), shown(Label.EMPTY, display=True)):
            found = planned(rule, lesson, abilities, language)
            assert found.why
            assert found.is_blind <= bool(found.ask)
            for sentence in (*found.why, *filter(None, [found.ask])):
                assert "{" not in sentence
                assert bool(re.search(r"[\u4e00-\u9fff]", sentence)) == (language == "zh")


def test_a_task_that_nothing_fits_asks_to_be_shown() -> None:
    found = planned("kettle_full")
    assert found.is_blind
    assert "Show me what an empty and a full kettle look like." in found.ask
    assert "omni-watch teach kettle01" in found.ask
    assert "Show me what it looks like before, and what done looks like." in planned(None).ask
    assert "请给我看看" in planned("kettle_full", language="zh").ask


def test_half_a_lesson_is_told() -> None:
    assert any('"done" but no "not yet"' in why for why in planned("elevator_arrived", shown(Label.DONE)).why)
    assert any('"not yet" but no "done"' in why for why in planned("elevator_arrived", shown(Label.NOT_YET)).why)
    assert any("both empty and full" in why for why in planned("kettle_full", shown(Label.FULL)).why)


def test_a_missing_model_names_the_command_that_mends_it() -> None:
    deaf = planned("dog_barking", abilities=Abilities(hears=False))
    assert deaf.is_blind
    assert "omni-watch models pull" in deaf.ask
    blind = planned("elevator_arrived", shown(*BOTH), Abilities(sees=False))
    assert blind.is_blind
    assert "omni-watch models pull" in blind.ask
    unread = planned("microwave_done", shown(display=True), Abilities(reads=False))
    assert unread.means == (Means.BEEPS,)
    assert any("omni-watch models pull" in why for why in unread.why)


def test_a_fill_level_needs_no_model() -> None:
    assert planned("kettle_full", shown(*ENDS), Abilities(sees=False)).means == (Means.LEVEL,)


def test_a_feed_without_the_needed_sense_is_told() -> None:
    assert "give the feed a microphone" in planned("doorbell", abilities=Abilities(has_microphone=False)).ask
    assert "give the feed a camera" in planned("kettle_full", abilities=Abilities(has_camera=False)).ask
    still_heard = planned("microwave_done", shown(*BOTH), Abilities(has_camera=False))
    assert still_heard.means == (Means.BEEPS,)
    assert still_heard.ask == ""


def test_a_feed_to_which_we_are_not_to_listen_is_told_with_what_mends_it() -> None:
    deaf = planned("dog_barking", abilities=Abilities(is_deaf=True))
    assert deaf.is_blind
    assert deaf.ask == "I can only hear this; let me listen there again (omni-watch listen FEED on)."
    assert "那里不让我听" in planned("dog_barking", abilities=Abilities(is_deaf=True), language="zh").why[0]
    assert planned("elevator_arrived", shown(*BOTH), Abilities(is_deaf=True)).means == (Means.TAUGHT,), "it still sees"


def test_what_is_heard_well_asks_for_nothing_and_what_could_be_surer_says_so() -> None:
    assert planned("dog_barking").ask == ""
    assert planned("water_running").ask.startswith("It gets surer when I have seen it.")
    assert planned("water_running", shown(*BOTH)).ask == ""


def test_a_marked_display_that_means_nothing_is_told() -> None:
    assert any("which text on it" in why for why in planned("elevator_arrived", shown(*BOTH, display=True)).why)
