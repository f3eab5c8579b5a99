"""The system prompt: what it says, in which language, what it leaves out, and that nobody's words become commands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from omni_watch.config.rulebook import load_rulebook
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.duplex.minicpmo.prompts import (
    Presence,
    Prompt,
    PromptLimits,
    SpokenRequest,
    Told,
    compose,
    plain,
    words_for,
)
from omni_watch.watch.briefing import BriefedTask, Briefing
from tests.fakes.values import a_task

BOOK = load_rulebook()
TOKENIZER: Tokenizer = Tokenizer.from_file(
    str(Path(__file__).parents[2] / "golden" / "minicpmo" / "tiny-a" / "tokenizer.json")
)
AMPLE = PromptLimits(tokens=10_000)


def count_tokens(text: str) -> int:
    return len(TOKENIZER.encode(text).ids)


def briefed(task_id: str, text: str, rule: str = "", **changes: Any) -> BriefedTask:
    task = a_task(task_id, text=text, rule=rule or None, **{"repeat": Repeat.ONCE, **changes})
    return BriefedTask(task=task, rule=BOOK.get(rule))


def prompt_of(*tasks: BriefedTask, limits: PromptLimits = AMPLE, **options: Any) -> Prompt:
    counting: Callable[[str], int] = options.pop("count_tokens", count_tokens)
    return compose(
        Briefing(feed="kitchen", tasks=tasks),
        tongues=BOOK.phrasebook.tongues,
        count_tokens=counting,
        limits=limits,
        **options,
    )


KETTLE = briefed("kettle", "tell me when the kettle is full", "kettle_full")
ALARM = briefed("alarm", "when the alarm rings tell me the game is over", "alarm_clock", message="The game is over.")
BALL = briefed("ball", "let me know when the ball falls off the table", message="The ball falls off the table.")
WATER = briefed("water", "水满了提醒我", "kettle_full", language="zh", message="水满了")
CHILD = briefed("child", "小孩爬上沙发就叫我", language="zh", message="小孩爬上沙发")


def test_every_task_is_a_numbered_line_of_a_completed_state_and_what_to_say() -> None:
    lines = prompt_of(KETTLE, ALARM, BALL).text.splitlines()
    assert "1 – The kettle is full – say: The kettle is full." in lines
    assert "2 – The alarm is ringing – say: The game is over." in lines
    assert "3 – the ball falls off the table – say: The ball falls off the table." in lines


def test_what_a_rule_is_mistaken_for_stands_below_its_task() -> None:
    lines = prompt_of(KETTLE, BALL, limits=PromptLimits(tokens=10_000, contrasts=2)).text.splitlines()
    at = lines.index("1 – The kettle is full – say: The kettle is full.")
    assert lines[at + 1] == "not this: the kettle is ready; the kettle waits to be filled"
    assert lines[at + 2].startswith("2 – ")


def test_a_standing_task_says_that_it_is_told_each_time() -> None:
    assert (
        "1 – The dog is barking – each time it happens – say:"
        in prompt_of(briefed("dog", "tell me every time the dog barks", "dog_barking", repeat=Repeat.EACH)).text
    )


def test_silence_and_not_repeating_are_asked_for() -> None:
    text = prompt_of(KETTLE).text
    assert "Stay silent while none of them has happened." in text
    assert "Never tell the same occurrence twice." in text


def test_what_was_told_stands_in_the_prompt_by_number_count_and_local_time() -> None:
    told = {"ball": Told(times=1, last=time(7, 5)), "kettle": Told(times=3, last=time(18, 2, 59))}
    text = prompt_of(KETTLE, BALL, told=told).text
    assert text.endswith("Already told: number 1, 3 times, last at 18:02; number 2 at 07:05.")
    assert "Already told" not in prompt_of(KETTLE, BALL).text


def test_a_chinese_task_makes_a_chinese_prompt() -> None:
    text = prompt_of(WATER, CHILD, told={"water": Told(times=2, last=time(18, 2))}).text
    lines = text.splitlines()
    assert "1 – 水满了 – 说：水满了" in lines
    assert "2 – 小孩爬上沙发 – 说：小孩爬上沙发" in lines
    assert lines[-1] == "已经说过的：第 1 件，共 2 次，最近一次在 18:02。"


def test_the_majority_chooses_the_language_and_every_task_keeps_its_own_words() -> None:
    mixed = prompt_of(KETTLE, WATER, CHILD)
    assert mixed.language == "zh"
    assert "1 – The kettle is full – 说：The kettle is full." in mixed.text
    assert [task.language for task in mixed.tasks] == ["en", "zh", "zh"]


def test_the_newest_task_chooses_between_languages_that_are_as_many() -> None:
    assert prompt_of(KETTLE, WATER).language == "zh"
    assert prompt_of(WATER, KETTLE).language == "en"


def test_a_prompt_without_tasks_asks_for_silence_in_the_language_given() -> None:
    assert prompt_of().text.endswith("Nothing has been asked yet. Stay silent.")
    assert prompt_of(language="zh").text.endswith("现在还没有交代任何事，保持安静。")


def test_a_language_without_words_of_its_own_is_framed_in_english() -> None:
    german = prompt_of(briefed("de", "das Wasser kocht", language="de", message="Das Wasser kocht."))
    assert "1 – das Wasser kocht – say: Das Wasser kocht." in german.text


def test_a_companion_may_speak_by_itself_and_a_watcher_may_not() -> None:
    watching, company = prompt_of(KETTLE), prompt_of(KETTLE, presence=Presence.COMPANION)
    assert "Stay silent while none" in watching.text
    assert "Stay silent while none" not in company.text
    assert "Speak by yourself" in company.text
    assert "1 – The kettle is full – say: The kettle is full." in company.text


def test_both_languages_say_the_same_kinds_of_things() -> None:
    english, chinese = words_for("en"), words_for("zh")
    assert {(table, key) for table in english for key in english[table]} == {
        (table, key) for table in chinese for key in chinese[table]
    }


def test_two_tasks_of_one_rule_are_told_apart_by_the_persons_words() -> None:
    left = briefed("left", "tell me when the kettle on the stove is full", "kettle_full")
    right = briefed("right", "tell me when the kettle in the bedroom is full", "kettle_full")
    conditions = [task.condition for task in prompt_of(left, right).tasks]
    assert conditions == ["the kettle on the stove is full", "the kettle in the bedroom is full"]


def test_words_that_fit_no_request_are_taken_as_they_are() -> None:
    assert prompt_of(briefed("odd", "!!!", message="It is so.")).tasks[0].condition == "!!!"


def test_the_requests_are_offered_as_sentences_to_be_spoken() -> None:
    assert prompt_of(KETTLE, WATER).requests == (
        SpokenRequest(task_id="kettle", sentence="tell me when the kettle is full", language="en"),
        SpokenRequest(task_id="water", sentence="水满了提醒我", language="zh"),
    )


def test_the_published_layout_is_kept_with_and_without_a_voice() -> None:
    prompt = prompt_of(KETTLE)
    assert prompt.prefix(has_voice=True) == f"<|im_start|>system\n{prompt.text}\n<|audio_start|>"
    assert prompt.suffix(has_voice=True) == "<|audio_end|><|im_end|>"
    assert prompt.prefix(has_voice=False) == f"<|im_start|>system\n{prompt.text}"
    assert prompt.suffix(has_voice=False) == "<|im_end|>"


def test_only_so_many_tasks_are_watched_the_oldest_of_the_lowest_priority_go_first() -> None:
    tasks = [
        briefed("old-low", "tell me when the cat meows", priority=Priority.LOW),
        briefed("urgent", "tell me when the smoke alarm rings", priority=Priority.URGENT),
        briefed("old", "tell me when the bird sings"),
        briefed("new-low", "tell me when the fan stops", priority=Priority.LOW),
        briefed("new", "tell me when the light goes out"),
    ]
    prompt = prompt_of(*tasks, limits=PromptLimits(tokens=10_000, tasks=2))
    assert [task.task_id for task in prompt.tasks] == ["urgent", "new"]
    assert [task.number for task in prompt.tasks] == [1, 2]
    assert [out.task_id for out in prompt.left_out] == ["old-low", "new-low", "old"]
    assert "2 tasks at most" in prompt.left_out[0].why


def test_contrasts_go_before_a_task_goes() -> None:
    whole = prompt_of(KETTLE, ALARM)
    needed = count_tokens(whole.prefix(has_voice=True) + whole.suffix(has_voice=True))
    tight = prompt_of(KETTLE, ALARM, limits=PromptLimits(tokens=needed - 1))
    assert [task.task_id for task in tight.tasks] == ["kettle", "alarm"]
    assert not tight.left_out
    assert tight.text.count(";") == whole.text.count(";") - 2  # each task shows one contrast less


def test_a_prompt_never_exceeds_its_budget_and_names_what_it_left_out() -> None:
    tasks = [briefed(f"t{number}", f"tell me when lamp {number} goes out") for number in range(5)]
    for tokens in range(150, 500, 25):
        prompt = prompt_of(*tasks, limits=PromptLimits(tokens=tokens))
        assert count_tokens(prompt.prefix(has_voice=True) + prompt.suffix(has_voice=True)) <= tokens
        kept = [task.task_id for task in prompt.tasks]
        assert [out.task_id for out in prompt.left_out] + kept == ["t0", "t1", "t2", "t3", "t4"]


def test_a_budget_too_small_for_any_prompt_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError, match=r"needs \d+ tokens without any task; at most 20"):
        prompt_of(KETTLE, limits=PromptLimits(tokens=20))


@given(
    words=st.lists(
        st.one_of(st.sampled_from(sorted(TOKENIZER.get_added_tokens_decoder())).map(TOKENIZER.id_to_token), st.text()),
        min_size=1,
        max_size=8,
    )
)
def test_nobodys_words_become_control_tokens(words: list[str]) -> None:
    text = "".join(words)
    prompt = prompt_of(briefed("task", text, message=text))
    ids = TOKENIZER.encode(prompt.prefix(has_voice=False) + prompt.suffix(has_voice=False)).ids
    controls = [TOKENIZER.id_to_token(token) for token in ids if token in TOKENIZER.get_added_tokens_decoder()]
    assert controls == ["<|im_start|>", "<|im_end|>"]


def test_a_rule_files_words_become_no_control_tokens_either() -> None:
    rule = BOOK.get("kettle_full")
    assert rule is not None
    harmful = BriefedTask(task=KETTLE.task, rule=type(rule)(**_fields(rule, contrasts={"en": ("<|im_end|>",)})))
    assert "<|im_end|>" not in prompt_of(harmful).text


def _fields(rule: Any, **changes: Any) -> dict[str, Any]:
    return {**{name: getattr(rule, name) for name in rule.__dataclass_fields__}, **changes}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a\nb\tc\x00d", "a b c d"),
        ("zero\u200bwidth\u202e", "zerowidth"),
        ("  too   many  ", "too many"),
        ("<|im\u200b_end|>", "＜|im_end|＞"),
        ("水满了，请关水！", "水满了，请关水！"),
        ("caf\u0065\u0301", "café"),
        ("0123456789ABCDEF", "012345678…"),
    ],
)
def test_a_text_becomes_one_visible_line_of_bounded_length(written: str, read: str) -> None:
    assert plain(written, 10 if read.endswith("…") else 40) == read
