"""The model's own voice: turns in order, a vocoder nobody waits for, quiet when asked; and whose voice it is."""

from __future__ import annotations

import queue
import struct
import threading
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.vocoder import CodeBuffer, Sound, Turn
from omni_watch.duplex.minicpmo.voice import ModelVoice, read_reference_voice
from omni_watch.watch.ports import LivePiece

WAIT_S = 30.0  # only ever used up by a defect


class GatedVocoder:
    """Speaks one sample for each code, and each unit only once it may."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.gate = threading.Semaphore(10_000 if is_open else 0)
        self.began = threading.Semaphore(0)
        self.turns = self.units = 0
        self.breaks: list[ModelError] = []
        self.under_way: set[int] = set()

    def begin(self) -> Turn:
        self.turns += 1
        self.under_way.add(self.turns)
        return Turn(self.turns, CodeBuffer())

    def speak(self, turn: Turn, codes: Sequence[int], *, ends_turn: bool) -> Sound:
        self.units += 1
        self.began.release()
        assert self.gate.acquire(timeout=WAIT_S)
        if self.breaks:
            raise self.breaks.pop()
        if ends_turn:
            self.under_way.remove(turn.number)
        return np.array(codes, np.int16)

    def forget(self, turn: Turn) -> None:
        self.under_way.remove(turn.number)

    def close(self) -> None:
        raise AssertionError("the vocoder is not the voice's to close")


class Heard:
    """Collects the blocks that a voice delivers."""

    def __init__(self) -> None:
        self.queue: queue.Queue[LivePiece] = queue.Queue()

    @property
    def pieces(self) -> list[LivePiece]:
        return list(self.queue.queue)

    @property
    def words(self) -> list[tuple[int, list[int], bool]]:
        """(turn, samples, whether it ends) of every piece that is more than an announcement or a loss."""
        return [
            (each.turn, np.frombuffer(each.pcm, "<i2").tolist(), each.ends_turn)
            for each in self.pieces
            if (each.pcm or each.ends_turn) and not each.is_lost
        ]


def _voice(vocoder: GatedVocoder, **options: Any) -> tuple[ModelVoice, Heard]:
    heard = Heard()
    return ModelVoice(vocoder, heard.queue.put_nowait, **options), heard


def test_units_are_heard_in_order_and_turns_are_counted() -> None:
    voice, heard = _voice(GatedVocoder())

    voice.say([1, 2], at_s=1.0, ends_turn=False)
    voice.say([3], at_s=1.0, ends_turn=True)
    voice.say([4], at_s=1.0, ends_turn=False)
    voice.settle()

    assert heard.words == [(0, [1, 2], False), (0, [3], True), (1, [4], False)]
    voice.close()


def test_every_turn_has_a_memory_of_its_own() -> None:
    voice, heard = _voice(vocoder := GatedVocoder())

    for codes, ends in (([1], False), ([2], True), ([3], False), ([4], False)):
        voice.say(codes, at_s=1.0, ends_turn=ends)
    voice.settle()

    assert [turn for turn, _, _ in heard.words] == [0, 0, 1, 1]
    assert vocoder.turns == 2
    voice.close()


def test_saying_returns_before_the_sound_is_made() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False))

    voice.say([1], at_s=1.0, ends_turn=False)  # would hang here otherwise: the gate is shut
    assert heard.words == []

    vocoder.gate.release()
    voice.settle()
    assert heard.words == [(0, [1], False)]
    voice.close()


def test_stopping_silences_what_is_being_made_and_what_waits() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False))
    voice.say([1], at_s=1.0, ends_turn=False)
    voice.say([2], at_s=1.0, ends_turn=False)
    assert vocoder.began.acquire(timeout=WAIT_S)

    voice.stop()
    vocoder.gate.release(10)
    voice.settle()
    assert vocoder.under_way == set()
    voice.say([3], at_s=1.0, ends_turn=True)
    voice.settle()

    assert heard.words == [(1, [3], True)]
    assert vocoder.units == 2  # the second one was not even made
    voice.close()


def test_a_turn_is_announced_before_there_is_any_sound_of_it_and_every_piece_says_when_it_was_said() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False), feed="kitchen")
    voice.say([1], at_s=7.0, ends_turn=False)
    (announced,) = heard.pieces
    assert (announced.feed, announced.turn, announced.at_s, announced.pcm) == ("kitchen", 0, 7.0, b"")

    vocoder.gate.release(10)
    voice.say([2], at_s=8.0, ends_turn=True)
    voice.settle()
    assert [(each.at_s, len(each.pcm)) for each in heard.pieces] == [(7.0, 0), (7.0, 2), (8.0, 2)]
    voice.close()


def test_a_voice_is_speaking_from_the_first_unit_of_a_turn_to_its_last_or_to_a_stop() -> None:
    voice, _ = _voice(GatedVocoder())
    states = [voice.is_speaking]
    for ends in (False, True, False):
        voice.say([1], at_s=1.0, ends_turn=ends)
        states.append(voice.is_speaking)
    voice.stop()
    assert [*states, voice.is_speaking] == [False, True, False, True, False]
    voice.close()


def test_a_stop_is_told_once_to_the_thread_that_speaks() -> None:
    voice, _ = _voice(GatedVocoder())
    assert not voice.take_stop()
    voice.stop()
    assert [voice.take_stop() for _ in range(2)] == [True, False]
    voice.close()


def test_a_vocoder_that_falls_behind_loses_the_rest_of_the_turn_and_no_more() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False))
    voice.say([0], at_s=1.0, ends_turn=False)
    assert vocoder.began.acquire(timeout=WAIT_S)
    for unit in range(1, ModelVoice.MOST_WAITING + 3):
        voice.say([unit], at_s=1.0, ends_turn=False)
    voice.say([90], at_s=1.0, ends_turn=True)
    vocoder.gate.release(10_000)
    voice.settle()
    voice.say([100], at_s=1.0, ends_turn=True)
    voice.settle()

    assert voice.turns_lost == 1
    assert [each.turn for each in heard.pieces if each.is_lost] == [0], "whoever plays it is told"
    assert vocoder.under_way == set()
    assert heard.words == [(0, [0], False), (1, [100], True)]
    voice.close()


def test_a_turn_that_cannot_be_spoken_is_reported_once_and_the_next_one_is_heard() -> None:
    errors: list[ModelError] = []
    voice, heard = _voice(vocoder := GatedVocoder(), failed=errors.append)
    vocoder.breaks.append(ModelError("out of memory", can_retry=True))

    voice.say([1], at_s=1.0, ends_turn=False)
    voice.settle()
    voice.say([2], at_s=1.0, ends_turn=True)
    voice.say([3], at_s=1.0, ends_turn=True)
    voice.settle()

    assert [str(error) for error in errors] == ["out of memory"]
    assert vocoder.under_way == set()
    assert heard.words == [(1, [3], True)]
    assert voice.turns_lost == 1
    voice.close()


def test_a_defect_on_the_voices_thread_surfaces_on_the_callers() -> None:
    def broken(piece: LivePiece) -> None:
        if piece.pcm:
            raise ZeroDivisionError

    voice = ModelVoice(GatedVocoder(), broken)
    voice.say([1], at_s=1.0, ends_turn=False)
    voice.settle()

    with pytest.raises(ZeroDivisionError):
        voice.say([2], at_s=1.0, ends_turn=False)
    voice.close()


def _speech(seconds: float, rate_hz: int, loudness: float = 0.3) -> NDArray[np.float64]:
    return loudness * np.sin(0.1 + 2 * np.pi * 220 * np.arange(int(seconds * rate_hz)) / rate_hz)


def _write_wav(path: Path, samples: NDArray[np.float64], rate_hz: int, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
    return path


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_a_recording_of_any_rate_becomes_16_khz_mono(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = _write_wav(tmp_path / "voice.wav", _speech(2.0, rate_hz), rate_hz, channels)

    voice = read_reference_voice(path)

    assert voice.samples.dtype == np.float32
    assert len(voice.samples) == pytest.approx(32_000, abs=20)
    inner = voice.samples[1000:-1000]
    assert float(np.abs(inner).max()) == pytest.approx(0.3, abs=0.01)
    assert int((np.diff(np.sign(inner)) > 0).sum()) == pytest.approx(220 * len(inner) / 16_000, abs=2)


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        (_speech(31.0, 16_000), "longer than 30 s"),
        (_speech(0.5, 16_000), "lasts 0.50 s"),
        (np.zeros(32_000), "silent"),
        (np.sign(_speech(2.0, 16_000)), "clipped"),
    ],
)
def test_a_recording_that_no_voice_can_be_learned_from_is_refused(
    tmp_path: Path, samples: NDArray[np.float64], complaint: str
) -> None:
    path = _write_wav(tmp_path / "voice.wav", samples, 16_000)

    with pytest.raises(ModelError, match=complaint) as caught:
        read_reference_voice(path)

    assert "voice.wav" in str(caught.value)


def test_an_hour_of_sound_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    size = 3600 * 16_000 * 2
    header = (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    )
    with path.open("wb") as file:
        file.write(header + b"data" + struct.pack("<I", size))
        file.truncate(44 + size)  # sparse

    with pytest.raises(ModelError, match="longer than 30 s"):
        read_reference_voice(path)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "voice.wav").write_text("not a recording")

    for path in (tmp_path / "voice.wav", tmp_path / "absent.wav", tmp_path):
        with pytest.raises(ModelError, match="expected a recording"):
            read_reference_voice(path)
