"""From speech codes to sound, for the model's own voice: 25 codes a second in, 24 kHz samples out.

    SpeechDecoder ── a unit's codes ──> ModelVoice ──> Vocoder ──> Codec
      speech                              voice         here        codec_program, in this process or its own

`Vocoder` is the port, `CodecVocoder` its implementation: it cuts codes into the pieces that a codec with lookahead
wants (`CodeBuffer`, pure) and pads what it gives. `Codec` is the published one, in this process (`open_token2wav`) or,
since its package asks for libraries of other versions than ours, in an environment and process of its own
(`CodecProcess`).

What was never run where this was written: the codec's networks, whose assets were not to be had. The tests script the
package's documented call, that of version 1.0.7, and run the process for real.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import select
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo import codec_program

RATE_HZ: Final = 24_000
CODES_PER_SECOND: Final = 25
SILENT_CODE: Final = 4218  # three of them open every turn (published loop, `_reset_token2wav_for_new_turn`)
FEWEST_NEW_CODES: Final = 5  # less than that waits for more
ASSETS: Final = "assets/token2wav"  # within the checkpoint's folder

START_S: Final = 120.0  # to load the codec from a slow disk
ANSWER_S: Final = 20.0  # for at most a second of sound

_NEEDED_ASSETS: Final = ("speech_tokenizer_v2_25hz.onnx", "campplus.onnx", "flow.yaml", "flow.pt", "hift.pt")
_WAY_OUT: Final = "or let one of the daemon's voices speak"

Sound = NDArray[np.int16]  # [n], mono, RATE_HZ


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
    """What was said from one beginning to one end, with the codes of it that are not spoken yet."""

    number: int
    buffer: CodeBuffer
    is_over: bool = False


class Vocoder(Protocol):
    """Speech codes to sound. Any thread; those that come together wait for one another."""

    def begin(self) -> Turn:
        """A turn in which nothing was said yet. End it with `ends_turn`, or `forget` it.

        Raises:
            ModelError: there is no voice; can_retry says whether there may be one later.
        """

    def speak(self, turn: Turn, codes: Sequence[int], *, ends_turn: bool) -> Sound:
        """The sound that became certain with these codes, possibly none; with `ends_turn`, all the rest.

        Raises:
            ModelError: the turn is lost; can_retry says whether the next one may work.
        """

    def forget(self, turn: Turn) -> None:
        """Free what a turn holds that shall not be finished. Raises nothing."""

    def close(self) -> None:
        """Let go of the device."""


class Codec(Protocol):
    """Pieces of codes to samples. Turns are numbers; `stream` raises ModelError, and the turn is then gone."""

    lookahead: int

    def begin(self, turn: int) -> None: ...
    def stream(self, turn: int, codes: Sequence[int], *, is_last: bool) -> bytes: ...
    def forget(self, turn: int) -> None: ...
    def close(self) -> None: ...


class CodecVocoder:
    """Implements `Vocoder` with a codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # the codec serves one call at a time

    def begin(self) -> Turn:
        with self._lock:
            number = next(self._numbers)
            self._codec.begin(number)
            return Turn(number, CodeBuffer(self._codec.lookahead))

    def speak(self, turn: Turn, codes: Sequence[int], *, ends_turn: bool) -> Sound:
        """Less than a second, in mid-turn, has its silence before it, so that it meets the next second without a gap
        (published loop, `_generate_waveform_from_tokens`)."""
        if turn.is_over:
            raise ValueError("the turn is over; begin another")
        turn.is_over = True  # also if it fails
        with self._lock:
            pcm = [self._codec.stream(turn.number, piece, is_last=False) for piece in turn.buffer.add(codes)]
            if ends_turn:
                pcm.append(self._codec.stream(turn.number, turn.buffer.rest(), is_last=True))
        turn.is_over = ends_turn
        sound = np.frombuffer(b"".join(pcm), dtype="<i2").astype(np.int16)
        if ends_turn or not 0 < len(sound) < RATE_HZ:
            return sound
        return np.pad(sound, (RATE_HZ - len(sound), 0))

    def forget(self, turn: Turn) -> None:
        turn.is_over = True
        with self._lock:
            self._codec.forget(turn.number)

    def close(self) -> None:
        with self._lock:
            self._codec.close()


class _OwnCodec:
    """Implements `Codec` in this process."""

    def __init__(self, codec: codec_program.TurnCodec) -> None:
        self._codec = codec
        self.lookahead = codec.lookahead

    def begin(self, turn: int) -> None:
        with _translating("the vocoder"):
            self._codec.begin(turn)

    def stream(self, turn: int, codes: Sequence[int], *, is_last: bool) -> bytes:
        with _translating("the vocoder"):
            return self._codec.stream(turn, codes, is_last=is_last)

    def forget(self, turn: int) -> None:
        self._codec.forget(turn)

    def close(self) -> None:
        for turn in self._codec.turns:
            self._codec.forget(turn)


def open_token2wav(assets: Path, reference: Path, *, steps: int = 5, half: bool = False) -> Codec:
    """The published codec in this process, on the current CUDA card; takes seconds, and some 1.5 GB there.

    Args:
        assets: its files, `ASSETS` within the checkpoint's folder.
        reference: a recording of the voice to speak with; see `voice.read_reference_voice`.
        steps: of flow matching; more is cleaner and slower. 5 is the published demonstration's.
        half: 16-bit flow matching.

    Raises:
        ModelError: the assets, the package or the card is missing, or the voice is refused; the message says which.
    """
    check_assets(assets)
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("stepaudio2")
    except ImportError as error:
        raise ModelError(
            f"the model's own voice needs the package minicpmo-utils, but {error.name or error} cannot be imported; "
            f"install it into an environment of its own and name that environment's Python, {_WAY_OUT}"
        ) from error
    if not torch.cuda.is_available():
        raise ModelError(
            f"the model's own voice needs an NVIDIA card that torch can use, and found none; add one, {_WAY_OUT}"
        )
    with _translating(f"the vocoder in {assets} with the reference voice {reference}"):
        library = codec_program.open_library(str(assets), steps=steps, half=half)
        return _OwnCodec(codec_program.TurnCodec(library, str(reference)))


def check_assets(assets: Path) -> None:
    """Raises ModelError naming what is missing."""
    missing = [name for name in _NEEDED_ASSETS if not (assets / name).is_file()]
    if missing:
        raise ModelError(
            f"{assets}: found no {', '.join(missing)}; the model's own voice needs the folder {ASSETS} of the "
            f"published checkpoint: download it, {_WAY_OUT}"
        )


def codec_command(python: Path, assets: Path, reference: Path, *, steps: int = 5, half: bool = False) -> list[str]:
    """The command that runs the codec in the environment of that Python."""
    program = Path(codec_program.__file__)
    options = ["--steps", str(steps), *(["--half"] if half else [])]
    return [str(python), "-I", str(program), str(assets.absolute()), str(reference.absolute()), *options]


class CodecProcess:
    """Implements `Codec` with a process of its own, which `start` starts, and `begin` again after it died.

    It ends with this process, whose end of the pipe closes. An answer that does not come in time kills it: a vocoder
    that hangs costs one turn.
    """

    def __init__(self, command: Sequence[str], *, start_s: float = START_S, answer_s: float = ANSWER_S) -> None:
        self._command = list(command)
        self._start_s = start_s
        self.answer_s = answer_s
        self._process: subprocess.Popen[bytes] | None = None
        self.lookahead = 3  # until the process has told

    def start(self) -> None:
        """Start the process and wait until the codec is loaded.

        Raises:
            ModelError: it cannot be run, its package, card or assets are missing, or it takes too long.
        """
        self.close()
        try:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            self.lookahead = int(self._head(self._process, self._start_s)["lookahead"])
        except (OSError, ModelError) as error:
            self.close()
            raise ModelError(
                f"the vocoder's program ({self._command[0]}) did not start: {error}; it needs the Python of an "
                f"environment with minicpmo-utils[tts] and an NVIDIA card: set one up, {_WAY_OUT}"
            ) from error

    def begin(self, turn: int) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()
        try:
            self._ask({"do": "begin", "turn": turn})
        except ModelError:
            self.close()  # a CUDA context that is broken fails here; a new process has a new one
            raise

    def stream(self, turn: int, codes: Sequence[int], *, is_last: bool) -> bytes:
        return self._ask({"do": "stream", "turn": turn, "codes": list(codes), "is_last": is_last})

    def forget(self, turn: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ModelError):
                self._ask({"do": "forget", "turn": turn})

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ask(self, request: dict[str, Any]) -> bytes:
        process = self._process
        if process is None:
            raise ModelError("the vocoder's process ended, and the turn with it", can_retry=True)
        try:
            cast("IO[bytes]", process.stdin).write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise self._ended(process) from error
        return self._bytes(process, int(self._head(process, self.answer_s)["bytes"]), self.answer_s)

    def _head(self, process: subprocess.Popen[bytes], within_s: float) -> dict[str, Any]:
        """The line that an answer begins with; read byte by byte, since samples may follow it."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._bytes(process, 1, within_s)
        head: dict[str, Any] = json.loads(line)
        if "error" in head:
            raise ModelError(f"the vocoder: {head['error']}", can_retry=True)
        return head

    def _bytes(self, process: subprocess.Popen[bytes], count: int, within_s: float) -> bytes:
        """`count` bytes, for none of which it may let us wait longer than `within_s`."""
        source, read = cast("IO[bytes]", process.stdout).fileno(), b""
        readable = select.poll()
        readable.register(source, select.POLLIN)
        while len(read) < count:
            if not readable.poll(within_s * 1000):
                self.close()
                raise ModelError(f"the vocoder's process did not answer within {within_s:g} s", can_retry=True)
            piece = os.read(source, count - len(read))
            if not piece:
                raise self._ended(process)
            read += piece
        return read

    def _ended(self, process: subprocess.Popen[bytes]) -> ModelError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)  # its pipe closes a moment before it ends
        self.close()
        return ModelError(f"the vocoder's process ended with status {process.returncode}", can_retry=True)


@contextlib.contextmanager
def _translating(what: str) -> Iterator[None]:
    """What the codec's libraries raise, as ours."""
    try:
        yield
    except codec_program.LIBRARY_ERRORS as error:
        raise ModelError(f"{what}: {error or type(error).__name__}", can_retry=True) from error
