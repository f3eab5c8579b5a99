"""What became of a live feed's devices, and the units made of what they gave. No thread, no waiting, no clock.

`LiveFeed` asks it: here is what came, it is now this late; which units are due? So everything about gaps, staleness
and states is decided here and can be tested in virtual time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.units import (
    FEED_MOVES,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_UNIT,
    UNIT_S,
    FeedState,
    Gap,
    GapCause,
    Sense,
    Unit,
)
from omni_watch.sensing.aligner import AlignerState, Alignment, GridBlock, Picture, settled_s, take, units_until
from omni_watch.sensing.capture import Block, Finished, Item, Lost, Notice, Opened, Opening
from omni_watch.sensing.switch import SoundSwitch
from omni_watch.sensing.timeline import SoundTrack
from omni_watch.watch.ports import FeedObserver

HOLD_S: Final = 0.5  # a unit waits this long after its end for what is late
STALE_AFTER_S: Final = 5.0

OnSound = Callable[[float, NDArray[np.float32]], None]
"""Takes a block of sound: the feed's timeline in seconds at its first sample, and [n] samples, mono, 16 kHz. Must
return at once; loop thread."""


def moved(state: FeedState | None, to: FeedState) -> FeedState:
    """`to`, if a feed may go there; None is the state before the first.

    Raises:
        ValueError: the table has no such move: a bug.
    """
    allowed = frozenset({FeedState.OPENING, FeedState.ENDED}) if state is None else FEED_MOVES[state]
    if to not in allowed:
        raise ValueError(f"a feed cannot go from {state.value if state else 'nothing'} to {to.value}")
    return to


@dataclass(slots=True)
class _SenseLife:
    """One sense of a live feed."""

    state: FeedState | None = None
    arrived_s: float = -math.inf  # when something last came
    devices: set[int] = field(default_factory=set)


class Assembly:
    """The loop's side of one live feed. Loop thread only."""

    def __init__(
        self,
        feed: str,
        senses: frozenset[Sense],
        *,
        origin_s: float,
        observer: FeedObserver,
        frames_per_unit: int = 1,
        may_repeat: bool = False,
        on_sound: OnSound | None = None,
        switch: SoundSwitch | None = None,
    ) -> None:
        """`senses`: those that have a device. `may_repeat`: pictures may repeat for long (a rendered clip). `on_sound`
        is given every block as it comes, before its second is over. `switch`: looked at for every second and block;
        while it is off, the feed is as one without a microphone."""
        self._feed = feed
        self._observer = observer
        self._on_sound = on_sound
        self._switch = switch or SoundSwitch()
        self._is_listening = True
        self._how = Alignment(
            feed=feed,
            origin_s=origin_s,
            frames_per_unit=frames_per_unit,
            stale_after_s=None if may_repeat else STALE_AFTER_S,
            absent=frozenset(Sense) - senses,
        )
        self._wanted = senses
        self._state = AlignerState()
        self._track = SoundTrack(origin_s)
        self._lives = {sense: _SenseLife() for sense in Sense if sense in senses}

    @property
    def next_due_s(self) -> float:
        """When the next unit is made at the latest."""
        return self._how.origin_s + (self._state.index + 1) * UNIT_S + HOLD_S

    @property
    def is_over(self) -> bool:
        """Whether every device has ended for good."""
        return all(life.state is FeedState.ENDED for life in self._lives.values())

    def units(self, items: Iterable[Item], now_s: float) -> tuple[Unit, ...]:
        """Units that became due with what arrived by `now_s`.

        Raises:
            FeedError: (not retryable) a device can never work.
        """
        late_blocks = 0
        self._look_at_switch(now_s)
        for item in items:
            if isinstance(item, Picture):
                self._came(Sense.SIGHT, now_s)
                self._state = take(self._state, self._how, [item])
            elif isinstance(item, Block) and self._is_listening:
                self._came(Sense.HEARING, now_s)
                block = self._track.place(item.at_s, item.samples)
                late_blocks += self._is_late(block)
                if block is not None and self._on_sound is not None:
                    self._on_sound(self._how.origin_s + block.position / SAMPLE_RATE_HZ, block.samples)
                self._state = take(self._state, self._how, [block] if block else [])
            elif not isinstance(item, Block):
                self._notice(item)
        if late_blocks:
            self._observer.dropped(self._feed, "block", late_blocks)
        live = [each for each, life in self._lives.items() if life.state is FeedState.LIVE and not self._is_off(each)]
        known_s = settled_s(self._state, self._how, live) if live else -math.inf
        how = self._how if self._is_listening else replace(self._how, absent=self._how.absent | {Sense.HEARING})
        self._state, units = units_until(self._state, how, min(now_s, max(known_s, now_s - HOLD_S)))
        for unit in units:
            self._look_for_staleness(unit, now_s)
        return units

    def _look_at_switch(self, now_s: float) -> None:
        if self._switch.is_on is self._is_listening:
            return
        self._is_listening = self._switch.is_on
        life = self._lives.get(Sense.HEARING)
        if life is None or life.state is None:
            return
        life.arrived_s = now_s  # its silence until now was wanted
        self._tell(Sense.HEARING, life.state)

    def _is_off(self, sense: Sense) -> bool:
        return sense is Sense.HEARING and not self._is_listening

    def end(self) -> None:
        """Every sense is over."""
        for sense in self._lives:
            self._move(sense, FeedState.ENDED)

    def _is_late(self, block: GridBlock | None) -> bool:
        return block is not None and block.end <= self._state.index * SAMPLES_PER_UNIT

    def _came(self, sense: Sense, now_s: float) -> None:
        life = self._lives[sense]
        life.arrived_s = now_s
        if life.state is FeedState.OPENING:
            self._move(sense, FeedState.LIVE)

    def _notice(self, notice: Notice) -> None:
        if isinstance(notice, Opening):
            self._move_all(notice.senses, FeedState.OPENING)
        elif isinstance(notice, Opened):
            self._how = replace(self._how, absent=(self._how.absent - notice.senses) | notice.absent)
            self._move_all(notice.absent, FeedState.WAITING, "the stream does not have it")
        elif isinstance(notice, Lost):
            self._lose(notice)
        elif isinstance(notice, Finished):
            if notice.bug is not None:
                raise notice.bug
            self._move_all(notice.senses, FeedState.ENDED)

    def _lose(self, lost: Lost) -> None:
        if lost.pause_s is None:
            raise lost.error
        self._move_all(lost.senses, FeedState.WAITING, f"{lost.error}; trying again in {lost.pause_s:.0f} s")

    def _look_for_staleness(self, unit: Unit, now_s: float) -> None:
        is_frozen = Gap(Sense.SIGHT, GapCause.STALE) in unit.gaps
        for sense, life in self._lives.items():
            if life.state not in (FeedState.LIVE, FeedState.STALE) or self._is_off(sense):
                continue
            silent_s = now_s - life.arrived_s
            if sense is Sense.SIGHT and is_frozen:
                self._move(sense, FeedState.STALE, "the picture repeats: is the camera frozen?")
            elif silent_s > STALE_AFTER_S:
                self._move(sense, FeedState.STALE, f"nothing came for {silent_s:.0f} s")
            else:
                self._move(sense, FeedState.LIVE)

    def _move_all(self, senses: frozenset[Sense], to: FeedState, detail: str = "") -> None:
        for sense in (each for each in self._lives if each in senses):
            self._move(sense, to, detail)

    def _move(self, sense: Sense, to: FeedState, detail: str = "") -> None:
        life = self._lives[sense]
        if life.state is not to:
            life.state = moved(life.state, to)
            self._tell(sense, to, detail)

    def _tell(self, sense: Sense, state: FeedState, detail: str = "") -> None:
        if self._is_off(sense) and state is not FeedState.ENDED:
            self._observer.feed_state(self._feed, sense, FeedState.OFF, "nobody wants us to listen")
        else:
            self._observer.feed_state(self._feed, sense, state, detail)
