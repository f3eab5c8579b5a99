"""The relay: what is promised is told, in order, once, or it is known why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.alerts.relay import Relay, RelaySettings, pause_s
from omni_watch.domain.alerts import Alert, Delivery, DeliveryState, Transition
from omni_watch.domain.errors import AlertRejected, ChannelUnavailable, StoreError
from omni_watch.domain.rules import Escalation, Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.watch import requests
from omni_watch.watch.ports import Transaction
from tests.fakes.fake_channel import FakeChannel, alert
from tests.fakes.fake_clock import NOON, FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_store import FakeStore


class Desk:
    """A relay on the bench: its store, clock and observer."""

    def __init__(self, *channels: FakeChannel) -> None:
        self.store = FakeStore()
        self.clock = FakeClock()
        self.observer = FakeObserver()
        self.channels = channels
        self.relay = Relay(self.store, channels, self.clock, self.observer, jitter=lambda: 1.0)

    async def queue(self, *alerts: Alert, lasting_s: float = 600.0, repeat: Repeat = Repeat.ONCE) -> None:
        """Commit alerts with one delivery per channel, and their tasks, as the heartbeat does."""
        for each in alerts:
            await self.store.transact(lambda tx, each=each: self._add(tx, each, lasting_s, repeat))  # type: ignore[misc]
        self.relay.wake()

    def _add(self, tx: Transaction, each: Alert, lasting_s: float, repeat: Repeat) -> None:
        if tx.tasks.get(each.task_id) is None:
            task = Task(
                id=each.task_id,
                text=each.task_text,
                language=each.language,
                message=each.text,
                set_by="cli",
                set_at=NOON,
                repeat=repeat,
                state=TaskState.FIRED,
                fired_count=each.occurrence,
            )
            tx.tasks.add(task)
        expires_at = each.decided_at + timedelta(seconds=lasting_s)
        tx.alerts.add(
            each,
            [
                Delivery(alert_id=each.id, channel=channel.name, due_at=each.decided_at, expires_at=expires_at)
                for channel in self.channels
            ],
        )

    def delivery(self, alert_id: str, channel: str = "fake", number: int = 0) -> Delivery:
        return self.store.shelves.deliveries[alert_id, channel, number]

    def task(self, task_id: str = "kettle") -> TaskState:
        return self.store.shelves.tasks[task_id].state

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        worker = asyncio.create_task(self.relay.run())
        try:
            yield
        finally:
            left = await self.relay.drain(1.0)
            assert left == self.count(DeliveryState.PENDING, DeliveryState.SENDING)
            await worker

    def count(self, *states: DeliveryState) -> int:
        return sum(delivery.state in states for delivery in self.store.shelves.deliveries.values())

    async def until(self, fact: Callable[[], bool], deadline_s: float = 5.0) -> None:
        """Let the workers run until a fact about the store or the observer holds."""
        async with asyncio.timeout(deadline_s):
            while not fact():  # noqa: ASYNC110  the fact is about a store, which rings no bell
                await asyncio.sleep(0)

    async def until_state(self, alert_id: str, state: DeliveryState, channel: str = "fake") -> None:
        await self.until(lambda: self.delivery(alert_id, channel).state is state)


def each_of(*occurrences: int, priority: Priority = Priority.NORMAL) -> list[Alert]:
    return [
        alert(f"t{number}", number, priority=priority, decided_at=NOON + timedelta(milliseconds=number - 100))
        for number in occurrences
    ]


async def test_an_alert_is_told_once_on_every_channel_and_ends_its_task() -> None:
    desk = Desk(FakeChannel("voice"), FakeChannel("mqtt"))
    async with desk.running():
        await desk.queue(alert())
        await desk.until(lambda: desk.count(DeliveryState.SENT) == 2)
    assert [channel.sent for channel in desk.channels] == [["kettle-1"], ["kettle-1"]]
    assert desk.task() is TaskState.DONE
    assert desk.delivery("kettle-1", "voice").detail == "try 1"
    assert desk.delivery("kettle-1", "voice").attempts == 1
    assert {fields["channel"] for fields in desk.observer.named("delivery.sent")} == {"voice", "mqtt"}


async def test_what_was_being_sent_when_we_crashed_is_sent_again() -> None:
    desk = Desk(FakeChannel())
    await desk.queue(alert())
    stuck = desk.delivery("kettle-1").to(DeliveryState.SENDING, attempts=1)
    await desk.store.transact(lambda tx: tx.alerts.save_delivery(stuck))
    async with desk.running():
        await desk.until_state("kettle-1", DeliveryState.SENT)
    assert desk.delivery("kettle-1").attempts == 2
    assert desk.observer.named("relay.resumed") == [{"deliveries": 1}]


async def test_alerts_of_one_channel_arrive_in_the_order_of_their_decisions() -> None:
    channel = FakeChannel()
    desk = Desk(channel)
    await desk.queue(*reversed(each_of(1, 2, 3, 4, 5)))
    async with desk.running():
        await channel.until_sent(5)
    assert channel.sent == ["t1-1", "t2-2", "t3-3", "t4-4", "t5-5"]


async def test_order_is_kept_while_the_channel_is_away() -> None:
    channel = FakeChannel(troubles=[ChannelUnavailable("broker is down")] * 2)
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(*each_of(1, 2, 3))
        await channel.until_began(1)
        await desk.until_state("t1-1", DeliveryState.PENDING)
        assert channel.began == ["t1-1"], "the others must not overtake"
        desk.clock.advance(1.0)
        desk.relay.wake()
        await channel.until_began(2)
        await desk.until(lambda: desk.delivery("t1-1").attempts == 2)
        await desk.until_state("t1-1", DeliveryState.PENDING)
        desk.clock.advance(1.9)  # the second pause lasts two seconds
        desk.relay.wake()
        await desk.store.transact(lambda tx: None)
        assert channel.began == ["t1-1", "t1-1"]
        desk.clock.advance(0.1)
        desk.relay.wake()
        await channel.until_sent(3)
    assert channel.sent == ["t1-1", "t2-2", "t3-3"]
    assert len(desk.observer.named("channel.away")) == 1
    assert len(desk.observer.named("channel.back")) == 1


async def test_a_channel_that_is_away_does_not_hold_up_another() -> None:
    away, well = FakeChannel("mqtt", [ChannelUnavailable("down")] * 9), FakeChannel("voice")
    desk = Desk(away, well)
    async with desk.running():
        await desk.queue(*each_of(1, 2))
        await well.until_sent(2)
    assert away.sent == []
    assert desk.count(DeliveryState.PENDING) == 2


async def test_an_urgent_alert_goes_out_while_a_normal_one_is_still_being_spoken() -> None:
    channel = FakeChannel()
    channel.gate.clear()
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(*each_of(1, 2))
        await channel.until_began(1)
        await desk.queue(alert("smoke", priority=Priority.URGENT))
        await channel.until_began(2)
        assert channel.began == ["t1-1", "smoke-1"]
        channel.gate.set()
        await channel.until_sent(3)


async def test_an_urgent_alert_is_tried_at_once_though_the_channel_seemed_away() -> None:
    channel = FakeChannel(troubles=[ChannelUnavailable("down")])
    desk = Desk(channel)
    patient = RelaySettings(first_pause_s=1000.0, longest_pause_s=1000.0)
    desk.relay = Relay(desk.store, [channel], desk.clock, desk.observer, settings=patient, jitter=lambda: 1.0)
    async with desk.running():
        await desk.queue(*each_of(1))
        await desk.until(lambda: bool(desk.observer.named("channel.away")))
        await desk.queue(alert("smoke", priority=Priority.URGENT))
        await channel.until_sent(2)
    assert channel.sent == ["smoke-1", "t1-1"], "and then the channel is known to be back"


async def test_a_channel_that_says_it_is_back_is_not_left_waiting() -> None:
    channel = FakeChannel(troubles=[ChannelUnavailable("down")])
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(*each_of(1))
        await desk.until(lambda: bool(desk.observer.named("channel.away")))
        desk.relay.retry_now("another")
        desk.relay.wake()
        await desk.store.transact(lambda tx: None)
        assert channel.sent == []
        desk.relay.retry_now("fake")
        await channel.until_sent(1)


async def test_an_alert_older_than_its_expiry_is_never_sent_and_recorded_so() -> None:
    channel = FakeChannel()
    desk = Desk(channel)
    await desk.queue(alert(), lasting_s=60)
    desk.clock.advance(60)
    async with desk.running():
        await desk.until_state("kettle-1", DeliveryState.EXPIRED)
    assert channel.began == []
    assert desk.delivery("kettle-1").attempts == 0
    assert [fields["alert_id"] for fields in desk.observer.named("delivery.expired")] == ["kettle-1"]
    assert desk.task() is TaskState.DONE, "nobody can be told any more"


async def test_an_alert_that_grows_too_old_in_the_channels_hands_is_expired() -> None:
    channel = FakeChannel(troubles=[ChannelUnavailable("somebody else is speaking")])
    channel.gate.clear()
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(alert(), lasting_s=60)
        await channel.until_began(1)
        desk.clock.advance(61)
        channel.gate.set()
        await desk.until_state("kettle-1", DeliveryState.EXPIRED)
    assert "somebody else is speaking" in desk.delivery("kettle-1").detail


async def test_a_refused_alert_is_dead_and_the_next_one_goes_out() -> None:
    channel = FakeChannel(troubles=[AlertRejected("payload too large")])
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(*each_of(1, 2))
        await channel.until_sent(1)
        await desk.until_state("t2-2", DeliveryState.SENT)
    assert desk.delivery("t1-1").state is DeliveryState.DEAD
    assert desk.delivery("t1-1").detail == "payload too large"


async def test_no_cooldown_begins_when_every_channel_gave_up() -> None:
    desk = Desk(FakeChannel("a", [AlertRejected("no")]), FakeChannel("b", [AlertRejected("no")]))
    async with desk.running():
        await desk.queue(alert(), repeat=Repeat.EACH)
        await desk.until(lambda: desk.count(DeliveryState.DEAD) == 2)
    assert desk.task() is TaskState.ARMED


async def test_a_bug_in_a_channel_is_told_with_its_traceback_and_stops_nothing_else() -> None:
    broken, well = FakeChannel("voice", [KeyError("no such voice")]), FakeChannel("mqtt")
    desk = Desk(broken, well)
    async with desk.running():
        await desk.queue(*each_of(1, 2))
        await well.until_sent(2)
        await desk.until_state("t2-2", DeliveryState.SENT, "voice")
        assert desk.delivery("t1-1", "voice").state is DeliveryState.PENDING
        desk.clock.advance(1)
        desk.relay.wake()
        await desk.until_state("t1-1", DeliveryState.SENT, "voice")
    (bug,) = desk.observer.named("channel.bug")
    assert bug["channel"] == "voice"
    assert "KeyError: 'no such voice'" in bug["traceback"]


async def test_a_delivery_that_meets_a_bug_again_and_again_is_dead_in_the_end() -> None:
    channel = FakeChannel(troubles=[KeyError("no such voice")] * 99)
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(alert())
        for attempt in range(1, RelaySettings().tries_of_a_bug):
            await desk.until(lambda n=attempt: desk.delivery("kettle-1").attempts == n)  # type: ignore[misc]
            await desk.until_state("kettle-1", DeliveryState.PENDING)
            desk.clock.advance(60)
            desk.relay.wake()
        await desk.until_state("kettle-1", DeliveryState.DEAD)
    assert "KeyError" in desk.delivery("kettle-1").detail


async def test_a_channel_that_never_answers_counts_as_away() -> None:
    channel = FakeChannel()
    channel.gate.clear()
    desk = Desk(channel)
    desk.relay = Relay(
        desk.store, [channel], desk.clock, desk.observer, settings=RelaySettings(send_limit_s=0.01), jitter=lambda: 1.0
    )
    async with desk.running():
        await desk.queue(alert())
        await desk.until(lambda: bool(desk.observer.named("channel.away")))
        assert desk.delivery("kettle-1").state is DeliveryState.PENDING


async def test_a_wall_clock_that_jumps_back_holds_nothing_up() -> None:
    channel = FakeChannel(troubles=[ChannelUnavailable("down")])
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(alert(decided_at=NOON - timedelta(hours=2)), lasting_s=86_400)
        await desk.until(lambda: bool(desk.observer.named("channel.away")))
        desk.clock.jump(-3600)
        desk.clock.advance(1)
        desk.relay.wake()
        await channel.until_sent(1)


async def test_a_store_that_is_busy_for_a_moment_is_waited_for() -> None:
    channel = FakeChannel()
    desk = Desk(channel)
    desk.relay = Relay(
        desk.store,
        [channel],
        desk.clock,
        desk.observer,
        settings=RelaySettings(first_pause_s=0.001),
        jitter=lambda: 1.0,
    )
    await desk.queue(alert())
    desk.store.failures = [StoreError("database is locked", can_retry=True)] * 3
    async with desk.running():
        await desk.until_state("kettle-1", DeliveryState.SENT)
    assert [fields["failures"] for fields in desk.observer.named("relay.store_busy")] == [1, 2, 3]


async def test_a_store_that_is_broken_ends_the_relay_with_its_own_error() -> None:
    desk = Desk(FakeChannel())
    desk.store.failures = [StoreError("the database is damaged")]
    with pytest.raises(StoreError, match="damaged"):
        await desk.relay.run()


async def test_a_task_that_was_deleted_while_its_alert_was_on_its_way_is_no_trouble() -> None:
    channel = FakeChannel()
    channel.gate.clear()
    desk = Desk(channel)
    async with desk.running():
        await desk.queue(alert())
        await channel.until_began(1)
        await desk.store.transact(lambda tx: tx.tasks.delete("kettle"))
        channel.gate.set()
        await desk.until(lambda: bool(desk.observer.named("delivery.sent")))
    assert desk.store.shelves.deliveries == {}


async def test_stopping_sends_what_can_be_sent_and_keeps_the_rest_for_the_next_start() -> None:
    away, well = FakeChannel("mqtt", [ChannelUnavailable("down")] * 9), FakeChannel("voice")
    desk = Desk(away, well)
    worker = asyncio.create_task(desk.relay.run())
    await desk.queue(*each_of(1, 2, 3))
    await well.until_began(1)
    assert await desk.relay.drain(5.0) == 3
    await worker
    assert well.sent == ["t1-1", "t2-2", "t3-3"]
    assert desk.count(DeliveryState.SENT) == 3


async def test_stopping_does_not_wait_longer_than_it_was_told_for_a_channel_that_hangs() -> None:
    channel = FakeChannel()
    channel.gate.clear()
    desk = Desk(channel)
    worker = asyncio.create_task(desk.relay.run())
    await desk.queue(alert())
    await channel.until_began(1)
    assert await desk.relay.drain(0.01) == 1
    await worker
    assert desk.delivery("kettle-1").state is DeliveryState.SENDING, "the next start makes it pending again"


@given(failures=st.integers(1, 2000), jitter=st.floats(0, 1))
def test_pauses_grow_from_half_a_second_and_never_exceed_a_minute(failures: int, jitter: float) -> None:
    settings = RelaySettings()
    assert 0.5 <= pause_s(failures, settings, jitter) <= 60.0
    assert pause_s(failures + 1, settings, jitter) >= pause_s(failures, settings, jitter)


async def acknowledge(desk: Desk, alert_id: str) -> None:
    await desk.store.transact(lambda tx: requests.acknowledge(tx, alert_id, by="cli", now=desk.clock.now()))
    desk.relay.wake()


async def test_what_somebody_has_dealt_with_is_told_no_further_and_the_channel_hears_of_it() -> None:
    channel = FakeChannel()
    channel.gate.clear()
    desk = Desk(channel)
    await desk.queue(alert())
    async with desk.running():
        await channel.until_began(1)
        await acknowledge(desk, "kettle-1")
        await desk.relay.let_go()
        await desk.until_state("kettle-1", DeliveryState.EXPIRED)
        assert desk.delivery("kettle-1").detail == "it was acknowledged"
        channel.gate.set()
        await channel.until_sent(1)
        await desk.until(lambda: desk.delivery("kettle-1", number=1).state is DeliveryState.SENT)
    assert desk.delivery("kettle-1", number=1).transition is Transition.ACKNOWLEDGED
    assert channel.sent == ["kettle-1"], "that it was acknowledged, and nothing else"
    assert desk.task() is TaskState.DONE


async def test_what_is_still_open_is_not_let_go() -> None:
    channel = FakeChannel()
    channel.gate.clear()
    desk = Desk(channel)
    await desk.relay.let_go()  # nothing is being told: no harm
    await desk.queue(alert())
    async with desk.running():
        await channel.until_began(1)
        await desk.relay.let_go()
        channel.gate.set()
        await desk.until_state("kettle-1", DeliveryState.SENT)


async def test_an_alert_that_was_acknowledged_while_we_were_down_is_not_told_after_the_crash() -> None:
    channel = FakeChannel()
    desk = Desk(channel)
    await desk.queue(alert())
    stuck = desk.delivery("kettle-1").to(DeliveryState.SENDING, attempts=1)
    await desk.store.transact(lambda tx: tx.alerts.save_delivery(stuck))
    await acknowledge(desk, "kettle-1")
    async with desk.running():
        await desk.until(lambda: desk.delivery("kettle-1", number=1).state is DeliveryState.SENT)
    assert desk.delivery("kettle-1").state is DeliveryState.EXPIRED
    assert channel.sent == ["kettle-1"]


async def test_what_became_of_an_alert_waits_for_a_channel_that_is_away_and_comes_after_it() -> None:
    channel = FakeChannel(troubles=[ChannelUnavailable("away")])
    desk = Desk(channel)
    smoke = alert("smoke", priority=Priority.URGENT)
    await desk.queue(smoke)
    async with desk.running():
        await desk.until_state("smoke-1", DeliveryState.PENDING)
        await desk.until(lambda: desk.delivery("smoke-1").attempts == 1)
        await acknowledge(desk, "smoke-1")
        desk.clock.advance(60)
        desk.relay.retry_now("fake")
        await desk.until(lambda: desk.delivery("smoke-1", number=1).state is DeliveryState.SENT)
    assert desk.delivery("smoke-1").state is DeliveryState.EXPIRED


async def test_an_urgent_alert_is_told_louder_and_further_until_somebody_takes_note_of_it() -> None:
    near, far = FakeChannel("voice"), FakeChannel("mqtt", troubles=[AlertRejected("refused")])
    desk = Desk(near, far)
    rule = Escalation(every_s=60, times=9, louder_after=1, every_channel_after=2)

    async def next_minute() -> None:
        await desk.until(lambda: desk.count(DeliveryState.PENDING, DeliveryState.SENDING) == 0)
        desk.clock.advance(60)
        now, patience = desk.clock.now(), {"voice": 300.0, "mqtt": 300.0}
        await desk.store.transact(lambda tx: requests.escalate(tx, now, lambda _priority: patience, lambda _rule: rule))
        desk.relay.wake()

    await desk.queue(alert("smoke", priority=Priority.URGENT))
    async with desk.running():
        for _ in range(3):
            await next_minute()
        await desk.until(lambda: desk.count(DeliveryState.PENDING, DeliveryState.SENDING) == 0)
        await acknowledge(desk, "smoke-1")
        for _ in range(3):
            await next_minute()
    assert [(one.number, one.transition.value, round(one.loudness, 2)) for one in near.messages] == [
        (0, "alert", 0.0),
        (1, "repeat", 0.33),
        (2, "repeat", 0.67),
        (3, "repeat", 1.0),
        (4, "acknowledged", 0.0),
    ]
    assert [one.number for one in far.messages] == [0, 2, 3, 4], "it had refused the first, and was left alone once"
