"""Which voice reads what, what is remembered, what is made ahead: with voices that only take notes."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from omni_watch.alerts import speech as speeches
from omni_watch.alerts.rehearsal import Rehearsal, fixed_sentences
from omni_watch.alerts.shelf import SoundShelf
from omni_watch.alerts.speech import Speech
from omni_watch.alerts.texts import pause_s, sentences
from omni_watch.alerts.wav import Sound
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Language
from tests.fakes.fake_observer import FakeObserver


class Reader:
    """A `LastingVoice`. Its sound has as many samples as the text has letters."""

    def __init__(self, name: str, *languages: Language, digest: str = "", rate_hz: int = 22_050) -> None:
        self.name = name
        self.digest = digest
        self.trouble = ""
        self.read: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.warmed = 0
        self.is_closed = False
        self._languages = languages
        self._rate_hz = rate_hz

    def speaks(self, language: Language) -> bool:
        return language in self._languages

    async def synthesize(self, text: str, language: Language) -> bytes:
        self.read.append(text)
        await self.may_read.wait()
        if self.trouble:
            raise ChannelUnavailable(self.trouble)
        return Sound(b"\1\0" * len(text), self._rate_hz).to_wav()

    async def warm(self) -> None:
        self.warmed += 1

    async def close(self) -> None:
        self.is_closed = True


async def test_chinese_words_in_an_english_sentence_are_for_the_voice_that_reads_both() -> None:
    english, chinese, plain = Reader("piper", "en"), Reader("kokoro", "zh"), Reader("espeak-ng", "en", "zh")
    speech = Speech([english, chinese, plain], FakeObserver())
    await speech.synthesize("Okay. I'll tell you when 水壶满了.", "en")
    await speech.synthesize("好，kettle 满了就告诉你。", "zh")
    assert english.read == ["Okay."]
    assert chinese.read == ["I'll tell you when 水壶满了.", "好，", "kettle 满了就告诉你。"]
    chinese.trouble = "no memory"
    await speech.synthesize("门铃响了", "zh")
    assert plain.read == ["门铃响了"]


async def test_a_text_is_read_sentence_by_sentence_and_each_is_remembered() -> None:
    voice = Reader("v", "en")
    speech = Speech([voice], FakeObserver())
    await speech.synthesize("Okay. The kettle is full.", "en")
    await speech.synthesize("Okay. The dog barks.", "en")
    assert voice.read == ["Okay.", "The kettle is full.", "The dog barks."]


async def test_what_comes_piece_by_piece_is_the_whole_at_one_rate() -> None:
    first, other = Reader("a", "en", rate_hz=22_050), Reader("b", "zh", rate_hz=24_000)
    speech = Speech([first, other], FakeObserver())
    pieces = [piece async for piece in speech.stream("The first sentence. 第二句话说完了。", "en")]
    assert {piece.rate_hz for piece in pieces} == {22_050}
    assert pieces[1].duration_s == pytest.approx(pause_s("."), abs=0.001)
    whole = Sound.from_wav(await speech.synthesize("The first sentence. 第二句话说完了。", "en"))
    assert whole.pcm == b"".join(piece.pcm for piece in pieces)


async def test_the_first_sentence_can_be_heard_before_the_second_is_made() -> None:
    voice = Reader("v", "en")
    pieces = Speech([voice], FakeObserver()).stream("Okay. The kettle is full.", "en")
    assert (await anext(pieces)).pcm == b"\1\0" * len("Okay.")
    assert voice.read == ["Okay."]


async def test_after_a_restart_nothing_is_read_again(tmp_path: Path) -> None:
    for expected in (["hello"], []):
        voice = Reader("piper", "en", digest="d1")
        await Speech([voice], FakeObserver(), shelf=SoundShelf(tmp_path)).synthesize("hello", "en")
        assert voice.read == expected
    newer = Reader("piper", "en", digest="d2")
    await Speech([newer], FakeObserver(), shelf=SoundShelf(tmp_path)).synthesize("hello", "en")
    assert newer.read == ["hello"], "another model speaks otherwise"


async def test_the_sound_of_a_voice_that_stood_in_is_not_kept_for_the_better_one(tmp_path: Path) -> None:
    natural, plain = Reader("piper", "en", digest="d"), Reader("espeak-ng", "en")
    natural.trouble = "being started again"
    speech = Speech([natural, plain], FakeObserver(), shelf=SoundShelf(tmp_path))
    await speech.synthesize("hello", "en")
    natural.trouble = ""
    await speech.synthesize("hello", "en")
    assert (natural.read, plain.read) == (["hello", "hello"], ["hello"])


async def test_a_voice_that_is_slow_does_not_keep_people_waiting_and_its_sound_is_there_the_next_time() -> None:
    natural, plain = Reader("kokoro", "zh", rate_hz=24_000), Reader("espeak-ng", "zh")
    natural.may_read.clear()
    observer = FakeObserver()
    speech = Speech([natural, plain], observer, patience_s=0.05)
    for text in ("水满了", "门铃响了"):
        assert Sound.from_wav(await speech.synthesize(text, "zh")).rate_hz == 22_050
    assert natural.read == ["水满了"], "and it is asked no more meanwhile"
    assert "not done after 0.05 s" in observer.named("voice.failed")[0]["why"]
    natural.may_read.set()
    while Sound.from_wav(await speech.synthesize("水满了", "zh")).rate_hz == 22_050:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is free again
    assert natural.read == ["水满了"]
    await speech.synthesize("电梯到了", "zh")
    assert natural.read == ["水满了", "电梯到了"]


async def test_nobody_is_impatient_with_what_is_made_ahead() -> None:
    natural, plain = Reader("kokoro", "zh"), Reader("espeak-ng", "zh")
    natural.may_read.clear()
    speech = Speech([natural, plain], FakeObserver(), patience_s=0.01)
    preparing = asyncio.create_task(speech.prepare("水满了", "zh"))
    await asyncio.sleep(0.05)  # longer than anybody would wait
    natural.may_read.set()
    await preparing
    assert (natural.read, plain.read) == (["水满了"], [])


async def test_who_does_not_want_to_hear_it_any_more_takes_the_sound_along() -> None:
    voice = Reader("v", "en")
    voice.may_read.clear()
    asking = asyncio.create_task(Speech([voice], FakeObserver()).synthesize("hello", "en"))
    while not voice.read:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_disk_that_takes_nothing_is_told_and_the_house_speaks(tmp_path: Path) -> None:
    (tmp_path / "voice").write_text("a file where the folder should be")
    observer = FakeObserver()
    speech = Speech([Reader("piper", "en", digest="d")], observer, shelf=SoundShelf(tmp_path / "voice"))
    assert await speech.synthesize("hello", "en")
    assert len(observer.named("voice.not_kept")) == 1


async def test_whoever_asks_goes_before_what_is_made_ready() -> None:
    voice = Reader("v", "en")
    speech = Speech([voice], FakeObserver())
    voice.may_read.clear()
    asking = asyncio.create_task(speech.synthesize("asked for", "en"))
    await asyncio.sleep(0)
    preparing = asyncio.create_task(speech.prepare("ahead", "en"))
    await asyncio.sleep(0.01)  # long enough for it to begin, if it did
    assert voice.read == ["asked for"]
    voice.may_read.set()
    await asking
    await preparing
    assert voice.read == ["asked for", "ahead"]


async def test_nothing_is_made_ahead_between_two_sentences_of_an_answer() -> None:
    voice = Reader("v", "en")
    speech = Speech([voice], FakeObserver())
    async with aclosing(speech.stream("The first one. The second one.", "en")) as sounds:
        await anext(sounds)
        preparing = asyncio.create_task(speech.prepare("ahead", "en"))
        await asyncio.sleep(0.01)  # long enough for it to begin, if it did
        assert voice.read == ["The first one."]
        assert len([sound async for sound in sounds]) == 2
    await preparing
    assert voice.read == ["The first one.", "The second one.", "ahead"]


async def test_nothing_is_made_ahead_while_a_person_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeches, "HOLD_S", 0.3)
    voice = Reader("v", "en")
    speech = Speech([voice], FakeObserver())
    began_s = time.monotonic()
    speech.warm("en")
    await speech.prepare("ahead", "en")
    assert time.monotonic() - began_s >= 0.3
    assert voice.read == ["ahead"]


async def test_who_was_answered_keeps_nothing_from_being_made_ahead() -> None:
    voice = Reader("v", "en")
    speech = Speech([voice], FakeObserver())
    speech.warm("en")
    assert [sound async for sound in speech.stream("An answer.", "en")]
    async with asyncio.timeout(speeches.HOLD_S / 2):
        await speech.prepare("ahead", "en")
    assert voice.read == ["An answer.", "ahead"]
    await speech.close()


async def test_a_room_that_is_never_silent_does_not_keep_us_from_making_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeches, "HOLD_MOST_S", 0.05)
    voice = Reader("v", "en")
    speech = Speech([voice], FakeObserver())
    speech.warm("en")
    async with asyncio.timeout(speeches.HOLD_S / 2):
        await speech.prepare("ahead", "en")
    assert voice.read == ["ahead"]
    await speech.close()


async def test_the_voice_of_a_language_can_be_had_ready_and_all_are_closed() -> None:
    english, chinese = Reader("piper", "en"), Reader("kokoro", "zh")
    speech = Speech([english, chinese], FakeObserver())
    speech.warm("zh")
    speech.warm("fr")
    await asyncio.sleep(0)
    assert (english.warmed, chinese.warmed) == (0, 1)
    await speech.close()
    assert english.is_closed
    assert chinese.is_closed


async def test_messages_are_made_ready_first_then_our_answers_in_the_languages_spoken_here() -> None:
    voice = Reader("v", "en", "zh")
    rehearsal = Rehearsal(Speech([voice], FakeObserver()), "en")
    rehearsal.answers = {"en": ["Okay."], "zh": ["好的。"]}
    running = asyncio.create_task(rehearsal.run())
    rehearsal.expect([("The kettle is full.", "en")])
    while len(voice.read) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    rehearsal.expect([("The kettle is full.", "en"), ("门铃响了", "zh")])
    while len(voice.read) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    running.cancel()
    assert voice.read == ["The kettle is full.", "Okay.", "门铃响了", "好的。"]


async def test_answers_are_made_ready_in_a_language_that_was_spoken_though_nothing_is_watched_in_it() -> None:
    voice = Reader("v", "en", "zh")
    rehearsal = Rehearsal(Speech([voice], FakeObserver()), "en")
    rehearsal.answers = {"en": ["Okay."], "zh": ["好的。"]}
    running = asyncio.create_task(rehearsal.run())
    rehearsal.expect([], ["zh"])
    while len(voice.read) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    running.cancel()
    assert voice.read == ["Okay.", "好的。"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The kettle is full.", ["The kettle is full."]),
        ("Okay. I'll tell you.  Really?\nYes!", ["Okay.", "I'll tell you.", "Really? Yes!"]),
        ("At 7:30 p.m. Mr. Smith came.", ["At 7:30 p.m. Mr. Smith came."]),
        ("It is 23.5 degrees.", ["It is 23.5 degrees."]),
        ("好，水壶满了就告诉你。我会听声音。", ["好，", "水壶满了就告诉你。", "我会听声音。"]),
        ("水壶满了，电梯到了", ["水壶满了，电梯到了"]),
        ("我在留意：狗叫。", ["我在留意：狗叫。"]),
        ("我已经在留意了：水壶满了。", ["我已经在留意了：", "水壶满了。"]),
        ("好，不再留意：水壶满了。", ["好，", "不再留意：水壶满了。"]),
        ("我在留意：水壶满了、电梯到了。", ["我在留意：", "水壶满了、电梯到了。"]),
        (
            "我在留意：电梯到了、微波炉好了、宝宝哭了、有人敲门。",
            ["我在留意：", "电梯到了、微波炉好了、", "宝宝哭了、有人敲门。"],
        ),
        ("… !!", []),
        ("", []),
    ],
)
def test_sentences_are_cut_where_one_breathes(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_only_whole_sentences_without_places_are_always_the_same() -> None:
    replies = {
        "okay": "Okay.",
        "cancelled": "Okay. I've stopped watching for this: {tasks}.",
        "blind": "But I can't tell that yet. {ask}",
        "am": "am",
        "months": "January, February",
    }
    assert fixed_sentences(replies) == ["Okay.", "But I can't tell that yet."]
    assert fixed_sentences({"okay": "好，", "quiet": "好，我安静到{when}，紧急的事除外。"}) == ["好，"]
    assert fixed_sentences({"none": "没有。", "watching": "我在留意：{tasks}。"}) == ["我在留意：", "没有。"]
