"""The model's own voice: a unit's speech codes become sound on a thread that the model never waits for.

Also here: reading the recording of the voice that it shall speak with.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.vocoder import Sound, Turn, Vocoder

VOICE_RATE_HZ: Final = 16_000
SHORTEST_VOICE_S: Final = 1.0
LONGEST_VOICE_S: Final = 30.0  # what the encoder hears in one piece
SILENT_RMS: Final = 1e-3  # -60 dB
CLIPPED_SHARE: Final = 0.02  # of the samples at full scale: such a voice sounds broken ever after


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SpokenBlock:
    """A piece of speech to play right after the one before it."""

    samples: Sound
    turn: int  # counts the turns of one voice
    ends_turn: bool


class ModelVoice:
    """One feed's own voice: takes each unit's codes and hands on their sound.

    `say` belongs to the model thread and never waits. The sound is made on a thread of its own, which calls `deliver`;
    that must return at once: `queue.put_nowait` or `loop.call_soon_threadsafe`. After `stop` has returned, from
    whatever thread, nothing said before it is delivered any more; who plays asks `is_current` for what waits already.

    At most `MOST_WAITING` units wait. A vocoder that falls further behind loses the rest of the turn, since speech is
    worthless late; `turns_lost` counts that. So does a turn that the vocoder could not speak; `failed` is told why.
    """

    MOST_WAITING: Final = 4

    def __init__(
        self,
        vocoder: Vocoder,
        deliver: Callable[[SpokenBlock], None],
        *,
        failed: Callable[[ModelError], None] = lambda _error: None,
    ) -> None:
        self._vocoder = vocoder
        self._deliver = deliver
        self._failed = failed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-voice")
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.RLock()  # of the three numbers below
        self._turn = 0  # the one that `say` adds to
        self._dropped_until = 0  # turns below are not spoken any further
        self._silent_until = 0  # what was spoken of turns below is not heard either
        self._memory: tuple[int, Turn] | None = None  # of the turn under way; voice thread only
        self.turns_lost = 0

    def say(self, codes: Sequence[int], *, ends_turn: bool) -> None:
        """Add one unit's codes to the turn; with `ends_turn` the next ones begin another."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()  # a programming error on the voice's thread surfaces here
        with self._lock:
            turn = self._turn
            self._turn += ends_turn
            if len(self._waiting) >= self.MOST_WAITING:
                self._lose(turn)
            if turn < self._dropped_until:
                return
        self._waiting.append(self._thread.submit(self._speak, turn, tuple(codes), ends_turn))

    def stop(self) -> None:
        """Be quiet now and forget the turn; what is said afterwards begins another. Any thread."""
        with self._lock:
            self._turn += 1
            self._silent_until = self._dropped_until = self._turn
        self._thread.submit(self._forget_dropped)  # a turn holds much memory

    def is_current(self, block: SpokenBlock) -> bool:
        """Whether nobody stopped the voice since."""
        return block.turn >= self._silent_until

    def settle(self) -> None:
        """Wait until everything said was delivered or dropped."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        """Be quiet, once the step under way is done. The vocoder belongs to whoever made it."""
        self.stop()
        self._thread.shutdown()

    def _speak(self, turn: int, codes: tuple[int, ...], ends_turn: bool) -> None:
        """Voice thread only, as is everything below."""
        self._forget_dropped()
        if turn < self._dropped_until:
            return
        try:
            samples = self._vocoder.speak(self._begun(turn), codes, ends_turn=ends_turn)
        except ModelError as error:
            with self._lock:
                self._lose(turn)
            self._forget_dropped()
            self._failed(error)
            return
        if ends_turn:
            self._memory = None
        with self._lock:
            if turn >= self._silent_until and (len(samples) or ends_turn):
                self._deliver(SpokenBlock(samples=samples, turn=turn, ends_turn=ends_turn))

    def _begun(self, number: int) -> Turn:
        if self._memory is None:
            self._memory = (number, self._vocoder.begin())
        return self._memory[1]

    def _forget_dropped(self) -> None:
        if self._memory is not None and self._memory[0] < self._dropped_until:
            self._vocoder.forget(self._memory[1])
            self._memory = None

    def _lose(self, turn: int) -> None:
        if turn >= self._dropped_until:
            self._dropped_until = turn + 1
            self.turns_lost += 1


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceVoice:
    """A few seconds of the voice that the model shall speak with."""

    path: Path
    samples: NDArray[np.float32]  # [n], mono, VOICE_RATE_HZ, -1..1


def read_reference_voice(path: Path) -> ReferenceVoice:
    """Read a recording of any rate and layout.

    Raises:
        ModelError: no such file, no sound in it, or sound that no voice can be learned from.
    """
    samples = _decoded(path)
    lasts_s = len(samples) / VOICE_RATE_HZ
    if lasts_s > LONGEST_VOICE_S:
        raise _unfit(path, f"is longer than {LONGEST_VOICE_S:g} s", "cut it to its clearest 5 to 15 s")
    if lasts_s < SHORTEST_VOICE_S:
        raise _unfit(path, f"lasts {lasts_s:.2f} s", f"expected at least {SHORTEST_VOICE_S:g} s of speech")
    if float(np.sqrt(np.mean(samples**2))) < SILENT_RMS:
        raise _unfit(path, "is silent", "expected speech at normal loudness")
    if float(np.mean(np.abs(samples) >= 0.999)) > CLIPPED_SHARE:
        raise _unfit(path, "is clipped", "record it again, more quietly")
    return ReferenceVoice(path, samples)


def _decoded(path: Path) -> NDArray[np.float32]:
    """[n] mono at VOICE_RATE_HZ, little more than LONGEST_VOICE_S of it."""
    if not path.is_file():
        raise _unfit(path, "is no file", "expected a recording, such as a WAV file")
    # without rematrix_maxval=1, two like channels would add up to 1.41 and clip
    resampler = av.AudioResampler("flt", "mono", VOICE_RATE_HZ, options={"rematrix_maxval": "1.0"})
    blocks: list[NDArray[np.float32]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise _unfit(path, "holds no sound", "expected a recording, such as a WAV file")
            for frame in container.decode(audio=0):
                blocks += [each.to_ndarray()[0] for each in resampler.resample(frame)]
                if sum(map(len, blocks)) > LONGEST_VOICE_S * VOICE_RATE_HZ:
                    break
            blocks += [each.to_ndarray()[0] for each in resampler.resample(None)]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _unfit(path, f"cannot be read ({error})", "expected a recording, such as a WAV file") from error
    return np.concatenate([*blocks, np.zeros(0, np.float32)])


def _unfit(path: Path, found: str, advice: str) -> ModelError:
    return ModelError(f"reference voice {path} {found}; {advice}")
