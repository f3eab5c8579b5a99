"""Taking note of an alert: one way for every mouth, and what follows for its repeats, its channels and its task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_watch.domain.alerts import Alert, AlertState, Course, Delivery, DeliveryState, Transition
from omni_watch.domain.errors import RequestError
from omni_watch.domain.rules import Escalation, Priority, Repeat
from omni_watch.domain.tasks import TaskState
from omni_watch.store.database import Database
from omni_watch.watch import requests
from omni_watch.watch.ports import Transaction
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_delivery, a_task, an_alert

LATER = NOON + timedelta(seconds=30)
RULE = Escalation(every_s=60, times=3)
CHANNELS = ("mqtt", "voice")
S, T = DeliveryState, Transition


@pytest.fixture
def store() -> Iterator[Database]:
    with Database(None) as database:
        yield database


def patience(_priority: Priority) -> dict[str, float]:
    return dict.fromkeys(CHANNELS, 300.0)


def alerted(
    store: Database,
    task_id: str = "smoke001",
    *,
    priority: Priority = Priority.URGENT,
    at_s: float = 0.0,
    **states: DeliveryState,
) -> Alert:
    """A task that has fired, its alert, and how far each channel is with it."""
    decided_at = NOON + timedelta(seconds=at_s)
    task = a_task(task_id, state=TaskState.FIRED, fired_count=1, last_fired_at=NOON, priority=priority)
    alert = an_alert(task_id, priority=priority, decided_at=decided_at, text=f"Look at the {task_id}!")
    told = [a_delivery(alert.id, channel, attempts=int(state is not S.PENDING), state=state)
            for channel, state in (states or {"mqtt": S.SENT, "voice": S.SENT}).items()]  # fmt: skip
    store.transact(lambda tx: tx.tasks.add(task))
    store.transact(lambda tx: tx.alerts.add(alert, told))
    return alert


def escalate(store: Database, at_s: float) -> list[tuple[str, AlertState, int]]:
    now = NOON + timedelta(seconds=at_s)
    changed = store.transact(lambda tx: requests.escalate(tx, now, patience, lambda _rule: RULE))
    return [(alert.id, course.state, course.repeats) for alert, course in changed]


def acknowledge(store: Database, alert_id: str, by: str = "voice") -> Alert:
    return store.transact(lambda tx: requests.acknowledge(tx, alert_id, by=by, now=LATER))


def course(store: Database, alert: Alert) -> Course:
    found = store.transact(lambda tx: tx.alerts.course(alert.id))
    assert found is not None
    return found


def messages(store: Database, alert: Alert) -> list[tuple[int, str, Transition, DeliveryState]]:
    kept = store.transact(lambda tx: tx.alerts.deliveries(alert.id))
    return [(one.number, one.channel, one.transition, one.state) for one in kept]


def tell(store: Database, alert: Alert, state: DeliveryState = S.SENT, at_s: float = 0.0) -> None:
    """The relay gets to all that waits."""
    now = NOON + timedelta(seconds=at_s)
    for delivery in store.transact(lambda tx: tx.alerts.deliveries(alert.id)):
        if delivery.state is S.PENDING:
            ended = delivery.to(S.SENDING, attempts=1).to(state)
            store.transact(lambda tx, one=ended: requests.after_delivery(tx, alert, one, now))  # type: ignore[misc]


def test_who_takes_note_ends_the_repeats_and_every_channel_that_told_it_hears_of_that(store: Database) -> None:
    smoke = alerted(store)
    assert escalate(store, 60) == [(smoke.id, AlertState.OPEN, 1)]
    tell(store, smoke, at_s=61)

    assert acknowledge(store, smoke.id) == smoke

    assert course(store, smoke) == Course(
        alert_id=smoke.id,
        state=AlertState.ACKNOWLEDGED,
        repeats=1,
        last_at=NOON + timedelta(seconds=61),
        closed_at=LATER,
        closed_by="voice",
    )
    assert [(number, transition) for number, _, transition, _ in messages(store, smoke)] == [
        *[(0, T.ALERT)] * 2,
        *[(1, T.REPEAT)] * 2,
        *[(2, T.ACKNOWLEDGED)] * 2,
    ]
    assert escalate(store, 3600) == []
    assert store.transact(lambda tx: requests.next_escalation(tx, lambda _rule: RULE)) is None


def test_again_is_no_mistake_and_tells_nobody_twice(store: Database) -> None:
    smoke = alerted(store)
    acknowledge(store, smoke.id, "cli")
    before = course(store, smoke), messages(store, smoke)
    assert acknowledge(store, smoke.id, "voice") == smoke
    assert (course(store, smoke), messages(store, smoke)) == before


def test_a_channel_that_never_began_to_tell_it_hears_nothing(store: Database) -> None:
    smoke = alerted(store, mqtt=S.PENDING, voice=S.SENDING)
    acknowledge(store, smoke.id)
    assert messages(store, smoke) == [
        (0, "mqtt", T.ALERT, S.EXPIRED),
        (0, "voice", T.ALERT, S.SENDING),
        (1, "voice", T.ACKNOWLEDGED, S.PENDING),
    ]


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (AlertState.EXPIRED, "has expired, since nobody took note of it in time"),
        (AlertState.CANCELLED, "was cancelled with its task"),
        (AlertState.SNOOZED, "was put off"),
    ],
)
def test_what_ended_in_another_way_is_answered_with_how(store: Database, state: AlertState, answer: str) -> None:
    smoke = alerted(store)
    ended = course(store, smoke).to(state, at=NOON, by="time")
    store.transact(lambda tx: tx.alerts.save_course(ended))
    for ask in (
        lambda tx: requests.acknowledge(tx, smoke.id, by="cli", now=LATER),
        lambda tx: requests.acknowledge_last(tx, by="cli", now=LATER),
        lambda tx: requests.acknowledge_task(tx, smoke.task_id, by="cli", now=LATER),
    ):
        with pytest.raises(RequestError, match=answer):
            store.transact(ask)
    assert course(store, smoke) == ended


def test_without_an_id_the_last_open_one_is_meant_and_an_urgent_one_before_all_others(store: Database) -> None:
    with pytest.raises(RequestError, match="nothing was told yet"):
        store.transact(lambda tx: requests.acknowledge_last(tx, by="cli", now=LATER))
    first = alerted(store, "kettle01", priority=Priority.NORMAL, at_s=0)
    smoke = alerted(store, "smoke001", at_s=1)
    glass = alerted(store, "glass001", at_s=2)
    last = alerted(store, "doorbell", priority=Priority.LOW, at_s=3)
    escalate(store, 61.5)
    tell(store, smoke, at_s=70)  # told again after the glass was told

    def meant() -> Alert:
        return store.transact(lambda tx: requests.acknowledge_last(tx, by="cli", now=LATER))

    assert store.transact(requests.last_told_at) == NOON + timedelta(seconds=70)
    assert [meant() for _ in range(5)] == [smoke, glass, last, first, last], "at the end the last one, again"


def test_a_task_s_alerts_are_noted_together(store: Database) -> None:
    smoke = alerted(store)
    again = an_alert("smoke001", 2, priority=Priority.URGENT, decided_at=LATER)
    store.transact(lambda tx: tx.alerts.add(again, []))
    kettle = alerted(store, "kettle01")

    def note(task_id: str) -> list[Alert]:
        return store.transact(lambda tx: requests.acknowledge_task(tx, task_id, by="mqtt", now=LATER))

    assert note("smoke001") == [smoke, again]
    assert note("smoke001") == [again], "a button that is pressed twice"
    assert course(store, kettle).is_open
    store.transact(lambda tx: tx.tasks.add(a_task("silent01", text="something else")))
    with pytest.raises(RequestError, match="nothing was told of task silent01"):
        note("silent01")


def test_taking_note_is_being_told_and_begins_the_cooldown(store: Database) -> None:
    smoke = alerted(store, mqtt=S.PENDING, voice=S.PENDING)
    acknowledge(store, smoke.id)
    task = store.transact(lambda tx: tx.tasks.get("smoke001"))
    assert task is not None
    assert (task.state, task.last_told_at) == (TaskState.COOLING, LATER)


def test_what_is_put_off_is_repeated_no_more_and_comes_back_as_urgent_as_it_was(store: Database) -> None:
    smoke = alerted(store)
    until = NOON + timedelta(minutes=10)

    def put_off() -> Alert:
        task = store.transact(lambda tx: requests.snooze_alert(tx, smoke.id, until=until, by="voice", now=LATER))
        assert task.reminder is not None
        assert (task.reminder.at, task.message, task.set_by) == (until, smoke.text, "voice")
        (back,) = store.transact(lambda tx: requests.ring(tx, until, patience))
        return back

    back = put_off()
    assert (course(store, smoke).state, course(store, smoke).closed_by) == (AlertState.SNOOZED, "voice")
    assert messages(store, smoke)[-1][2] is T.SNOOZED
    assert (back.text, back.priority) == (smoke.text, Priority.URGENT)
    tell(store, back, at_s=600)
    assert escalate(store, 661) == [(back.id, AlertState.OPEN, 1)], "the old one is silent, the new one is repeated"
    with pytest.raises(RequestError, match="past"):
        store.transact(lambda tx: requests.snooze_alert(tx, smoke.id, until=NOON, by="voice", now=LATER))
    with pytest.raises(RequestError, match="no alert"):
        store.transact(lambda tx: requests.snooze_alert(tx, "unknown", until=until, by="voice", now=LATER))


def test_an_alert_that_cannot_be_told_again_later_is_repeated_on(store: Database) -> None:
    smoke = alerted(store)
    for number in range(requests.LIVE_MAX):
        store.transact(lambda tx, n=number: tx.tasks.add(a_task(f"task{n}")))  # type: ignore[misc]

    def put_off(tx: Transaction) -> str:
        try:
            requests.snooze_alert(tx, smoke.id, until=NOON + timedelta(hours=1), by="voice", now=LATER)
        except RequestError as error:  # which a conversation answers, and commits
            return str(error)
        return ""

    assert "which is the most" in store.transact(put_off)
    assert course(store, smoke).is_open


def test_a_task_that_is_put_off_or_cancelled_takes_its_open_alerts_with_it(store: Database) -> None:
    smoke, glass = alerted(store), alerted(store, "glass001")
    until = NOON + timedelta(minutes=10)
    store.transact(lambda tx: requests.snooze(tx, "smoke001", until=until, by="cli", now=LATER))
    store.transact(lambda tx: requests.cancel(tx, "glass001", by="cli", now=LATER))
    assert [course(store, one).state for one in (smoke, glass)] == [AlertState.SNOOZED, AlertState.CANCELLED]
    assert [messages(store, one)[-1][2] for one in (smoke, glass)] == [T.SNOOZED, T.CANCELLED]
    assert escalate(store, 3600) == []


def test_a_repeat_that_is_the_first_to_reach_anybody_moves_no_task_that_was_given_up(store: Database) -> None:
    smoke = alerted(store, mqtt=S.DEAD, voice=S.EXPIRED)
    given_up = replace(a_task("smoke001", priority=Priority.URGENT), state=TaskState.ARMED, fired_count=1)
    store.transact(lambda tx: tx.tasks.save(given_up))
    assert escalate(store, 60) == [(smoke.id, AlertState.OPEN, 1)]
    tell(store, smoke, at_s=61)
    assert store.transact(lambda tx: tx.tasks.get("smoke001")) == given_up


def test_that_an_alert_is_over_keeps_no_later_one_waiting_for_its_end(store: Database) -> None:
    smoke = alerted(store)
    acknowledge(store, smoke.id)
    task = store.transact(lambda tx: tx.tasks.get("smoke001"))
    assert task is not None
    fired = replace(task, state=TaskState.FIRED, fired_count=2)
    later = an_alert("smoke001", 2, priority=Priority.URGENT, decided_at=LATER)
    waiting = a_delivery(later.id)
    store.transact(lambda tx: tx.tasks.save(fired))
    store.transact(lambda tx: tx.alerts.add(later, [waiting]))
    given_up = waiting.to(S.EXPIRED)
    after = store.transact(lambda tx: requests.after_delivery(tx, later, given_up, LATER))
    assert after is not None
    assert after.state is TaskState.ARMED, "what still goes out about the first one tells nobody of the second"


moves = st.lists(
    st.tuples(
        st.sampled_from(["wait", "sent", "lost", "crash", "acknowledge", "snooze", "cancel"]), st.integers(1, 200)
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)  # each move is several transactions
@given(moves=moves, repeat=st.sampled_from(Repeat))
def test_whatever_people_channels_and_crashes_do_each_message_is_made_once_and_nothing_is_told_after_the_end(
    moves: list[tuple[str, int]], repeat: Repeat
) -> None:
    with Database(None) as store:
        smoke = alerted(store, mqtt=S.PENDING, voice=S.PENDING)
        task = store.transact(lambda tx: tx.tasks.get("smoke001"))
        assert task is not None
        store.transact(lambda tx: tx.tasks.save(replace(task, repeat=repeat)))
        at_s = 0.0
        for move, pause_s in moves:
            at_s += pause_s
            _move(store, smoke, move, at_s)
            escalate(store, at_s)
            escalate(store, at_s)  # the timer rings twice: no harm
            _hold_true(store, smoke)


def _move(store: Database, smoke: Alert, move: str, at_s: float) -> None:
    now = NOON + timedelta(seconds=at_s)
    task = store.transact(lambda tx: tx.tasks.get("smoke001"))
    is_open = course(store, smoke).is_open
    if move == "sent":
        tell(store, smoke, at_s=at_s)
    elif move == "lost":
        tell(store, smoke, S.EXPIRED, at_s=at_s)
    elif move == "crash":  # in the middle of sending
        for one in store.transact(lambda tx: tx.alerts.deliveries(smoke.id)):
            if one.state is S.PENDING:
                store.transact(lambda tx, one=one: tx.alerts.save_delivery(one.to(S.SENDING, attempts=1)))  # type: ignore[misc]
        store.transact(lambda tx: tx.alerts.reset_sending())
    elif move == "acknowledge" and is_open:
        store.transact(lambda tx: requests.acknowledge(tx, smoke.id, by="cli", now=now))
    elif move == "snooze" and is_open:
        until = now + timedelta(days=9)
        store.transact(lambda tx: requests.snooze_alert(tx, smoke.id, until=until, by="cli", now=now))
    elif move == "cancel" and task is not None and task.is_live:
        store.transact(lambda tx: requests.cancel(tx, "smoke001", by="cli", now=now))


def _hold_true(store: Database, smoke: Alert) -> None:
    now_it_is = course(store, smoke)
    kept: list[Delivery] = store.transact(lambda tx: tx.alerts.deliveries(smoke.id))
    assert now_it_is.repeats <= RULE.times
    assert {one.number for one in kept if one.transition.is_telling} == set(range(now_it_is.repeats + 1))
    ends = {one.number for one in kept if not one.transition.is_telling}
    assert ends <= ({now_it_is.repeats + 1} if not now_it_is.is_open else set())
    if not now_it_is.is_open:
        assert all(one.state is not S.PENDING for one in kept if one.transition.is_telling)
