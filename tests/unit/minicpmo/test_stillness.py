"""What is new in a picture is shown to the model at once; a still room is shown every five seconds, in any light."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_watch.duplex.minicpmo.stillness import (
    LONGEST_SIDE,
    Look,
    Reason,
    StillnessGate,
    difference,
    exposure,
    small_picture,
)

HEIGHT, WIDTH = 240, 320
LEARNED_S = 25  # the noise of a new camera is known before
NOISE = np.random.default_rng(0).standard_normal((13, HEIGHT, WIDTH, 3), np.float32)  # of unit variance, a frame each


class Room:
    """A textured room under a noisy camera whose exposure breathes."""

    def __init__(self, *, noise: float = 3.0, breathing: float = 0.03, seed: int = 1) -> None:
        coarse = np.random.default_rng(seed).uniform(30, 200, (HEIGHT // 20, WIDTH // 20, 3)).astype(np.float32)
        self.paint = np.kron(coarse, np.ones((20, 20, 1), np.float32))
        self.noise = noise
        self.breathing = breathing
        self.light = 1.0
        self.second = 0
        self.gate = StillnessGate()

    def look(self) -> Look:
        self.second += 1
        gain = self.light * (1 + self.breathing * math.sin(1.7 * self.second))
        seen = self.paint * gain + self.noise * NOISE[self.second % len(NOISE)]
        return self.gate.look(np.clip(np.rint(seen), 0, 255).astype(np.uint8), float(self.second))

    def looks(self, seconds: int) -> list[Look]:
        return [self.look() for _ in range(seconds)]

    def settled(self) -> Room:
        """With its noise learned, and just fed: nothing is due for four seconds."""
        self.looks(LEARNED_S)
        while self.look().reason is not Reason.DUE:
            pass
        return self


def _fed(looks: list[Look]) -> int:
    return sum(look.is_fed for look in looks)


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0, 15.0])
@pytest.mark.parametrize("breathing", [0.0, 0.05])
def test_a_still_room_is_shown_every_fifth_second_and_no_oftener(noise: float, breathing: float) -> None:
    room = Room(noise=noise, breathing=breathing).settled()
    reasons = [look.reason for look in room.looks(100)]
    assert reasons == [*[Reason.STILL] * 4, Reason.DUE] * 20


@settings(deadline=None, max_examples=15)
@given(x=st.integers(0, WIDTH - 8), y=st.integers(0, HEIGHT - 12), wait=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_digit_that_appears_anywhere_is_shown_in_its_second(x: int, y: int, wait: int, seed: int) -> None:
    room = Room(seed=seed).settled()
    assert not any(look.is_fed for look in room.looks(wait))
    room.paint[y : y + 12, x : x + 8] += np.where(room.paint[y : y + 12, x : x + 8] < 128, 50, -50)
    look = room.look()
    assert look.reason is Reason.CHANGED
    assert 0 < look.changed < 0.02


def test_after_a_change_frames_are_shown_for_three_seconds() -> None:
    room = Room().settled()
    room.paint[100:140, 100:140] = 255 - room.paint[100:140, 100:140]
    reasons = [look.reason for look in room.looks(9)]
    assert reasons == [
        Reason.CHANGED,
        *[Reason.SETTLING] * 2,
        *[Reason.STILL] * 4,
        Reason.DUE,
        Reason.STILL,
    ]


def test_water_that_rises_in_a_fiftieth_of_the_picture_is_shown_as_it_rises() -> None:
    room = Room().settled()
    kettle = room.paint[100:139, 150:189]  # 39 x 39 of 320 x 240 pixels: 2 %
    kettle[:] = 60.0
    room.looks(10)
    fed = 0
    for top in range(38, -1, -1):  # one row of pixels a second, 110 to 60 grey levels
        kettle[top] = 110.0
        fed += room.look().is_fed
    assert fed >= 30


def test_a_change_too_slow_for_any_two_frames_adds_up_until_it_is_shown() -> None:
    room = Room(noise=1.0, breathing=0.0).settled()
    lamp = room.paint[60:100, 60:100]
    lamp[:] = 80.0
    room.looks(8)
    while room.look().reason is not Reason.DUE:
        pass
    reasons = []
    for _ in range(30):
        lamp += 1.5
        reasons.append(room.look().reason)
    assert reasons[0] is Reason.STILL
    assert reasons[1] is Reason.STILL
    assert Reason.DUE not in reasons  # each time it was shown before its five seconds were over
    assert reasons.count(Reason.CHANGED) >= 5


def test_every_second_of_a_countdown_is_shown_also_after_minutes() -> None:
    room = Room().settled()
    digit = room.paint[50:62, 80:88]
    for second in range(120):
        digit[:] = 40.0 if second % 2 else 120.0
        assert room.look().reason is Reason.CHANGED


def test_a_light_switched_on_or_off_is_shown() -> None:
    for light in (0.6, 1.4):
        room = Room().settled()
        room.light = light
        assert room.look().reason is Reason.CHANGED


def test_when_dusk_makes_the_camera_noisy_the_room_is_still_again_within_seconds() -> None:
    room = Room(noise=2.0).settled()
    room.noise = 20.0
    assert _fed(room.looks(5)) <= 5
    room.looks(5)
    assert _fed(room.looks(50)) == 10


def test_a_red_lamp_that_turns_green_is_shown() -> None:
    room = Room().settled()
    room.paint[100:110, 100:110] = (200, 0, 0)
    room.settled()
    room.paint[100:110, 100:110] = (0, 200, 0)
    assert room.look().reason is Reason.CHANGED


def test_the_first_frame_and_the_first_after_any_cut_are_shown() -> None:
    gate, frame = StillnessGate(), np.full((48, 64, 3), 90, np.uint8)
    assert gate.look(frame, 1.0).reason is Reason.CUT
    assert [gate.look(frame, float(t)).reason for t in (2, 3)] == [Reason.SETTLING] * 2
    assert gate.look(frame, 4.0).reason is Reason.STILL
    assert gate.look(frame, 7.0).reason is Reason.CUT  # three seconds without a picture
    assert [gate.look(frame, float(t)).is_fed for t in (8, 9, 10)] == [True, True, False]
    assert gate.look(frame[:24], 11.0).reason is Reason.CUT  # the camera changed its size
    assert [gate.look(frame[:24], float(t)).is_fed for t in (12, 13, 14)] == [True, True, False]
    gate.cut()
    assert gate.look(frame[:24], 15.0).reason is Reason.CUT
    assert [gate.look(frame[:24], float(t)).is_fed for t in (16, 17, 18)] == [True, True, False]
    assert gate.look(frame[:24], 3.0).reason is Reason.CUT  # the timeline began anew


@settings(deadline=None)
@given(jitter=st.lists(st.floats(-0.2, 0.2), min_size=40, max_size=40))
def test_frames_that_come_near_whole_seconds_are_shown_every_fifth_all_the_same(jitter: list[float]) -> None:
    gate, frame = StillnessGate(), np.full((12, 16, 3), 90, np.uint8)
    fed = [second for second, late in enumerate(jitter) if gate.look(frame, second + late).is_fed]
    assert fed == [0, 1, 2, 7, 12, 17, 22, 27, 32, 37]


def test_other_paces_can_be_asked_for() -> None:
    gate, frame = StillnessGate(longest_s=2.0, settling_s=1.0), np.full((12, 16, 3), 90, np.uint8)
    assert [gate.look(frame, float(second)).is_fed for second in range(7)] == [True, False] * 3 + [True]


def test_what_the_caller_does_with_its_picture_afterwards_does_not_matter() -> None:
    gate, frame = StillnessGate(), np.full((48, 64, 3), 90, np.uint8)
    for second in range(4):
        gate.look(frame, float(second))
    frame[10:30, 10:30] = 200
    assert gate.look(frame, 4.0).reason is Reason.CHANGED


def test_memory_does_not_grow() -> None:
    room = Room()
    room.looks(5)
    before = len(pickle.dumps(room.gate))
    room.looks(100)
    assert len(pickle.dumps(room.gate)) <= before + 64  # numbers of other lengths


@pytest.mark.parametrize("size", [(1, 1), (1, 1280), (1280, 1), (3, 5), (161, 159), (7680, 4320)], ids=str)
def test_frames_of_any_size_are_looked_at(size: tuple[int, int]) -> None:
    width, height = size
    frame = np.full((height, width, 3), 120, np.uint8)
    cells = small_picture(frame)
    assert min(cells.shape) >= 1
    assert max(cells.shape) <= LONGEST_SIDE
    np.testing.assert_allclose(cells, 120, rtol=1e-5)
    gate = StillnessGate()
    assert [gate.look(frame, float(second)).is_fed for second in range(4)] == [True, True, True, False]
    assert gate.look(frame // 2, 4.0).reason is Reason.CHANGED


def test_a_cell_is_the_mean_of_its_pixels() -> None:
    frame = np.zeros((320, 640, 3), np.uint8)
    frame[:, 320:] = 255
    cells = small_picture(frame)
    assert cells.shape == (80, 160)
    assert (cells[:, :79] == 0).all()
    np.testing.assert_allclose(cells[:, 79:81].mean(), 127.5, rtol=1e-5)
    np.testing.assert_allclose(cells[:, 81:], 255, rtol=1e-5)


@settings(deadline=None)
@given(gain=st.floats(0.9, 1.1), offset=st.floats(-5, 5), seed=st.integers(0, 99))
def test_exposure_is_measured_past_what_moved(gain: float, offset: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = random.uniform(30, 200, (60, 80)).astype(np.float32)
    cells = (gain * reference + offset).astype(np.float32)
    cells[20:40, 20:50] = 128  # an eighth of the picture is something else now
    found_gain, found_offset = exposure(cells, reference)
    assert found_gain == pytest.approx(gain, abs=0.01)
    assert found_offset == pytest.approx(offset, abs=1.0)
    rest = np.abs(difference(cells, reference))
    assert rest[:20].max() < 1
