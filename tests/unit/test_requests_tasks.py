"""Adding, finding and changing tasks, as every way of asking does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import time, timedelta
from typing import Any

import pytest

from omni_watch.domain.errors import RequestError
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import ENDED, LIVE, Task, TaskState, WatchWindow
from omni_watch.store.database import Database
from omni_watch.watch import requests
from omni_watch.watch.requests import LIVE_MAX, TEXT_MAX
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_task

MORNING = WatchWindow(begins=time(8), ends=time(9))
EVENING = WatchWindow(begins=time(20), ends=time(21))
LATER = NOON + timedelta(hours=1)


@pytest.fixture
def store() -> Iterator[Database]:
    with Database(None) as database:
        yield database


def keep(store: Database, task: Task) -> None:
    store.transact(lambda tx: tx.tasks.add(task))


def test_a_new_task_is_kept_as_it_is(store: Database) -> None:
    task = a_task(window=WatchWindow(begins=time(22), ends=time(6), zone="Asia/Shanghai"), feeds=("kitchen",))
    assert store.transact(lambda tx: requests.add_task(tx, task=task)) == task
    assert store.transact(lambda tx: tx.tasks.all()) == [task]


def test_task_ids_are_short_and_do_not_repeat() -> None:
    made = {requests.new_task_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[a-z0-9]{8}", task_id) for task_id in made)


@pytest.mark.parametrize("text", ["水壶满了告诉我", "a", "x" * TEXT_MAX, "👨\u200d👩\u200d👧 at the door"])
def test_words_of_every_language_are_welcome(store: Database, text: str) -> None:
    task = a_task(text=text)
    store.transact(lambda tx: requests.add_task(tx, task=task))
    assert store.transact(lambda tx: tx.tasks.get(task.id)) == task


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"text": ""}, "no words"),
        ({"text": " \u3000"}, "no words"),
        ({"text": "x" * (TEXT_MAX + 1)}, "501 characters; the most is 500"),
        ({"text": "kettle\x1b[2J"}, r"control character U\+001B"),
        ({"text": "kettle\nfull"}, r"control character U\+000A"),
        ({"text": "kettle \u202e lluf"}, r"control character U\+202E"),
        ({"text": "kettle \ud800"}, r"control character U\+D800"),
        ({"message": ""}, "the message has no words"),
        ({"id": "Kettle"}, "must be 1 to 32 of a-z"),
        ({"id": ""}, "must be 1 to 32 of a-z"),
        ({"cooldown_s": -1.0}, "0 or more seconds"),
        ({"cooldown_s": float("nan")}, "0 or more seconds"),
        ({"state": TaskState.DONE}, "must be armed"),
        ({"expires_at": NOON}, "before it begins"),
        ({"window": WatchWindow(begins=time(8), ends=time(8))}, "are empty"),
        ({"window": WatchWindow(begins=time(8), ends=time(9), zone="Europe/Bärlin")}, "no time zone"),
        ({"window": WatchWindow(begins=time(8), ends=time(9), zone="Europe")}, "no time zone"),
        ({"window": WatchWindow(begins=time(8), ends=time(9), zone="../etc")}, "no time zone"),
    ],
)
def test_a_task_that_cannot_be_watched_is_refused_with_the_reason(
    store: Database, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        store.transact(lambda tx: requests.add_task(tx, task=a_task(**changes)))
    assert store.transact(lambda tx: tx.tasks.all()) == []


def test_there_is_a_most_of_live_tasks_and_ended_ones_do_not_count(store: Database) -> None:
    for number in range(LIVE_MAX):
        keep(store, a_task(f"task{number}"))
        keep(store, a_task(f"ended{number}", state=TaskState.DONE))
    with pytest.raises(RequestError, match="64 tasks are being watched"):
        store.transact(lambda tx: requests.add_task(tx, task=a_task("onemore")))
    store.transact(lambda tx: requests.cancel(tx, "task7", by="cli", now=NOON))
    store.transact(lambda tx: requests.add_task(tx, task=a_task("onemore")))


@pytest.mark.parametrize(
    "text",
    ["Tell me, when the kettle is full!", "tell me when  the kettle is full", "ＴELL me when the kettle is full。"],
)
def test_the_same_request_again_is_refused_and_names_the_first(store: Database, text: str) -> None:
    keep(store, a_task("first001", text="Tell me when the kettle is full"))
    with pytest.raises(RequestError, match="first001"):
        store.transact(lambda tx: requests.add_task(tx, task=a_task("second02", text=text)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"state": TaskState.DONE}, {}),
        ({"feeds": ("kitchen",)}, {"feeds": ("porch",)}),
        (
            {"window": MORNING},
            {"window": EVENING},
        ),
        ({"text": "the kettle is full"}, {"text": "the kettle is empty"}),
    ],
)
def test_a_like_request_for_another_place_or_time_is_another(
    store: Database, first: dict[str, Any], second: dict[str, Any]
) -> None:
    keep(store, a_task("first001", **{"text": "kettle", **first}))
    store.transact(lambda tx: requests.add_task(tx, task=a_task("second02", **{"text": "kettle", **second})))


@pytest.mark.parametrize("feeds", [(), ("kitchen", "hall")])
def test_a_request_whose_feeds_overlap_is_the_same(store: Database, feeds: tuple[str, ...]) -> None:
    keep(store, a_task("first001", text="kettle", feeds=("kitchen",)))
    with pytest.raises(RequestError, match="already watching"):
        store.transact(lambda tx: requests.add_task(tx, task=a_task("second02", text="kettle", feeds=feeds)))


def test_an_id_that_is_taken_is_refused(store: Database) -> None:
    keep(store, a_task(state=TaskState.DONE))
    with pytest.raises(RequestError, match="is taken"):
        store.transact(lambda tx: requests.add_task(tx, task=a_task(text="something else")))


Change = Callable[[Database], Task]
CHANGES: dict[str, Change] = {
    "cancel": lambda store: store.transact(lambda tx: requests.cancel(tx, "kettle01", by="cli", now=NOON)),
    "pause": lambda store: store.transact(lambda tx: requests.pause(tx, "kettle01", by="cli", now=NOON)),
    "resume": lambda store: store.transact(lambda tx: requests.resume(tx, "kettle01")),
    "snooze": lambda store: store.transact(lambda tx: requests.snooze(tx, "kettle01", until=LATER, by="cli", now=NOON)),
}
AFTER = {
    "cancel": dict.fromkeys((*LIVE, TaskState.CANCELLED), TaskState.CANCELLED),
    "pause": dict.fromkeys(LIVE, TaskState.PAUSED),
    "resume": {**{state: state for state in LIVE}, TaskState.PAUSED: TaskState.ARMED},
    "snooze": {state: state for state in LIVE},
}


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_in_every_state_either_works_or_says_why_not(
    store: Database, change: str, state: TaskState
) -> None:
    keep(store, a_task(state=state))
    expected = AFTER[change].get(state)
    if expected is None:
        assert state in ENDED
        with pytest.raises(RequestError, match=state.value):
            CHANGES[change](store)
        expected = state
    else:
        assert CHANGES[change](store) == store.transact(lambda tx: tx.tasks.get("kettle01"))
        CHANGES[change](store)  # again is no error
    kept = store.transact(lambda tx: tx.tasks.get("kettle01"))
    assert kept is not None
    assert kept.state is expected


@pytest.mark.parametrize("change", CHANGES)
def test_a_task_that_is_not_there_cannot_be_changed(store: Database, change: str) -> None:
    with pytest.raises(RequestError, match="no task 'kettle01'"):
        CHANGES[change](store)


def test_a_task_for_once_that_has_happened_cannot_be_paused_into_happening_again(store: Database) -> None:
    keep(store, a_task(repeat=Repeat.ONCE, state=TaskState.FIRED))
    with pytest.raises(RequestError, match="has happened"):
        store.transact(lambda tx: requests.pause(tx, "kettle01", by="cli", now=NOON))


def test_resuming_also_ends_a_snooze(store: Database) -> None:
    keep(store, a_task(snoozed_until=LATER))
    assert store.transact(lambda tx: requests.resume(tx, "kettle01")) == a_task()


def test_a_snooze_into_the_past_is_refused(store: Database) -> None:
    keep(store, a_task())
    with pytest.raises(RequestError, match="in the past"):
        store.transact(lambda tx: requests.snooze(tx, "kettle01", until=NOON, by="cli", now=NOON))


@pytest.fixture
def household(store: Database) -> Database:
    keep(store, a_task("abc12345", text="Tell me when the kettle is full"))
    keep(store, a_task("abd99999", text="Tell me when the dog barks"))
    keep(store, a_task("zzz00000", text="水壶满了告诉我"))
    keep(store, a_task("old11111", text="Tell me when the oven is hot", state=TaskState.DONE))
    keep(store, a_task("old22222", text="Tell me when the kettle boils", state=TaskState.CANCELLED))
    return store


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("abc12345", "abc12345"),
        ("ABC12345", "abc12345"),
        (" abc ", "abc12345"),
        ("kettle", "abc12345"),
        ("FULL kettle", "abc12345"),
        ("dog", "abd99999"),
        ("水壶", "zzz00000"),
        ("oven", "old11111"),
        ("boils", "old22222"),
        ("old2", "old22222"),
    ],
)
def test_a_task_is_found_by_id_beginning_or_words_live_ones_first(household: Database, asked: str, found: str) -> None:
    assert household.transact(lambda tx: requests.find(tx, asked)).id == found


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("tell me", r"may mean 2 tasks.*(\n.*)*abc12345.*\n.*abd99999"),
        ("old", r"may mean 2 tasks"),
        ("ab", "no task is called 'ab'"),
        ("fridge", r"these are being watched:\n.*abc12345"),
        ("", "say which task"),
        ("!?", "no task is called"),
    ],
)
def test_what_fits_no_task_or_several_says_which_there_are(household: Database, asked: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        household.transact(lambda tx: requests.find(tx, asked))


def test_settling_applies_what_time_did_and_nothing_else(store: Database) -> None:
    told_at = NOON - timedelta(seconds=30)
    cooled = a_task("cooled", state=TaskState.COOLING, cooldown_s=30.0, last_told_at=told_at)
    cooling = a_task("cooling", state=TaskState.COOLING, cooldown_s=31.0, last_told_at=told_at)
    expired = a_task("expired", state=TaskState.PAUSED, expires_at=NOON)
    awake = a_task("awake", snoozed_until=NOON)
    done = a_task("done", state=TaskState.DONE, expires_at=NOON)
    for task in (cooled, cooling, expired, awake, done):
        keep(store, task)
    changed = store.transact(lambda tx: requests.settle(tx, NOON))
    assert changed == [
        replace(cooled, state=TaskState.ARMED),
        replace(expired, state=TaskState.EXPIRED),
        replace(awake, snoozed_until=None),
    ]
    assert store.transact(lambda tx: tx.tasks.all())[1] == cooling
    assert store.transact(lambda tx: requests.settle(tx, NOON)) == []
