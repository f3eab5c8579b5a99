"""A whole sound, such as a reference voice: against the reference, and against the same sound second by second."""

from __future__ import annotations

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
from omni_watch.duplex.minicpmo.hearing import AudioProjection, HearingEncoder
from omni_watch.duplex.minicpmo.mel import MelFrontEnd

CONFIG = AudioConfig(
    hidden_size=48,
    intermediate_size=96,
    num_layers=2,
    num_heads=3,
    num_mel_bins=80,
    max_positions=1500,
    layer_norm_eps=1e-5,
    pool_step=5,
)


def seeded() -> tuple[HearingEncoder, AudioProjection]:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return HearingEncoder(CONFIG), AudioProjection(CONFIG, 64)


ENCODER, PROJECTION = seeded()


def mel_of(frames: int, seed: int = 0) -> Tensor:
    return torch.randn(80, frames, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def inference() -> object:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", ["main_off", "basic_window", "hd_slices"])
def test_a_reference_voice_is_heard_as_the_reference_hears_it(tiny_folder: Path, name: str) -> None:
    config = read_config(json.loads((tiny_folder / "config.json").read_text()))
    weights = load_file(tiny_folder / "model.safetensors")
    encoder, projection = HearingEncoder(config.audio), AudioProjection(config.audio, config.language.hidden_size)
    for module, prefix in ((encoder, "apm."), (projection, "audio_projection_layer.")):
        module.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)})
    session = next(s for s in json.loads((tiny_folder / "sessions.json").read_text()) if s["name"] == name)
    sound = torch.from_numpy(np.load(tiny_folder / "inputs.npz")["audio_int16"] / np.float32(32768)).flatten()
    (mel,) = MelFrontEnd(config.audio).offline(sound[slice(*session["ref_audio"])])
    states = encoder.offline(mel)
    with np.load(tiny_folder / f"expected_{name}.npz") as expected:
        np.testing.assert_allclose(states, expected["ref_apm"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(projection.pooled(states), expected["ref_audio_embeds"], rtol=0, atol=2e-5)


@settings(deadline=None, max_examples=15)
@given(units=st.integers(1, 29), seed=st.integers(0, 2**31))
def test_second_by_second_or_as_a_whole_the_same_is_heard(units: int, seed: int) -> None:
    mel = mel_of(100 * units + 2, seed)
    whole = ENCODER.offline(mel)
    memory = ENCODER.start()
    for unit in range(units):
        (states,) = ENCODER.step([mel[:, max(0, 100 * unit - 2) : 100 * unit + 102]], [memory])
        torch.testing.assert_close(states, whole[50 * unit : 50 * unit + 50], rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(seconds=st.integers(1, 8), rest=st.integers(2, 300), seed=st.integers(0, 2**31))
def test_what_comes_after_a_second_does_not_change_how_it_was_heard(seconds: int, rest: int, seed: int) -> None:
    mel = mel_of(100 * seconds + rest, seed)
    part, whole = ENCODER.offline(mel[:, : 100 * seconds + 2]), ENCODER.offline(mel)
    torch.testing.assert_close(part[: 50 * seconds], whole[: 50 * seconds], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "positions", "embeddings"),
    [(1, 1, 0), (8, 4, 0), (9, 5, 1), (99, 50, 10), (101, 51, 10), (207, 104, 20), (3000, 1500, 300)],
)
def test_two_frames_make_a_position_and_five_positions_an_embedding(
    frames: int, positions: int, embeddings: int
) -> None:
    states = ENCODER.offline(mel_of(frames))
    assert states.shape == (positions, 48)
    assert PROJECTION.pooled(states).shape == (embeddings, 64)


@pytest.mark.parametrize("shape", [(80, 0), (80, 3001), (79, 100), (1, 80, 100)])
def test_a_sound_that_is_empty_or_longer_than_there_are_positions_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected \[80, 1 to 3000\]"):
        ENCODER.offline(torch.zeros(shape))


def test_pooling_between_the_projections_gives_what_pooling_after_them_gives() -> None:
    states = torch.randn(53, 48, generator=torch.Generator().manual_seed(1))
    projected = PROJECTION.linear2(torch.relu(PROJECTION.linear1(states[:50])))
    torch.testing.assert_close(PROJECTION.pooled(states), projected.view(10, 5, 64).mean(dim=1), rtol=0, atol=1e-5)


def test_units_of_several_feeds_are_pooled_in_one_go() -> None:
    units = [torch.randn(50, 48, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    together = PROJECTION.pooled(torch.cat(units))
    torch.testing.assert_close(together, torch.cat([PROJECTION.pooled(unit) for unit in units]), rtol=0, atol=1e-6)
