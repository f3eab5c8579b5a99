"""What the listening watchers make of what was heard, through the gate that decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from omni_watch.domain.units import Unit
from omni_watch.duplex.embedded.sounding import SOUND_LAG_S, BeepWatcher, SoundWatcher
from omni_watch.duplex.embedded.watcher import BeepRow, Heard, Watcher
from omni_watch.watch.deciding import Gate

QUIET = Heard()


def unit(second: int) -> Unit:
    return Unit(feed="hall", index=second, start_s=100.0 + second, audio=np.zeros(16_000, np.float32))


def barking(score: float) -> Heard:
    return Heard(sounds={"dog": score, "cat": 0.1})


def beeping(count: int, first_at_s: float = 101.25) -> Heard:
    row = BeepRow(count=count, pitch_hz=2050.0, first_at_s=first_at_s, last_at_s=first_at_s + count - 1)
    return Heard(row=row)


def told_in(watcher: Watcher, seconds: Sequence[Heard | None]) -> list[int]:
    gate, told = Gate.fresh(watcher.gate), []
    for second, heard in enumerate(seconds):
        evidence = watcher.step(unit(second), heard)
        gate, has_just_happened = gate.after(evidence.score, unit(second).start_s)
        if has_just_happened:
            told.append(second)
    return told


def test_the_loudest_of_its_sounds_is_a_watchers_score() -> None:
    evidence = SoundWatcher(["cat", "dog"]).step(unit(0), barking(0.7))
    assert evidence.score == 0.7
    assert evidence.detail == "dog 0.70"


def test_a_sound_began_a_little_before_the_second_that_reports_it() -> None:
    watcher = SoundWatcher(["dog"])
    began = [
        watcher.step(unit(second), barking(score)).condition_at_s
        for second, score in enumerate((0.1, 0.8, 0.4, 0.9, 0.0))
    ]
    assert began == [None, 101 - SOUND_LAG_S, 101 - SOUND_LAG_S, 101 - SOUND_LAG_S, None]


def test_without_sound_there_is_no_evidence() -> None:
    for watcher in (SoundWatcher(["dog"]), BeepWatcher(3)):
        assert watcher.step(unit(0), None).score is None


def test_bouts_of_barks_within_the_rearm_time_are_told_once() -> None:
    seconds = [QUIET] * 5 + [barking(0.8), QUIET, QUIET, barking(0.8), QUIET, QUIET, QUIET, barking(0.7)] + [QUIET] * 12
    assert told_in(SoundWatcher(["dog"]), [*seconds, barking(0.8)]) == [5, 25]


def test_an_alarm_with_pauses_is_told_once() -> None:
    alarm = [beeping(3), QUIET, QUIET, beeping(6), QUIET, QUIET, beeping(9)]
    assert told_in(BeepWatcher(3), [QUIET] * 4 + alarm) == [4]


def test_a_sound_that_was_there_from_the_beginning_is_not_told() -> None:
    assert told_in(SoundWatcher(["dog"]), [barking(0.9)] * 10) == []


def test_rows_short_of_the_wanted_length_are_not_told() -> None:
    assert told_in(BeepWatcher(3), [QUIET] * 4 + [beeping(2)] * 3) == []


def test_a_row_is_surer_with_every_beep_and_began_with_its_first() -> None:
    watcher = BeepWatcher(3)
    scores = [watcher.step(unit(second), beeping(count)).score for second, count in enumerate((1, 2, 3, 4, 40))]
    assert scores == pytest.approx([1 / 6, 1 / 3, 0.75, 0.875, 1.0])
    assert watcher.step(unit(9), beeping(3)).condition_at_s == 101.25


def test_watchers_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SoundWatcher([])
    with pytest.raises(ValueError, match="at least one"):
        BeepWatcher(0)
