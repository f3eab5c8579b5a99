"""Stretches of voice: from the probability of each window to what is worth recognising. Pure.

A voice begins when several windows are sure of it, and ends after a silence; between the two thresholds everything
stays as it is. A short pause inside is told at once, so that what was said so far can be recognised while we wait
whether more comes; then either the voice goes on, or the stretch ends and its words are ready.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from omni_watch.duplex.embedded.words.voice_activity import WINDOW_S

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How people speak; seconds are rounded to windows of 32 ms."""

    sure: float = 0.5  # probability at which a window counts as voice; the published default of the net
    unsure: float = 0.35  # below it a window counts as silence; as published: `sure` less 0.15
    begin_s: float = 0.1  # so much voice within `begin_within_s` is a beginning
    begin_within_s: float = 0.26
    pause_s: float = 0.2  # a breath; recognition begins
    end_s: float = 0.6  # nobody goes on after it
    pre_roll_s: float = 0.3  # kept from before the first sure window: soft consonants
    tail_s: float = 0.13  # kept after the last window that was not silent
    shortest_s: float = 0.16  # voice in all; less is a click or a cough
    longest_s: float = 20.0  # one piece for the recogniser; then the stretch is cut


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stretch:
    """A piece of sound with a voice in it."""

    number: int  # counts the stretches of one feed
    samples: Floats  # [n], from the pre-roll to the tail
    first_window: int  # of the voice, counted from the stream's first
    last_window: int  # of the voice
    is_cut: bool = False

    @property
    def voice_s(self) -> float:
        return (self.last_window + 1 - self.first_window) * WINDOW_S


@dataclass(frozen=True, slots=True)
class Began:
    """A voice set in at this window."""

    window: int


@dataclass(frozen=True, slots=True)
class Paused:
    """The voice is silent for a moment; this may be all of it."""

    stretch: Stretch


@dataclass(frozen=True, slots=True)
class Resumed:
    """It went on: what `Paused` told was not all."""

    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """That was all. The same samples as the last `Paused` had, if there was one and no `Resumed` since."""

    stretch: Stretch


@dataclass(frozen=True, slots=True)
class Faded:
    """It ended and was too short to be speech."""

    number: int
    first_window: int
    last_window: int


Turn = Began | Paused | Resumed | Ended | Faded


@dataclass(slots=True)
class StretchState:
    """The memory of one stream. `kept` is written in place and belongs to this object alone."""

    kept: deque[Floats] = field(default_factory=deque)  # windows from the pre-roll on
    voiced: deque[bool] = field(default_factory=deque)  # of the last windows, while nobody speaks
    seen: int = 0  # windows so far
    number: int = 0  # of the stretch under way, or the next one
    first: int | None = None  # first window of the voice; None: nobody speaks
    last: int = 0  # last window that was not silent
    sure: int = 0  # windows of this stretch that were surely voice
    silent: int = 0  # windows since the voice was last heard
    is_paused: bool = False


def step(probability: float, window: Floats, state: StretchState, habits: Habits) -> list[Turn]:
    """What the next window changes; `state` moves on."""
    state.kept.append(window)
    state.seen += 1
    return _outside(probability, state, habits) if state.first is None else _inside(probability, state, habits)


def flush(state: StretchState, habits: Habits) -> list[Turn]:
    """The stream breaks off: whatever is under way ends here."""
    turns = [] if state.first is None else _close(state, habits, is_cut=False)
    state.kept.clear()
    state.voiced.clear()
    return turns


def _outside(probability: float, state: StretchState, habits: Habits) -> list[Turn]:
    state.voiced.append(probability >= habits.sure)
    within = _windows(habits.begin_within_s)
    while len(state.voiced) > within:
        state.voiced.popleft()
    if sum(state.voiced) < _windows(habits.begin_s):
        while len(state.kept) > _windows(habits.pre_roll_s) + within:
            state.kept.popleft()
        return []
    first_of_them = list(state.voiced).index(True)
    before = len(state.voiced) - first_of_them  # windows since the voice set in, this one included
    while len(state.kept) > before + _windows(habits.pre_roll_s):
        state.kept.popleft()
    state.first, state.last = state.seen - before, state.seen - 1
    state.sure, state.silent, state.is_paused = sum(state.voiced), 0, False
    state.voiced.clear()
    return [Began(state.first)]


def _inside(probability: float, state: StretchState, habits: Habits) -> list[Turn]:
    turns: list[Turn] = []
    if probability >= habits.sure:
        state.sure += 1
    if probability >= (habits.sure if state.is_paused else habits.unsure):
        if state.is_paused:
            turns.append(Resumed(state.number))
        state.last, state.silent, state.is_paused = state.seen - 1, 0, False
    else:
        state.silent += 1
    if state.silent >= _windows(habits.end_s):
        return turns + _close(state, habits, is_cut=False)
    if len(state.kept) >= _windows(habits.longest_s):
        return turns + _close(state, habits, is_cut=not state.is_paused)
    if state.silent == _windows(habits.pause_s) and not state.is_paused:
        state.is_paused = True
        if state.sure >= _windows(habits.shortest_s):
            turns.append(Paused(_stretch(state, habits)))
    return turns


def _close(state: StretchState, habits: Habits, *, is_cut: bool) -> list[Turn]:
    stretch = _stretch(state, habits, is_cut=is_cut)
    enough = state.sure >= _windows(habits.shortest_s)
    turn = Ended(stretch) if enough else Faded(stretch.number, stretch.first_window, stretch.last_window)
    while len(state.kept) > _windows(habits.pre_roll_s):
        state.kept.popleft()
    state.first, state.is_paused, state.number = None, False, state.number + 1
    return [turn]


def _stretch(state: StretchState, habits: Habits, *, is_cut: bool = False) -> Stretch:
    first = state.last if state.first is None else state.first
    silence = state.seen - 1 - state.last  # windows kept after the voice
    spare = max(silence - _windows(habits.tail_s), 0)
    windows = list(state.kept)[: len(state.kept) - spare]
    samples = np.concatenate(windows) if windows else np.zeros(0, np.float32)
    return Stretch(number=state.number, samples=samples, first_window=first, last_window=state.last, is_cut=is_cut)


def _windows(length_s: float) -> int:
    return max(round(length_s / WINDOW_S), 1)
