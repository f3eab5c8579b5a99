"""The natural Chinese voice: its program speaks, and our own ears understand what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from omni_watch.alerts.kokoro import KokoroFiles, KokoroVoice
from omni_watch.alerts.speech import Speech
from omni_watch.alerts.wav import Sound
from omni_watch.app.channels import speech_for
from omni_watch.cabinet import Cabinet
from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.settings import read_settings
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.duplex.embedded.words.models import MODELS
from omni_watch.duplex.embedded.words.recognizer import Recognizer
from omni_watch.watch.pinyin import likeness
from tests.fakes.fake_observer import FakeObserver

SPOKEN = ("kettle_full", "elevator_arrived", "doorbell", "baby_crying", "phone")


@pytest.fixture
async def speech(cabinet: Cabinet) -> AsyncIterator[Speech]:
    made = speech_for(read_settings().voice, cabinet, FakeObserver())
    yield made
    await made.close()


@pytest.fixture
async def kokoro(speech: Speech) -> KokoroVoice:
    return next(voice for voice in speech._voices if isinstance(voice, KokoroVoice))


@pytest.fixture(scope="module")
def ears(cabinet: Cabinet) -> Recognizer:
    files = MODELS[0].files(cabinet.find)
    assert files is not None
    return Recognizer(files, ("zh", "en"))


def heard(ears: Recognizer, wav: bytes) -> str:
    samples = Sound.from_wav(wav).at_rate(16_000).samples()
    around = np.zeros(4000, np.float32)
    return ears.recognize(np.concatenate([around, samples, around]), {})[0].text


async def test_alerts_in_chinese_are_understood_by_our_own_ears(speech: Speech, ears: Recognizer) -> None:
    messages = {rule.id: rule.message["zh"] for rule in load_rulebook().all()}
    for rule in SPOKEN:
        understood = heard(ears, await speech.synthesize(messages[rule], "zh"))
        nearest = max(messages, key=lambda other: likeness(understood, messages[other]))
        assert nearest == rule, f"{messages[rule]} was heard as {understood}"


async def test_english_words_in_a_chinese_sentence_are_said(speech: Speech, kokoro: KokoroVoice) -> None:
    with_word = Sound.from_wav(await speech.synthesize("请看一下 kettle，满了。", "zh"))
    without = Sound.from_wav(await speech.synthesize("请看一下，满了。", "zh"))
    assert with_word.duration_s > without.duration_s + 0.2
    assert kokoro.resident.pid is not None


async def test_a_house_that_speaks_english_never_starts_the_chinese_voice(speech: Speech, kokoro: KokoroVoice) -> None:
    await speech.synthesize("Okay. The kettle is full.", "en")
    await speech.prepare("The dog barks.", "en")
    assert kokoro.resident.pid is None


async def test_many_sentences_come_from_one_program_and_one_that_was_killed_is_replaced(kokoro: KokoroVoice) -> None:
    await kokoro.synthesize("好。", "zh")
    process = psutil.Process(kokoro.resident.pid)
    for text in ("好的。", "时间到了。", "门铃响了。"):
        assert Sound.from_wav(await kokoro.synthesize(text, "zh")).rate_hz == 24_000
    assert kokoro.resident.pid == process.pid
    process.kill()
    async with asyncio.timeout(60):
        while kokoro.resident.pid in {None, process.pid} or kokoro.resident.is_being_mended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await kokoro.synthesize("好。", "zh")


async def test_a_model_that_cannot_be_used_is_told_with_what_to_do(tmp_path: Path) -> None:
    damaged = tmp_path / "kokoro.onnx"
    damaged.write_bytes(b"no graph")
    voice = KokoroVoice(KokoroFiles(model=damaged, vocabulary=damaged, voices=damaged), FakeObserver())
    with pytest.raises(ChannelUnavailable, match=r"cannot load the voice .* run `omni-watch models pull`"):
        await voice.synthesize("好。", "zh")
    await voice.close()
