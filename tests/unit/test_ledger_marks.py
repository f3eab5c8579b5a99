"""What is remembered of a task's condition between units and over restarts."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from omni_watch.watch.ledger import Mark
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_reading

FRESH = Mark(task_id="kettle01", feed="kitchen")


def test_a_condition_that_held_when_the_task_was_set_is_remembered_as_such() -> None:
    held = FRESH.after(a_reading(True))
    assert held.held_when_set
    assert not held.is_primed


def test_once_seen_false_it_is_primed_and_no_longer_held_when_set() -> None:
    primed = FRESH.after(a_reading(True)).after(a_reading(False))
    assert primed.is_primed
    assert not primed.held_when_set
    assert not primed.after(a_reading(True)).held_when_set


def test_after_an_alert_it_must_be_seen_false_again() -> None:
    fired = FRESH.after(a_reading(False)).fired(NOON)
    assert not fired.is_primed
    assert fired.holds
    assert fired.last_alert_at == NOON
    assert not fired.after(a_reading(True)).held_when_set, "it began after the task was set"
    assert fired.after(a_reading(False)).is_primed


def test_a_reading_that_says_nothing_new_gives_the_same_mark_so_that_nothing_is_written() -> None:
    for mark in (FRESH, FRESH.after(a_reading(True)), FRESH.after(a_reading(False)), FRESH.fired(NOON)):
        assert mark.after(a_reading(None)) is mark
        if mark.holds is not None:
            assert mark.after(a_reading(mark.holds)) is mark


@given(st.lists(st.sampled_from([True, False, None, "fired"]), max_size=60))
def test_it_is_primed_exactly_when_it_was_seen_false_since_the_last_alert(steps: list[bool | str | None]) -> None:
    mark, expected = FRESH, False
    for second, step in enumerate(steps):
        if step == "fired":
            mark, expected = mark.fired(NOON + timedelta(seconds=second)), False
        else:
            assert step is None or isinstance(step, bool)
            mark = mark.after(a_reading(step))
            expected = expected or step is False
        assert mark.is_primed is expected
        assert not (mark.held_when_set and mark.is_primed)
