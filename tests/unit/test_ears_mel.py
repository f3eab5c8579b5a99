"""Log-mel patches: the same for every way of cutting the sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from omni_watch.duplex.embedded import mel

LENGTH = 40_000
SOUND = np.random.default_rng(7).normal(0, 0.1, LENGTH).astype(np.float32)
CUTS = st.lists(st.integers(0, LENGTH), max_size=12).map(sorted)


def heard_in_pieces(cuts: list[int]) -> np.ndarray:
    past, pieces = mel.MelState.start(), []
    for piece in np.split(SOUND, cuts):
        patches, past = mel.step(piece, past)
        pieces.append(patches)
    assert past.patches == sum(map(len, pieces))
    return np.concatenate(pieces)


@settings(deadline=None, max_examples=60)
@given(cuts=CUTS)
def test_where_the_sound_is_cut_never_changes_its_patches(cuts: list[int]) -> None:
    whole, _ = mel.step(SOUND, mel.MelState.start())
    assert whole.shape == (4, mel.PATCH, mel.BANDS)
    assert_allclose(heard_in_pieces(cuts), whole, atol=1e-5)


def test_a_minute_of_seconds_leaves_no_more_memory_than_one() -> None:
    past = mel.MelState.start()
    for _ in range(60):
        _, past = mel.step(SOUND[:16_000], past)
    assert len(past.samples) < mel.WINDOW
    assert len(past.frames) < mel.PATCH
    assert past.patches == (60 * 100 - 2 - mel.PATCH) // mel.PATCH_HOP + 1


def test_silence_is_the_logarithm_of_the_offset() -> None:
    patches, _ = mel.step(np.zeros(16_000, np.float32), mel.MelState.start())
    assert_allclose(patches, np.log(mel.OFFSET), atol=1e-6)


@pytest.mark.parametrize(("pitch_hz", "band"), [(250.0, 3), (1000.0, 19), (4000.0, 48)])
def test_a_tone_is_loudest_in_the_band_of_its_pitch(pitch_hz: float, band: int) -> None:
    """By hand: 66 corners every 39.82 mel from 185.2 on; band b peaks at corner b + 1; 1000 Hz is 1000 mel."""
    tone = np.sin(2 * np.pi * pitch_hz * np.arange(16_000) / 16_000).astype(np.float32)
    patches, _ = mel.step(tone, mel.MelState.start())
    assert abs(int(patches[0].mean(axis=0).argmax()) - band) <= 1


def test_a_quiet_sound_is_raised_fourfold_and_a_loud_one_left_alone() -> None:
    loud, quiet = SOUND[:16_000], SOUND[:16_000] * np.float32(0.01)
    as_is, _ = mel.step(loud, mel.MelState.start())
    louder, _ = mel.step(loud * np.float32(2), mel.MelState.start())
    raised, _ = mel.step(quiet, mel.MelState.start())
    assert_allclose(np.exp(louder) - mel.OFFSET, 2 * (np.exp(as_is) - mel.OFFSET), rtol=1e-2, atol=1e-3)
    assert_allclose(np.exp(raised) - mel.OFFSET, 0.04 * (np.exp(as_is) - mel.OFFSET), rtol=1e-2, atol=1e-3)
