"""From codes to sound: how codes are cut for the codec, how turns keep apart, and the codec in a process of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo import codec_program
from omni_watch.duplex.minicpmo.vocoder import (
    ANSWER_S,
    CODES_PER_SECOND,
    RATE_HZ,
    SILENT_CODE,
    CodeBuffer,
    Codec,
    CodecProcess,
    CodecVocoder,
    Sound,
    codec_command,
    open_token2wav,
)

SILENCE = [SILENT_CODE] * 3
SAMPLES_PER_CODE = RATE_HZ // CODES_PER_SECOND
REFERENCE = Path("/voices/anna.wav")


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


class ScriptedLibrary:
    """`stepaudio2.Token2wav` as documented: its sound repeats each fresh code as one sample value, and its caches count
    the codes of the turn, so that a cache that was not restored is heard."""

    def __init__(self, model_path: str = "", float16: bool = False, n_timesteps: int = 10) -> None:
        self.opened_with = (model_path, float16, n_timesteps)
        self.flow = types.SimpleNamespace(pre_lookahead_len=3)
        self.cache: Any = {}
        self.stream_cache: Any = None
        self.hift_cache_dict: Any = None
        self.calls: list[tuple[int, str, bool]] = []
        self.breaks: Exception | None = None

    def set_stream_cache(self, prompt_wav: str) -> tuple[Any, Any]:
        self._may_break()
        self.stream_cache = {"att": torch.zeros(1), "of": [torch.zeros(2)], "steps": 5}
        self.hift_cache_dict = {"codes": torch.zeros(1, dtype=torch.long), "finalized": torch.zeros(1)}
        return self.stream_cache, self.hift_cache_dict

    def stream(self, generated_speech_tokens: list[int], *, prompt_wav: str, last_chunk: bool = False) -> bytes:
        self._may_break()
        assert not self.hift_cache_dict["finalized"], "the turn before was not reset"
        self.calls.append((len(generated_speech_tokens), prompt_wav, last_chunk))
        fresh = generated_speech_tokens if last_chunk else generated_speech_tokens[:-3]
        self.stream_cache = {**self.stream_cache, "att": self.stream_cache["att"] + 1}
        self.hift_cache_dict["codes"] += len(fresh)  # in place, as the library does
        self.hift_cache_dict["finalized"] += last_chunk
        return np.repeat(np.array(fresh, "<i2"), SAMPLES_PER_CODE).tobytes()

    def _may_break(self) -> None:
        if self.breaks is not None:
            raise self.breaks


@pytest.fixture
def library() -> ScriptedLibrary:
    return ScriptedLibrary()


@pytest.fixture
def vocoder(library: ScriptedLibrary, assets: Path, monkeypatch: pytest.MonkeyPatch) -> CodecVocoder:
    """The scripted library behind the real adapter, opened as the product opens it."""
    _install(monkeypatch, lambda *_args, **_options: library)
    return CodecVocoder(open_token2wav(assets, REFERENCE))


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    for name in ("speech_tokenizer_v2_25hz.onnx", "campplus.onnx", "flow.yaml", "flow.pt", "hift.pt"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def _install(monkeypatch: pytest.MonkeyPatch, opened: Any, *, has_card: bool = True) -> None:
    """The library is not part of the development environment, and CI has no card."""
    monkeypatch.setitem(sys.modules, "stepaudio2", types.SimpleNamespace(Token2wav=opened))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_card)


def _spoken_codes(sound: Sound) -> list[int]:
    return [int(code) for code in sound[::SAMPLES_PER_CODE]]


def test_the_sound_of_a_turn_is_that_of_all_its_codes(vocoder: CodecVocoder, library: ScriptedLibrary) -> None:
    turn = vocoder.begin()

    first = vocoder.speak(turn, range(100, 125), ends_turn=False)
    last = vocoder.speak(turn, [125, 126], ends_turn=True)

    assert first.dtype == np.int16
    assert _spoken_codes(np.concatenate([first, last])) == [*SILENCE, *range(100, 127)]
    assert library.calls == [(28, str(REFERENCE), False), (5, str(REFERENCE), True)]


def test_less_than_a_second_in_mid_turn_has_its_silence_in_front(vocoder: CodecVocoder) -> None:
    sound = vocoder.speak(vocoder.begin(), range(100, 110), ends_turn=False)

    assert len(sound) == RATE_HZ
    assert _spoken_codes(sound) == [0] * 15 + SILENCE + list(range(100, 107))


def test_what_is_not_certain_yet_makes_no_sound(vocoder: CodecVocoder) -> None:
    assert len(vocoder.speak(vocoder.begin(), [1, 2], ends_turn=False)) == 0


def test_the_end_of_a_turn_is_not_padded(vocoder: CodecVocoder) -> None:
    assert _spoken_codes(vocoder.speak(vocoder.begin(), [1, 2], ends_turn=True)) == [*SILENCE, 1, 2]


def test_turns_that_are_under_way_together_keep_apart(vocoder: CodecVocoder, library: ScriptedLibrary) -> None:
    one, other = vocoder.begin(), vocoder.begin()

    vocoder.speak(one, range(25), ends_turn=False)
    vocoder.speak(other, range(10), ends_turn=False)
    vocoder.speak(one, range(25, 50), ends_turn=False)

    assert int(library.hift_cache_dict["codes"]) == 50
    assert int(library.stream_cache["att"]) == 2
    vocoder.speak(other, [], ends_turn=True)
    assert int(library.hift_cache_dict["codes"]) == 13


def test_a_turn_after_an_ended_one_starts_from_the_voice_alone(vocoder: CodecVocoder, library: ScriptedLibrary) -> None:
    ended = vocoder.begin()
    vocoder.speak(ended, range(25), ends_turn=True)

    vocoder.speak(vocoder.begin(), range(7), ends_turn=True)

    assert int(library.hift_cache_dict["codes"]) == 10
    with pytest.raises(ValueError, match="is over"):
        vocoder.speak(ended, [1], ends_turn=False)


def test_turns_that_ended_failed_or_were_forgotten_hold_no_memory(library: ScriptedLibrary) -> None:
    codec = codec_program.TurnCodec(library, str(REFERENCE))
    for turn in range(4):
        codec.begin(turn)
    codec.stream(0, [1, 2], is_last=True)
    codec.forget(1)
    library.breaks = RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError):
        codec.stream(2, range(28), is_last=False)

    assert codec.turns == [3]


@pytest.mark.parametrize("raised", [RuntimeError("CUDA out of memory"), ValueError("bad"), AssertionError()])
def test_what_the_codec_raises_is_an_error_of_ours_that_may_pass(
    vocoder: CodecVocoder, library: ScriptedLibrary, raised: Exception
) -> None:
    turn = vocoder.begin()
    library.breaks = raised

    with pytest.raises(ModelError, match="vocoder") as caught:
        vocoder.speak(turn, range(25), ends_turn=False)

    assert caught.value.can_retry
    assert turn.is_over
    library.breaks = None
    assert len(vocoder.speak(vocoder.begin(), range(25), ends_turn=False)) == RATE_HZ


def test_a_voice_that_the_codec_refuses_is_named(
    library: ScriptedLibrary, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, lambda *_args, **_options: library)
    library.breaks = RuntimeError("sizes")

    with pytest.raises(ModelError, match=r"anna\.wav: sizes"):
        open_token2wav(assets, REFERENCE)


def test_missing_assets_are_named_and_where_they_come_from(assets: Path) -> None:
    (assets / "flow.pt").unlink()

    with pytest.raises(ModelError, match=r"found no flow\.pt;.*assets/token2wav"):
        open_token2wav(assets, REFERENCE)


def test_a_missing_package_is_named(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stepaudio2", None)

    with pytest.raises(ModelError, match="minicpmo-utils"):
        open_token2wav(assets, REFERENCE)


def test_without_a_card_the_voice_is_refused_before_anything_is_loaded(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, None, has_card=False)

    with pytest.raises(ModelError, match="NVIDIA"):
        open_token2wav(assets, REFERENCE)


def test_the_codec_is_opened_with_the_published_settings(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[ScriptedLibrary] = []

    def open_it(*args: Any, **options: Any) -> ScriptedLibrary:
        opened.append(ScriptedLibrary(*args, **options))
        return opened[-1]

    _install(monkeypatch, open_it)

    codec = open_token2wav(assets, REFERENCE)

    assert codec.lookahead == 3
    assert opened[0].opened_with == (str(assets), False, 5)


# the codec in a process of its own: the real program, with a library that a test wrote

FAKE_LIBRARY = """
import array, sys, time

class Cache:
    def __init__(self, codes=0):
        self.codes = codes
    def clone(self):
        return Cache(self.codes)

class Flow:
    pre_lookahead_len = 3

class Token2wav:
    flow = Flow()
    def __init__(self, model_path, float16=False, n_timesteps=10):
        print("loading", model_path, float16, n_timesteps)
        if model_path == "/broken":
            raise FileNotFoundError("Missing model files")
    def set_stream_cache(self, prompt_wav):
        return Cache(), {"codes": Cache()}
    def stream(self, codes, prompt_wav=None, last_chunk=False):
        print("a library may print", prompt_wav)
        if 13 in codes:
            raise RuntimeError("CUDA error")
        if 14 in codes:
            sys.exit(7)
        if 15 in codes:
            time.sleep(600)
        fresh = codes if last_chunk else codes[:-3]
        self.hift_cache_dict["codes"].codes += len(fresh)
        return array.array("h", [*fresh, self.hift_cache_dict["codes"].codes]).tobytes()
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Any]:
    """Makes codecs that run the real program in processes of their own."""
    (tmp_path / "stepaudio2.py").write_text(FAKE_LIBRARY)
    made: list[CodecProcess] = []

    def make(assets: str = "/assets", **options: Any) -> CodecProcess:
        command = codec_command(Path(sys.executable), Path(assets), Path("/anna.wav"), half=True)
        run = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = {command[2:]!r}; "
        run += f"runpy.run_path({command[2]!r}, run_name='__main__')"
        made.append(CodecProcess([command[0], command[1], "-c", run], **options))
        return made[-1]

    yield make
    for codec in made:
        codec.close()


def _numbers(pcm: bytes) -> list[int]:
    return list(np.frombuffer(pcm, "<i2"))


def test_a_codec_in_a_process_of_its_own_streams_like_one_in_ours(program: Any) -> None:
    codec: Codec = program()
    codec.begin(0)
    codec.begin(1)

    assert _numbers(codec.stream(0, [1, 2, 3, 4, 5, 6], is_last=False)) == [1, 2, 3, 3]
    assert _numbers(codec.stream(1, [9], is_last=True)) == [9, 1]
    assert _numbers(codec.stream(0, [4, 5, 6], is_last=True)) == [4, 5, 6, 6]
    codec.begin(2)
    codec.forget(2)
    with pytest.raises(ModelError, match="turn 2 was never begun"):
        codec.stream(2, [1], is_last=True)


def test_the_process_is_vocoded_with_like_any_codec(program: Any) -> None:
    vocoder = CodecVocoder(program())

    sound = vocoder.speak(vocoder.begin(), [1, 2], ends_turn=True)

    assert sound.tolist() == [*SILENCE, 1, 2, 5]
    vocoder.close()


def test_an_error_in_the_process_costs_the_turn_and_no_more(program: Any) -> None:
    codec = program()
    codec.begin(0)

    with pytest.raises(ModelError, match="CUDA error") as caught:
        codec.stream(0, [13], is_last=True)

    assert caught.value.can_retry
    codec.begin(1)
    assert _numbers(codec.stream(1, [1], is_last=True)) == [1, 1]


def test_a_process_that_dies_is_started_again_for_the_next_turn(program: Any) -> None:
    codec = program()
    codec.begin(0)

    with pytest.raises(ModelError, match="ended with status 7") as caught:
        codec.stream(0, [14], is_last=True)
    assert caught.value.can_retry
    with pytest.raises(ModelError, match="and the turn with it"):
        codec.stream(0, [1], is_last=True)
    codec.forget(0)

    codec.begin(1)
    assert _numbers(codec.stream(1, [1], is_last=True)) == [1, 1]


def test_a_process_that_hangs_is_ended(program: Any) -> None:
    codec = program()
    codec.begin(0)
    codec.answer_s = 0.3

    with pytest.raises(ModelError, match=r"did not answer within 0\.3 s") as caught:
        codec.stream(0, [15], is_last=True)

    assert caught.value.can_retry
    codec.answer_s = ANSWER_S
    codec.begin(1)


def test_assets_that_the_library_refuses_are_reported_at_the_start(program: Any) -> None:
    with pytest.raises(ModelError, match="did not start: the vocoder: Missing model files"):
        program("/broken").start()


def test_an_environment_without_the_package_is_reported_at_the_start() -> None:
    codec = CodecProcess(codec_command(Path(sys.executable), Path("/assets"), REFERENCE))

    with pytest.raises(ModelError, match=r"stepaudio2.*minicpmo-utils"):
        codec.start()


def test_a_python_that_is_not_there_is_reported_at_the_start() -> None:
    codec = CodecProcess(codec_command(Path("/nowhere/python"), Path("/assets"), REFERENCE))

    with pytest.raises(ModelError, match="/nowhere/python"):
        codec.start()


def test_the_program_starts_where_nothing_of_this_project_is_installed() -> None:
    python, isolated, program, *_ = codec_command(Path(sys.executable), Path("/assets"), REFERENCE)

    done = subprocess.run([python, isolated, "-S", program, "--help"], check=True, capture_output=True)

    assert b"reference" in done.stdout
