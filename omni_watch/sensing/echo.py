"""Our own voice taken out of what a microphone hears, with what was played as the reference.

Two cancellers listen, on the microphone's own thread. WebRTC's (AEC3) leaves nothing of our voice, and little of a
person who talks over it; ours (`linear_echo`) leaves a little of our voice and all of a person. So AEC3's is what is
heard as long as only we are, and the other where there is more.

While nothing was played for some seconds, sound passes as it is and costs nothing. What is cleaned is 8 ms late, which
is how far AEC3 looks ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block, Device, Opened
from omni_watch.sensing.linear_echo import (
    CHECK_FRAMES,
    FRAME,
    LEAST_FLOOR,
    LEAST_SHIFT,
    PARTITIONS,
    SETTLE_FRAMES,
    EchoTime,
    LinearEcho,
    OthersEar,
    power,
)
from omni_watch.watch.barge_in import Level
from omni_watch.watch.played import Played

LATE: Final = 128  # samples by which AEC3 is late at 16 kHz; measured
HOLD_FRAMES: Final = 20  # for which others are listened to after they were heard
FADING: Final = 0.8  # of what is left to fade out, each frame
LEAD_S: Final = 0.1  # the reference runs ahead: PulseAudio lets us hear 50 ms before the second that it told
RESTART_S: Final = 0.02  # stamps of a microphone that are further off are believed, its count of samples is not
AUDIBLE: Final = 1e-6  # power of what is played: -60 dB
SILENCE: Final = 1e-5  # -100 dB

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Canceller(Protocol):
    """Takes the far sound out of the near one. One thread at a time; remembers the room."""

    def process(self, near: Floats, far: Floats) -> Floats:
        """[n] of both at 16 kHz, n a multiple of 160; as many come out."""


def open_canceller() -> Canceller:
    """WebRTC's.

    Raises:
        FeedError: (not retryable) its library is missing, or does not work on this machine.
    """
    try:
        from pywebrtc_audio import EchoCanceller

        return EchoCanceller(SAMPLE_RATE_HZ)
    except (ImportError, RuntimeError, ValueError) as error:
        raise FeedError(f"WebRTC's echo canceller cannot be used: {error}", can_retry=False) from error


class EchoCleaner:
    """The memory of one microphone. Its own thread only."""

    def __init__(
        self, played: Played, canceller: Canceller, tell: Callable[[Level], None] = lambda _level: None
    ) -> None:
        """`tell` is called, on the microphone's thread, with how loud each cleaned block was and is."""
        self._played = played
        self._canceller = canceller
        self._tell = tell
        self._rest = np.zeros(0, np.float32)  # less than a frame, not given yet
        self._rest_s: float | None = None  # when its first sample was heard, by counting; None: not cleaning
        self._linear, self._others, self._time = LinearEcho(), OthersEar(), EchoTime()
        self._is_new = True  # it was never known yet how we sound here
        self._was_known = False
        self._silent = 0  # frames for which we are
        self._number = (0, 0)  # of the sound that is heard
        self._to_check = 0  # frames of it, until it is known whether its echo comes as late as that of the one before
        self._to_settle = 0  # frames of it, until the filter fits that time
        self._shift = self._shift_used = 0  # samples by which the reference is read later than its time says
        self._late = np.zeros(LATE, np.float32)
        self._open = 0.0
        self._hold = 0  # frames for which it stays open

    def clean(self, block: Block) -> list[Block]:
        """The same sound without our voice. What does not fill a frame comes with the next block."""
        stamp_s = block.at_s - len(self._rest) / SAMPLE_RATE_HZ
        if self._rest_s is None or abs(self._rest_s - stamp_s) > RESTART_S:
            self._rest_s = stamp_s  # else counted on, so that the reference never slips
            self._check()
        near = np.concatenate([self._rest, block.samples]) if len(self._rest) else block.samples
        far_s = self._rest_s + LEAD_S + self._shift / SAMPLE_RATE_HZ
        far = self._played.between(far_s, len(near))
        if far is None:
            return self._as_it_is(block)
        if self._number != (number := self._played.newest(far_s)):
            self._number = number
            self._check()
        if self._shift != self._shift_used:
            self._shift_used = self._shift
            self._time.restart()
            before = self._played.between(far_s - PARTITIONS * FRAME / SAMPLE_RATE_HZ, PARTITIONS * FRAME)
            if before is not None:
                self._linear.relive(before)
        whole = len(near) // FRAME * FRAME
        self._rest = near[whole:]
        self._rest_s += whole / SAMPLE_RATE_HZ
        return [self._cleaned(stamp_s, near[:whole], far[:whole])] if whole else []

    def _check(self) -> None:
        """Believe nobody for a moment: find out first when our echo comes."""
        self._to_check = CHECK_FRAMES
        self._time.restart()

    def _as_it_is(self, block: Block) -> list[Block]:
        rest, self._rest, self._rest_s = self._rest, self._rest[:0], None
        if len(block.samples):
            self._others.idle(block.samples)
        if not len(rest):
            return [block]
        return [Block(block.at_s - len(rest) / SAMPLE_RATE_HZ, rest), block]

    def _cleaned(self, at_s: float, near: Floats, far: Floats) -> Block:
        suppressed, rest = self._canceller.process(near, far), np.empty_like(near)
        foreign, known = np.empty(len(near) // FRAME, np.bool_), np.empty(len(near) // FRAME, np.bool_)
        for number, start in enumerate(range(0, len(near), FRAME)):
            frame = slice(start, start + FRAME)
            self._silent = 0 if power(far[frame]) > AUDIBLE else self._silent + 1
            is_checked = self._shift == self._shift_used and (
                self._is_new or self._to_check == 0 or self._silent > PARTITIONS
            )
            rest[frame], echo = self._linear.step(near[frame], far[frame], learn=is_checked)
            if is_checked:
                is_foreign = self._others.step(near[frame], rest[frame], echo)
            else:
                is_foreign = False
                self._others.pass_over(echo)
            knows_us = is_checked and self._others.knows_us
            known[number] = knows_us and self._to_settle == 0
            foreign[number] = is_foreign and known[number]
            if knows_us:
                self._is_new, self._was_known = False, True
            elif is_checked and self._was_known:  # samples were lost, or something was moved: then it is learnt anew
                self._was_known = False
                self._check()
            self._heed_time(self._time.step(near[frame], echo, rest[frame]))
            if power(echo) > LEAST_FLOOR:
                self._to_settle = max(self._to_settle - (self._to_check == 0), 0)
                self._to_check = max(self._to_check - 1, 0)
        late = np.concatenate([self._late, rest])
        self._late = late[-LATE:]
        opened = self._opened(foreign)
        cleaned = (opened * late[: len(near)] + (1 - opened) * suppressed).astype(np.float32)
        self._tell(
            Level(
                at_s=at_s,
                heard_db=_db(near),
                cleaned_db=_db(cleaned),
                foreign=float(np.mean(foreign)),
                is_sure=bool(np.all(known)),
            )
        )
        return Block(at_s, cleaned)

    def _heed_time(self, later: float) -> None:
        """The echo comes so many samples later than was learnt: read the reference later, from the next block on."""
        if abs(later) < (LEAST_SHIFT if self._to_check else 1):  # a person beside us makes it look a little wrong
            return
        whole = round(later)
        self._shift -= whole
        self._linear.come_later(later - whole)
        self._to_settle = SETTLE_FRAMES

    def _opened(self, foreign: Bools) -> Floats:
        """[n] 0..1 for each sample: how much is taken of what is left of us and all of others."""
        ends = [self._open]
        for is_foreign in foreign:
            self._hold = HOLD_FRAMES if is_foreign else max(self._hold - 1, 0)
            ends.append(1.0 if self._hold else FADING * ends[-1])
        self._open = ends[-1]
        at = np.arange(len(foreign) * FRAME) / FRAME
        return np.interp(at, np.arange(len(ends)), ends).astype(np.float32)


class CleanedDevice:
    """A microphone that does not hear us. Implements `Device`."""

    def __init__(self, device: Device, cleaner: EchoCleaner) -> None:
        self.label = device.label
        self.senses = device.senses
        self._device = device
        self._cleaner = cleaner

    def open(self) -> Opened:
        return self._device.open()

    def read(self) -> Sequence[Picture | Block] | None:
        items = self._device.read()
        if items is None:
            return None
        return [each for item in items for each in (self._cleaner.clean(item) if isinstance(item, Block) else [item])]

    def close(self) -> None:
        self._device.close()


def _db(sound: Floats) -> float:
    """How loud; 0 is a square wave at full scale."""
    return float(20 * np.log10(max(float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))), SILENCE)))
