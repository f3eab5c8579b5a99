"""A voice's program that stays: what happens when it dies, hangs, is no longer wanted or not wanted any more."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from omni_watch.alerts.kokoro import KokoroFiles, KokoroVoice
from omni_watch.alerts.resident import WAITING_MAX, Resident
from omni_watch.alerts.wav import Sound
from omni_watch.domain.errors import ChannelUnavailable
from tests.fakes import voice_program
from tests.fakes.fake_observer import FakeObserver

FILES = KokoroFiles(model=Path("m"), vocabulary=Path("v"), voices=Path("s"))


@asynccontextmanager
async def voice(
    *, limit_s: float = 30.0, idle_s: float = 60.0, rests_s: tuple[float, ...] = (0.0, 0.0), program: str = ""
) -> AsyncIterator[tuple[KokoroVoice, FakeObserver]]:
    observer = FakeObserver()
    command = (sys.executable, program or str(voice_program.__file__))
    made = KokoroVoice(FILES, observer, command=command)
    dialect = made.resident._dialect
    made.resident = Resident(dialect, observer, limit_s=limit_s, idle_s=idle_s, rests_s=rests_s)
    try:
        yield made, observer
    finally:
        await made.close()


async def letters(voice: KokoroVoice, text: str) -> int:
    """How many letters were read: the program's answer to this text and to no other."""
    return len(Sound.from_wav(await voice.synthesize(text, "zh")).pcm) // 2


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110  an observer rings no bell
            await asyncio.sleep(0.01)


async def test_one_program_reads_many_texts() -> None:
    async with voice() as (kokoro, observer):
        assert [await letters(kokoro, "x" * length) for length in (3, 1, 7)] == [3, 1, 7]
        assert len(observer.named("voice.started")) == 1
        pid = kokoro.resident.pid
        assert pid is not None
    assert kokoro.resident.pid is None


async def test_who_is_cancelled_never_gets_in_the_way_of_who_asks_next() -> None:
    async with voice() as (kokoro, observer):
        await letters(kokoro, "warm")
        at_work = asyncio.create_task(letters(kokoro, "slow and at work"))
        await until(lambda: kokoro.resident.is_at_work)
        waiting = asyncio.create_task(letters(kokoro, "slow and not begun"))
        await asyncio.sleep(0)
        for task in (at_work, waiting):
            task.cancel()
        assert await letters(kokoro, "next") == 4
        assert await letters(kokoro, "and the one after it") == 20
        assert at_work.cancelled()
        assert waiting.cancelled()
        assert len(observer.named("voice.started")) == 1, "nothing had to be started again"


async def test_a_program_that_dies_at_work_says_why_and_is_started_again() -> None:
    async with voice() as (kokoro, observer):
        with pytest.raises(ChannelUnavailable, match="kokoro ended: out of paper"):
            await kokoro.synthesize("die", "zh")
        with pytest.raises(ChannelUnavailable, match="being started again"):
            await kokoro.synthesize("so that the next voice reads it meanwhile", "zh")
        await until(lambda: not kokoro.resident.is_being_mended)
        assert await letters(kokoro, "back") == 4
        assert len(observer.named("voice.started")) == 2


async def test_a_program_that_dies_while_nobody_asks_is_started_again() -> None:
    async with voice() as (kokoro, observer):
        await letters(kokoro, "first")
        process = kokoro.resident._process
        assert process is not None
        process.kill()
        await until(lambda: len(observer.named("voice.started")) == 2 and not kokoro.resident.is_being_mended)
        assert await letters(kokoro, "second") == 6


async def test_a_program_that_talks_nonsense_is_started_again() -> None:
    async with voice() as (kokoro, observer):
        with pytest.raises(ChannelUnavailable, match="kokoro ended"):
            await kokoro.synthesize("nonsense", "zh")
        await until(lambda: not kokoro.resident.is_being_mended)
        assert await letters(kokoro, "sense") == 5
        assert len(observer.named("voice.started")) == 2


async def test_a_program_that_hangs_is_ended() -> None:
    async with voice(limit_s=0.3) as (kokoro, _):
        await letters(kokoro, "first")
        with pytest.raises(ChannelUnavailable, match=r"not done after 0\.3 s"):
            await kokoro.synthesize("hang", "zh")
        await until(lambda: not kokoro.resident.is_being_mended)
        assert await letters(kokoro, "second") == 6


async def test_one_that_cannot_be_started_is_tried_a_few_times_and_then_when_somebody_asks() -> None:
    async with voice(program="/nowhere/program.py") as (kokoro, observer):
        for times in (3, 6):  # once for who asked, twice to mend it
            with pytest.raises(ChannelUnavailable, match="kokoro ended"):
                await kokoro.synthesize("hello", "zh")
            await until(lambda: not kokoro.resident.is_being_mended)
            assert len(observer.named("voice.started")) == times


async def test_what_has_no_words_is_refused_and_harms_nothing() -> None:
    async with voice() as (kokoro, observer):
        with pytest.raises(ChannelUnavailable, match="nothing to say"):
            await kokoro.synthesize("nothing", "zh")
        with pytest.raises(ChannelUnavailable, match="nothing to say in a text of 3 characters"):
            await kokoro.synthesize("…！。", "zh")
        assert await letters(kokoro, "words") == 5
        assert len(observer.named("voice.started")) == 1


async def test_one_that_nobody_asks_for_long_gives_its_memory_back_and_comes_when_it_is_called() -> None:
    async with voice(idle_s=0.05) as (kokoro, observer):
        await letters(kokoro, "first")
        await until(lambda: kokoro.resident.pid is None)
        assert observer.named("voice.rests") == [{"voice": "kokoro"}]
        await kokoro.warm()
        assert kokoro.resident.pid is not None
        assert await letters(kokoro, "second") == 6
        assert not observer.named("voice.failed")


async def test_only_so_many_wait_for_one_program() -> None:
    async with voice() as (kokoro, _):
        waiting = [asyncio.create_task(letters(kokoro, "slow")) for _ in range(WAITING_MAX)]
        await until(lambda: kokoro.resident.is_at_work)
        with pytest.raises(ChannelUnavailable, match="busy"):
            await kokoro.synthesize("one more", "zh")
        assert await asyncio.gather(*waiting) == [4] * WAITING_MAX


async def test_closing_ends_it_in_the_middle_of_a_word() -> None:
    async with voice() as (kokoro, _):
        asking = asyncio.create_task(letters(kokoro, "hang"))
        await until(lambda: kokoro.resident.is_at_work)
        await kokoro.close()
        with pytest.raises(asyncio.CancelledError):
            await asking
        with pytest.raises(ChannelUnavailable, match="closed"):
            await kokoro.synthesize("more", "zh")
