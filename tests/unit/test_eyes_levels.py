from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from omni_watch.domain.teaching import Label
from omni_watch.duplex.embedded.levels import (
    FULL,
    LevelWatcher,
    Seen,
    TaughtLevel,
    fullness,
    measure,
    part,
    rate,
    teach_level,
)
from omni_watch.duplex.embedded.registration import Follower, Shift
from omni_watch.duplex.embedded.sight import missing
from omni_watch.watch.deciding import Gate
from tests.scenes import places


@pytest.fixture(scope="module")
def taught() -> TaughtLevel:
    shown = [[places.shot(places.jug(level), seed=seed) for seed in range(3)] for level in (0.02, 1.0)]
    level = teach_level(shown[0], shown[1], places.JUG)
    assert level is not None
    return level


LIGHTS: dict[str, dict[str, Any]] = {
    "the same light": {},
    "a third less light": {"light": 0.65},
    "brighter": {"light": 1.25},
    "warm and flat": {"tint": (1.08, 1.0, 0.92), "gamma": 0.8},
    "a noisy evening": {"light": 0.7, "noise": 9.0},
}


@pytest.mark.parametrize("light", LIGHTS.values(), ids=LIGHTS.keys())
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 1.0])
def test_the_level_is_read_under_any_light(taught: TaughtLevel, level: float, light: dict[str, Any]) -> None:
    found = measure(taught, places.shot(places.jug(level), seed=9, **light), Shift())
    assert found.level == pytest.approx(level, abs=0.05)
    assert found.off < 0.35


def test_an_arm_across_the_jug_is_noticed(taught: TaughtLevel) -> None:
    assert measure(taught, places.shot(places.jug(0.3, arm=True), seed=9), Shift()).off > 0.35


def test_a_nudged_camera_still_reads_the_level(taught: TaughtLevel) -> None:
    camera = Follower(taught.looks.outline)
    nudged = places.shot(places.jug(0.9), nudge=(3.0, -2.0), light=0.8, seed=9)
    shift = camera.step(nudged)
    assert (shift.x * places.WIDE, shift.y * places.HIGH) == pytest.approx((3.0, -2.0), abs=0.5)
    assert measure(taught, nudged, shift).level == pytest.approx(0.9, abs=0.06)


def filling(taught: TaughtLevel, levels: list[float], **light: Any) -> list[float]:
    """The seconds at whose ends the level's gate confirms."""
    watcher = LevelWatcher(taught, Follower(taught.looks.outline))
    gate, told = Gate.fresh(watcher.gate), []
    for second, level in enumerate(levels):
        unit = places.unit(places.shot(places.jug(level), seed=second, **light), second)
        gate, confirmed = gate.after(watcher.step(unit, None).score, unit.start_s)
        told += [unit.end_s] if confirmed else []
    return told


def test_a_jug_that_fills_is_told_once_when_it_is_full(taught: TaughtLevel) -> None:
    levels = [0.02] * 5 + [min(1.0, 0.02 + 0.05 * second) for second in range(30)]
    full_at = next(second for second, level in enumerate(levels) if level >= 1.0)
    (told,) = filling(taught, levels, light=0.75)
    assert full_at - 1.5 <= told <= full_at + 2.5


def test_a_jug_that_stays_at_nine_tenths_is_never_told(taught: TaughtLevel) -> None:
    assert filling(taught, [0.02] * 5 + [min(0.88, 0.02 + 0.06 * second) for second in range(30)]) == []


def test_an_arm_gives_no_score_and_a_second_without_a_picture_none_either(taught: TaughtLevel) -> None:
    watcher = LevelWatcher(taught, Follower(taught.looks.outline))
    evidence = watcher.step(places.unit(places.shot(places.jug(0.3, arm=True)), 0), None)
    assert evidence.score is None
    assert "in the way" in evidence.detail
    assert watcher.step(places.unit(None, 1), None).score is None


def test_two_looks_that_are_the_same_teach_nothing_and_it_is_said() -> None:
    same = [places.shot(places.jug(0.5), seed=seed) for seed in range(3)]
    assert teach_level(same, same[::-1], places.JUG) is None
    said = missing(places.lesson(places.JUG, {Label.EMPTY: same, Label.FULL: same}))
    assert len(said) == 1
    assert "look the same" in said[0]


def test_the_line_is_found_where_a_single_wrong_row_would_move_a_mean() -> None:
    rows = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1, 1.0])  # one row of ten misjudged
    level, cost = part(rows, np.ones(10))
    assert level in (0.5, 0.7)
    assert cost == pytest.approx(0.1)


def test_a_rising_level_counts_a_second_ahead_and_a_resting_one_does_not() -> None:
    rising = [Seen(float(second), 0.8 + 0.04 * second) for second in range(4)]
    resting = [Seen(float(second), 0.90) for second in range(5)]
    assert rate(rising) == pytest.approx(0.04)
    assert fullness(rising) == pytest.approx(0.96)
    assert fullness(resting) == pytest.approx(0.90)


def test_a_level_that_rests_just_below_the_taught_height_is_full() -> None:
    assert fullness([Seen(float(second), 0.95) for second in range(5)]) == FULL
    assert fullness([Seen(float(second), 0.95) for second in range(2)]) < FULL


def test_an_arm_over_the_jug_and_all_around_it_is_not_taken_for_light(taught: TaughtLevel) -> None:
    scene = places.jug(0.3)
    scene[5:85, 20:140] = (205, 225, 235)
    assert measure(taught, places.shot(scene, seed=9), Shift()).off > 0.35
