from __future__ import annotations

import numpy as np
import pytest

from omni_watch.domain.regions import Region
from omni_watch.duplex.embedded.registration import Follower, Outline, Shift, same_light
from tests.scenes import places


def test_somebody_in_front_does_not_move_the_camera() -> None:
    camera = Follower(Outline(places.shot(places.door(0.0))))
    for second in range(6):
        shift = camera.step(places.shot(places.door(0.0, person=True), seed=second, light=0.8))
    assert (shift.x, shift.y) == pytest.approx((0.0, 0.0), abs=0.003)


def test_a_camera_that_is_nudged_while_it_watches_is_followed() -> None:
    camera = Follower(Outline(places.shot(places.door(0.0))))
    camera.step(places.shot(places.door(0.0), seed=1))
    for second in range(4):
        shift = camera.step(places.shot(places.door(0.0), nudge=(4.0, 3.0), seed=second))
    assert (shift.x * places.WIDE, shift.y * places.HIGH) == pytest.approx((4.0, 3.0), abs=0.6)


def test_another_place_moves_nothing() -> None:
    camera = Follower(Outline(places.shot(places.door(0.0))))
    noise = np.random.default_rng(5).integers(0, 255, (places.HIGH, places.WIDE, 3)).astype(np.uint8)
    assert camera.step(noise) == Shift()


def test_a_picture_of_another_shape_moves_nothing() -> None:
    camera = Follower(Outline(places.shot(places.door(0.0))))
    assert camera.step(np.zeros((120, 160, 3), np.uint8)) == Shift()


def test_a_shifted_region_stays_inside_the_picture() -> None:
    assert Shift(x=0.1, y=-0.3).of(Region(0.5, 0.2, 0.5, 0.5)) == Region(0.5, 0.0, 0.5, 0.5)


def test_light_tint_and_contrast_are_undone_and_what_is_new_is_left() -> None:
    rng = np.random.default_rng(1)
    taught = rng.normal(4.5, 0.4, (24, 24, 3)).astype(np.float32)
    seen = taught * 1.2 - 1.0 + np.array((0.1, 0.0, -0.1), np.float32)
    seen[:6, :6] += 2.0  # an arm in the corner
    weights = np.ones((24, 24), np.float32)
    found = same_light(seen, taught, weights) - taught
    assert np.abs(found[8:, 8:]).max() < 0.1
    assert found[:6, :6].min() > 1.0
