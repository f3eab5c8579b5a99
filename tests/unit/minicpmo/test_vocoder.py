"""The model's own voice: how codes are cut for the codec, how turns keep apart, and how a person makes it quiet."""

from __future__ import annotations

import itertools
import queue
import struct
import sys
import threading
import types
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.vocoder import (
    CODES_PER_SECOND,
    RATE_HZ,
    SILENT_CODE,
    CodeBuffer,
    ModelVoice,
    Sound,
    SpokenBlock,
    Token2WavVocoder,
    Turn,
    open_token2wav,
    read_reference_voice,
)

SILENCE = [SILENT_CODE] * 3
SAMPLES_PER_CODE = RATE_HZ // CODES_PER_SECOND
WAIT_S = 30.0  # only ever used up by a defect


def test_a_whole_second_of_codes_is_spoken_at_once_and_its_end_is_kept_as_lookahead() -> None:
    buffer, codes = CodeBuffer(lookahead=3), list(range(25))

    assert buffer.add(codes) == [SILENCE + codes]
    assert buffer.rest() == [22, 23, 24]


def test_a_short_first_chunk_is_spoken_as_far_as_the_lookahead_allows() -> None:
    buffer = CodeBuffer(lookahead=3)

    assert buffer.add(range(5)) == [[*SILENCE, 0, 1, 2, 3, 4]]
    assert buffer.add(range(5, 30)) == [[2, 3, 4, *range(5, 30)]]


def test_fewer_than_five_new_codes_wait_for_more() -> None:
    buffer = CodeBuffer(lookahead=3)

    assert buffer.add([1, 2, 3, 4]) == []
    assert buffer.add([5]) == [[*SILENCE, 1, 2, 3, 4, 5]]


def test_more_than_a_second_is_spoken_in_pieces_that_overlap_by_the_lookahead() -> None:
    pieces = CodeBuffer(lookahead=3).add(range(60))

    assert [len(piece) for piece in pieces] == [28, 28, 13]
    assert all(piece[-3:] == following[:3] for piece, following in itertools.pairwise(pieces))


@given(st.lists(st.lists(st.integers(0, 6560), max_size=70), max_size=8), st.integers(1, 6))
def test_every_code_is_spoken_once_and_in_order_however_they_arrive(chunks: list[list[int]], lookahead: int) -> None:
    buffer = CodeBuffer(lookahead)

    pieces = [piece for chunk in chunks for piece in buffer.add(chunk)]
    spoken = [code for piece in pieces for code in piece[:-lookahead]] + buffer.rest()

    assert spoken == SILENCE + [code for chunk in chunks for code in chunk]
    assert all(lookahead < len(piece) <= CODES_PER_SECOND + lookahead for piece in pieces)


class ScriptedCodec:
    """`stepaudio2.Token2wav` as documented: its sound repeats each fresh code as one sample value, and its caches count
    the codes of the turn, so that a cache that was not restored is heard."""

    def __init__(self, model_path: str = "", float16: bool = False, n_timesteps: int = 10) -> None:
        self.opened_with = (model_path, float16, n_timesteps)
        self.flow = types.SimpleNamespace(pre_lookahead_len=3)
        self.cache: Any = {}
        self.stream_cache: Any = None
        self.hift_cache_dict: Any = None
        self.calls: list[tuple[list[int], str, bool]] = []
        self.breaks: Exception | None = None

    def set_stream_cache(self, prompt_wav: str) -> tuple[Any, Any]:
        self._may_break()
        self.stream_cache = {"att": torch.zeros(1), "of": [torch.zeros(2)]}
        self.hift_cache_dict = {"codes": torch.zeros(1, dtype=torch.long), "finalized": torch.zeros(1)}
        return self.stream_cache, self.hift_cache_dict

    def stream(self, generated_speech_tokens: list[int], *, prompt_wav: str, last_chunk: bool = False) -> bytes:
        self._may_break()
        assert not self.hift_cache_dict["finalized"], "the turn before was not reset"
        self.calls.append((generated_speech_tokens, prompt_wav, last_chunk))
        fresh = generated_speech_tokens if last_chunk else generated_speech_tokens[:-3]
        self.stream_cache = {"att": self.stream_cache["att"] + 1, "of": self.stream_cache["of"]}
        self.hift_cache_dict["codes"] += len(fresh)  # in place, as the library does
        self.hift_cache_dict["finalized"] += last_chunk
        return np.repeat(np.array(fresh, "<i2"), SAMPLES_PER_CODE).tobytes()

    def _may_break(self) -> None:
        if self.breaks is not None:
            raise self.breaks


REFERENCE = Path("voices/anna.wav")


def _spoken_codes(sound: Sound) -> list[int]:
    return [int(code) for code in sound[::SAMPLES_PER_CODE]]


def test_the_sound_of_a_turn_is_that_of_all_its_codes() -> None:
    vocoder = Token2WavVocoder(codec := ScriptedCodec(), REFERENCE)
    turn = vocoder.begin()

    first = vocoder.speak(turn, range(100, 125), ends_turn=False)
    last = vocoder.speak(turn, [125, 126], ends_turn=True)

    assert first.dtype == np.int16
    assert _spoken_codes(np.concatenate([first, last])) == [*SILENCE, *range(100, 127)]
    assert [(len(codes), prompt, is_last) for codes, prompt, is_last in codec.calls] == [
        (28, str(REFERENCE), False),
        (5, str(REFERENCE), True),
    ]


def test_less_than_a_second_in_mid_turn_has_its_silence_in_front() -> None:
    vocoder = Token2WavVocoder(ScriptedCodec(), REFERENCE)

    sound = vocoder.speak(vocoder.begin(), range(100, 110), ends_turn=False)

    assert len(sound) == RATE_HZ
    assert _spoken_codes(sound) == [0] * 15 + SILENCE + list(range(100, 107))


def test_what_is_not_certain_yet_makes_no_sound() -> None:
    vocoder = Token2WavVocoder(ScriptedCodec(), REFERENCE)

    assert len(vocoder.speak(vocoder.begin(), [1, 2], ends_turn=False)) == 0


def test_the_end_of_a_turn_is_not_padded() -> None:
    vocoder = Token2WavVocoder(ScriptedCodec(), REFERENCE)

    assert _spoken_codes(vocoder.speak(vocoder.begin(), [1, 2], ends_turn=True)) == [*SILENCE, 1, 2]


def test_turns_that_are_under_way_together_keep_apart() -> None:
    vocoder = Token2WavVocoder(codec := ScriptedCodec(), REFERENCE)
    one, other = vocoder.begin(), vocoder.begin()

    vocoder.speak(one, range(25), ends_turn=False)
    vocoder.speak(other, range(10), ends_turn=False)
    vocoder.speak(one, range(25, 50), ends_turn=False)

    assert int(codec.hift_cache_dict["codes"]) == 50
    assert int(codec.stream_cache["att"]) == 2
    vocoder.speak(other, [], ends_turn=True)
    assert int(codec.hift_cache_dict["codes"]) == 13


def test_a_turn_after_an_ended_one_starts_from_the_voice_alone() -> None:
    vocoder = Token2WavVocoder(codec := ScriptedCodec(), REFERENCE)
    ended = vocoder.begin()
    vocoder.speak(ended, range(25), ends_turn=True)

    vocoder.speak(vocoder.begin(), range(7), ends_turn=True)

    assert int(codec.hift_cache_dict["codes"]) == 10
    assert ended.caches is None
    with pytest.raises(ValueError, match="ended"):
        vocoder.speak(ended, [1], ends_turn=False)


@pytest.mark.parametrize("raised", [RuntimeError("CUDA out of memory"), ValueError("bad"), AssertionError()])
def test_what_the_codec_raises_is_an_error_of_ours_that_may_pass(raised: Exception) -> None:
    vocoder = Token2WavVocoder(codec := ScriptedCodec(), REFERENCE)
    codec.breaks = raised

    with pytest.raises(ModelError, match="vocoder") as caught:
        vocoder.speak(vocoder.begin(), range(25), ends_turn=False)

    assert caught.value.can_retry


def test_a_voice_that_the_codec_refuses_is_named() -> None:
    codec = ScriptedCodec()
    codec.breaks = RuntimeError("sizes")

    with pytest.raises(ModelError, match=r"anna\.wav"):
        Token2WavVocoder(codec, REFERENCE)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    for name in ("speech_tokenizer_v2_25hz.onnx", "campplus.onnx", "flow.yaml", "flow.pt", "hift.pt"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_missing_assets_are_named_and_where_they_come_from(assets: Path) -> None:
    (assets / "flow.pt").unlink()

    with pytest.raises(ModelError, match=r"found no flow\.pt;.*assets/token2wav"):
        open_token2wav(assets)


def test_a_missing_package_is_named(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stepaudio2", None)

    with pytest.raises(ModelError, match="minicpmo-utils"):
        open_token2wav(assets)


def test_without_a_card_the_voice_is_refused_before_anything_is_loaded(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, has_card=False)

    with pytest.raises(ModelError, match="NVIDIA"):
        open_token2wav(assets)


def test_the_codec_is_opened_with_the_published_settings(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, has_card=True)

    codec = open_token2wav(assets)

    assert isinstance(codec, ScriptedCodec)
    assert codec.opened_with == (str(assets), False, 5)


def _install(monkeypatch: pytest.MonkeyPatch, *, has_card: bool) -> None:
    """The library is not part of the development environment, and CI has no card."""
    library = types.ModuleType("stepaudio2")
    library.Token2wav = ScriptedCodec  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "stepaudio2", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_card)


class GatedVocoder:
    """Speaks one sample for each code, and each unit only once it may."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.gate = threading.Semaphore(10_000 if is_open else 0)
        self.began = threading.Semaphore(0)
        self.turns = self.units = 0
        self.breaks: list[ModelError] = []
        self.is_closed = False

    def begin(self) -> Turn:
        self.turns += 1
        return Turn()

    def speak(self, turn: Turn, codes: Sequence[int], *, ends_turn: bool) -> Sound:
        self.units += 1
        self.began.release()
        assert self.gate.acquire(timeout=WAIT_S)
        if self.breaks:
            raise self.breaks.pop()
        return np.array(codes, np.int16)

    def close(self) -> None:
        self.is_closed = True


class Heard:
    """Collects the blocks that a voice delivers."""

    def __init__(self) -> None:
        self.queue: queue.Queue[SpokenBlock] = queue.Queue()

    @property
    def blocks(self) -> list[SpokenBlock]:
        return list(self.queue.queue)

    @property
    def words(self) -> list[tuple[int, list[int], bool]]:
        return [(each.turn, each.samples.tolist(), each.ends_turn) for each in self.blocks]


def _voice(vocoder: GatedVocoder, **options: Any) -> tuple[ModelVoice, Heard]:
    heard = Heard()
    return ModelVoice(vocoder, heard.queue.put_nowait, **options), heard


def test_units_are_heard_in_order_and_turns_are_counted() -> None:
    voice, heard = _voice(vocoder := GatedVocoder())

    voice.say([1, 2], ends_turn=False)
    voice.say([3], ends_turn=True)
    voice.say([4], ends_turn=False)
    voice.settle()

    assert heard.words == [(0, [1, 2], False), (0, [3], True), (1, [4], False)]
    voice.close()
    assert vocoder.is_closed


def test_every_turn_has_a_memory_of_its_own() -> None:
    voice, heard = _voice(vocoder := GatedVocoder())

    for codes, ends in (([1], False), ([2], True), ([3], False), ([4], False)):
        voice.say(codes, ends_turn=ends)
    voice.settle()

    assert [turn for turn, _, _ in heard.words] == [0, 0, 1, 1]
    assert vocoder.turns == 2
    voice.close()


def test_saying_returns_before_the_sound_is_made() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False))

    voice.say([1], ends_turn=False)  # would hang here otherwise: the gate is shut
    assert heard.words == []

    vocoder.gate.release()
    voice.settle()
    assert heard.words == [(0, [1], False)]
    voice.close()


def test_stopping_silences_what_is_being_made_and_what_waits() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False))
    voice.say([1], ends_turn=False)
    voice.say([2], ends_turn=False)
    assert vocoder.began.acquire(timeout=WAIT_S)

    voice.stop()
    vocoder.gate.release(10)
    voice.say([3], ends_turn=True)
    voice.settle()

    assert heard.words == [(1, [3], True)]
    assert vocoder.units == 2  # the second one was not even made
    voice.close()


def test_what_was_delivered_before_a_stop_is_known_to_be_stale() -> None:
    voice, heard = _voice(GatedVocoder())
    voice.say([1], ends_turn=False)
    voice.settle()
    (block,) = heard.blocks
    assert voice.is_current(block)

    voice.stop()

    assert not voice.is_current(block)
    voice.close()


def test_a_vocoder_that_falls_behind_loses_the_rest_of_the_turn_and_no_more() -> None:
    voice, heard = _voice(vocoder := GatedVocoder(is_open=False))
    voice.say([0], ends_turn=False)
    assert vocoder.began.acquire(timeout=WAIT_S)
    for unit in range(1, ModelVoice.MOST_WAITING + 3):
        voice.say([unit], ends_turn=False)
    voice.say([90], ends_turn=True)
    vocoder.gate.release(10_000)
    voice.settle()
    voice.say([100], ends_turn=True)
    voice.settle()

    assert voice.turns_lost == 1
    assert heard.words == [(0, [0], False), (1, [100], True)]
    voice.close()


def test_a_turn_that_cannot_be_spoken_is_reported_once_and_the_next_one_is_heard() -> None:
    errors: list[ModelError] = []
    voice, heard = _voice(vocoder := GatedVocoder(), failed=errors.append)
    vocoder.breaks.append(ModelError("out of memory", can_retry=True))

    voice.say([1], ends_turn=False)
    voice.settle()
    voice.say([2], ends_turn=True)
    voice.say([3], ends_turn=True)
    voice.settle()

    assert [str(error) for error in errors] == ["out of memory"]
    assert heard.words == [(1, [3], True)]
    assert voice.turns_lost == 1
    voice.close()


def test_a_defect_on_the_voices_thread_surfaces_on_the_callers() -> None:
    def broken(_block: SpokenBlock) -> None:
        raise ZeroDivisionError

    voice = ModelVoice(GatedVocoder(), broken)
    voice.say([1], ends_turn=False)
    voice.settle()

    with pytest.raises(ZeroDivisionError):
        voice.say([2], ends_turn=False)
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
