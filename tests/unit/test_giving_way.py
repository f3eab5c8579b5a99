"""The floor, the microphones and who decides, brought together: we fall silent for a person and begin again after."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from omni_watch.alerts.floor import Rank, Words
from omni_watch.app.giving_way import AFTER_S, LONGEST_S, GivingWay
from omni_watch.domain.errors import Interrupted
from omni_watch.domain.hearing import Heard, SpeechBegan, SpeechEnded
from omni_watch.domain.units import Sense
from omni_watch.sensing.capture import Block
from omni_watch.sensing.echo import CleanedDevice
from omni_watch.watch.barge_in import Heed
from tests.fakes.fake_device import FakeDevice
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.virtual_loop import LoopClock, run_virtually

OURS = Words("The kettle is full.", "en")


def giving_way(observer: FakeObserver | None = None) -> GivingWay:
    return GivingWay(clock=LoopClock(), observer=observer or FakeObserver())  # type: ignore[arg-type]


def later(seconds: float, act: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


async def said(way: GivingWay, seconds: float) -> float | None:
    """When it had been said; None: a person interrupted it."""
    try:
        await way.floor.speak(Rank.ALERT, lambda: asyncio.sleep(seconds), words=OURS)
    except Interrupted:
        return None
    return asyncio.get_running_loop().time()


def test_a_person_on_a_cleaned_microphone_stops_us_and_we_begin_again_when_they_have_ended() -> None:
    observer = FakeObserver()

    async def scene() -> tuple[float | None, float | None]:
        way = giving_way(observer)
        way.barge_in.cleaned.add("hall")
        later(2.0, lambda: way.hears(SpeechBegan(feed="hall", at_s=1.8)))
        later(5.0, lambda: way.hears(SpeechEnded(feed="hall", start_s=1.8, end_s=4.4)))
        return await said(way, 9.0), await said(way, 1.0)

    assert run_virtually(scene())[0] == (None, 5.0 + AFTER_S + 1.0)
    assert observer.named("voice.gave_way") == [{"feed": "hall", "after_s": 0.2}]


def test_while_we_are_being_silenced_it_is_told_once_that_we_gave_way() -> None:
    observer = FakeObserver()

    async def scene() -> float | None:
        way = giving_way(observer)
        way.barge_in.cleaned.add("hall")

        def talks() -> None:
            way.hears(SpeechBegan(feed="hall", at_s=1.8))
            way.hears(SpeechBegan(feed="hall", at_s=1.9))

        later(2.0, talks)
        return await said(way, 9.0)

    assert run_virtually(scene())[0] is None
    assert len(observer.named("voice.gave_way")) == 1


def test_a_person_who_is_never_heard_to_end_does_not_silence_us_for_ever() -> None:
    async def scene() -> tuple[float | None, float | None]:
        way = giving_way()
        way.barge_in.cleaned.add("hall")
        later(2.0, lambda: way.hears(SpeechBegan(feed="hall", at_s=1.8)))
        return await said(way, 9.0), await said(way, 1.0)

    assert run_virtually(scene())[0] == (None, 2.0 + LONGEST_S + 1.0)


def test_our_own_words_are_told_to_be_ours_and_go_on() -> None:
    async def scene() -> tuple[list[Heed], float | None]:
        way, heeds = giving_way(), list[Heed]()
        words = Heard(feed="porch", start_s=0.5, end_s=2.0, text="Kettle is full", language="en", confidence=0.8)
        later(3.0, lambda: heeds.append(way.hears(words)))
        return heeds, await said(way, 9.0)

    assert run_virtually(scene())[0] == ([Heed.OURS], 9.0)


async def test_a_microphone_is_cleaned_and_its_levels_reach_the_loop() -> None:
    way, microphone = giving_way(), FakeDevice(Sense.HEARING)
    cleaned = way.cleaned("hall", microphone)
    assert isinstance(cleaned, CleanedDevice)
    assert way.barge_in.cleaned == {"hall"}
    way.played.begin(np.full(16_000, 0.1, np.float32)).heard(0.0, 100.0)
    microphone.script.put([Block(100.2, np.zeros(800, np.float32))])
    microphone.script.put([Block(200.0, block := np.ones(800, np.float32))])
    await asyncio.to_thread(cleaned.read)
    items = await asyncio.to_thread(cleaned.read)
    assert items is not None
    (untouched,) = items
    assert isinstance(untouched, Block)
    assert untouched.samples is block
    await asyncio.sleep(0)


async def test_without_the_library_the_microphone_is_as_it_was_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pywebrtc_audio":
            raise ImportError("no such library")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    observer, microphone = FakeObserver(), FakeDevice(Sense.HEARING)
    way = giving_way(observer)
    assert way.cleaned("hall", microphone) is microphone
    assert way.barge_in.cleaned == set()
    ((failed),) = observer.named("echo.failed")
    assert failed["feed"] == "hall"
    assert "no such library" in failed["why"]
