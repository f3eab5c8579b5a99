"""Frames and sound -> units. A pure step function over `AlignerState`; knows no device, no thread and no clock.

Everything that enters is already on the feed's timeline (`timeline.py` puts it there). Pictures come as handles; only
those that a unit uses are converted, so a camera of thirty frames a second costs one conversion a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLES_PER_UNIT, UNIT_S, Frame, Gap, GapCause, Sense, Unit

FINGERPRINTS_KEPT: Final = 16  # a frozen camera may alternate between a few pictures (a blinking clock)


class RawPicture(Protocol):
    """What a camera gave, not yet converted. Cheap to keep for a second, costly to look at."""

    def fingerprint(self) -> int:
        """Equal for equal picture data. Costs far less than `rgb`."""

    def rgb(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], read-only, upright, long side at most 1280.

        Raises:
            FeedError: the data is damaged.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A raw picture with its time on the feed's timeline."""

    at_s: float
    raw: RawPicture
    lasts_s: float = 0.0  # how long a recording shows it; 0 when unknown


@dataclass(frozen=True, slots=True, eq=False)
class GridBlock:
    """A run of samples on the feed's grid of 16,000 samples a second."""

    position: int  # of the first sample, counted from the start of the timeline
    samples: NDArray[np.float32]  # [n], mono

    @property
    def end(self) -> int:
        return self.position + len(self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How a feed's units are made."""

    feed: str
    origin_s: float = 0.0  # where the timeline begins
    frames_per_unit: int = 1
    slack_s: float = 0.1  # a frame this much after a unit's end may still be the nearest one
    holds_frames: bool = False  # a recording's frame stays on screen until the next one; a camera's does not
    stale_after_s: float | None = None  # pictures that repeat for longer are not shown; None: they may (a recording)
    absent: frozenset[Sense] = frozenset()  # what this feed does not have


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignerState:
    """Everything the aligner remembers between steps."""

    index: int = 0  # of the next unit
    blocks: tuple[GridBlock, ...] = ()
    pictures: tuple[Picture, ...] = ()  # at most two for each moment that will be shown
    heard_until: int = 0  # grid position after the newest sample
    seen_s: float = -math.inf  # timeline: the newest picture
    seen_until_s: float = -math.inf  # timeline: when it ends
    fingerprints: tuple[int, ...] = ()  # of the pictures shown lately, newest last
    fresh_at_s: float = -math.inf  # when a picture was last shown that was none of those


def take(state: AlignerState, how: Alignment, arrivals: Iterable[Picture | GridBlock]) -> AlignerState:
    """The state with what arrived; what came too late for any coming unit is left out."""
    blocks, pictures = list(state.blocks), list(state.pictures)
    heard_until, seen_s, seen_until_s = state.heard_until, state.seen_s, state.seen_until_s
    for arrival in arrivals:
        if isinstance(arrival, GridBlock):
            heard_until = max(heard_until, arrival.end)
            if arrival.end > state.index * SAMPLES_PER_UNIT:
                blocks.append(arrival)
        else:
            seen_s = max(seen_s, arrival.at_s)
            seen_until_s = max(seen_until_s, arrival.at_s + arrival.lasts_s)
            _add_picture(pictures, arrival, how)
    return replace(
        state,
        blocks=tuple(blocks),
        pictures=tuple(pictures),
        heard_until=heard_until,
        seen_s=seen_s,
        seen_until_s=seen_until_s,
    )


def units_until(state: AlignerState, how: Alignment, settled_s: float) -> tuple[AlignerState, tuple[Unit, ...]]:
    """Every unit that ends at or before `settled_s`: the caller promises that nothing more comes for those."""
    units: list[Unit] = []
    while _start_s(state.index, how) + UNIT_S <= settled_s:
        state, unit = _next_unit(state, how)
        units.append(unit)
    return state, tuple(units)


def settled_s(state: AlignerState, how: Alignment, waiting_for: Iterable[Sense]) -> float:
    """The timeline second up to which every sense in `waiting_for` has arrived; infinite when there is none."""
    arrived_s = {
        Sense.HEARING: how.origin_s + state.heard_until / SAMPLES_PER_UNIT,
        Sense.SIGHT: state.seen_s,  # the first picture after a unit's end may be the nearest: wait for it
    }
    return min((arrived_s[sense] for sense in waiting_for), default=math.inf)


def _start_s(index: int, how: Alignment) -> float:
    return how.origin_s + index * UNIT_S


def _add_picture(pictures: list[Picture], picture: Picture, how: Alignment) -> None:
    """Append, dropping what cannot be nearest to any moment: between two moments only the first and last can."""

    def cell(each: Picture) -> int:
        return math.floor((each.at_s - how.origin_s) * how.frames_per_unit / UNIT_S)

    if len(pictures) >= 2 and cell(pictures[-2]) == cell(pictures[-1]) == cell(picture):
        pictures.pop()
    pictures.append(picture)


def _next_unit(state: AlignerState, how: Alignment) -> tuple[AlignerState, Unit]:
    start_s = _start_s(state.index, how)
    audio, heard = _sound(state)
    chosen = _chosen_pictures(state, how, start_s)
    fingerprints, fresh_at_s = _freshness(state, how, chosen)
    is_stale = how.stale_after_s is not None and bool(chosen) and start_s + UNIT_S - fresh_at_s > how.stale_after_s
    frames = () if is_stale else _frames(chosen)
    gaps: list[Gap] = []
    if heard < SAMPLES_PER_UNIT / 2:
        gaps.append(Gap(Sense.HEARING, _cause(Sense.HEARING, how)))
    if not frames:
        gaps.append(Gap(Sense.SIGHT, GapCause.STALE if is_stale else _cause(Sense.SIGHT, how)))
    unit = Unit(feed=how.feed, index=state.index, start_s=start_s, audio=audio, frames=frames, gaps=tuple(gaps))
    index = state.index + 1
    after = replace(
        state,
        index=index,
        blocks=tuple(block for block in state.blocks if block.end > index * SAMPLES_PER_UNIT),
        pictures=_still_useful(state.pictures, how, _start_s(index, how)),
        fingerprints=fingerprints,
        fresh_at_s=fresh_at_s,
    )
    return after, unit


def _cause(sense: Sense, how: Alignment) -> GapCause:
    return GapCause.ABSENT if sense in how.absent else GapCause.LOST


def _sound(state: AlignerState) -> tuple[NDArray[np.float32], int]:
    """The unit's samples, read-only, zeros where nothing came; and how many did come."""
    begin = state.index * SAMPLES_PER_UNIT
    audio = np.zeros(SAMPLES_PER_UNIT, np.float32)
    is_heard = np.zeros(SAMPLES_PER_UNIT, np.bool_)
    for block in state.blocks:
        low, high = max(block.position, begin), min(block.end, begin + SAMPLES_PER_UNIT)
        if low < high:
            audio[low - begin : high - begin] = block.samples[low - block.position : high - block.position]
            is_heard[low - begin : high - begin] = True
    np.nan_to_num(audio, copy=False, posinf=1.0, neginf=-1.0)
    np.clip(audio, -1.0, 1.0, out=audio)
    audio.flags.writeable = False
    return audio, int(np.count_nonzero(is_heard))


def _chosen_pictures(state: AlignerState, how: Alignment, start_s: float) -> tuple[Picture, ...]:
    """The pictures nearest the ends of the unit's equal parts, oldest first, none twice."""
    if how.holds_frames and state.seen_until_s < start_s + UNIT_S / 2:
        return ()  # the pictures ended before this unit
    part_s = UNIT_S / how.frames_per_unit
    nearest = (_nearest(state.pictures, how, start_s + (k + 1) * part_s) for k in range(how.frames_per_unit))
    return tuple(dict.fromkeys(picture for picture in nearest if picture is not None))


def _nearest(pictures: Iterable[Picture], how: Alignment, moment_s: float) -> Picture | None:
    earliest_s = -math.inf if how.holds_frames else moment_s - UNIT_S - how.slack_s
    candidates = (each for each in pictures if earliest_s <= each.at_s <= moment_s + how.slack_s)
    return min(candidates, key=lambda each: abs(each.at_s - moment_s), default=None)


def _freshness(state: AlignerState, how: Alignment, chosen: tuple[Picture, ...]) -> tuple[tuple[int, ...], float]:
    """What was shown lately, and when something new was last shown. A camera that was away begins afresh."""
    if how.stale_after_s is None or not chosen:
        return (), state.fresh_at_s
    newest = chosen[-1]
    fingerprint = newest.raw.fingerprint()
    if fingerprint in state.fingerprints:
        return state.fingerprints, state.fresh_at_s
    return (*state.fingerprints, fingerprint)[-FINGERPRINTS_KEPT:], newest.at_s


def _frames(chosen: Iterable[Picture]) -> tuple[Frame, ...]:
    """Convert; a damaged picture is as good as none."""
    frames: list[Frame] = []
    for picture in chosen:
        try:
            frames.append(Frame(at_s=picture.at_s, rgb=picture.raw.rgb()))
        except FeedError:
            continue
    return tuple(frames)


def _still_useful(pictures: tuple[Picture, ...], how: Alignment, next_start_s: float) -> tuple[Picture, ...]:
    coming = tuple(each for each in pictures if each.at_s >= next_start_s - how.slack_s)
    if not how.holds_frames:
        return coming
    past = [each for each in pictures if each.at_s < next_start_s - how.slack_s]
    return (*past[-1:], *coming)
