"""What every channel promises, once per channel: the relay relies on it and knows nothing else of them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from rich.console import Console

from omni_watch.alerts.mqtt import MqttChannel, MqttSettings
from omni_watch.alerts.speakers import FileSpeaker
from omni_watch.alerts.terminal import TerminalChannel
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.domain.alerts import Delivery
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language, Priority
from omni_watch.watch.ports import Channel
from tests.fakes.fake_channel import FakeChannel, alert, delivery
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.fixtures_broker import Broker, Subscriber, free_port


@dataclass
class Case:
    """A channel, and what the far side has of it: the ids of the alerts that a person was told."""

    channel: Channel
    told: Callable[[], set[str]]


class PlainVoice:
    name = "plain"

    def speaks(self, language: Language) -> bool:
        return True

    async def synthesize(self, text: str, language: Language) -> bytes:
        return text.encode()


class ClosedTerminal(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@asynccontextmanager
async def fake(is_away: bool) -> AsyncIterator[Case]:
    channel = FakeChannel(troubles=[ChannelUnavailable("away")] * (9 if is_away else 0))
    yield Case(channel, lambda: set(channel.sent))


@asynccontextmanager
async def terminal(is_away: bool) -> AsyncIterator[Case]:
    output = ClosedTerminal() if is_away else io.StringIO()
    channel = TerminalChannel(Console(file=output, width=200), clock=FakeClock())
    yield Case(channel, lambda: {"kettle-1"} if "The kettle is full." in output.getvalue() else set())


@asynccontextmanager
async def voice(is_away: bool, folder: Path) -> AsyncIterator[Case]:
    if is_away:
        await asyncio.to_thread(folder.write_text, "a file where the folder should be")
    channel = VoiceChannel(PlainVoice(), FileSpeaker(folder), clock=FakeClock(), observer=FakeObserver())
    yield Case(channel, lambda: {path.stem for path in folder.glob("*.wav")})


@asynccontextmanager
async def mqtt(is_away: bool, broker: Broker, instance: str) -> AsyncIterator[Case]:
    port = free_port() if is_away else broker.port
    settings = MqttSettings(host="127.0.0.1", port=port, instance=instance, connect_limit_s=2.0, answer_limit_s=2.0)
    channel = MqttChannel(settings, clock=FakeClock(), observer=FakeObserver())
    subscriber = Subscriber(broker.port, f"omni_watch/{instance}/alert")
    worker = asyncio.create_task(channel.run())
    try:
        yield Case(channel, lambda: {message.json["alert_id"] for message in subscriber.messages})
    finally:
        subscriber.close()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


class Open(Protocol):
    """Opens the channel, well or with its far side away."""

    async def __call__(self, *, is_away: bool = False) -> Case: ...


@pytest.fixture(params=["fake", "terminal", "voice", "mqtt"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path, shared_broker: Broker, instance: str
) -> AsyncIterator[Open]:
    """One of our channels."""
    async with AsyncExitStack() as stack:

        async def open_it(*, is_away: bool = False) -> Case:
            made = {
                "fake": lambda: fake(is_away),
                "terminal": lambda: terminal(is_away),
                "voice": lambda: voice(is_away, tmp_path / "spoken"),
                "mqtt": lambda: mqtt(is_away, shared_broker, instance),
            }[request.param]()
            return await stack.enter_async_context(made)

        yield open_it


def on(case: Case, attempts: int = 1) -> Delivery:
    return delivery(alert(), case.channel.name, attempts=attempts)


async def until_told(case: Case, ids: set[str]) -> None:
    async with asyncio.timeout(10):
        while case.told() != ids:  # noqa: ASYNC110  the far side rings no bell
            await asyncio.sleep(0.01)


async def test_an_alert_is_told_and_the_receipt_says_by_whom(opened: Open) -> None:
    case = await opened()
    receipt = await case.channel.send(alert(), on(case))
    assert receipt.channel == case.channel.name
    assert receipt.detail
    assert receipt.at.tzinfo is not None
    await until_told(case, {"kettle-1"})


async def test_the_same_alert_twice_is_harmless(opened: Open) -> None:
    case = await opened()
    await case.channel.send(alert(), on(case))
    await case.channel.send(alert(), on(case, attempts=2))
    await until_told(case, {"kettle-1"})


async def test_a_far_side_that_is_away_may_be_tried_again_later(opened: Open) -> None:
    case = await opened(is_away=True)
    with pytest.raises(ChannelUnavailable) as caught:
        await case.channel.send(alert(), on(case))
    assert caught.value.can_retry
    assert str(caught.value), "it says what is wrong"
    assert case.told() == set()


async def test_an_alert_is_worth_telling_for_some_time_and_an_urgent_one_no_shorter(opened: Open) -> None:
    channel = (await opened()).channel
    assert 0 < channel.expiry_s(Priority.NORMAL) <= channel.expiry_s(Priority.URGENT)


async def test_closing_twice_is_harmless(opened: Open) -> None:
    case = await opened()
    await case.channel.send(alert(), on(case))
    await case.channel.close()
    await case.channel.close()


async def test_every_channel_keeps_to_the_port(opened: Open) -> None:
    assert isinstance((await opened()).channel, Channel)
