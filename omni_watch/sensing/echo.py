"""Our own voice taken out of what a microphone hears, with what was played as the reference.

WebRTC's echo canceller (AEC3) does the work on the microphone's own thread. While nothing was played for some seconds,
sound passes as it is and costs nothing. What is cleaned is 8 ms late: so far does the canceller look ahead.
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
from omni_watch.watch.barge_in import Level
from omni_watch.watch.played import Played

FRAME: Final = SAMPLE_RATE_HZ // 100  # what the canceller takes at a time: 10 ms
LEAD_S: Final = 0.1  # the reference runs ahead: PulseAudio lets us hear 50 ms before the second that it told
RESTART_S: Final = 0.02  # stamps of a microphone that are further off are believed, its count of samples is not
SILENCE: Final = 1e-5  # -100 dB

Floats = NDArray[np.float32]


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

    def clean(self, block: Block) -> list[Block]:
        """The same sound without our voice. What does not fill a frame comes with the next block."""
        stamp_s = block.at_s - len(self._rest) / SAMPLE_RATE_HZ
        if self._rest_s is None or abs(self._rest_s - stamp_s) > RESTART_S:
            self._rest_s = stamp_s  # else counted on, so that the reference never slips
        near = np.concatenate([self._rest, block.samples]) if len(self._rest) else block.samples
        far = self._played.between(self._rest_s + LEAD_S, len(near))
        if far is None:
            return self._as_it_is(block)
        whole = len(near) // FRAME * FRAME
        self._rest = near[whole:]
        self._rest_s += whole / SAMPLE_RATE_HZ
        return [self._cleaned(stamp_s, near[:whole], far[:whole])] if whole else []

    def _as_it_is(self, block: Block) -> list[Block]:
        rest, self._rest, self._rest_s = self._rest, self._rest[:0], None
        if not len(rest):
            return [block]
        return [Block(block.at_s - len(rest) / SAMPLE_RATE_HZ, rest), block]

    def _cleaned(self, at_s: float, near: Floats, far: Floats) -> Block:
        cleaned = self._canceller.process(near, far)
        self._tell(Level(at_s=at_s, heard_db=_db(near), played_db=_db(far), cleaned_db=_db(cleaned)))
        return Block(at_s, cleaned)


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
