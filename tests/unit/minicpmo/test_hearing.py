"""The streaming encoder against the reference, several streams at once, and what it forgets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import AudioConfig, read_config
from omni_watch.duplex.minicpmo.hearing import AudioProjection, HearingEncoder, HearingMemory
from omni_watch.duplex.minicpmo.mel import MelFrontEnd

SESSIONS = ["main_off", "basic_window", "context_window", "long_audio", "hd_slices"]
LIMIT = 2e-5


def random_encoder(dtype: torch.dtype = torch.float32) -> HearingEncoder:
    """Two layers of width 48 with seeded weights."""
    config = AudioConfig(
        hidden_size=48,
        intermediate_size=96,
        num_layers=2,
        num_heads=3,
        num_mel_bins=80,
        max_positions=1500,
        layer_norm_eps=1e-5,
        pool_step=5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return HearingEncoder(config).to(dtype)


ENCODER = random_encoder()


def mel_of_unit(seed: int, frames: int = 104) -> Tensor:
    return torch.randn(80, frames, generator=torch.Generator().manual_seed(seed))


def heard(units: int, seed: int = 0) -> HearingMemory:
    """The memory of a stream after some units, the later of which depend on the seed alone."""
    memory = ENCODER.start()
    for unit in range(units):
        ENCODER.step([mel_of_unit(seed + unit, 104 if unit else 102)], [memory])
    return memory


@pytest.fixture(autouse=True)
def inference() -> object:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", SESSIONS)
def test_every_unit_of_a_recorded_session_is_heard_as_the_reference_hears_it(tiny_folder: Path, name: str) -> None:
    config = read_config(json.loads((tiny_folder / "config.json").read_text()))
    weights = load_file(tiny_folder / "model.safetensors")
    front_end, encoder = MelFrontEnd(config.audio), HearingEncoder(config.audio)
    projection = AudioProjection(config.audio, config.language.hidden_size)
    for module, prefix in ((encoder, "apm."), (projection, "audio_projection_layer.")):
        module.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)})
    audio = torch.from_numpy(np.load(tiny_folder / "inputs.npz")["audio_int16"] / np.float32(32768))
    session = next(s for s in json.loads((tiny_folder / "sessions.json").read_text()) if s["name"] == name)
    lengths = [u["audio_kv_len"] for u in json.loads((tiny_folder / f"expected_{name}.json").read_text())["units"]]
    mel_memory, memory, compared = front_end.start(), encoder.start(), 0
    with np.load(tiny_folder / f"expected_{name}.npz") as expected:
        for index, unit in enumerate(session["units"]):
            if unit["audio"] is not None:
                (states,) = encoder.step([front_end.step(audio[unit["audio"]], mel_memory)], [memory])
                if f"u{index:03d}_apm" in expected:
                    np.testing.assert_allclose(states, expected[f"u{index:03d}_apm"], rtol=0, atol=LIMIT)
                    embeddings = projection.pooled(states)
                    np.testing.assert_allclose(embeddings, expected[f"u{index:03d}_audio_embeds"], rtol=0, atol=LIMIT)
                    compared += 1
            assert memory.length == lengths[index]
    assert compared >= 4


@settings(deadline=None, max_examples=15)
@given(ages=st.lists(st.integers(0, 31), min_size=2, max_size=4))
def test_streams_that_are_heard_together_are_heard_as_if_alone(ages: list[int]) -> None:
    together = [heard(age, seed=100 * index) for index, age in enumerate(ages)]
    alone = [heard(age, seed=100 * index) for index, age in enumerate(ages)]
    for unit in range(2):
        mels = [mel_of_unit(1000 + 10 * index + unit, 104 if age or unit else 102) for index, age in enumerate(ages)]
        for states, mel, memory in zip(ENCODER.step(mels, together), mels, alone, strict=True):
            torch.testing.assert_close(states, ENCODER.step([mel], [memory])[0], rtol=0, atol=1e-5)
    assert [memory.length for memory in together] == [memory.length for memory in alone]


def test_the_memory_is_emptied_before_the_positions_run_out_and_every_29_units() -> None:
    memory, lengths = ENCODER.start(), []
    for unit in range(60):
        ENCODER.step([mel_of_unit(unit, 104 if unit else 102)], [memory])
        lengths.append(memory.length)
    assert lengths == [50 * (unit % 29 + 1) for unit in range(60)]


def test_after_it_was_emptied_nothing_from_before_is_heard() -> None:
    one, other = heard(29, seed=0), heard(29, seed=5000)
    for unit in range(2):
        mel = mel_of_unit(unit)
        assert torch.equal(ENCODER.step([mel], [one])[0], ENCODER.step([mel], [other])[0])


def test_what_was_heard_a_second_ago_changes_how_the_next_second_is_heard() -> None:
    one, other, mel = heard(2, seed=0), heard(2, seed=5000), mel_of_unit(1)
    assert not torch.allclose(ENCODER.step([mel], [one])[0], ENCODER.step([mel], [other])[0], atol=1e-3)


def test_a_memory_told_to_forget_hears_like_a_new_one() -> None:
    memory, mel = heard(3), mel_of_unit(0, 102)
    memory.forget()
    assert torch.equal(ENCODER.step([mel], [memory])[0], ENCODER.step([mel], [ENCODER.start()])[0])


def test_a_second_is_heard_in_both_directions() -> None:
    mel, changed = mel_of_unit(0, 102), mel_of_unit(0, 102)
    changed[:, 90:100] += 1.0
    (one,), (other,) = ENCODER.step([mel], [ENCODER.start()]), ENCODER.step([changed], [ENCODER.start()])
    assert (one[0] - other[0]).abs().max() > 1e-4  # the first position has seen the end of the second


@pytest.mark.parametrize("shape", [(80, 100), (80, 103), (80, 0), (79, 104), (1, 80, 104), (104, 80)])
def test_a_mel_of_another_shape_is_refused_before_anybody_hears_anything(shape: tuple[int, ...]) -> None:
    good, bad = heard(1), heard(1)
    with pytest.raises(ModelError, match="mel 1 has shape"):
        ENCODER.step([mel_of_unit(1), torch.zeros(shape)], [good, bad])
    assert (good.length, bad.length) == (50, 50)
    assert torch.equal(ENCODER.step([mel_of_unit(1)], [good])[0], ENCODER.step([mel_of_unit(1)], [heard(1)])[0])


def test_a_memory_cannot_hear_two_seconds_at_once() -> None:
    memory = heard(1)
    with pytest.raises(ModelError, match="a memory of its own"):
        ENCODER.step([mel_of_unit(1), mel_of_unit(2)], [memory, memory])
    assert memory.length == 50


def test_a_stream_takes_no_more_memory_the_longer_it_goes_on() -> None:
    memory = ENCODER.start()
    before = (memory.keys.data_ptr(), memory.values.data_ptr(), memory.keys.nbytes, memory.values.nbytes)
    for unit in range(90):
        ENCODER.step([mel_of_unit(unit, 104 if unit else 102)], [memory])
    assert (memory.keys.data_ptr(), memory.values.data_ptr(), memory.keys.nbytes, memory.values.nbytes) == before
    assert memory.length <= memory.capacity


@pytest.mark.parametrize("sound", [torch.zeros(16_000), torch.ones(16_000), torch.full((16_000,), float("nan"))])
def test_silence_clipping_and_a_broken_microphone_give_finite_states_and_are_survived(sound: Tensor) -> None:
    front_end = MelFrontEnd(ENCODER.config)
    mel_memory, memory = front_end.start(), ENCODER.start()
    for samples in (sound, sound, torch.rand(16_000) - 0.5):
        (states,) = ENCODER.step([front_end.step(samples, mel_memory)], [memory])
        assert states.isfinite().all()


def test_in_bfloat16_it_hears_nearly_the_same() -> None:
    encoder, memory = random_encoder(torch.bfloat16), ENCODER.start()
    rough_memory = encoder.start()
    assert rough_memory.keys.dtype == torch.bfloat16
    for unit in range(5):
        mel = mel_of_unit(unit, 104 if unit else 102)
        (states,), (rough,) = ENCODER.step([mel], [memory]), encoder.step([mel], [rough_memory])
        assert (states - rough.float()).square().mean().sqrt() < 0.03  # of values about 1


def test_in_float16_a_state_that_leaves_the_range_is_held_at_its_end() -> None:
    encoder = random_encoder(torch.float16)
    for name, weight in encoder.named_parameters():
        if name.endswith("fc2.bias"):
            weight.fill_(60_000.0)  # two of them make more than 65504
    (states,) = encoder.step([mel_of_unit(0, 102)], [encoder.start()])
    assert states.isfinite().all()


def test_every_official_weight_of_hearing_has_its_place(golden: Path) -> None:
    config = read_config(json.loads((golden / "official_config.json").read_text()))
    with gzip.open(golden / "official_keys.json.gz", "rt") as file:
        official = {name: tuple(shape) for name, (shape, _) in json.load(file).items()}
    with torch.device("meta"):
        modules = {
            "apm.": HearingEncoder(config.audio),
            "audio_projection_layer.": AudioProjection(config.audio, config.language.hidden_size),
        }
    for prefix, module in modules.items():
        expected = {name.removeprefix(prefix): s for name, s in official.items() if name.startswith(prefix)}
        assert {name: tuple(weight.shape) for name, weight in module.state_dict().items()} == expected
