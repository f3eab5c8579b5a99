"""The voice channel without a voice: whose turn it is, what is too late, what is said only once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import time, timedelta

import pytest

from omni_watch.alerts.floor import Floor, Rank
from omni_watch.alerts.messages import Speaking
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.voice import REMEMBERED, VoiceChannel, VoiceSettings
from omni_watch.app.channels import Channels
from omni_watch.domain.alerts import Alert, Receipt, Transition
from omni_watch.domain.errors import AlertRejected, ChannelUnavailable
from omni_watch.domain.rules import Language, Priority
from omni_watch.domain.tasks import WatchWindow
from omni_watch.watch.modes import NO_END
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.fake_clock import NOON, FakeClock
from tests.fakes.fake_observer import FakeObserver


class FakeVoice:
    name = "fake voice"

    def speaks(self, language: Language) -> bool:
        return True

    async def synthesize(self, text: str, language: Language) -> bytes:
        return text.encode()


class FakeSpeaker:
    """Speaks until a test lets it finish; notices when two would speak at once."""

    name = "fake speaker"

    def __init__(self) -> None:
        self.log: list[str] = []
        self.heard = b""
        self.may_finish = asyncio.Event()
        self.troubles: list[Exception] = []
        self.loudness: list[float] = []
        self._speaking = 0
        self._moved = asyncio.Condition()

    async def play(self, wav: bytes, label: str, *, loudness: float = 0.0) -> str:
        assert self._speaking == 0, "two voices at once"
        self.loudness.append(loudness)
        self._speaking += 1
        try:
            await self._note(f"begin {label}")
            if self.troubles:
                raise self.troubles.pop()
            await self.may_finish.wait()
            await self._note(f"end {label}")
        except asyncio.CancelledError:
            self.log.append(f"cut {label}")
            raise
        finally:
            self._speaking -= 1
        return "played"

    async def stream(self, pieces: AsyncIterator[bytes], rate_hz: int, label: str) -> str:
        async for piece in pieces:
            self.heard += piece
        return await self.play(b"", label)

    async def close(self) -> None: ...

    async def until(self, entry: str) -> None:
        async with asyncio.timeout(5), self._moved:
            await self._moved.wait_for(lambda: entry in self.log)

    async def _note(self, entry: str) -> None:
        async with self._moved:
            self.log.append(entry)
            self._moved.notify_all()


class Room:
    def __init__(self) -> None:
        self.speaker, self.clock, self.observer = FakeSpeaker(), FakeClock(), FakeObserver()
        self.quiet, self.floor = Quiet(), Floor()
        self.channel = VoiceChannel(
            FakeVoice(),
            self.speaker,
            clock=self.clock,
            observer=self.observer,
            floor=self.floor,
            quiet=self.quiet,
        )

    def say(self, told: Alert, lasting_s: float = 60.0) -> asyncio.Task[Receipt]:
        return asyncio.create_task(self.channel.send(told, delivery(told, "voice", lasting_s=lasting_s)))


normal, other = alert("kettle"), alert("doorbell")
smoke, fire = alert("smoke", priority=Priority.URGENT), alert("fire", priority=Priority.URGENT)


async def test_there_are_never_two_voices_at_once_and_those_who_asked_first_speak_first() -> None:
    room = Room()
    first, second = room.say(normal), room.say(other)
    await room.speaker.until("begin kettle-1")
    room.speaker.may_finish.set()
    await asyncio.gather(first, second)
    assert room.speaker.log == ["begin kettle-1", "end kettle-1", "begin doorbell-1", "end doorbell-1"]


async def test_an_urgent_alert_cuts_a_normal_one_which_is_said_again_after_it() -> None:
    room = Room()
    waiting, cut = room.say(normal), room.say(other)
    await room.speaker.until("begin kettle-1")
    urgent = room.say(smoke)
    await room.speaker.until("begin smoke-1")
    room.speaker.may_finish.set()
    await asyncio.gather(waiting, cut, urgent)
    assert room.speaker.log == [
        "begin kettle-1",
        "cut kettle-1",
        "begin smoke-1",
        "end smoke-1",
        "begin kettle-1",
        "end kettle-1",
        "begin doorbell-1",
        "end doorbell-1",
    ]
    assert room.observer.named("voice.cut") == [{"alert_id": "kettle-1"}]


async def test_an_urgent_alert_waits_for_another_urgent_one() -> None:
    room = Room()
    first = room.say(smoke)
    await room.speaker.until("begin smoke-1")
    second = room.say(fire)
    room.speaker.may_finish.set()
    await asyncio.gather(first, second)
    assert room.speaker.log == ["begin smoke-1", "end smoke-1", "begin fire-1", "end fire-1"]


async def test_a_normal_alert_cuts_nobody_not_even_one_of_low_priority() -> None:
    room = Room()
    low = room.say(alert("plant", priority=Priority.LOW))
    await room.speaker.until("begin plant-1")
    second = room.say(normal)
    room.speaker.may_finish.set()
    await asyncio.gather(low, second)
    assert room.speaker.log[:2] == ["begin plant-1", "end plant-1"]


async def test_an_alert_that_grew_too_old_while_others_spoke_is_not_said() -> None:
    room = Room()
    first, late = room.say(normal, lasting_s=600), room.say(other, lasting_s=60)
    await room.speaker.until("begin kettle-1")
    room.clock.advance(60)
    room.speaker.may_finish.set()
    await first
    with pytest.raises(ChannelUnavailable, match="came too late"):
        await late
    assert "begin doorbell-1" not in room.speaker.log


async def test_a_speaker_that_fails_gives_the_floor_to_the_next() -> None:
    room = Room()
    room.speaker.troubles = [ChannelUnavailable("unplugged")]
    room.speaker.may_finish.set()
    first, second = room.say(normal), room.say(other)
    with pytest.raises(ChannelUnavailable, match="unplugged"):
        await first
    assert (await second).detail == "played"


async def test_stopping_silences_the_voice_at_once() -> None:
    room = Room()
    speaking, waiting = room.say(normal), room.say(other)
    await room.speaker.until("begin kettle-1")
    for each in (waiting, speaking):
        each.cancel()
    await asyncio.gather(speaking, waiting, return_exceptions=True)
    assert room.speaker.log == ["begin kettle-1", "cut kettle-1"]
    room.speaker.may_finish.set()
    assert (await room.say(alert("later"))).detail == "played", "and the floor is free again"


async def test_what_was_said_is_not_said_again_and_memory_of_it_is_bounded() -> None:
    room = Room()
    room.speaker.may_finish.set()
    first = await room.say(normal)
    assert await room.say(normal) == first
    assert room.speaker.log == ["begin kettle-1", "end kettle-1"]
    for number in range(REMEMBERED):
        await room.say(alert("bell", number))
    await room.say(normal)
    assert room.speaker.log.count("begin kettle-1") == 2


def test_urgent_alerts_are_worth_saying_for_longer() -> None:
    room = VoiceChannel(
        FakeVoice(),
        FakeSpeaker(),
        clock=FakeClock(),
        observer=FakeObserver(),
        settings=VoiceSettings(expiry_s=30, urgent_expiry_s=300),
    )
    assert [room.expiry_s(priority) for priority in Priority] == [30, 30, 300]


async def test_one_cut_between_its_turn_and_its_first_word_is_said_after_the_urgent_one() -> None:
    floor, said = Floor(), []

    async def say(word: str) -> None:
        said.append(word)

    async def later_urgent() -> None:
        await floor.speak(Rank.URGENT, lambda: say("urgent"))

    holder = asyncio.create_task(floor.speak(Rank.URGENT, lambda: asyncio.sleep(0)))
    normal_one = asyncio.create_task(floor.speak(Rank.ALERT, lambda: say("normal")))
    await holder  # the floor was passed on in this very step, and the next one has not begun
    await asyncio.gather(normal_one, asyncio.create_task(later_urgent()))
    assert sorted(said) == ["normal", "urgent"]


async def test_nobody_speaks_after_the_channel_was_closed() -> None:
    room = Room()
    await room.channel.close()
    await room.channel.close()
    with pytest.raises(ChannelUnavailable, match="closed"):
        await room.say(normal)
    assert room.speaker.log == []


async def test_while_the_house_is_to_be_quiet_only_what_is_urgent_is_said() -> None:
    room = Room()
    room.speaker.may_finish.set()
    room.quiet.until = room.clock.now() + timedelta(minutes=5)

    with pytest.raises(AlertRejected, match="asked to be quiet until"):
        await room.say(normal)
    await room.say(smoke)
    room.clock.advance(300)
    await room.say(normal, lasting_s=600)

    assert [entry for entry in room.speaker.log if entry.startswith("begin")] == [
        f"begin {smoke.id}",
        f"begin {normal.id}",
    ]


@pytest.mark.parametrize(
    ("told", "is_silent", "is_cut"),
    [(normal, True, True), (smoke, True, True), (normal, False, True), (smoke, False, False)],
    ids=["muted", "muted, urgent", "quiet", "quiet, urgent"],
)
async def test_a_house_that_is_to_be_quiet_falls_silent_in_the_middle_of_a_sentence(
    told: Alert, is_silent: bool, is_cut: bool
) -> None:
    room = Room()
    channels = Channels(clock=room.clock, voice=room.channel, floor=room.floor, silence=room.quiet)
    saying, waiting = room.say(told), room.say(other)
    await room.speaker.until(f"begin {told.id}")
    channels.keep_quiet(NO_END, is_silent=is_silent)
    if is_cut:
        with pytest.raises(AlertRejected, match="muted" if is_silent else "asked to be quiet"):
            await saying
        assert room.speaker.log == [f"begin {told.id}", f"cut {told.id}"]
    else:
        room.speaker.may_finish.set()
        await saying
    with pytest.raises(AlertRejected):
        await waiting
    assert not room.observer.named("voice.interrupted"), "no person spoke over it"


def test_who_says_an_alert_aloud_is_told_as_it_is_now() -> None:
    room = Room()
    channels = Channels(clock=room.clock, voice=room.channel, silence=room.quiet)
    normally, urgently = Priority.NORMAL, Priority.URGENT
    assert channels.speaking(normally) == Speaking(is_spoken=True)
    channels.keep_quiet(NO_END)
    assert channels.speaking(normally) == Speaking(is_hushed=True)
    assert channels.speaking(urgently) == Speaking(is_spoken=True)
    channels.keep_quiet(None, is_silent=True)
    assert channels.speaking(urgently) == Speaking(is_hushed=True)
    channels.keep_quiet(None)
    channels.voice = None
    assert channels.speaking(urgently) == Speaking(), "somebody else may say it"


async def test_what_is_told_again_is_said_again_and_louder_but_the_same_message_only_once() -> None:
    room = Room()
    room.speaker.may_finish.set()
    first = delivery(smoke, "voice")
    again = replace(first, number=1, transition=Transition.REPEAT, loudness=0.5)
    for each in (first, again, again):
        await room.channel.send(smoke, each)
    assert room.speaker.log == ["begin smoke-1", "end smoke-1", "begin smoke-1-repeat1", "end smoke-1-repeat1"]
    assert room.speaker.loudness == [0.0, 0.5]


async def test_what_became_of_an_alert_is_not_said_aloud() -> None:
    room = Room()
    over = replace(delivery(smoke, "voice"), number=1, transition=Transition.ACKNOWLEDGED)
    assert (await room.channel.send(smoke, over)).detail == "not said aloud"
    assert room.speaker.log == []


async def test_in_quiet_hours_only_what_is_urgent_is_said_also_of_what_waited_for_its_turn() -> None:
    room = Room()
    room.quiet.hours = WatchWindow(begins=time(13), ends=time(14, 30), zone="Europe/Berlin")  # an hour ahead of UTC
    with pytest.raises(AlertRejected, match=r"quiet hours, until 14:30 \(Europe/Berlin\)"):
        await room.say(normal)

    room.quiet.hours = WatchWindow(begins=time(14), ends=time(15), zone="Europe/Berlin")
    urgent, waiting = room.say(smoke), room.say(other, lasting_s=9999)
    await room.speaker.until("begin smoke-1")
    room.clock.advance(3600)
    room.speaker.may_finish.set()
    await urgent
    with pytest.raises(AlertRejected, match="quiet hours"):
        await waiting
    assert room.speaker.log == ["begin smoke-1", "end smoke-1"]


def test_a_person_s_wish_and_the_hours_of_the_house_both_keep_it_quiet() -> None:
    quiet = Quiet(hours=WatchWindow(begins=time(22), ends=time(7)))
    assert quiet.why(NOON) is None
    quiet.until = NOON + timedelta(minutes=1)
    assert "asked to be quiet" in (quiet.why(NOON) or "")
    assert quiet.why(NOON + timedelta(minutes=1)) is None
    assert "quiet hours, until 07:00" in (quiet.why(NOON + timedelta(hours=11)) or "")
    assert quiet.why(NOON + timedelta(hours=19)) is None
