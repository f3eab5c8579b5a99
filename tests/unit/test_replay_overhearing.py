"""What is said in a recording is done as late as a house would do it, and at the same second on every machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.app.overhearing import UNDERSTOOD_S, Overhearing
from omni_watch.app.talking import Conversation
from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan
from omni_watch.domain.rules import Language
from omni_watch.replay.report import Command
from omni_watch.telemetry.clock import StreamClock
from tests.fakes.fake_feed import unit
from tests.fakes.fake_store import FakeStore
from tests.fakes.hearing import NOW
from tests.fakes.talking_house import HOUSEHOLD

FEED = "clip"


class ScriptedEars:
    """Implements `WordListener`: when settled, what ended in the sound so far is delivered."""

    def __init__(self, *script: Heard, after_end_s: float = 0.6) -> None:
        self._script = list(script)
        self._after_end_s = after_end_s
        self._until_s = 0.0
        self._deliver: Callable[[Hearing], None] = lambda _hearing: None
        self.expected: list[Mapping[Language, Sequence[str]]] = []
        self.trouble: Exception | None = None

    def hear(self, feed: str, start_s: float, samples: NDArray[np.float32]) -> None:
        assert start_s == pytest.approx(self._until_s), "the sound has no hole"
        self._until_s = start_s + len(samples) / 16_000

    def expect(self, hot_words: Mapping[Language, Sequence[str]]) -> None:
        self.expected.append(hot_words)

    async def settled(self) -> None:
        await asyncio.sleep(0)
        if self.trouble is not None:
            await asyncio.Event().wait()
        while self._script and self._script[0].end_s + self._after_end_s <= self._until_s:
            self._deliver(SpeechBegan(feed=FEED, at_s=self._script[0].start_s))
            self._deliver(self._script.pop(0))

    async def run(self, deliver: Callable[[Hearing], None]) -> None:
        self._deliver = deliver
        if self.trouble is not None:
            async with asyncio.TaskGroup() as together:
                together.create_task(self._fail(self.trouble))
        await asyncio.Event().wait()

    @staticmethod
    async def _fail(trouble: Exception) -> None:
        raise trouble


def heard(text: str, end_s: float) -> Heard:
    return Heard(feed=FEED, start_s=end_s - 2, end_s=end_s, text=text, language="en", confidence=0.9)


async def overheard(ears: ScriptedEars, units: int, on_change: Callable[[], None] = lambda: None) -> Sequence[Command]:
    """The commands of a recording of so many seconds."""
    clock, store = StreamClock(NOW), FakeStore()

    async def changed() -> None:
        on_change()

    overhearing = Overhearing(ears, Conversation(store, HOUSEHOLD), clock, on_change=changed)
    async with overhearing.running():
        for index in range(units):
            clock.advance_to(index + 1.0)
            await overhearing.hear(unit(index, feed=FEED))
        await overhearing.end(FEED, float(units))
    return overhearing.commands


@pytest.mark.parametrize(
    ("end_s", "done_s"),
    [(3.0, 4.0), (3.01, 5.0), (3.4, 5.0), (3.99, 5.0), (4.0, 5.0)],
)
async def test_a_request_is_done_with_the_first_unit_that_ends_a_second_after_it_or_later(
    end_s: float, done_s: float
) -> None:
    (command,) = await overheard(ScriptedEars(heard("Tell me when the dog barks", end_s)), 10)
    assert command.stream_s == done_s
    assert command.stream_s - command.ended_s >= UNDERSTOOD_S
    assert (command.op, command.ended_s, command.is_done) == ("add", end_s, True)


async def test_what_is_watched_is_looked_at_again_after_each_request_and_only_then() -> None:
    changes: list[None] = []
    ears = ScriptedEars(
        heard("The dog barked all night", 3.0),
        heard("Tell me when the dog barks", 6.0),
        heard("Stop watching the dog", 9.0),
    )
    commands = await overheard(ears, 12, lambda: changes.append(None))
    assert [command.op for command in commands] == ["add", "cancel"]
    assert len(changes) == 2


async def test_the_words_that_are_likely_follow_the_tasks() -> None:
    ears = ScriptedEars(heard("Tell me when the dog barks", 2.0))
    await overheard(ears, 6)
    assert "dog" not in ears.expected[0]["en"][:1]
    assert ears.expected[-1]["en"][0] == "dog"


async def test_what_is_said_at_the_very_end_is_heard_too() -> None:
    (command,) = await overheard(ScriptedEars(heard("Tell me when the dog barks", 4.9)), 5)
    assert command.stream_s == pytest.approx(5.9)


async def test_a_request_that_cannot_be_done_is_told_as_well() -> None:
    (command,) = await overheard(ScriptedEars(heard("Omni, stop watching the dog", 2.0)), 5)
    assert (command.op, command.is_done) == ("cancel", False)
    assert command.reply
    assert command.as_json()["task_id"] is None


async def test_an_answer_is_taken_for_one_while_the_question_waits() -> None:
    ears = ScriptedEars(
        heard("Tell me when the dog barks", 2.0),
        heard("Tell me when the phone rings", 6.0),
        heard("Cancel that", 10.0),
        heard("The phone", 15.0),
    )
    commands = await overheard(ears, 20)
    assert [command.op for command in commands] == ["add", "add", "cancel", "cancel"]
    assert [command.is_done for command in commands] == [True, True, False, True]


async def test_ears_that_fail_end_the_replay_with_what_they_say() -> None:
    ears = ScriptedEars()
    ears.trouble = ModelError("the recogniser is out of paper")
    with pytest.raises(ModelError, match="out of paper"):
        await overheard(ears, 3)
