"""Which words a recogniser is told to expect: those of this house, few, and in the language that is heard."""

from __future__ import annotations

from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.tasks import TaskState
from omni_watch.watch.hot_words import LONGEST_WORD, MOST_WORDS, hot_words
from tests.fakes.values import a_task

PHRASEBOOK = load_rulebook(None).phrasebook
ENGLISH, CHINESE = (
    next(tongue for tongue in PHRASEBOOK.tongues if tongue.language == language) for language in ("en", "zh")
)


def test_without_tasks_every_rule_gives_its_usual_name() -> None:
    words = hot_words(ENGLISH, PHRASEBOOK.rules, [])
    assert {"kettle", "elevator", "microwave", "washing machine"} <= set(words)
    assert "electric kettle" not in words
    assert {"水壶", "电梯", "微波炉"} <= set(hot_words(CHINESE, PHRASEBOOK.rules, []))


def test_what_is_watched_for_comes_first_with_the_words_of_the_person() -> None:
    tasks = [
        a_task(rule="elevator_arrived", text="Tell me when the lift to the observatory arrives"),
        a_task("done", rule="doorbell", text="tell me when the xylophone rings", state=TaskState.DONE),
    ]
    words = hot_words(ENGLISH, PHRASEBOOK.rules, tasks)
    assert words[:2] == ("elevator", "lift")
    assert words.index("observatory") < words.index("kettle")
    assert "xylophone" not in words, "that task is over"
    assert not {"tell", "when", "the", "to"} & set(words)


def test_a_word_is_told_once_and_there_are_few() -> None:
    tasks = [a_task(f"t{n}", rule="kettle_full", text=f"tell me when Kettle thing{n} is full") for n in range(60)]
    words = hot_words(ENGLISH, PHRASEBOOK.rules, tasks)
    assert len(words) <= MOST_WORDS
    assert len({word.casefold() for word in words}) == len(words)
    assert all(len(word) <= LONGEST_WORD for word in words)


def test_words_of_another_language_are_not_told() -> None:
    tasks = [a_task(rule="kettle_full", text="水壶满了告诉我", language="zh")]
    assert hot_words(CHINESE, PHRASEBOOK.rules, tasks)[0] == "水壶"
    assert all(word.isascii() for word in hot_words(ENGLISH, PHRASEBOOK.rules, tasks))
