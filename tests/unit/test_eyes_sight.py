from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import ModelError
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.duplex.embedded.eyes import Eyes, crop, decode_jpeg
from omni_watch.duplex.embedded.likeness import compare, contrast
from omni_watch.duplex.embedded.registration import Shift
from omni_watch.duplex.embedded.sight import missing, watchers_for
from omni_watch.duplex.embedded.taught import CELLS, fit_head, state, variants
from tests.fakes.values import an_example
from tests.scenes import places

BLIND = Eyes(None, None)


def jugs(*labels: tuple[Label, float]) -> Lesson:
    return places.lesson(places.JUG, {label: [places.shot(places.jug(level))] for label, level in labels})


def test_empty_and_full_are_watched_without_any_model() -> None:
    watchers = watchers_for(jugs((Label.EMPTY, 0.0), (Label.FULL, 1.0)), None, BLIND)
    assert [watcher.means for watcher in watchers] == [Means.LEVEL]


def test_states_need_the_picture_network() -> None:
    assert watchers_for(jugs((Label.NOT_YET, 0.0), (Label.DONE, 1.0)), None, BLIND) == []


def test_looks_that_do_not_differ_are_left_out_instead_of_failing() -> None:
    assert watchers_for(jugs((Label.EMPTY, 0.5), (Label.FULL, 0.5)), None, BLIND) == []


@pytest.mark.parametrize(
    ("shown", "lacking"),
    [(Label.DONE, "not_yet"), (Label.NOT_YET, "done"), (Label.FULL, "empty"), (Label.EMPTY, "full")],
)
def test_what_was_not_shown_is_named(shown: Label, lacking: str) -> None:
    (said,) = missing(jugs((shown, 0.5)))
    assert f"not '{lacking}'" in said


def test_a_complete_lesson_lacks_nothing() -> None:
    assert missing(jugs((Label.EMPTY, 0.0), (Label.FULL, 1.0), (Label.NOT_YET, 0.4), (Label.DONE, 1.0))) == []


def test_a_damaged_example_is_named_and_costs_only_itself() -> None:
    whole = jugs((Label.EMPTY, 0.0), (Label.FULL, 1.0))
    lesson = replace(whole, examples=(an_example("e7"), *whole.examples))
    (said,) = missing(lesson)
    assert "example e7" in said
    assert [watcher.means for watcher in watchers_for(lesson, None, BLIND)] == [Means.LEVEL]


def door_state(picture: places.Picture) -> tuple[float, float]:
    closed = [places.shot(places.door(0.0), seed=seed) for seed in range(3)]
    opened = [places.shot(places.door(1.0), seed=seed) for seed in range(3)]
    looks = contrast(closed, opened, places.DOOR, CELLS)
    return state(looks, compare(looks, picture, Shift()))


@pytest.mark.parametrize("light", [0.65, 1.0, 1.15])
def test_an_open_door_is_open_under_any_light_and_a_closed_one_closed(light: float) -> None:
    assert door_state(places.shot(places.door(1.0), light=light, seed=8))[0] > 0.9
    assert door_state(places.shot(places.door(0.0), light=light, seed=8))[0] < 0.1


def test_somebody_in_front_of_a_closed_door_is_neither() -> None:
    assert door_state(places.shot(places.door(0.0, person=True), seed=8))[1] > 0.5


def test_a_door_half_open_is_half_done() -> None:
    assert door_state(places.shot(places.door(0.5), seed=8))[0] == pytest.approx(0.5, abs=0.15)


def test_a_head_weighs_both_states_alike_however_many_were_shown() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(0, 0.05, (44, 30)).astype(np.float32)
    features[:40, 0] -= 1.0
    features[40:, 0] += 1.0
    head = fit_head(features, np.arange(44) >= 40)
    assert head.score(np.eye(30, dtype=np.float32)[0]) > 0.9
    assert head.score(-np.eye(30, dtype=np.float32)[0]) < 0.1
    assert head.score(np.zeros(30, np.float32)) == pytest.approx(0.5, abs=0.1)


def test_variants_are_the_same_every_time() -> None:
    picture = places.shot(places.jug(0.5))
    once, again = (variants(picture, places.JUG, np.random.default_rng(4)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert (once[0] == crop(picture, places.JUG)).all()


def test_no_bytes_are_no_picture() -> None:
    with pytest.raises(ModelError, match=r"example e1: .*show it again"):
        decode_jpeg(b"", "example e1")
