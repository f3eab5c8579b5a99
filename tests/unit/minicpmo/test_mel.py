"""The mel front end against the reference's frames, against its rule computed the slow way, and with bad sound."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import AudioConfig, read_config
from omni_watch.duplex.minicpmo.mel import MelFrontEnd, MelMemory, mel_filters
from omni_watch.duplex.minicpmo.parity import LIMITS

SESSIONS = ["main_off", "basic_window", "context_window", "long_audio", "hd_slices"]
CONFIG = AudioConfig(
    hidden_size=32,
    intermediate_size=128,
    num_layers=2,
    num_heads=2,
    num_mel_bins=80,
    max_positions=1500,
    layer_norm_eps=1e-5,
    pool_step=5,
)
FRONT_END = MelFrontEnd(CONFIG)
SILENCE = torch.zeros(16_000)


def noise(seed: int, loudness: float = 0.1) -> Tensor:
    """One second, [16000]."""
    return torch.randn(16_000, generator=torch.Generator().manual_seed(seed)) * loudness


def computed_again_from_the_whole_buffer(taken: Tensor) -> Tensor:
    """All frames of what a stream took so far, by the published rule and with torch's own spectrogram: [80, T]."""
    power = torch.stft(taken, 400, 160, window=torch.hann_window(400), return_complex=True)[:, :-1].abs() ** 2
    filters = mel_filter_bank(201, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    log_mel = (torch.from_numpy(filters).float().T @ power).clamp(min=1e-10).log10()
    floor = log_mel.max() - 8 if len(taken) >= 80_000 else torch.tensor(-10.0)
    return (torch.maximum(log_mel, floor) + 4) / 4


@pytest.mark.parametrize("name", SESSIONS)
def test_every_unit_of_a_recorded_session_has_the_frames_of_the_reference(tiny_folder: Path, name: str) -> None:
    audio = torch.from_numpy(np.load(tiny_folder / "inputs.npz")["audio_int16"] / np.float32(32768))
    session = next(s for s in json.loads((tiny_folder / "sessions.json").read_text()) if s["name"] == name)
    front_end = MelFrontEnd(read_config(json.loads((tiny_folder / "config.json").read_text())).audio)
    memory, compared = front_end.start(), 0
    with np.load(tiny_folder / f"expected_{name}.npz") as expected:
        for index, unit in enumerate(session["units"]):
            if unit["audio"] is None:
                continue
            mel = front_end.step(audio[unit["audio"]], memory)
            if f"u{index:03d}_mel" in expected:
                np.testing.assert_allclose(mel.numpy(), expected[f"u{index:03d}_mel"], rtol=0, atol=LIMITS["mel"])
                compared += 1
    assert compared >= 4


def assert_as_computed_again(seconds: Sequence[Tensor]) -> None:
    memory, taken = FRONT_END.start(), torch.zeros(560)
    for sound in seconds:
        taken = torch.cat([taken, sound])
        heard = taken[:-80]  # the last 80 samples stay behind
        if len(heard) >= 480_000:
            taken, heard = taken[160_000:], heard[160_000:]
        whole = computed_again_from_the_whole_buffer(heard)
        expected = whole[:, max(0, whole.shape[1] - 105) : -1]
        torch.testing.assert_close(FRONT_END.step(sound, memory), expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(loud=st.sets(st.integers(0, 43), max_size=3), seed=st.integers(0, 2**31))
def test_remembering_the_peak_of_each_frame_is_as_good_as_computing_all_frames_again(loud: set[int], seed: int) -> None:
    assert_as_computed_again([noise(seed + unit, 0.3 if unit in loud else 1e-4).clamp(-1, 1) for unit in range(44)])


@pytest.mark.parametrize("click", [159_900, 160_000, 160_100, 160_350, 319_990, 479_990, 480_470, 480_490])
def test_a_click_where_old_sound_ends_counts_exactly_as_long_as_it_is_in_the_buffer(click: int) -> None:
    sound = torch.cat([noise(unit, 1e-4) for unit in range(42)])
    sound[click - 560] = 1.0  # the stream begins with 560 zeros
    assert_as_computed_again(list(sound.view(-1, 16_000)))


@settings(deadline=None, max_examples=20)
@given(units=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_a_stream_of_seconds_has_the_frames_of_the_same_sound_heard_as_a_whole(units: int, seed: int) -> None:
    sound = noise(seed).repeat(units)[: units * 16_000]
    whole = FRONT_END.offline(torch.cat([torch.zeros(560), sound]), dynamic_floor=False)[0]
    memory = FRONT_END.start()
    for unit, second in enumerate(sound.view(units, 16_000)):
        mel = FRONT_END.step(second, memory)
        expected = whole[:, max(0, 100 * unit - 2) : 100 * unit + 102]
        torch.testing.assert_close(mel, expected, rtol=0, atol=1e-5)


def test_streams_do_not_hear_one_another() -> None:
    one, other, alone = FRONT_END.start(), FRONT_END.start(), FRONT_END.start()
    for unit in range(7):
        heard = FRONT_END.step(noise(unit), one)
        FRONT_END.step(noise(100 + unit, 0.9), other)
        assert torch.equal(heard, FRONT_END.step(noise(unit), alone))


def test_the_first_unit_has_102_frames_and_every_other_one_104() -> None:
    memory = FRONT_END.start()
    assert [FRONT_END.step(noise(unit), memory).shape[1] for unit in range(42)] == [102] + [104] * 41


def test_the_first_sound_of_a_stream_comes_after_35_ms_of_silence() -> None:
    memory = FRONT_END.start()
    mel = FRONT_END.step(noise(0), memory)
    assert torch.equal(mel[:, :3], torch.full((80, 3), -1.5))  # frame 2 ends at sample 520
    assert mel[:, 3].min() > -1.5


def test_a_frame_that_two_units_give_is_the_same_in_both_while_the_floor_is_fixed() -> None:
    memory = FRONT_END.start()
    before, after = FRONT_END.step(noise(0), memory), FRONT_END.step(noise(1), memory)
    torch.testing.assert_close(before[:, -4:], after[:, :4], rtol=0, atol=1e-6)


def test_the_floor_follows_the_loudest_frame_from_the_fifth_second_on() -> None:
    memory = FRONT_END.start()
    FRONT_END.step(noise(0, 0.9), memory)
    for _ in range(3):
        mel = FRONT_END.step(SILENCE, memory)
        assert mel[:, 4:].min().item() == pytest.approx((-10 + 4) / 4)
    mel = FRONT_END.step(SILENCE, memory)
    loudest = memory.peaks[: memory.frames].max().item()
    assert mel.min().item() == pytest.approx((loudest - 8 + 4) / 4)
    assert loudest - 8 > -10


def test_what_was_loud_is_forgotten_with_the_ten_seconds_that_it_was_part_of() -> None:
    memory = FRONT_END.start()
    FRONT_END.step(noise(0, 0.9), memory)
    floors = [FRONT_END.step(SILENCE, memory).min().item() for _ in range(35)]
    assert floors[27] > -1.5  # unit 28: still in the buffer
    assert floors[28] == -1.5  # unit 29: dropped


def test_silence_is_heard_as_silence() -> None:
    memory = FRONT_END.start()
    for _ in range(6):
        assert (FRONT_END.step(SILENCE, memory) == -1.5).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_one_impossible_sample_is_a_click_and_not_a_deaf_half_minute(bad: float) -> None:
    memory, sound = FRONT_END.start(), noise(0)
    FRONT_END.step(sound, memory)
    broken = sound.clone()
    broken[5_000] = bad
    assert FRONT_END.step(broken, memory).isfinite().all()
    assert not torch.equal(broken, sound)  # the caller's samples are the caller's
    after = [FRONT_END.step(noise(unit), memory) for unit in range(5)]
    assert all(mel.isfinite().all() for mel in after)
    assert after[-1].std() > 0.05  # the floor has not swallowed the sound


def test_sound_beyond_full_scale_is_clipped() -> None:
    clipped = FRONT_END.step((noise(0) * 100).clamp(-1, 1), FRONT_END.start())
    assert torch.equal(FRONT_END.step(noise(0) * 100, FRONT_END.start()), clipped)


@pytest.mark.parametrize("shape", [(0,), (15_999,), (16_001,), (1, 16_000), (16_000, 2)])
def test_a_unit_of_another_length_is_refused_and_the_stream_goes_on_as_if_nothing_was(shape: tuple[int, ...]) -> None:
    memory, untouched = FRONT_END.start(), FRONT_END.start()
    FRONT_END.step(noise(0), memory)
    FRONT_END.step(noise(0), untouched)
    with pytest.raises(ModelError, match="16000"):
        FRONT_END.step(torch.zeros(shape), memory)
    assert torch.equal(FRONT_END.step(noise(1), memory), FRONT_END.step(noise(1), untouched))


def test_whole_number_samples_are_refused_with_the_way_out() -> None:
    memory = FRONT_END.start()
    with pytest.raises(ModelError, match="divide 16-bit samples by 32768"):
        FRONT_END.step(torch.zeros(16_000, dtype=torch.int16), memory)
    assert memory.is_new


def test_a_stream_takes_no_more_memory_the_longer_it_goes_on() -> None:
    memory = FRONT_END.start()
    FRONT_END.step(noise(0), memory)

    def held(memory: MelMemory) -> tuple[int, ...]:
        return memory.samples.data_ptr(), memory.peaks.data_ptr(), memory.samples.nbytes, memory.peaks.nbytes

    before, lengths = held(memory), set()
    for unit in range(120):
        FRONT_END.step(noise(unit), memory)
        lengths.add(memory.length)
    assert held(memory) == before
    assert max(lengths) < 480_000


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (160, 1), (161, 2), (33_000, 207), (480_000, 3000)])
def test_a_voice_has_a_frame_for_each_begun_hundredth_of_a_second(samples: int, frames: int) -> None:
    (mel,) = FRONT_END.offline(noise(0).repeat(30)[:samples])
    assert mel.shape == (80, frames)
    assert mel.isfinite().all()


def test_a_long_voice_comes_in_pieces_of_thirty_seconds_each_with_a_floor_of_its_own() -> None:
    loud, quiet = noise(0, 0.9).repeat(30), noise(1, 1e-4).repeat(10)
    pieces = FRONT_END.offline(torch.cat([loud, quiet]))
    assert [piece.shape[1] for piece in pieces] == [3000, 1000]
    assert torch.equal(pieces[1], FRONT_END.offline(quiet)[0])


def test_the_floor_of_a_voice_depends_on_nothing_unless_asked_for() -> None:
    voice = torch.cat([noise(0, 0.9), SILENCE])
    dynamic, fixed = FRONT_END.offline(voice)[0], FRONT_END.offline(voice, dynamic_floor=False)[0]
    assert dynamic.min().item() == pytest.approx(dynamic.max().item() - 2)  # 8 below, of which 4 are one
    assert fixed.min().item() == -1.5


@pytest.mark.parametrize("voice", [torch.zeros(0), torch.zeros(2, 16_000)])
def test_a_voice_that_is_no_mono_sound_is_refused(voice: Tensor) -> None:
    with pytest.raises(ModelError, match="mono"):
        FRONT_END.offline(voice)


@pytest.mark.parametrize("bins", [80, 128])
def test_the_filters_are_those_of_the_field(bins: int) -> None:
    expected = mel_filter_bank(201, bins, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(bins), expected.T, rtol=0, atol=1e-15)
