"""From patches to a household sound's score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.embedded.sounds import SoundGroup, SoundTable, group_score

DOG, BARK, CROW = 0, 1, 2
GROUP = SoundGroup(
    name="dog", classes=(DOG, BARK), sustained=0.4, single=0.8, of=2, within=3, unless=(CROW,), unless_above=0.3
)


def patches(*dog: float, crow: float = 0.0) -> NDArray[np.float32]:
    table = np.zeros((len(dog), 4), np.float32)
    table[:, BARK] = dog
    table[:, CROW] = crow
    return table


def test_the_threshold_is_one_half() -> None:
    assert group_score(GROUP, patches(0.4, 0.4, 0.0), fresh=2) == pytest.approx(0.5)
    assert group_score(GROUP, patches(0.0, 0.0, 0.8), fresh=2) == pytest.approx(0.5)


def test_one_middling_patch_is_not_enough_and_two_of_three_are() -> None:
    assert group_score(GROUP, patches(0.0, 0.0, 0.6), fresh=2) < 0.5
    assert group_score(GROUP, patches(0.6, 0.0, 0.6), fresh=2) > 0.5


def test_a_run_that_began_in_the_second_before_counts() -> None:
    assert group_score(GROUP, patches(0.0, 0.6, 0.6), fresh=1) > 0.5


def test_a_run_that_ended_before_this_second_does_not() -> None:
    assert group_score(GROUP, patches(0.6, 0.6, 0.0, 0.0, 0.0), fresh=2) < 0.3


def test_another_sound_that_explains_the_patch_silences_it() -> None:
    assert group_score(GROUP, patches(0.9, 0.9, 0.9, crow=0.3), fresh=2) < 0.01


def test_before_the_first_patch_there_is_nothing_to_hear() -> None:
    assert group_score(GROUP, patches(), fresh=0) == 0.0
    assert group_score(GROUP, patches(0.9), fresh=1) > 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 3))
def test_scores_stay_between_0_and_1_and_rise_with_the_sound(dog: list[float], fresh: int) -> None:
    fresh = min(fresh, len(dog))
    score = group_score(GROUP, patches(*dog), fresh)
    louder = group_score(GROUP, patches(*(min(1.0, p + 0.1) for p in dog)), fresh)
    assert 0.0 <= score <= louder <= 1.0


TABLE = """
[sustain]
of = 2
in = 3
[beeps]
voices = ["Crow"]
voices_above = 0.4
music = ["Music"]
music_above = 0.5
alarms = ["Alarm"]
alarms_above = 0.25
long_s = 0.4
whistles = ["Whistle"]
whistles_above = 0.3
[groups.dog]
classes = ["Dog", "Bark"]
sustained = 0.4
single = 0.8
"""


def load(text: str, folder: Path) -> SoundTable:
    path = folder / "sounds.toml"
    path.write_text(text)
    return SoundTable.load(["Dog", "Bark", "Crow", "Music", "Alarm", "Whistle"], path)


def test_a_table_names_classes_and_means_indices(tmp_path: Path) -> None:
    table = load(TABLE, tmp_path)
    assert table.groups["dog"].classes == (DOG, BARK)
    assert table.beeps.long_s == 0.4


@pytest.mark.parametrize(
    ("crow", "music", "alarm", "whistle", "length_s", "is_explained"),
    [
        (0.4, 0.0, 0.9, 0.0, 0.9, True),
        (0.3, 0.4, 0.0, 0.2, 0.1, False),
        (0.0, 0.5, 0.2, 0.0, 0.3, True),
        (0.0, 0.9, 0.25, 0.0, 0.1, False),
        (0.0, 0.9, 0.0, 0.0, 0.4, False),
        (0.0, 0.0, 0.5, 0.6, 0.9, True),
        (0.0, 0.0, 0.7, 0.6, 0.1, False),
    ],
)
def test_cries_and_whistles_explain_any_row_and_music_short_ones_without_an_alarm(
    crow: float, music: float, alarm: float, whistle: float, length_s: float, is_explained: bool, tmp_path: Path
) -> None:
    heard = np.array([[0, 0, crow, 0, 0, 0], [0, 0, 0, music, alarm, whistle]], np.float32)
    assert load(TABLE, tmp_path).beeps.explains(length_s, heard) is is_explained


def test_before_the_first_patch_nothing_explains_a_row(tmp_path: Path) -> None:
    assert not load(TABLE, tmp_path).beeps.explains(0.1, np.zeros((0, 6), np.float32))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"Bark"', '"Barks"'),
        ("single = 0.8", "single = 0.3"),
        ("single = 0.8", "single = 1.0"),
        ("sustained = 0.4", 'sustained = "often"'),
        ("sustained = 0.4", "sustaind = 0.4"),
        ("of = 2", "of = 4"),
        ("[groups.dog]", "[groups.dog"),
        ('voices = ["Crow"]', 'voices = "Crow"'),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(good: str, bad: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"sounds\.toml"):
        load(TABLE.replace(good, bad), tmp_path)
