"""The program that recognises, seen from the daemon: it may die, hang or fall behind, and the house goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from omni_watch.app.words import Deaf, open_word_ears
from omni_watch.cabinet import Cabinet
from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Heard, Hearing, SpeechBegan, SpeechEnded, Unheard
from omni_watch.duplex.embedded.words.ears import WAITING_S, WordEars, WordSettings
from omni_watch.duplex.embedded.words.models import WhisperFiles
from omni_watch.telemetry.clock import SystemClock
from omni_watch.watch.ports import WordListener
from omni_watch.watch.supervise import supervise
from tests.fakes.fake_carrier import FakeCarrier
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.spoken import HOT_WORDS, espeak, in_a_room, wording

PROGRAM = Path(__file__).parents[1] / "fakes" / "word_program.py"
NOWHERE = Path("nowhere")
SECOND = np.zeros(16_000, np.float32)


def ears(mode: str, observer: FakeObserver, *, tick_s: float = 0.05) -> WordEars:
    whisper = WhisperFiles(weights=NOWHERE, config=NOWHERE, tokenizer=NOWHERE, vocabulary=NOWHERE)
    settings = WordSettings(voice_activity=NOWHERE, whisper=whisper, languages=("en",))
    return WordEars(settings, observer=observer, command=[sys.executable, str(PROGRAM), mode], tick_s=tick_s)


@asynccontextmanager
async def running(listener: WordListener, heard: list[Hearing]) -> AsyncIterator[None]:
    life = asyncio.create_task(listener.run(heard.append))
    try:
        yield
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life


async def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  what is waited for rings no bell
            await asyncio.sleep(0.01)


async def test_sound_goes_there_and_what_was_heard_comes_back() -> None:
    heard, observer = list[Hearing](), FakeObserver()
    listener = ears("well", observer)
    listener.expect({"en": ("kettle",)})
    async with running(listener, heard):
        listener.hear("hall", 5.0, SECOND)
        await until(lambda: len(heard) >= 2 and listener.waiting)
        assert listener.waiting == 2
    told = next(each for each in heard if isinstance(each, Heard))
    assert "kettle" in told.text
    behind = next(each for each in heard if isinstance(each, Unheard))
    assert (behind.feed, behind.start_s, behind.end_s) == ("hall", 5.0, 16_000.0)
    assert observer.named("words.behind") == [{"feed": "hall", "seconds": 15_995.0}]


async def test_who_can_wait_is_told_when_all_was_heard() -> None:
    heard = list[Hearing]()
    listener = ears("well", FakeObserver())
    async with running(listener, heard):
        for second in range(3):
            listener.hear("hall", float(second), SECOND)
            async with asyncio.timeout(20):
                await listener.settled()
            assert sum(isinstance(each, Unheard) for each in heard) == second + 1


async def test_nothing_that_was_heard_is_told_to_who_writes_logs() -> None:
    observer, heard = FakeObserver(), list[Hearing]()
    listener = ears("well", observer)
    listener.expect({"en": ("xylophone",)})
    async with running(listener, heard):
        await until(lambda: heard)
    assert "xylophone" in repr(heard)
    assert "xylophone" not in repr(observer.events)


async def test_sound_that_nobody_takes_is_dropped_oldest_first_and_told() -> None:
    observer, heard = FakeObserver(), list[Hearing]()
    listener = ears("well", observer)
    for second in range(25):
        listener.hear("attic" if second < 4 else "hall", float(second), SECOND)
    async with running(listener, heard):
        await until(lambda: len(observer.named("words.dropped")) == 2)
        await until(lambda: sum(isinstance(each, Unheard) for each in heard) == WAITING_S)
    assert observer.named("words.dropped") == [{"feed": "attic", "seconds": 4.0}, {"feed": "hall", "seconds": 11.0}]
    assert min(each.start_s for each in heard if isinstance(each, Unheard)) == 15.0


async def test_what_waits_for_a_program_that_takes_nothing_does_not_grow() -> None:
    listener = ears("mute", FakeObserver(), tick_s=60.0)
    async with running(listener, []):
        for second in range(600):
            listener.hear("hall", float(second), SECOND)
            assert listener.waiting_s <= WAITING_S
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("dies", "ended: status 3, out of paper"),
        ("mute", "does not answer"),
        ("stuck", "one utterance does not come to an end"),
        ("never_ready", "did not start"),
    ],
)
async def test_one_that_dies_or_hangs_is_ended_and_may_be_started_again(mode: str, said: str) -> None:
    listener = ears(mode, FakeObserver())
    listener.hear("hall", 0.0, SECOND)
    with pytest.raises(ExceptionGroup) as raised:
        await listener.run(lambda _hearing: None)
    (error,) = raised.value.exceptions
    assert isinstance(error, ModelError)
    assert error.can_retry
    assert said in str(error)
    assert listener.pid is None


async def test_one_that_cannot_work_says_why_and_is_not_tried_again() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await ears("cannot", FakeObserver()).run(lambda _hearing: None)
    (error,) = raised.value.exceptions
    assert isinstance(error, ModelError)
    assert not error.can_retry
    assert str(error) == "the model is for another planet"


async def test_after_a_death_the_next_one_hears_what_comes_then() -> None:
    observer, heard = FakeObserver(), list[Hearing]()
    listener = ears("dies", observer)
    listener.expect({"en": ("kettle",)})
    life = asyncio.create_task(
        supervise("words", lambda: listener.run(heard.append), observer=observer, clock=SystemClock())
    )
    try:
        await until(lambda: observer.named("words.ready"))
        listener.hear("hall", 0.0, SECOND)
        await until(lambda: len(observer.named("words.ready")) == 2)
        await until(lambda: len(heard) == 2)
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
    assert all(isinstance(each, Heard) and "kettle" in each.text for each in heard), "hot words are told anew"
    assert len(observer.named("worker.restarted")) == 1


async def test_when_everything_stops_so_does_the_program() -> None:
    observer = FakeObserver()
    listener = ears("well", observer)
    async with running(listener, []):
        await until(lambda: observer.named("words.ready"))
        assert listener.pid is not None
        process = psutil.Process(listener.pid)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_one_that_cannot_be_started_is_an_error_that_may_pass() -> None:
    listener = WordEars(
        WordSettings(
            voice_activity=NOWHERE,
            whisper=WhisperFiles(weights=NOWHERE, config=NOWHERE, tokenizer=NOWHERE, vocabulary=NOWHERE),
            languages=("en",),
        ),
        observer=FakeObserver(),
        command=["no-such-program"],
    )
    with pytest.raises(ModelError, match="cannot start") as raised:
        await listener.run(lambda _hearing: None)
    assert raised.value.can_retry


async def test_without_model_files_it_is_said_what_is_missing(tmp_path: Path) -> None:
    found = open_word_ears(Cabinet(tmp_path, carrier=FakeCarrier()), ("en",), FakeObserver())
    assert found == Deaf("silero-vad is missing; run `omni-watch models pull`")


# --- the real one ---


async def test_a_sentence_is_heard_while_the_house_goes_on(cabinet: Cabinet) -> None:
    observer, heard = FakeObserver(), list[Hearing]()
    listener = open_word_ears(cabinet, ("en", "zh"), observer)
    assert isinstance(listener, WordEars)
    listener.expect(HOT_WORDS)
    quiet = np.zeros(24_000, np.float32)
    speech = in_a_room(espeak("Tell me when the water is boiling."), np.random.default_rng(0))
    sound = np.concatenate([quiet, speech, quiet])
    async with running(listener, heard):
        await until(lambda: observer.named("words.ready"), 60)
        assert psutil.Process(listener.pid).nice() > 0
        for at in range(0, len(sound), 800):
            listener.hear("kitchen", 100 + at / 16_000, sound[at : at + 800])
        await until(lambda: any(isinstance(each, Heard) for each in heard), 60)
    began, ended, told = heard
    assert isinstance(began, SpeechBegan)
    assert isinstance(ended, SpeechEnded)
    assert isinstance(told, Heard)
    assert began.at_s == pytest.approx(101.5, abs=0.3)
    assert (told.start_s, told.end_s) == (ended.start_s, ended.end_s)
    assert told.end_s == pytest.approx(101.5 + len(speech) / 16_000, abs=0.6)
    assert wording(told.text) == "tell me when the water is boiling"
    assert told.language == "en"
    assert "boiling" not in repr(observer.events)


async def test_whole_units_may_be_handed_in_as_well(cabinet: Cabinet) -> None:
    observer, heard = FakeObserver(), list[Hearing]()
    listener = open_word_ears(cabinet, ("en",), observer)
    assert not isinstance(listener, Deaf)
    speech = in_a_room(espeak("Tell me when the water is boiling."), np.random.default_rng(0))
    sound = np.concatenate([speech, np.zeros(-len(speech) % 16_000 + 32_000, np.float32)])
    async with running(listener, heard):
        for second, unit in enumerate(sound.reshape(-1, 16_000)):
            listener.hear("kitchen", float(second), unit)
        await until(lambda: any(isinstance(each, Heard) for each in heard), 60)


async def test_a_recording_waits_for_its_words(cabinet: Cabinet) -> None:
    heard = list[Hearing]()
    listener = open_word_ears(cabinet, ("en",), FakeObserver())
    assert not isinstance(listener, Deaf)
    speech = in_a_room(espeak("Tell me when the water is boiling."), np.random.default_rng(0))
    sound = np.concatenate([speech, np.zeros(-len(speech) % 16_000 + 16_000, np.float32)])
    async with running(listener, heard), asyncio.timeout(120):
        for second, unit in enumerate(sound.reshape(-1, 16_000)):
            listener.hear("clip", float(second), unit)
            await listener.settled()
        (told,) = (each for each in heard if isinstance(each, Heard))
    assert wording(told.text) == "tell me when the water is boiling"


async def test_the_program_ends_when_nobody_listens_any_more(cabinet: Cabinet) -> None:
    listener = open_word_ears(cabinet, ("en",), FakeObserver())
    assert isinstance(listener, WordEars)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*listener.command, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        said, complaints = await process.communicate(b"")
    assert process.returncode == 0, complaints
    assert said == b'{"is": "ready"}\n'


async def test_a_program_with_a_damaged_model_says_so(cabinet: Cabinet, tmp_path: Path) -> None:
    damaged = tmp_path / "model.bin"
    damaged.write_bytes(b"no model")
    whisper = WhisperFiles(
        weights=damaged,
        config=cabinet.path("whisper-base-config"),
        tokenizer=cabinet.path("whisper-base-tokenizer"),
        vocabulary=cabinet.path("whisper-base-vocabulary"),
    )
    settings = WordSettings(voice_activity=cabinet.path("silero-vad"), whisper=whisper, languages=("en",))
    with pytest.raises(ExceptionGroup) as raised:
        await WordEars(settings, observer=FakeObserver()).run(lambda _hearing: None)
    (error,) = raised.value.exceptions
    assert isinstance(error, ModelError)
    assert not error.can_retry
    assert "model.bin: faster-whisper cannot open it" in str(error)
