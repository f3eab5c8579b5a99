"""The eyes with their real models: that the networks are the right ones, and see and read what they should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from omni_watch.cabinet import Cabinet
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import DisplayCue, Rule
from omni_watch.domain.teaching import Label
from omni_watch.domain.units import Frame
from omni_watch.duplex.embedded.displays import DisplayWatcher
from omni_watch.duplex.embedded.eyes import FEATURE_SIZE, Eyes, PictureFeatures, crop
from omni_watch.duplex.embedded.sight import watchers_for
from omni_watch.duplex.embedded.watcher import Watcher
from omni_watch.watch.deciding import Gate
from tests.scenes import places

# Of a picture made of numbers alone, below. The network they come from named 10 of 12 photographs of fruit and animals
# rightly with the ImageNet classifier of its checkpoint, so a change here means another network, not a better one.
GOLDEN = {
    848: 0.238,
    900: 0.087,
    2128: 0.2295,
    1634: 0.0767,
    3408: 0.2229,
    2807: 0.0847,
    4688: 0.2077,
    4619: 0.0906,
    5968: 0.2083,
    5757: 0.0846,
}

MICROWAVE = Rule(
    id="microwave_done",
    phrases={},
    names={},
    message={},
    ask={},
    display=DisplayCue(texts=("End", "Done", "0:00"), countdown=True),
)


@pytest.fixture(scope="module")
def eyes(cabinet: Cabinet) -> Eyes:
    return Eyes(cabinet.find("efficientnet-lite0"), cabinet.find("ppocr-rec"))


def rings() -> places.Picture:
    """Coloured rings, 224 pixels wide: no drawing library decides how they look."""
    y, x = np.mgrid[0:224, 0:224]
    away = np.hypot(x - 90, y - 130)
    channels = [127 + 120 * np.sin(away / wave) for wave in (5, 9, 14)]
    return np.stack(channels, axis=2).astype(np.uint8)


def confirmed(watcher: Watcher, pictures: Sequence[places.Picture | None]) -> list[float]:
    gate, told = Gate.fresh(watcher.gate), []
    for second, picture in enumerate(pictures):
        unit = places.unit(picture, second)
        gate, has_happened = gate.after(watcher.step(unit, None).score, unit.start_s)
        told += [unit.end_s] if has_happened else []
    return told


def test_the_picture_network_is_the_one_that_was_verified(eyes: Eyes) -> None:
    assert eyes.features is not None
    (found,) = eyes.features.of([rings()])
    assert found.shape == (FEATURE_SIZE,)
    assert found[[int(at) for at in GOLDEN]] == pytest.approx(list(GOLDEN.values()), abs=2e-3)


def test_pictures_in_a_batch_do_not_see_each_other(eyes: Eyes) -> None:
    assert eyes.features is not None
    pictures = [rings(), 255 - rings(), *(places.shot(places.jug(i / 9)) for i in range(9))]
    together = eyes.features.of(pictures)
    alone = np.concatenate([eyes.features.of([picture]) for picture in pictures])
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_region_of_a_frame_is_looked_at_once(eyes: Eyes) -> None:
    frame = Frame(at_s=0.95, rgb=places.shot(places.jug(0.5)))
    again = Frame(at_s=0.95, rgb=places.shot(places.jug(1.0)))
    first = eyes.features_of(frame, places.JUG)
    assert eyes.features_of(frame, places.JUG) is first
    assert np.abs(eyes.features_of(again, places.JUG) - first).max() > 1e-3


@pytest.mark.parametrize("colour", [(60, 240, 90), (250, 60, 40), (240, 240, 240)])
@pytest.mark.parametrize("text", ["0:10", "12:45", "0:07", "End", "7", "4", "1"])
def test_a_display_is_read(eyes: Eyes, text: str, colour: tuple[int, int, int]) -> None:
    assert eyes.reader is not None
    read = eyes.reader.read(crop(places.shot(places.display(text, colour)), places.DISPLAY))
    assert read.text.replace(" ", "") == text


def test_the_end_of_a_countdown_is_seen_within_two_seconds(eyes: Eyes) -> None:
    lesson = places.lesson(places.DOOR, {}, places.DISPLAY)
    (watcher,) = watchers_for(lesson, MICROWAVE, eyes)
    assert isinstance(watcher, DisplayWatcher)
    texts = ["12:45"] * 3 + [f"0:0{second}" for second in range(9, 0, -1)] + ["End"] * 4
    told = confirmed(watcher, [places.shot(places.display(text), light=0.8, seed=i) for i, text in enumerate(texts)])
    assert told == [14.0]


def taught_door(eyes: Eyes) -> Watcher:
    shown = {
        Label.NOT_YET: [places.shot(places.door(0.0), seed=seed) for seed in range(3)],
        Label.DONE: [places.shot(places.door(1.0), seed=seed) for seed in range(2)],
    }
    (watcher,) = watchers_for(places.lesson(places.DOOR, shown), None, eyes)
    assert watcher.means is Means.TAUGHT
    return watcher


def test_a_taught_door_is_told_once_when_it_opens_under_other_light(eyes: Eyes) -> None:
    opened = [0.0] * 6 + [0.5] + [1.0] * 6
    pictures = [places.shot(places.door(o), light=0.7, nudge=(2.0, 1.0), seed=i) for i, o in enumerate(opened)]
    assert confirmed(taught_door(eyes), pictures) == [9.0]


def test_people_dusk_and_a_nudge_open_no_door(eyes: Eyes) -> None:
    passing = [places.shot(places.door(0.0, person=second in (5, 6, 7)), seed=second) for second in range(12)]
    dusk = [places.shot(places.door(0.0), light=1.0 - 0.04 * second, seed=second) for second in range(15)]
    nudged = [places.shot(places.door(0.0), light=0.6, nudge=(4.0, -3.0), seed=second) for second in range(6)]
    assert confirmed(taught_door(eyes), [*passing, *dusk, *nudged, None]) == []


def test_fitting_the_same_lesson_twice_gives_the_same_scores(eyes: Eyes) -> None:
    unit = places.unit(places.shot(places.door(0.4)))
    assert taught_door(eyes).step(unit, None) == taught_door(eyes).step(unit, None)


def test_a_damaged_model_file_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "efficientnet-lite0.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"efficientnet-lite0\.onnx: .*models pull"):
        PictureFeatures(damaged)
    with pytest.raises(ModelError, match="is not there"):
        PictureFeatures(tmp_path / "none.onnx")
