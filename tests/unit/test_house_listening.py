"""From what ears heard to what is done and answered: once, in order, and never at the watch's expense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.alerts.answers import STALE_S, Answers
from omni_watch.alerts.floor import Floor, Rank
from omni_watch.alerts.wav import Sound
from omni_watch.app.giving_way import GivingWay
from omni_watch.app.listening import WAITING_MAX, HeardFile, Listening
from omni_watch.app.talking import Conversation
from omni_watch.domain.errors import ChannelUnavailable, ModelError, StoreError
from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan, Transcript
from omni_watch.domain.rules import Language
from omni_watch.domain.tasks import Task, TaskState
from tests.fakes.fake_clock import NOON, FakeClock
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_store import FakeStore
from tests.fakes.talking_house import HOUSEHOLD
from tests.unit.test_alerts_voice import FakeSpeaker

WAIT_S = 10.0  # only ever used up by a defect


class FakeEars:
    """Implements `WordListener`; a test says what is heard."""

    def __init__(self) -> None:
        self.troubles: list[Exception] = []
        self.expected: Mapping[Language, Sequence[str]] = {}
        self.blocks: list[tuple[str, float, int]] = []
        self.runs = 0
        self._deliver: Callable[[Hearing], None] = lambda _hearing: None

    def hear(self, feed: str, start_s: float, samples: NDArray[np.float32]) -> None:
        self.blocks.append((feed, start_s, len(samples)))

    def expect(self, hot_words: Mapping[Language, Sequence[str]]) -> None:
        self.expected = hot_words

    async def settled(self) -> None:
        """Nothing waits."""

    async def run(self, deliver: Callable[[Hearing], None]) -> None:
        self.runs += 1
        if self.troubles:
            raise self.troubles.pop(0)
        self._deliver = deliver
        await asyncio.Event().wait()

    def say(
        self,
        text: str,
        feed: str = "kitchen",
        at_s: float = 1000.0,
        *others: str,
        confidence: float = 0.9,
        behind: float = 0.1,
    ) -> None:
        """`behind`: how much less sure the others are."""
        alternatives = tuple(Transcript(text=other, language="en", confidence=confidence - behind) for other in others)
        self._deliver(
            Heard(
                feed=feed,
                start_s=at_s,
                end_s=at_s + 2,
                text=text,
                language="en",
                confidence=confidence,
                alternatives=alternatives,
            )
        )

    def begin(self) -> None:
        self._deliver(SpeechBegan(feed="kitchen", at_s=1000.0))


class FakeVoice:
    """Implements `StreamingVoice`; the sound of a text is its letters."""

    def __init__(self) -> None:
        self.expected: list[Language] = []

    async def stream(self, text: str, language: Language) -> AsyncGenerator[Sound, None]:
        for sentence in text.split(". "):
            yield Sound(sentence.encode("utf-16-le"), 16_000)

    def warm(self, language: Language) -> None:
        self.expected.append(language)


class Home:
    """A listening house on fakes."""

    def __init__(self, keep: HeardFile | None = None) -> None:
        self.ears, self.store, self.speaker, self.clock = FakeEars(), FakeStore(), FakeSpeaker(), FakeClock()
        self.observer, self.changes = FakeObserver(), 0
        self.conversation = Conversation(self.store, HOUSEHOLD)
        self.voice = FakeVoice()
        self.giving_way = GivingWay(clock=self.clock, observer=self.observer)
        self.giving_way.barge_in.cleaned.add("kitchen")  # a microphone of this machine
        self.floor = self.giving_way.floor
        answers = Answers(self.voice, self.speaker, self.floor, clock=self.clock, observer=self.observer)
        self.listening = Listening(
            self.ears,
            self.conversation,
            answers,
            self.giving_way,
            clock=self.clock,
            observer=self.observer,
            on_change=self._changed,
            keep=keep,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.listening.run())
        await self.until(lambda: self.ears.runs > 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not fact():  # noqa: ASYNC110  a fact rings no bell
                await asyncio.sleep(0)

    async def understood(self, count: int) -> list[str]:
        await self.until(lambda: len(self.observer.named("words.understood")) >= count)
        return [fields["op"] for fields in self.observer.named("words.understood")]

    @property
    def tasks(self) -> list[Task]:
        return list(self.store.shelves.tasks.values())


async def test_what_is_asked_for_is_done_and_answered() -> None:
    async with Home() as home:
        home.speaker.may_finish.set()
        home.ears.say("Tell me when the dog barks")
        await home.speaker.until("end answer")
        (task,) = home.tasks
        assert (task.rule, task.set_by, home.changes) == ("dog_barking", "voice", 1)
        assert "I'll tell you" in home.speaker.heard.decode("utf-16-le")
        assert await home.understood(1) == ["add"]


async def test_what_is_no_request_does_nothing_and_gets_no_answer() -> None:
    async with Home() as home:
        home.ears.begin()
        home.ears.say("the dog barked all night")
        home.ears.say("Tell me when the dog barks", at_s=1010)
        await home.speaker.until("begin answer")
        assert await home.understood(1) == ["add"]
        assert home.speaker.log == ["begin answer"]
        assert home.voice.expected == ["en"], "somebody began to speak"


async def test_where_something_is_watched_in_chinese_its_voice_is_ready_whatever_was_spoken_last() -> None:
    async with Home() as home:
        home.ears.say("水烧开了告诉我")
        await home.understood(1)
        home.ears.say("Tell me when the dog barks", at_s=1010)
        await home.understood(2)
        await home.listening.look()
        home.ears.begin()
        assert home.voice.expected == ["en", "zh"]
        assert home.listening.answered == {"en", "zh"}


async def test_a_less_likely_reading_is_taken_when_only_that_is_a_request() -> None:
    async with Home() as home:
        home.ears.say("Tail me win the dog barks", "kitchen", 1000.0, "Tell me when the dog barks")
        assert await home.understood(1) == ["add"]


async def test_everything_is_ended_only_for_who_was_heard_to_say_so() -> None:
    async with Home() as home:
        home.ears.say("Tell me when the dog barks")
        home.ears.say("Can sell everything", "kitchen", 1010.0, "Cancel everything")
        home.ears.say("Cancel everything.", at_s=1020.0)
        assert await home.understood(2) == ["add", "cancel"]
        assert not home.tasks[0].is_live
        assert home.changes == 2


async def test_a_reading_that_is_hardly_likely_at_all_is_not_taken() -> None:
    async with Home() as home:
        home.ears.say("Tail me win the dog barks", "kitchen", 1000.0, "Tell me when the dog barks", behind=0.25)
        home.ears.say("What are you watching for", at_s=1010.0)
        assert await home.understood(1) == ["list"]


async def test_one_sentence_heard_in_two_rooms_is_one_request() -> None:
    async with Home() as home:
        home.ears.say("Tell me when the dog barks", "kitchen", 1000.0)
        home.ears.say("Tell me when the dog barks", "front-door", 1000.3)
        home.ears.say("What are you watching", "front-door", 1006.0)
        assert await home.understood(2) == ["add", "list"]


async def test_who_asks_for_something_new_has_heard_enough_of_the_answer() -> None:
    async with Home() as home:
        home.ears.say("Tell me when the dog barks")
        await home.speaker.until("begin answer")
        home.speaker.log.clear()
        home.ears.say("What are you watching", at_s=1005)
        await home.speaker.until("begin answer")
        assert home.speaker.log == ["cut answer", "begin answer"]


async def test_the_seconds_for_an_answer_begin_when_our_question_was_heard() -> None:
    async with Home() as home:
        home.ears.say("Tell me when the dog barks")
        home.ears.say("Tell me when the doorbell rings", at_s=1005)
        await home.understood(2)
        await home.speaker.until("begin answer")
        home.speaker.log.clear()
        home.ears.say("Stop watching it", at_s=1010)
        await home.speaker.until("begin answer")
        home.clock.advance(25)  # a long question, while others speak
        home.speaker.may_finish.set()
        await home.until(lambda: home.observer.named("answer.spoken"))
        home.ears.say("The dog", at_s=home.clock.monotonic() + 3)
        assert (await home.understood(4))[-1] == "cancel"
        assert [task.state for task in home.tasks] == [TaskState.CANCELLED, TaskState.ARMED]


async def test_what_we_say_ourselves_is_no_request() -> None:
    async with Home() as home:
        home.giving_way.barge_in.speaking("Tell me when the dog barks", "en", home.clock.monotonic())
        home.ears.say("Tell me when the dog barks", at_s=home.clock.monotonic())
        home.giving_way.barge_in.silent(home.clock.monotonic() + 2)
        home.ears.say("What are you watching", at_s=home.clock.monotonic() + 60)
        assert await home.understood(1) == ["list"]


async def test_a_store_that_takes_nothing_is_said() -> None:
    async with Home() as home:
        home.store.failures.append(StoreError("disk full"))
        home.ears.say("Tell me when the dog barks")
        await home.speaker.until("begin answer")
        assert home.tasks == []
        assert [fields["why"] for fields in home.observer.named("store.failed")] == ["disk full"]


async def test_ears_that_fail_are_started_again_and_those_that_cannot_work_only_told() -> None:
    home = Home()
    home.ears.troubles = [ModelError("it died", can_retry=True), ModelError("no such model")]
    async with home:
        await home.until(lambda: home.observer.named("words.failed"))
        assert home.ears.runs == 2
        assert [fields["why"] for fields in home.observer.named("words.failed")] == ["no such model"]
        assert not home._running.done(), "the watch goes on"


async def test_sentences_that_wait_are_bounded_and_the_oldest_is_let_go() -> None:
    async with Home() as home:
        for number in range(WAITING_MAX + 2):
            home.ears.say(f"the dog barked {number} times", at_s=1000 + 3 * number)
        assert [fields["seconds"] for fields in home.observer.named("words.dropped")] == [2.0, 2.0]


async def test_hot_words_follow_the_tasks() -> None:
    async with Home() as home:
        home.listening.hear("kitchen", 12.5, np.zeros(800, np.float32))
        home.ears.say("Tell me when the kettle is full")
        await home.understood(1)
        await home.listening.look()
        assert home.ears.expected["en"][0] == "kettle"
        assert home.ears.blocks == [("kitchen", 12.5, 800)]


async def test_an_answer_that_was_kept_waiting_is_not_said_and_a_broken_voice_is_told() -> None:
    speaker, clock, observer, floor = FakeSpeaker(), FakeClock(), FakeObserver(), Floor()
    answers = Answers(FakeVoice(), speaker, floor, clock=clock, observer=observer)
    alert = asyncio.create_task(floor.speak(Rank.URGENT, lambda: speaker.play(b"", "alert")))
    await speaker.until("begin alert")
    waiting = asyncio.create_task(answers.say("Okay.", "en"))
    await asyncio.sleep(0)
    clock.advance(STALE_S + 1)
    speaker.may_finish.set()
    assert await waiting is False
    await alert
    speaker.troubles.append(ChannelUnavailable("no device"))
    assert await answers.say("Okay.", "en") is False
    assert [fields["why"] for fields in observer.named("answer.dropped")] == [
        f"others were speaking for {STALE_S + 1:.0f} s",
        "no device",
    ]


async def test_what_was_heard_is_kept_where_a_person_asked_for_it_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "heard.jsonl"
    keep = HeardFile(path)
    async with Home(keep) as home:
        home.ears.say("the dog barked all night")
        home.ears.say("What are you watching", at_s=1005)
        await home.understood(1)
    keep.close()
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["heard"], line["op"]) for line in lines] == [
        ("the dog barked all night", None),
        ("What are you watching", "list"),
    ]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_only_sounds_like_a_rules_words_is_what_is_watched_for() -> None:
    async with Home() as home:
        home.ears.say("随慢了提醒我")
        assert await home.understood(1) == ["add"]
        (task,) = home.tasks
        assert (task.rule, task.text, task.message) == ("kettle_full", "水满了提醒我", "水满了")


async def test_of_two_readings_that_are_requests_the_one_that_a_rule_knows_is_taken() -> None:
    async with Home() as home:
        home.ears.say("Tell me when the cattle is full", "kitchen", 1000.0, "Tell me when the kettle is full")
        home.ears.say("Tell me when the candle is out", "kitchen", 1010.0, "What are you watching for")
        assert await home.understood(2) == ["add", "add"]
        assert [task.rule for task in home.tasks] == ["kettle_full", None]


async def test_the_words_of_asking_are_put_right_by_their_sound() -> None:
    async with Home() as home:
        home.ears.say("电梯到了高速我")
        assert await home.understood(1) == ["add"]
        assert [(task.rule, task.text) for task in home.tasks] == [("elevator_arrived", "电梯到了告诉我")]


async def test_of_several_readings_that_must_be_put_right_the_one_that_is_changed_least_is_taken() -> None:
    async with Home() as home:
        home.ears.say("吹门了梯行我", "kitchen", 1000.0, "随慢了提醒我", "水漫了提醒我")
        assert await home.understood(1) == ["add"]
        assert [(task.rule, task.text) for task in home.tasks] == [("kettle_full", "水满了提醒我")]


async def test_what_no_rule_knows_is_taken_only_as_it_was_heard_best() -> None:
    async with Home() as home:
        home.ears.say("and alert a scent when the ice melts", "kitchen", 1000.0, "and alert us when the ice melts")
        home.ears.say("Alert us when the ice melts", "kitchen", 1010.0)
        assert await home.understood(1) == ["add"]
        assert [task.text for task in home.tasks] == ["Alert us when the ice melts"]


@pytest.mark.parametrize(
    ("heard", "op"),
    [
        ("明天早上8点, 前不要打扰我", "bequiet"),
        ("咱停一下, 水壶", "pause"),
        ("把水壶的提醒去消吧", "cancel"),
        ("把电之前别说话", "bequiet"),
        ("水壶满了, 告诉我医生", "add"),
        ("when the timer goes off-tell everyone dinner is ready", "add"),
    ],
)
async def test_marks_and_sounds_of_a_recogniser_are_no_part_of_what_was_said(heard: str, op: str) -> None:
    async with Home() as home:
        home.ears.say("Tell me when the kettle is full")
        home.ears.say(heard, at_s=1010.0)
        assert await home.understood(2) == ["add", op]


async def test_a_wish_is_never_made_of_words_that_had_to_be_put_right() -> None:
    async with Home() as home:
        home.ears.say("瞎搬了高速我")
        home.ears.say("Tell me when the dog barks", at_s=1010.0)
        assert await home.understood(1) == ["add"]
        assert [task.rule for task in home.tasks] == ["dog_barking"]


async def test_a_thing_that_was_only_expected_is_not_heard_in_other_words() -> None:
    """Told of a knock, a recogniser finds one in what sounds otherwise, and is hardly surer of it."""
    async with Home() as home:
        home.ears.say("敲门了就告诉我", "kitchen", 1000.0, "想问了就告诉我", behind=0.03)
        home.ears.say("敲门了就告诉我", "kitchen", 1010.0, "想问了就告诉我", behind=0.1)
        assert await home.understood(1) == ["add"]
        assert [task.rule for task in home.tasks] == ["knock"]


def test_what_cannot_be_kept_is_not_printed_instead(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "heard.jsonl"
    path.symlink_to("/dev/full")
    keep = HeardFile(path)
    heard = Heard(feed="kitchen", start_s=1.0, end_s=2.0, text="a secret", language="en", confidence=0.9)
    keep.write(NOON, heard, None)
    keep.close()
    assert capfd.readouterr() == ("", "")


async def test_a_wish_that_no_rule_knows_counts_only_when_it_was_heard_well_or_we_were_named() -> None:
    async with Home() as home:
        home.ears.say("Tell me when the parcel is here", confidence=0.6)
        home.ears.say("Omni, tell me when the parcel is here", at_s=1005, confidence=0.6)
        home.ears.say("Tell me when the dog barks", at_s=1010, confidence=0.6)
        home.ears.say("Tell me when the pizza arrives", at_s=1015, confidence=0.8)
        assert await home.understood(3) == ["add", "add", "add"]
        assert [task.rule for task in home.tasks] == [None, "dog_barking", None]
