"""The one queue of speech: who comes first, and that nobody begins before the last one is silent."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.alerts.floor import Floor, Rank, until_silent
from omni_watch.domain.rules import Priority


@given(asked=st.lists(st.sampled_from(Rank), max_size=12))
def test_whoever_waits_is_heard_in_order_of_rank_and_then_of_asking(asked: list[Rank]) -> None:
    heard: list[tuple[Rank, int]] = []

    async def say(rank: Rank, number: int) -> None:
        heard.append((rank, number))

    async def house() -> None:
        floor, may_end = Floor(), asyncio.Event()
        holder = asyncio.create_task(floor.speak(Rank.URGENT, may_end.wait))
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(floor.speak(rank, lambda rank=rank, number=number: say(rank, number)))  # type: ignore[misc]
            for number, rank in enumerate(asked)
        ]
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(holder, *waiting)

    asyncio.run(house())
    assert heard == sorted((rank, number) for number, rank in enumerate(asked))


def test_an_answer_comes_after_urgent_alerts_and_before_all_others_and_chatter_last() -> None:
    alerts = [Rank.of(priority) for priority in sorted(Priority, key=lambda priority: priority.rank)]
    assert sorted([*alerts, Rank.REPLY, Rank.CHATTER]) == [alerts[0], Rank.REPLY, *alerts[1:], Rank.CHATTER]


@pytest.mark.parametrize("rank", [rank for rank in Rank if rank is not Rank.URGENT])
async def test_what_is_not_urgent_is_cut_by_an_urgent_alert_alone_and_said_again(rank: Rank) -> None:
    floor, began, cuts, may_end = Floor(), [], [], asyncio.Event()

    async def say(word: str) -> None:
        began.append(word)
        await may_end.wait()

    first = asyncio.create_task(floor.speak(rank, lambda: say("first"), on_cut=lambda: cuts.append("first")))
    await asyncio.sleep(0)
    reply = asyncio.create_task(floor.speak(Rank.REPLY, lambda: say("reply")))
    await asyncio.sleep(0)
    assert began == ["first"], "an answer waits until the sentence is over"
    urgent = asyncio.create_task(floor.speak(Rank.URGENT, lambda: say("urgent")))
    async with asyncio.timeout(5):
        while not cuts:  # noqa: ASYNC110  the floor rings no bell
            await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(first, reply, urgent)
    assert began[:2] == ["first", "urgent"]
    assert sorted(began[2:]) == ["first", "reply"]


async def test_one_who_was_told_to_stop_is_silent_before_the_waiting_ends() -> None:
    log: list[str] = []

    async def speak() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a device takes a moment
            log.append("silent")

    stop = asyncio.get_running_loop().create_future()
    speaking = asyncio.ensure_future(speak())
    waiting = asyncio.create_task(until_silent(speaking, stop))
    await asyncio.sleep(0)
    stop.set_result(None)
    await waiting
    assert log == ["silent"]
    assert speaking.cancelled()

    speaking = asyncio.ensure_future(speak())
    waiting = asyncio.create_task(until_silent(speaking))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert log == ["silent", "silent"]


async def test_one_who_ends_by_himself_keeps_what_he_came_to() -> None:
    async def fail() -> None:
        raise OSError("unplugged")

    speaking = asyncio.ensure_future(fail())
    await until_silent(speaking)
    with pytest.raises(OSError, match="unplugged"):
        speaking.result()
