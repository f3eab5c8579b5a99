"""What the broker should hold, by a clock of the test's own, and what is remembered of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omni_watch.alerts.retained import RetainedStates
from omni_watch.alerts.topics import TopicNotes
from omni_watch.domain.errors import StoreError
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_store import FakeStore


def send_due(states: RetainedStates, now_s: float) -> list[tuple[str, bytes]]:
    due = states.due(now_s)
    for topic, payload in due:
        states.settle(topic, payload, now_s)
    return due


def test_a_state_is_sent_once_and_again_when_it_changes() -> None:
    states = RetainedStates()
    states.put("t", b"1")
    assert send_due(states, 0) == [("t", b"1")]
    states.put("t", b"1")
    assert send_due(states, 1) == []
    assert states.wait_s(1) is None
    states.put("t", b"2")
    assert send_due(states, 1) == [("t", b"2")]


def test_a_state_is_not_sent_more_often_than_its_spacing_and_then_only_the_newest() -> None:
    states = RetainedStates()
    states.put("t", b"1", spacing_s=10)
    send_due(states, 100)
    for number, now_s in ((b"2", 101), (b"3", 109)):
        states.put("t", number, spacing_s=10)
        assert send_due(states, now_s) == []
    assert states.wait_s(109) == 1
    assert send_due(states, 110) == [("t", b"3")]


def test_an_unchanged_state_is_refreshed() -> None:
    states = RetainedStates()
    states.put("t", b"1", refresh_s=60)
    send_due(states, 0)
    assert states.wait_s(20) == 40
    assert send_due(states, 60) == [("t", b"1")]


def test_after_a_new_connection_everything_is_sent_again_in_the_order_it_was_first_put() -> None:
    states = RetainedStates()
    for topic in ("hub", "task", "feed"):
        states.put(topic, b"1", spacing_s=10)
    send_due(states, 0)
    states.put("hub", b"2", spacing_s=10)
    states.connected()
    assert send_due(states, 1) == [("hub", b"2"), ("task", b"1"), ("feed", b"1")]


def test_a_cleared_topic_is_emptied_once_and_then_forgotten() -> None:
    states = RetainedStates()
    states.put("t", b"1")
    send_due(states, 0)
    states.clear("t")
    assert send_due(states, 0) == [("t", b"")]
    states.connected()
    assert states.due(1) == []
    assert states.wanted("t") is None


def test_a_topic_that_is_wanted_again_while_it_is_emptied_is_not_forgotten() -> None:
    states = RetainedStates()
    states.clear("t")
    states.put("t", b"1")
    states.settle("t", b"", 0)
    assert states.due(0) == [("t", b"1")]


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([b"", b"a", b"b"])), max_size=30))
def test_in_the_end_the_broker_holds_what_was_put_last(changes: list[tuple[float, bytes]]) -> None:
    states, broker, now_s = RetainedStates(), b"", 0.0
    for pause_s, payload in changes:
        now_s += pause_s
        states.put("t", payload, spacing_s=10)
        for _, sent in send_due(states, now_s):
            broker = sent
    for _, sent in send_due(states, now_s + 10):
        broker = sent
    assert broker == (changes[-1][1] if changes else b"")


async def test_topics_are_remembered_before_they_are_used_and_forgotten_when_they_are_empty() -> None:
    store = FakeStore()
    notes = TopicNotes(store, FakeObserver())
    notes.mention("omni_watch/home/task/k3/state", "k3")
    await notes.before_publishing("omni_watch/home/task/k3/state")
    await notes.before_publishing("omni_watch/home/task/k3/state")
    await notes.before_publishing("omni_watch/home/state")
    assert store.shelves.topics == {"omni_watch/home/task/k3/state": "k3"}
    assert store.commits == 1
    assert await notes.orphans() == ["omni_watch/home/task/k3/state"], "there is no such task"
    await notes.after_clearing("omni_watch/home/task/k3/state")
    assert store.shelves.topics == {}


async def test_a_store_that_fails_only_costs_the_memory() -> None:
    store, observer = FakeStore(), FakeObserver()
    notes = TopicNotes(store, observer)
    notes.mention("t", "k3")
    store.failures = [StoreError("disk full")] * 3
    await notes.before_publishing("t")
    await notes.after_clearing("t")
    assert await notes.orphans() == []
    assert len(observer.named("mqtt.topic_not_kept")) == 3


async def test_without_a_store_nothing_is_remembered_beyond_this_run() -> None:
    notes = TopicNotes(None, FakeObserver())
    notes.mention("t", "k3")
    await notes.before_publishing("t")
    await notes.after_clearing("t")
    assert await notes.orphans() == []
