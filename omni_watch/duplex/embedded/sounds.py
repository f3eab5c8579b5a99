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
class SoundTable:
    """Everything `sounds.toml` says, in YAMNet's indices."""

    groups: Mapping[str, SoundGroup]  # by name
    no_beeps: tuple[int, ...]  # classes of voices that make rows of beep-like tones ...
    no_beeps_above: float  # ... and the probability from which they are believed

    @classmethod
    def load(cls, class_names: Sequence[str], path: Path = TABLE) -> Self:
        """Raises ModelError when the table and the net's classes do not fit together."""
        index = {name: number for number, name in enumerate(class_names)}
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            of, within = table["sustain"]["of"], table["sustain"]["in"]
            return cls(
                groups={name: _group(name, entry, index, of, within) for name, entry in table["groups"].items()},
                no_beeps=_indices(table["beeps"]["unless"], index),
                no_beeps_above=_number(table["beeps"]["unless_above"]),
            )
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path}: cannot be used as a table of sounds ({error!r}); reinstall omni-watch"
            ) from error

    def explains_beeps(self, probabilities: Floats) -> bool:
        """Whether something in [n, 521] cries or crows, so that tones in the same seconds are no beeps."""
        return bool(len(probabilities) and probabilities[:, self.no_beeps].max() >= self.no_beeps_above)


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
