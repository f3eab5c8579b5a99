"""What a loudspeaker sounds like at a microphone, learnt while it plays, and taken away. Nothing else is touched.

An echo canceller that is meant for telephones (AEC3) leaves nothing of our voice, and little of a person who begins to
talk over it. This one leaves some of ours and all of theirs, so it knows when there is somebody else: `OthersEar`.

Source of the filter: F. Kuech, E. Mabande and G. Enzner, "State-space architecture of the partitioned-block-based
acoustic echo controller" (ICASSP 2014): each weight comes with how uncertain it is, which is why it learns in a second
and is not led astray by a person's voice. The thresholds were measured in rooms of `tests/fakes/rooms.py` and in a
sound server: of our own voice -32 dB are left after two seconds, and for a hundredth of the time more than -22 dB.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME: Final = 160  # samples at 16 kHz: 10 ms
PARTITIONS: Final = 32  # of a frame each: 0.32 s of delays and echoes
STAYS: Final = 0.999  # how much of a room stays as it was, each frame
NOISE_KEPT: Final = 0.8  # of what was thought of everything that is no echo, each frame
UNSURE: Final = 0.3  # of weights about which nothing is known; falls with the delay
UNSURE_LEAST: Final = 1e-3  # of it stays, whatever was learnt
FADE_S: Final = 0.1
TINY: Final = 1e-6
AUDIBLE: Final = 1e-4  # power of a bin

POWER_KEPT: Final = 0.7  # for comparing powers: 30 ms
MATCH_KEPT: Final = 0.93  # for comparing shapes: 0.15 s
LEAST_MATCH: Final = 0.3  # of the echo, found in what is heard; 1 is all of it
LESS: Final = 1.25  # of what is heard, at most, is left when an echo is taken away at the right time; else it is added
IN_A_ROW: Final = 3  # frames
LEFT_UP_DB: Final = 0.05  # what is left of our voice, relative to it: so much a frame is believed of more
LEFT_DOWN_DB: Final = 0.2  # and of less, which settles where four frames in five are above
LEFT_MARGIN_DB: Final = 14.0
LEFT_LEAST_DB: Final = -20.0
LEARNT_DB: Final = -10.0  # so little is left when it is known how we sound here
ECHO_FADES: Final = 0.86  # the longest echo of a room that is not learnt: 65 dB in a second
FLOOR_UP: Final = 1.007  # the noise of a room, in a frame: 3 dB in a second
FLOOR_UP_IDLE: Final = 1.023  # while we are silent: 10 dB; a person's pauses bring it down again
FLOOR_MARGIN: Final = 4.0
LEAST_FLOOR: Final = 1e-9
CHECK_FRAMES: Final = 40  # of our voice, after which it is asked whether it comes at another time than was learnt
SETTLE_FRAMES: Final = 15  # of it, after which the filter fits another time
LOST_DB: Final = -25.0  # more is left of our voice when it does, be it by a part of a sample
CLEAR: Final = 0.3  # 0..1: how much of both has to agree on that time
MOST_SHIFT: Final = 2400  # samples
LEAST_SHIFT: Final = 0.1  # of a sample; what is left of that is a thirtieth
FINER: Final = 4  # times that delays are looked at more finely than by samples

Floats = NDArray[np.float32]
Complex = NDArray[np.complex64]


class LinearEcho:
    """How one microphone hears the loudspeaker. One thread at a time."""

    def __init__(self) -> None:
        shape = (PARTITIONS, FRAME + 1)
        delays_s = np.arange(PARTITIONS) * FRAME / 16_000
        self._far = np.zeros(shape, np.complex64)  # spectra of the last frames, newest first
        self._last = np.zeros(FRAME, np.float32)
        self._weights = np.zeros(shape, np.complex64)
        self._unsure = np.tile(UNSURE * np.exp(-delays_s / FADE_S)[:, None], (1, FRAME + 1)).astype(np.float32)
        self._unsure_least = UNSURE_LEAST * self._unsure
        self._noise = np.full(FRAME + 1, 1e-3, np.float32)

    def step(self, near: Floats, far: Floats, *, learn: bool = True) -> tuple[Floats, Floats]:
        """[160] of both in; what is left of `near`, and the echo that was taken from it. `far` must not come later than
        its echo."""
        self._push(far)
        echo = np.fft.irfft(np.sum(self._far * self._weights, axis=0))[FRAME:].astype(np.float32)
        rest = near - echo
        if learn:
            self._learn(rest)
        return rest, echo

    def _learn(self, rest: Floats) -> None:
        power = np.abs(self._far) ** 2
        if np.max(power) < AUDIBLE:
            return
        spectrum = np.fft.rfft(np.concatenate([np.zeros(FRAME, np.float32), rest]))
        self._noise = (NOISE_KEPT * self._noise + (1 - NOISE_KEPT) * np.abs(spectrum) ** 2).astype(np.float32)
        expected = 0.5 * np.sum(power * self._unsure, axis=0) + self._noise + TINY
        gain = self._unsure / expected
        step = np.fft.irfft(gain * np.conj(self._far) * spectrum, axis=1)
        step[:, FRAME:] = 0  # a partition is no longer than a frame
        self._weights = (self._weights + np.fft.rfft(step, axis=1)).astype(np.complex64)
        learnt = STAYS**2 * (1 - 0.5 * gain * power) * self._unsure
        self._unsure = (learnt + (1 - STAYS**2) * (np.abs(self._weights) ** 2 + self._unsure_least)).astype(np.float32)

    def come_later(self, samples: float) -> None:
        """The echo of everything comes so much later than was learnt; by less than a sample."""
        learnt = np.fft.irfft(self._weights, axis=1)[:, :FRAME].ravel()
        size = 2 * len(learnt)
        turned = np.fft.rfft(learnt, size) * np.exp(-2j * np.pi * np.fft.rfftfreq(size) * samples)
        moved = np.fft.irfft(turned, size)[: len(learnt)].reshape(-1, FRAME)
        self._weights = np.fft.rfft(moved, 2 * FRAME, axis=1).astype(np.complex64)

    def relive(self, far: Floats) -> None:
        """The last sound of the loudspeaker, [32 * 160], was another: the same at another time."""
        self._far[:] = 0
        self._last = np.zeros(FRAME, np.float32)
        for frame in far.reshape(-1, FRAME):
            self._push(frame)

    def _push(self, far: Floats) -> None:
        self._far[1:] = self._far[:-1]
        self._far[0] = np.fft.rfft(np.concatenate([self._last, far]))
        self._last = far


class OthersEar:
    """Tells, frame by frame, whether a microphone hears anything but the loudspeaker. One thread at a time."""

    def __init__(self) -> None:
        self._left_db = 0.0  # what is usually left of our voice, relative to it
        self._near = self._rest = self._echo = 0.0  # smoothed powers
        self._more = 0  # frames in a row in which there was more
        self._reverberant = 0.0
        self._floor = 1.0
        self._found = self._looked_for = 0.0  # of the echo in what is heard, smoothed

    @property
    def knows_us(self) -> bool:
        """Whether it was learnt how we sound here, and that still holds: else `step` cannot tell others from us."""
        return self._left_db <= LEARNT_DB and self._found >= LEAST_MATCH * self._looked_for

    def idle(self, near: Floats) -> None:
        """[n] while the loudspeaker is silent: the noise of the room, to which a fan may have been added."""
        rises = FLOOR_UP_IDLE ** (len(near) / FRAME)
        self._floor = max(min(self._floor * rises, power(near)), LEAST_FLOOR)

    def pass_over(self, echo: Floats) -> None:
        """[160] of our voice, at a time when nobody can be told from it: only how it reverberates is remembered, and
        whoever was heard before is forgotten."""
        self._near = self._rest = 0.0
        self._hear_ourselves(echo)

    def step(self, near: Floats, rest: Floats, echo: Floats) -> bool:
        """Whether `rest` [160], which is `near` without `echo`, is more than what may be left of us.

        An echo that is taken away at the wrong time leaves much, too, but then there is little of it in `near`.
        """
        self._near = POWER_KEPT * self._near + (1 - POWER_KEPT) * power(near)
        self._rest = POWER_KEPT * self._rest + (1 - POWER_KEPT) * power(rest)
        self._found = MATCH_KEPT * self._found + (1 - MATCH_KEPT) * float(np.dot(near, echo)) / FRAME
        self._looked_for = MATCH_KEPT * self._looked_for + (1 - MATCH_KEPT) * power(echo)
        self._hear_ourselves(echo)
        self._floor = max(min(self._floor * FLOOR_UP, self._rest), LEAST_FLOOR)
        if self._echo > self._floor * FLOOR_MARGIN:
            is_more = self._rest > self._echo * 10 ** (self._left_db / 10)
            self._left_db += LEFT_UP_DB if is_more else -LEFT_DOWN_DB
        margin_db = max(self._left_db + LEFT_MARGIN_DB, LEFT_LEAST_DB)
        left = self._reverberant * 10 ** (margin_db / 10)
        is_more = max(left, self._floor * FLOOR_MARGIN) < self._rest < LESS * self._near
        self._more = self._more + 1 if is_more and self.knows_us else 0
        return self._more >= IN_A_ROW

    def _hear_ourselves(self, echo: Floats) -> None:
        self._echo = POWER_KEPT * self._echo + (1 - POWER_KEPT) * power(echo)
        self._reverberant = max(self._echo, ECHO_FADES * self._reverberant)


class EchoTime:
    """Notices when our voice reaches a microphone at another time than was learnt. One thread at a time."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """What was heard so far tells nothing about what comes."""
        self._near: list[Floats] = []
        self._echo: list[Floats] = []
        self._left = 0.0  # power of what was left

    def step(self, near: Floats, echo: Floats, rest: Floats) -> float:
        """How many samples later the echo comes than was thought; 0 as long as that is not sure."""
        if power(echo) < LEAST_FLOOR:
            return 0.0
        self._near.append(near)
        self._echo.append(echo)
        self._left += power(rest)
        if len(self._near) < CHECK_FRAMES:
            return 0.0
        heard, thought, left = np.concatenate(self._near), np.concatenate(self._echo), self._left / CHECK_FRAMES
        self.restart()
        return _later(heard, thought) if left > power(heard) * 10 ** (LOST_DB / 10) else 0.0


def _later(heard: Floats, thought: Floats) -> float:
    """The delay on which their phases agree best (C. Knapp and G. Carter, 1976); 0 when there is none."""
    size = 1 << (len(heard) + MOST_SHIFT).bit_length()
    both = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(thought, size))
    both /= np.abs(both) ** 0.7 + 1e-12
    agreement = FINER * np.fft.irfft(both, FINER * size)
    agreement[FINER * MOST_SHIFT : FINER * (size - MOST_SHIFT)] = 0
    best = int(np.argmax(agreement))
    if agreement[best] <= CLEAR * np.mean(np.abs(both)):
        return 0.0
    before, top, after = agreement[best - 1], agreement[best], agreement[(best + 1) % len(agreement)]
    peak = best + 0.5 * (before - after) / (before - 2 * top + after)  # of the parabola through the three
    return float(peak if best < len(agreement) // 2 else peak - len(agreement)) / FINER


def power(sound: Floats) -> float:
    """Mean square."""
    return float(np.dot(sound, sound)) / len(sound)
