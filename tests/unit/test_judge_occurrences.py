"""Exactly one alert for each occurrence, whatever the engine says; what told, given up and time do to a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.decisions import Decision, Listen
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState, WatchWindow
from omni_watch.watch.judge import Verdict, deliveries, due, given_up, judge, next_due, next_look, told
from omni_watch.watch.ledger import Mark
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit
from tests.fakes.values import a_reading, a_task, an_alert, an_utterance, says

PRIMED = Mark(task_id="kettle01", feed="kitchen", is_primed=True, holds=False)


def judged(
    decision: Decision, task: Task | None = None, mark: Mark | None = PRIMED, *, now: datetime = NOON
) -> Verdict:
    task = task or a_task()
    marks = {} if mark is None else {mark.task_id: mark}
    return judge(decision, unit=unit(26), tasks={task.id: task}, marks=marks, now=now)


def test_an_utterance_about_a_primed_task_becomes_one_alert_with_its_task_and_mark() -> None:
    verdict = judged(says("kettle01"))
    (alert,), (task,), (mark,) = verdict.alerts, verdict.tasks, verdict.marks
    assert (alert.id, alert.occurrence, alert.feed, alert.stream_s) == ("kettle01-1", 1, "kitchen", 27.0)
    assert (alert.decided_at, alert.condition_at) == (NOON, NOON)
    assert (task.state, task.fired_count, task.last_fired_at) == (TaskState.FIRED, 1, NOON)
    assert (mark.is_primed, mark.holds, mark.last_alert_at) == (False, True, NOON)


def test_when_it_came_true_may_be_earlier_than_when_it_was_decided() -> None:
    came_true = NOON - timedelta(seconds=3)
    verdict = judge(
        says("kettle01"),
        unit=unit(26),
        tasks={"kettle01": a_task()},
        marks={"kettle01": PRIMED},
        now=NOON,
        condition_at={"kettle01": came_true},
    )
    assert verdict.alerts[0].condition_at == came_true


@pytest.mark.parametrize("repeat", Repeat)
def test_two_means_that_speak_of_one_task_in_one_second_make_one_alert(repeat: Repeat) -> None:
    verdict = judged(says("kettle01", "kettle01"), a_task(repeat=repeat))
    assert len(verdict.alerts) == 1
    assert [task_id for task_id, _ in verdict.held_back] == ["kettle01"]


def test_a_condition_that_held_when_the_task_was_set_does_not_alert_but_shows() -> None:
    said = judged(says("kettle01"), mark=None)
    read = judged(Listen(readings=(a_reading(True),)), mark=None)
    assert not said.alerts
    assert said.held_back == (("kettle01", "not seen false since it was set or last told"),)
    assert said.marks[0].held_when_set
    assert read.marks[0].held_when_set


def test_a_comment_is_said_and_never_an_alert() -> None:
    verdict = judged(replace(says("kettle01"), utterances=(an_utterance(None), an_utterance("unknown1"))))
    assert not verdict.alerts
    assert len(verdict.comments) == 2
    assert verdict.is_empty


@pytest.mark.parametrize(
    "task",
    [
        a_task(state=TaskState.PAUSED),
        a_task(state=TaskState.CANCELLED),
        a_task(state=TaskState.DONE),
        a_task(state=TaskState.EXPIRED),
        a_task(state=TaskState.FIRED, repeat=Repeat.ONCE),
        a_task(state=TaskState.COOLING, last_told_at=NOON - timedelta(seconds=29)),
        a_task(snoozed_until=NOON + timedelta(seconds=1)),
        a_task(expires_at=NOON),
        a_task(window=WatchWindow(begins=time(22), ends=time(6))),
        a_task(feeds=("porch",)),
    ],
)
def test_a_task_that_must_be_quiet_is_held_back_with_a_reason(task: Task) -> None:
    verdict = judged(says("kettle01"), task)
    assert not verdict.alerts
    assert not verdict.tasks
    assert verdict.held_back[0][1]


def test_a_cooldown_that_is_over_swallows_nothing_even_if_its_timer_is_late() -> None:
    task = a_task(state=TaskState.COOLING, cooldown_s=30.0, last_told_at=NOON - timedelta(seconds=30), fired_count=4)
    verdict = judged(says("kettle01"), task)
    assert verdict.alerts[0].id == "kettle01-5"


def test_over_midnight_a_window_lets_an_alert_through_on_both_sides() -> None:
    task = a_task(window=WatchWindow(begins=time(22), ends=time(6)))
    for hour, alerts in ((21, 0), (22, 1), (23, 1), (0, 1), (5, 1), (6, 0)):
        now = datetime(2026, 11, 23, hour, 30, tzinfo=UTC) if hour != 6 else datetime(2026, 11, 23, 6, tzinfo=UTC)
        assert len(judged(says("kettle01"), task, now=now).alerts) == alerts, hour


def test_urgent_alerts_come_first() -> None:
    tasks = {name: a_task(name, priority=priority) for name, priority in (("a", Priority.LOW), ("b", Priority.URGENT))}
    marks = {name: Mark(task_id=name, feed="kitchen", is_primed=True) for name in tasks}
    verdict = judge(says("a", "b"), unit=unit(0), tasks=tasks, marks=marks, now=NOON)
    assert [alert.task_id for alert in verdict.alerts] == ["b", "a"]


def test_a_second_without_news_writes_nothing() -> None:
    assert judged(Listen(readings=(a_reading(False), a_reading(None)))).is_empty


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("repeat", Repeat)
def test_being_told_begins_the_cooldown_and_only_a_fired_task_is_told(state: TaskState, repeat: Repeat) -> None:
    task = a_task(state=state, repeat=repeat)
    after = told(task, NOON)
    if state is TaskState.FIRED:
        assert after.state is (TaskState.DONE if repeat is Repeat.ONCE else TaskState.COOLING)
        assert after.last_told_at == NOON
    else:
        assert after == task


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("repeat", Repeat)
def test_when_every_channel_gave_up_no_cooldown_begins(state: TaskState, repeat: Repeat) -> None:
    task = a_task(state=state, repeat=repeat)
    after = given_up(task)
    if state is TaskState.FIRED:
        assert after.state is (TaskState.DONE if repeat is Repeat.ONCE else TaskState.ARMED)
        assert after.last_told_at is None
    else:
        assert after == task


def test_every_live_task_expires_in_time() -> None:
    for state in TaskState:
        task = a_task(state=state, expires_at=NOON)
        assert due(task, NOON - timedelta(microseconds=1)).state is state
        assert due(task, NOON).state is (TaskState.EXPIRED if task.is_live else state)


def test_a_snooze_ends_in_time_and_is_forgotten() -> None:
    task = a_task(snoozed_until=NOON)
    assert due(task, NOON - timedelta(seconds=1)) == task
    assert due(task, NOON).snoozed_until is None


def test_deliveries_go_to_every_channel_with_its_own_patience() -> None:
    voice, mqtt = deliveries(an_alert(), {"voice": 30.0, "mqtt": 300.0})
    assert (voice.channel, voice.expires_at - voice.due_at) == ("voice", timedelta(seconds=30))
    assert (mqtt.channel, mqtt.expires_at - mqtt.due_at) == ("mqtt", timedelta(seconds=300))


moments = st.none() | st.integers(-100, 100).map(lambda seconds: NOON + timedelta(seconds=seconds))
any_task = st.builds(
    lambda state, repeat, expires, snoozed, was_told, cooldown: a_task(
        state=state,
        repeat=repeat,
        expires_at=expires,
        snoozed_until=snoozed,
        last_told_at=was_told,
        cooldown_s=float(cooldown),
    ),
    st.sampled_from(TaskState),
    st.sampled_from(Repeat),
    moments,
    moments,
    moments,
    st.integers(0, 100),
)


@given(any_task)
def test_what_time_does_is_done_once_and_then_announced_before_it_comes_again(task: Task) -> None:
    settled = due(task, NOON)
    assert due(settled, NOON) == settled
    again = next_due(settled, NOON)
    if again is None:
        assert due(settled, NOON + timedelta(days=1)) == settled
    else:
        assert due(settled, again - timedelta(microseconds=1)) == settled
        assert due(settled, again) != settled


@given(st.lists(any_task, max_size=5))
def test_the_next_look_is_the_earliest_of_all(tasks: list[Task]) -> None:
    settled = [due(task, NOON) for task in tasks]
    expected = [moment for moment in (next_due(task, NOON) for task in settled) if moment is not None]
    assert next_look(settled, NOON) == min(expected, default=None)


def test_the_next_look_knows_the_edges_of_windows() -> None:
    night = a_task(window=WatchWindow(begins=time(22), ends=time(6)), expires_at=NOON + timedelta(days=9))
    assert next_look([night], NOON) == NOON.replace(hour=22)
    assert next_look([night], NOON.replace(hour=23)) == (NOON + timedelta(days=1)).replace(hour=6)
    assert next_look([replace(night, state=TaskState.DONE)], NOON) is None


steps = st.lists(
    st.sampled_from(["said", "said and true", "true", "false", "unclear", "told", "given up", "wait"]), max_size=80
)


@given(steps, st.sampled_from(Repeat))
def test_there_are_never_two_alerts_without_seeing_it_false_between(sequence: list[str], repeat: Repeat) -> None:
    alerts, seen_false = 0, False
    for is_alert, step in _played(sequence, a_task(repeat=repeat)):
        if is_alert:
            assert seen_false, "an alert for an occurrence that was told, or stood from the beginning"
            alerts, seen_false = alerts + 1, False
        elif step == "false":
            seen_false = True
    assert repeat is Repeat.EACH or alerts <= 1


def _played(sequence: list[str], task: Task) -> Iterable[tuple[bool, str]]:
    """Each step's name and whether it gave an alert; the task and its mark go along as the store would keep them."""
    marks: dict[str, Mark] = {}
    decisions: dict[str, Decision] = {
        "said": says("kettle01"),
        "said and true": says("kettle01", readings=(a_reading(True),)),
        "true": Listen(readings=(a_reading(True),)),
        "false": Listen(readings=(a_reading(False),)),
        "unclear": Listen(readings=(a_reading(None),)),
    }
    for second, step in enumerate(sequence):
        now = NOON + timedelta(seconds=10 * second)
        task = due(task, now)
        if step in decisions:
            verdict = judge(decisions[step], unit=unit(second), tasks={task.id: task}, marks=marks, now=now)
            task = verdict.tasks[0] if verdict.tasks else task
            marks |= {mark.task_id: mark for mark in verdict.marks}
            yield bool(verdict.alerts), step
        else:
            task = {"told": told(task, now), "given up": given_up(task), "wait": task}[step]
            yield False, step


@given(steps)
def test_a_told_alert_is_followed_by_quiet_for_as_long_as_the_cooldown(sequence: list[str]) -> None:
    marks: dict[str, Mark] = {}
    task, quiet_until = a_task(cooldown_s=45.0), NOON
    for second, step in enumerate(sequence):
        now = NOON + timedelta(seconds=10 * second)
        if step == "told" and task.state is TaskState.FIRED:
            task, quiet_until = told(task, now), now + timedelta(seconds=45)
        task = due(task, now)
        heard = says("kettle01") if step.startswith("said") else Listen(readings=(a_reading(False),))
        verdict = judge(heard, unit=unit(second), tasks={task.id: task}, marks=marks, now=now)
        assert not verdict.alerts or now >= quiet_until
        task = verdict.tasks[0] if verdict.tasks else task
        marks |= {mark.task_id: mark for mark in verdict.marks}
