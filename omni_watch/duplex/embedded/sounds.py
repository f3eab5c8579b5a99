"""Household sounds: which of YAMNet's classes mean which, read from `sounds.toml`, and how scores become a group's.

The table is data on purpose: its thresholds were chosen by measurement and are changed by measurement. A group's
score is normalised so that 0.5 is its alert threshold, whatever probability that takes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError

TABLE: Final = Path(__file__).with_name("sounds.toml")
FIELDS: Final = frozenset({"classes", "sustained", "single", "unless", "unless_above"})
SURE: Final = 1e-6  # probabilities are kept that far from 0 and 1, so that log-odds stay finite

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundGroup:
    """One household sound."""

    name: str
    classes: tuple[int, ...]  # YAMNet's indices; the best of them counts
    sustained: float  # probability that `of` of `within` patches in succession must reach ...
    single: float  # ... or one patch alone: for barks and knocks, which are over before they can last
    of: int
    within: int
    unless: tuple[int, ...] = ()  # classes that explain the patch otherwise ...
    unless_above: float = 1.0  # ... when one of them has at least this probability


@dataclass(frozen=True, slots=True, kw_only=True)
class BeepDoubt:
    """When a row of beep-like tones is none: somebody cries or crows, a kettle whistles, or music plays its notes."""

    voices: tuple[int, ...]
    voices_above: float
    music: tuple[int, ...]
    music_above: float
    alarms: tuple[int, ...]  # classes that speak for beeps in spite of music
    alarms_above: float
    long_s: float  # tunes seldom repeat one note as long as that
    whistles: tuple[int, ...]  # explain a row when they are more probable than alarms, too ...
    whistles_above: float  # ... and have at least this probability

    def explains(self, length_s: float, probabilities: Floats) -> bool:
        """Whether another sound in [n, 521] made a row whose beeps are that long."""
        if len(probabilities) == 0:
            return False
        voice, music, alarm, whistle = (
            float(probabilities[:, classes].max()) for classes in (self.voices, self.music, self.alarms, self.whistles)
        )
        if voice >= self.voices_above or whistle >= max(alarm, self.whistles_above):
            return True
        return music >= self.music_above and alarm < self.alarms_above and length_s < self.long_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundTable:
    """Everything `sounds.toml` says, in YAMNet's indices."""

    groups: Mapping[str, SoundGroup]  # by name
    beeps: BeepDoubt

    @classmethod
    def load(cls, class_names: Sequence[str], path: Path = TABLE) -> Self:
        """Raises ModelError when the table and the net's classes do not fit together."""
        index = {name: number for number, name in enumerate(class_names)}
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            of, within = table["sustain"]["of"], table["sustain"]["in"]
            return cls(
                groups={name: _group(name, entry, index, of, within) for name, entry in table["groups"].items()},
                beeps=_beep_doubt(table["beeps"], index),
            )
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path}: cannot be used as a table of sounds ({error!r}); reinstall omni-watch"
            ) from error


def _beep_doubt(entry: Mapping[str, object], index: Mapping[str, int]) -> BeepDoubt:
    return BeepDoubt(
        voices=_indices(entry["voices"], index),
        voices_above=_number(entry["voices_above"]),
        music=_indices(entry["music"], index),
        music_above=_number(entry["music_above"]),
        alarms=_indices(entry["alarms"], index),
        alarms_above=_number(entry["alarms_above"]),
        long_s=_number(entry["long_s"]),
        whistles=_indices(entry["whistles"], index),
        whistles_above=_number(entry["whistles_above"]),
    )


def _group(name: str, entry: Mapping[str, object], index: Mapping[str, int], of: int, within: int) -> SoundGroup:
    unknown = entry.keys() - FIELDS
    if unknown:
        raise KeyError(f"group {name} has unknown fields {sorted(unknown)}")
    group = SoundGroup(
        name=name,
        classes=_indices(entry["classes"], index),
        sustained=_number(entry["sustained"]),
        single=_number(entry["single"]),
        of=of,
        within=within,
        unless=_indices(entry.get("unless", []), index),
        unless_above=_number(entry.get("unless_above", 1.0)),
    )
    if not (group.classes and 0 < group.sustained <= group.single < 1 and 1 <= of <= within):
        raise TypeError(f"group {name} needs classes, 0 < sustained <= single < 1, and 1 <= of <= in")
    return group


def _indices(names: object, index: Mapping[str, int]) -> tuple[int, ...]:
    if not isinstance(names, list):
        raise TypeError(f"expected a list of class names, found {names!r}")
    return tuple(index[name] for name in names)


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, found {value!r}")
    return float(value)


def group_score(group: SoundGroup, probabilities: Floats, fresh: int) -> float:
    """0..1 for the last `fresh` patches of [n, 521], 0.5 at the group's threshold; 0 when there are none.

    The best run of `within` patches that ends in a fresh one counts by its `of`-th highest patch, or the best fresh
    patch alone by the stricter measure. Patches before the first are silent.
    """
    if fresh == 0:
        return 0.0
    patches = _explained(group, probabilities[-(fresh + group.within - 1) :])
    padded = np.concatenate([np.zeros(fresh + group.within - 1 - len(patches), np.float32), patches])
    runs = np.sort(sliding_window_view(padded, group.within), axis=1)
    lasting, alone = float(runs[:, -group.of].max()), float(patches[-fresh:].max())
    return max(_normalised(lasting, group.sustained), _normalised(alone, group.single))


def _explained(group: SoundGroup, probabilities: Floats) -> Floats:
    """[n, 521] -> [n]: the group's best class, or nothing where another sound explains the patch."""
    best = probabilities[:, group.classes].max(axis=1)
    if not group.unless:
        return np.asarray(best, np.float32)
    is_other = probabilities[:, group.unless].max(axis=1) >= group.unless_above
    return np.where(is_other, np.float32(0.0), best)


def _normalised(probability: float, threshold: float) -> float:
    """The probability moved along the log-odds so that the threshold lands on 0.5."""
    p = min(max(probability, SURE), 1 - SURE)
    odds = p / (1 - p) * (1 - threshold) / threshold
    return odds / (1 + odds)
