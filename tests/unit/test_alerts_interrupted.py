"""A person comes before every voice of ours, and what they interrupt is not lost. Waiting costs nothing here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from omni_watch.alerts.floor import AGAIN_S, Floor, Rank, Words
from omni_watch.alerts.relay import RelaySettings
from omni_watch.alerts.remarks import Remarks
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.domain.alerts import Alert, DeliveryState, Receipt
from omni_watch.domain.errors import Interrupted
from omni_watch.domain.rules import Priority
from tests.fakes.fake_channel import FakeChannel, alert, delivery
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.virtual_loop import run_virtually
from tests.unit.test_alerts_relay import Desk
from tests.unit.test_alerts_voice import FakeSpeaker, FakeVoice

KETTLE = Words("The kettle is full.", "en")


def talking(seconds: float, log: list[str], name: str = "x") -> Callable[[], Awaitable[str]]:
    async def utter() -> str:
        log.append(f"begin {name}")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            log.append(f"cut {name}")
            raise
        log.append(f"end {name}")
        return name

    return utter


def later(seconds: float, act: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_who_speaks_falls_silent_for_a_person_and_hears_why() -> None:
    log = list[str]()

    async def scene() -> float:
        floor = Floor()
        later(1.0, lambda: floor.give_way(5.0))
        with pytest.raises(Interrupted, match="a person spoke") as interrupted:
            await floor.speak(Rank.ALERT, talking(3.0, log))
        assert interrupted.value.again_in_s == AGAIN_S
        assert interrupted.value.can_retry
        return now()

    assert run_virtually(scene())[0] == 1.0
    assert log == ["begin x", "cut x"]


@pytest.mark.parametrize(
    ("rank", "begins_s"),
    [(Rank.LOW_ALERT, 5.0), (Rank.ALERT, 5.0), (Rank.REPLY, 5.0), (Rank.URGENT, 1.0)],
)
def test_nobody_begins_while_a_person_speaks_but_who_is_urgent(rank: Rank, begins_s: float) -> None:
    async def scene() -> float:
        floor = Floor()
        assert not floor.give_way(5.0)
        await asyncio.sleep(1.0)
        begun = list[float]()

        async def utter() -> None:
            begun.append(now())

        await floor.speak(rank, utter)
        return begun[0]

    assert run_virtually(scene())[0] == begins_s


def test_the_last_word_on_how_long_the_person_speaks_counts() -> None:
    async def scene() -> float:
        floor, log = Floor(), list[str]()
        floor.give_way(60.0)
        later(2.0, lambda: floor.person_speaks(1.0))
        await floor.speak(Rank.ALERT, talking(0.0, log))
        return now()

    assert run_virtually(scene())[0] == 3.0


def test_those_who_waited_while_a_person_spoke_begin_in_their_order() -> None:
    log = list[str]()

    async def scene() -> None:
        floor = Floor()
        floor.give_way(2.0)
        await asyncio.gather(
            floor.speak(Rank.LOW_ALERT, talking(1.0, log, "remark")),
            floor.speak(Rank.ALERT, talking(1.0, log, "alert")),
        )

    run_virtually(scene())
    assert log == ["begin alert", "end alert", "begin remark", "end remark"]


def test_a_person_also_stops_an_urgent_voice_which_may_begin_again_at_once() -> None:
    log = list[str]()

    async def scene() -> float:
        floor = Floor()
        later(1.0, lambda: floor.give_way(30.0))
        with pytest.raises(Interrupted):
            await floor.speak(Rank.URGENT, talking(9.0, log))
        await floor.speak(Rank.URGENT, talking(1.0, log))
        return now()

    assert run_virtually(scene())[0] == 2.0


def test_one_that_a_person_stops_before_its_first_word_never_begins() -> None:
    log = list[str]()

    async def scene() -> None:
        floor = Floor()

        async def first() -> None:
            await floor.speak(Rank.ALERT, talking(1.0, log, "first"))
            assert floor.give_way(1.0)  # the second was given the floor and has not woken up yet

        second = floor.speak(Rank.ALERT, talking(1.0, log, "second"))
        _, outcome = await asyncio.gather(first(), second, return_exceptions=True)
        assert isinstance(outcome, Interrupted)

    run_virtually(scene())
    assert log == ["begin first", "end first"]


def test_what_is_said_is_told_from_its_beginning_to_its_end_however_it_ends() -> None:
    told = list[Any]()

    async def scene() -> None:
        floor = Floor(on_speaking=lambda words: told.append((now(), words)), on_silent=lambda: told.append(now()))
        await floor.speak(Rank.ALERT, talking(1.0, []), words=KETTLE)
        later(1.0, lambda: floor.give_way(1.0))
        with pytest.raises(Interrupted):
            await floor.speak(Rank.ALERT, talking(9.0, []))

    run_virtually(scene())
    assert told == [(0.0, KETTLE), 1.0, (1.0, None), 2.0]


# --- what becomes of that which was interrupted ---


class Interruptible(FakeChannel):
    """A channel over which people speak so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def send(self, alert: Alert, delivery: Any) -> Receipt:
        if self.times > 0:
            self.times -= 1
            raise Interrupted("a person spoke", again_in_s=AGAIN_S)
        return await super().send(alert, delivery)


async def settled(desk: Desk, condition: Callable[[], bool]) -> None:
    """Time passes in steps that are longer than the pause after an interruption."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
            desk.clock.advance(AGAIN_S + 0.1)
            desk.relay.wake()


async def test_an_alert_that_a_person_interrupted_waits_and_is_told_without_holding_up_others() -> None:
    desk = Desk(Interruptible(1))
    kettle, dog = alert("kettle"), alert("dog")
    await desk.queue(kettle, dog)
    async with desk.running(), asyncio.timeout(10):
        while desk.delivery("dog-1").state is not DeliveryState.SENT:  # noqa: ASYNC110  a store rings no bell
            await asyncio.sleep(0.01)
        waiting = desk.delivery("kettle-1")
        assert waiting.state is DeliveryState.PENDING
        assert waiting.due_at == desk.clock.now() + timedelta(seconds=AGAIN_S)
        assert waiting.detail == "a person spoke"
        assert not desk.observer.named("channel.away")
        await settled(desk, lambda: desk.delivery("kettle-1").state is DeliveryState.SENT)


async def test_an_alert_over_which_people_always_speak_is_given_up_here_and_an_urgent_one_is_not() -> None:
    desk = Desk(Interruptible(1000))
    kettle, smoke = alert("kettle"), alert("smoke", priority=Priority.URGENT)
    await desk.queue(kettle, smoke)
    tries = RelaySettings().tries_over_people
    async with desk.running():
        await settled(desk, lambda: desk.delivery("kettle-1").state is DeliveryState.EXPIRED)
        assert desk.delivery("kettle-1").detail == f"people spoke over it {tries} times"
        await settled(desk, lambda: desk.delivery("smoke-1").attempts > tries)
        assert desk.delivery("smoke-1").state in {DeliveryState.PENDING, DeliveryState.SENDING}


async def test_what_would_be_too_old_after_the_person_has_spoken_is_not_offered_again() -> None:
    desk = Desk(Interruptible(1))
    await desk.queue(alert("kettle"), lasting_s=2.0)
    async with desk.running(), asyncio.timeout(10):
        while desk.delivery("kettle-1").state is not DeliveryState.EXPIRED:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_spoken_alert_that_was_interrupted_was_not_said_and_can_be_said_again() -> None:
    speaker, observer, floor = FakeSpeaker(), FakeObserver(), Floor()
    channel = VoiceChannel(FakeVoice(), speaker, clock=FakeClock(), observer=observer, floor=floor)
    kettle = alert("kettle")
    saying = asyncio.create_task(channel.send(kettle, delivery(kettle, "voice")))
    await speaker.until("begin kettle-1")
    assert floor.give_way(0.01)
    with pytest.raises(Interrupted):
        await saying
    assert observer.named("voice.interrupted") == [{"alert_id": "kettle-1"}]
    speaker.may_finish.set()
    assert (await channel.send(kettle, delivery(kettle, "voice"))).detail == "played"
    assert speaker.log == ["begin kettle-1", "cut kettle-1", "begin kettle-1", "end kettle-1"]


async def test_of_a_remark_that_was_interrupted_the_rest_is_dropped() -> None:
    speaker, observer, floor = FakeSpeaker(), FakeObserver(), Floor()
    remarks = Remarks(FakeVoice(), speaker, floor, language="en", clock=FakeClock(), observer=observer)
    running = asyncio.create_task(remarks.run())
    remarks.offer("kitchen", "A cat.")
    await speaker.until("begin remark-kitchen")
    floor.give_way(0.01)
    async with asyncio.timeout(10):
        while not observer.named("companion.dropped"):  # noqa: ASYNC110  an observer rings no bell
            await asyncio.sleep(0.01)
    assert observer.named("companion.dropped") == [{"feed": "kitchen", "why": "a person spoke"}]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
