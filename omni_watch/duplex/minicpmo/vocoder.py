"""From speech codes to sound, for the model's own voice: 25 codes a second in, 24 kHz samples out.

    SpeechDecoder ── codes of one unit ──> ModelVoice ──> Vocoder ──> SpokenBlock, on the voice's thread
       model thread, returns at once         a thread of its own

`Vocoder` is the port. `Token2WavVocoder` serves it with the published codec, `stepaudio2.Token2wav` of the package
`minicpmo-utils`, which needs an NVIDIA card, wants its assets beside the checkpoint and is imported by nobody but
`open_token2wav`. How codes are cut into the pieces that the codec wants is `CodeBuffer`, which is pure.

What was never run where this was written: the codec itself (its assets are not public there). Its documented call,
that of version 1.0.7, is what the tests script: `set_stream_cache(prompt_wav)`, `stream(codes, prompt_wav=…,
last_chunk=…)`, the attributes `stream_cache`, `hift_cache_dict` and `flow.pre_lookahead_len`.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import av
import numpy as np
import torch
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError

RATE_HZ: Final = 24_000
CODES_PER_SECOND: Final = 25
SILENT_CODE: Final = 4218  # specification, section 9: three of them open every turn
FEWEST_NEW_CODES: Final = 5  # less than that waits for more
ASSETS: Final = "assets/token2wav"  # within the checkpoint's folder

VOICE_RATE_HZ: Final = 16_000
SHORTEST_VOICE_S: Final = 1.0
LONGEST_VOICE_S: Final = 30.0  # what the encoder hears in one piece
SILENT_RMS: Final = 1e-3  # -60 dB
CLIPPED_SHARE: Final = 0.02  # of the samples at full scale: such a voice sounds broken ever after

_NEEDED_ASSETS: Final = ("speech_tokenizer_v2_25hz.onnx", "campplus.onnx", "flow.yaml", "flow.pt", "hift.pt")

Sound = NDArray[np.int16]  # [n], mono, RATE_HZ


class Vocoder(Protocol):
    """Speech codes to sound. One thread at a time; several turns may be under way."""

    def begin(self) -> Turn:
        """A turn in which nothing was said yet."""

    def speak(self, turn: Turn, codes: Sequence[int], *, ends_turn: bool) -> Sound:
        """The sound that became certain with these codes, possibly none; with `ends_turn`, all the rest.

        Raises:
            ModelError: the turn is lost; can_retry says whether the next one may work.
        """

    def close(self) -> None:
        """Let go of the device."""


class Codec(Protocol):
    """What is used of `stepaudio2.Token2wav`. Its two caches are replaced from outside, as the published loop does."""

    flow: Any  # .pre_lookahead_len: codes of the future that it wants to see
    cache: Any  # prompts by path
    stream_cache: Any
    hift_cache_dict: Any

    def set_stream_cache(self, prompt_wav: str) -> tuple[Any, Any]:
        """Prepare for a voice; the two caches that a turn starts from."""

    def stream(self, generated_speech_tokens: list[int], *, prompt_wav: str, last_chunk: bool) -> bytes:
        """int16 little-endian samples."""


class CodeBuffer:
    """Cuts a turn's codes into the pieces that a codec with lookahead wants. Pure.

    A piece ends with `lookahead` codes that are only looked at; the next one begins with them.
    """

    def __init__(self, lookahead: int = 3) -> None:
        self._lookahead = lookahead
        self._codes = [SILENT_CODE] * 3

    def add(self, codes: Sequence[int]) -> list[list[int]]:
        """The pieces that can be spoken now, of at most a second each."""
        self._codes.extend(codes)
        pieces = []
        while len(self._codes) >= self._lookahead + FEWEST_NEW_CODES:
            piece = self._codes[: CODES_PER_SECOND + self._lookahead]
            pieces.append(piece)
            del self._codes[: len(piece) - self._lookahead]
        return pieces

    def rest(self) -> list[int]:
        """What was only looked at so far; the turn is over."""
        rest, self._codes = self._codes, []
        return rest


@dataclass(slots=True, eq=False)
class Turn:
    """One turn's memory: the codes not spoken yet, and the codec's caches (hundreds of megabytes; freed at its end)."""

    buffer: CodeBuffer = field(default_factory=CodeBuffer)
    caches: Any = None
    has_ended: bool = False


class Token2WavVocoder:
    """Implements `Vocoder` with the published codec and one reference voice."""

    def __init__(self, codec: Codec, reference: Path) -> None:
        """Prepares for the voice, which takes a second or two.

        Raises:
            ModelError: the codec refuses the voice.
        """
        self._codec = codec
        self._reference = str(reference)
        codec.cache = None  # of other voices
        with _translating(f"reference voice {reference}"):
            self._base = _cloned(codec.set_stream_cache(self._reference))
        self._lookahead = int(codec.flow.pre_lookahead_len)

    def begin(self) -> Turn:
        return Turn(CodeBuffer(self._lookahead), _cloned(self._base))

    def speak(self, turn: Turn, codes: Sequence[int], *, ends_turn: bool) -> Sound:
        """Samples of the pieces that are complete. Less than a second, in mid-turn, has its silence before it, so
        that it meets the next second without a gap."""
        if turn.has_ended:
            raise ValueError("the turn has ended; begin another")
        self._codec.stream_cache, self._codec.hift_cache_dict = turn.caches
        with _translating("the vocoder"):
            spoken = [self._stream(piece, is_last=False) for piece in turn.buffer.add(codes)]
            if ends_turn:
                spoken.append(self._stream(turn.buffer.rest(), is_last=True))
        turn.has_ended = ends_turn
        turn.caches = None if ends_turn else (self._codec.stream_cache, self._codec.hift_cache_dict)
        sound = np.concatenate([*spoken, np.zeros(0, np.int16)])
        if ends_turn or not 0 < len(sound) < RATE_HZ:
            return sound
        return np.pad(sound, (RATE_HZ - len(sound), 0))

    def close(self) -> None:
        self._base = None
        self._codec.stream_cache = self._codec.hift_cache_dict = None

    def _stream(self, codes: list[int], *, is_last: bool) -> Sound:
        pcm = self._codec.stream(codes, prompt_wav=self._reference, last_chunk=is_last)
        return np.frombuffer(pcm, dtype="<i2").astype(np.int16)


def open_token2wav(folder: Path, *, steps: int = 5, half: bool = False) -> Codec:
    """The published codec on the first CUDA card; takes seconds and about 1.5 GB there.

    Args:
        folder: its assets, `ASSETS` within the checkpoint's folder.
        steps: of flow matching; more is cleaner and slower. 5 is the published demonstration's.
        half: 16-bit flow matching.

    Raises:
        ModelError: the assets, the package or the card is missing; the message says which.
    """
    missing = [name for name in _NEEDED_ASSETS if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder}: found no {', '.join(missing)}; the model's own voice needs the folder {ASSETS} of the "
            "published checkpoint. Download it, or let one of the daemon's voices speak"
        )
    try:
        library = importlib.import_module("stepaudio2")
    except ImportError as error:
        raise ModelError(
            f"the model's own voice needs the package minicpmo-utils (stepaudio2), but {error.name or error} cannot "
            "be imported; install it, or let one of the daemon's voices speak"
        ) from error
    if not torch.cuda.is_available():
        raise ModelError(
            "the model's own voice needs an NVIDIA card that torch can use, and found none; "
            "let one of the daemon's voices speak"
        )
    with _translating(f"the vocoder in {folder}"):
        codec: Codec = library.Token2wav(str(folder), float16=half, n_timesteps=steps)
    return codec


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
        self._memory: tuple[int, Turn] | None = None  # voice thread only
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

    def is_current(self, block: SpokenBlock) -> bool:
        """Whether nobody stopped the voice since."""
        return block.turn >= self._silent_until

    def settle(self) -> None:
        """Wait until everything said was delivered or dropped."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        """Be quiet, and let the vocoder go once its last step is done."""
        self.stop()
        self._thread.submit(self._vocoder.close)
        self._thread.shutdown()

    def _speak(self, turn: int, codes: tuple[int, ...], ends_turn: bool) -> None:
        if turn < self._dropped_until:
            self._memory = None
            return
        if self._memory is None or self._memory[0] != turn:
            self._memory = (turn, self._vocoder.begin())
        try:
            samples = self._vocoder.speak(self._memory[1], codes, ends_turn=ends_turn)
        except ModelError as error:
            self._memory = None
            with self._lock:
                self._lose(turn)
            self._failed(error)
            return
        if ends_turn:
            self._memory = None
        with self._lock:
            if turn >= self._silent_until and (len(samples) or ends_turn):
                self._deliver(SpokenBlock(samples=samples, turn=turn, ends_turn=ends_turn))

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


@contextlib.contextmanager
def _translating(what: str) -> Iterator[None]:
    """What the codec's libraries raise, as ours."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, KeyError, OSError, AssertionError) as error:
        raise ModelError(f"{what}: {error or type(error).__name__}", can_retry=True) from error


def _cloned(caches: Any) -> Any:
    """A copy whose tensors can be written to; other values are shared."""
    if isinstance(caches, torch.Tensor):
        return caches.clone()
    if isinstance(caches, dict):
        return {key: _cloned(value) for key, value in caches.items()}
    if isinstance(caches, (list, tuple)):
        return type(caches)(_cloned(each) for each in caches)
    return caches
