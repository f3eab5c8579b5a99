"""Device clocks -> the feed's timeline, in virtual time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.domain.units import SAMPLE_RATE_HZ, Sense
from omni_watch.sensing.timeline import DeviceClock, SoundTrack, StreamTimeline

DAY_S = 24 * 3600.0


@pytest.mark.parametrize("drift", [-100e-6, 100e-6])
def test_picture_and_sound_clocks_stay_within_40_ms_over_a_day_of_drift_and_jitter(drift: float) -> None:
    """The camera's crystal is off one way, the microphone's the other; both arrive 0 to 80 ms late."""
    random = np.random.default_rng(3)
    camera, microphone = DeviceClock(), DeviceClock()
    worst_s = 0.0
    for second in range(0, int(DAY_S), 4):  # bursts of four seconds' stamps keep the test short
        jitter = random.uniform(0, 0.08, 20)
        for tick in range(10):
            true_s = second + tick * 0.1
            camera.observe(true_s * (1 + drift), true_s + jitter[tick])
            microphone.observe(true_s * (1 - drift), true_s + jitter[tick + 10])
        if second > 4:
            worst_s = max(worst_s, abs(camera.at(true_s * (1 + drift)) - microphone.at(true_s * (1 - drift))))
    assert worst_s < 0.03


def test_a_steady_device_is_mapped_by_its_least_delay() -> None:
    clock = DeviceClock()
    for tick, delay_s in enumerate([0.08, 0.02, 0.05, 0.07]):
        clock.observe(tick * 0.1, 500 + tick * 0.1 + delay_s)
    assert clock.at(1.0) == pytest.approx(501.02)


def test_a_lasting_longer_way_is_followed_after_the_window() -> None:
    clock = DeviceClock()
    for tick in range(400):
        clock.observe(tick * 0.1, tick * 0.1 + (0.0 if tick < 50 else 0.3))
    assert clock.at(40.0) == pytest.approx(40.3)


def test_both_senses_of_a_stream_share_one_mapping_though_one_arrives_later() -> None:
    timeline = StreamTimeline(is_live=True)
    for tick in range(100):
        stamp_s = 7000 + tick * 0.04
        sound_s = timeline.place(Sense.HEARING, stamp_s, lasts_s=0.02, arrived_s=tick * 0.04 + 0.02)
        picture_s = timeline.place(Sense.SIGHT, stamp_s, lasts_s=0.0, arrived_s=tick * 0.04 + 0.3)
        assert picture_s == pytest.approx(sound_s)


def test_a_camera_that_restarts_its_stamps_goes_on_where_it_was() -> None:
    timeline = StreamTimeline(is_live=True)
    placed = []
    for tick in range(200):
        stamp_s = 9000 + tick * 0.1 if tick < 100 else (tick - 100) * 0.1
        arrived_s = 50 + tick * 0.1
        placed.append(timeline.place(Sense.SIGHT, stamp_s, lasts_s=0, arrived_s=arrived_s))
        placed.append(timeline.place(Sense.HEARING, stamp_s, lasts_s=0, arrived_s=arrived_s))
    np.testing.assert_allclose(placed[::2], 50 + np.arange(200) * 0.1, atol=1e-6)
    np.testing.assert_allclose(placed[1::2], placed[::2], atol=1e-6)


def test_a_stream_that_stalls_and_then_hurries_is_no_restart() -> None:
    timeline = StreamTimeline(is_live=True)
    for tick in range(50):
        timeline.place(Sense.SIGHT, tick * 0.1, lasts_s=0, arrived_s=tick * 0.1)
    burst = [timeline.place(Sense.SIGHT, tick * 0.1, lasts_s=0, arrived_s=9.0) for tick in range(50, 90)]
    np.testing.assert_allclose(burst, np.arange(50, 90) * 0.1, atol=1e-6)


@pytest.mark.parametrize("jump_to_s", [0.0, 5.0, 5000.0])
def test_a_recording_whose_stamps_jump_is_joined_and_its_senses_stay_together(jump_to_s: float) -> None:
    timeline = StreamTimeline(is_live=False, origin_s=100.0)
    stamps = [100 + tick * 0.1 for tick in range(100)] + [jump_to_s + tick * 0.1 for tick in range(50)]
    sound = [timeline.place(Sense.HEARING, stamp_s, lasts_s=0.1) for stamp_s in stamps[:102]]
    sight = [timeline.place(Sense.SIGHT, stamp_s, lasts_s=0.1) for stamp_s in stamps]
    sound += [timeline.place(Sense.HEARING, stamp_s, lasts_s=0.1) for stamp_s in stamps[102:]]
    np.testing.assert_allclose(sight, np.arange(150) * 0.1, atol=1e-6)
    np.testing.assert_allclose(sound, sight, atol=1e-6)


def test_a_hole_in_a_recording_stays_a_hole() -> None:
    timeline = StreamTimeline(is_live=False)
    timeline.place(Sense.SIGHT, 0.0, lasts_s=0.1)
    assert timeline.place(Sense.SIGHT, 12.0, lasts_s=0.1) == 12.0


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, samples).astype(np.float32)


@given(cuts=st.lists(st.integers(1, 31_999), unique=True, max_size=10).map(sorted), begin_s=st.floats(0, 1e5))
def test_sound_whose_stamps_are_right_passes_bit_for_bit_wherever_it_is_cut(cuts: list[int], begin_s: float) -> None:
    sound, track = noise(32_000), SoundTrack(0.0)
    blocks = [
        track.place(begin_s + a / SAMPLE_RATE_HZ, sound[a:b]) for a, b in itertools.pairwise([0, *cuts, len(sound)])
    ]
    given_blocks = [block for block in blocks if block is not None]
    assert abs(given_blocks[0].position - begin_s * SAMPLE_RATE_HZ) <= 0.51
    assert all(a.end == b.position for a, b in itertools.pairwise(given_blocks))
    np.testing.assert_array_equal(np.concatenate([block.samples for block in given_blocks]), sound)


def test_stamps_rounded_to_milliseconds_leave_sound_untouched() -> None:
    sound, track = noise(16_000), SoundTrack(0.0)
    blocks = [track.place(round(a / SAMPLE_RATE_HZ, 3), sound[a : a + 100]) for a in range(0, 16_000, 100)]
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks if block]), sound)


@pytest.mark.parametrize("drift", [-100e-6, 100e-6])
def test_sound_of_a_drifting_microphone_is_stretched_to_the_timeline_without_a_seam(drift: float) -> None:
    """A pure tone stays pure, and its zero crossings stay where they were heard."""
    seconds, block = 120, 800
    device_s = np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    true_s = device_s * (1 + drift)
    sound = np.sin(2 * np.pi * 440 * true_s).astype(np.float32)
    track, out = SoundTrack(0.0), np.zeros((seconds + 1) * SAMPLE_RATE_HZ, np.float32)
    ends = [0]
    for a in range(0, len(sound), block):
        placed = track.place(true_s[a], sound[a : a + block])
        assert placed is not None
        assert placed.position == ends[-1]
        out[placed.position : placed.end] = placed.samples
        ends.append(placed.end)
    last_s = np.arange(ends[-1] - SAMPLE_RATE_HZ, ends[-1]) / SAMPLE_RATE_HZ
    heard = out[ends[-1] - SAMPLE_RATE_HZ : ends[-1]]
    basis = np.stack([np.sin(2 * np.pi * 440 * last_s), np.cos(2 * np.pi * 440 * last_s)])
    sine, cosine = 2 * basis @ heard / SAMPLE_RATE_HZ
    assert np.hypot(sine, cosine) == pytest.approx(1.0, abs=0.01)
    assert abs(np.arctan2(cosine, sine)) / (2 * np.pi * 440) < 0.0025


def test_a_pause_of_the_microphone_leaves_a_hole_and_sound_given_twice_is_given_once() -> None:
    track, sound = SoundTrack(10.0), noise(1600)
    first, later, again = track.place(10.0, sound), track.place(11.0, sound), track.place(10.5, sound)
    assert first is not None
    assert later is not None
    assert (first.position, later.position) == (0, 16_000)
    assert again is None
