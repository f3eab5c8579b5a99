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
from omni_watch.duplex.minicpmo.vocoder import RATE_HZ, Turn, Vocoder
from omni_watch.watch.ports import Aloud, LivePiece

VOICE_RATE_HZ: Final = 16_000
SHORTEST_VOICE_S: Final = 1.0
LONGEST_VOICE_S: Final = 30.0  # what the encoder hears in one piece
SILENT_RMS: Final = 1e-3  # -60 dB
CLIPPED_SHARE: Final = 0.02  # of the samples at full scale: such a voice sounds broken ever after


class ModelVoice:
    """One feed's own voice: takes each unit's codes and hands on their sound.

    `say` belongs to the model thread and never waits. The sound is made on a thread of its own, which calls `deliver`,
    as `say` does to announce a turn; that must return at once: `queue.put_nowait` or `loop.call_soon_threadsafe`. After
    `stop` has returned, from whatever thread, nothing said before it is delivered any more.

    At most `MOST_WAITING` units wait. A vocoder that falls further behind loses the rest of the turn, since speech is
    worthless late; `turns_lost` counts that. So does a turn that the vocoder could not speak; `failed` is told why.
    """

    MOST_WAITING: Final = 4

    def __init__(
        self,
        vocoder: Vocoder,
        deliver: Aloud,
        *,
        feed: str = "",
        failed: Callable[[ModelError], None] = lambda _error: None,
    ) -> None:
        self._vocoder = vocoder
        self._feed = feed
        self._deliver = deliver
        self._failed = failed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-voice")
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.RLock()  # of the next four
        self._was_stopped = False
        self._turn = 0  # the one that `say` adds to
        self._dropped_until = 0  # turns below are not spoken any further
        self._silent_until = 0  # what was spoken of turns below is not heard either
        self._announced = -1  # the newest turn of which something was delivered; model thread only
        self._memory: tuple[int, Turn] | None = None  # of the turn under way; voice thread only
        self.turns_lost = 0

    @property
    def is_speaking(self) -> bool:
        """Whether a turn was begun and not ended. Model thread only."""
        with self._lock:
            return self._announced == self._turn

    def say(self, codes: Sequence[int], *, at_s: float, ends_turn: bool) -> None:
        """Add the codes of the unit that ends at `at_s` to the turn; with `ends_turn` the next ones begin another."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()  # a programming error on the voice's thread surfaces here
        with self._lock:
            turn = self._turn
            self._turn += ends_turn
            if self._announced < turn:
                self._announced = turn
                self._deliver(self._piece(turn, at_s))
            if len(self._waiting) >= self.MOST_WAITING:
                self._lose(turn, at_s)
            if turn < self._dropped_until:
                return
        self._waiting.append(self._thread.submit(self._speak, turn, tuple(codes), at_s, ends_turn))

    def stop(self) -> None:
        """Be quiet now and forget the turn; what is said afterwards begins another. Any thread."""
        with self._lock:
            self._was_stopped = True
            self._turn += 1
            self._silent_until = self._dropped_until = self._turn
        self._thread.submit(self._forget_dropped)  # a turn holds much memory

    def take_stop(self) -> bool:
        """Whether somebody stopped it since this was last asked. Model thread only."""
        with self._lock:
            was_stopped, self._was_stopped = self._was_stopped, False
            return was_stopped

    def settle(self) -> None:
        """Wait until everything said was delivered or dropped."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        """Be quiet, once the step under way is done. The vocoder belongs to whoever made it."""
        self.stop()
        self._thread.shutdown()

    def _speak(self, turn: int, codes: tuple[int, ...], at_s: float, ends_turn: bool) -> None:
        """Voice thread only, as is everything below."""
        self._forget_dropped()
        if turn < self._dropped_until:
            return
        try:
            samples = self._vocoder.speak(self._begun(turn), codes, ends_turn=ends_turn)
        except ModelError as error:
            with self._lock:
                self._lose(turn, at_s)
            self._forget_dropped()
            self._failed(error)
            return
        if ends_turn:
            self._memory = None
        with self._lock:
            if turn >= self._silent_until and (len(samples) or ends_turn):
                self._deliver(self._piece(turn, at_s, pcm=samples.astype("<i2").tobytes(), ends_turn=ends_turn))

    def _begun(self, number: int) -> Turn:
        if self._memory is None:
            self._memory = (number, self._vocoder.begin())
        return self._memory[1]

    def _forget_dropped(self) -> None:
        if self._memory is not None and self._memory[0] < self._dropped_until:
            self._vocoder.forget(self._memory[1])
            self._memory = None

    def _lose(self, turn: int, at_s: float) -> None:
        """Give up the rest of a turn; with the lock."""
        if turn >= self._dropped_until:
            self._dropped_until = turn + 1
            self.turns_lost += 1
            self._deliver(self._piece(turn, at_s, ends_turn=True, is_lost=True))

    def _piece(
        self, turn: int, at_s: float, *, pcm: bytes = b"", ends_turn: bool = False, is_lost: bool = False
    ) -> LivePiece:
        return LivePiece(
            feed=self._feed, turn=turn, at_s=at_s, pcm=pcm, rate_hz=RATE_HZ, ends_turn=ends_turn, is_lost=is_lost
        )


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
