"""The published codec (`stepaudio2.Token2wav` of the package `minicpmo-utils`) with turns, in this process or its own.

The package wants older versions of transformers, onnxruntime and pillow than the rest of this project, and a torch that
torchaudio was built for. So it usually lives in a Python environment of its own, which runs this file as a program:

    python -m venv its-environment
    its-environment/bin/pip install "minicpmo-utils[tts]" "torch<2.9" "torchaudio<2.9"
    its-environment/bin/python -I codec_program.py ASSETS REFERENCE.wav

(From 2.9 on, torchaudio reads recordings with torchcodec only; the package reads them with soundfile.)

It reads one request a line, {"do": "begin" | "stream" | "forget", "turn": n, "codes": […], "is_last": false}, and
answers each with a line, {"bytes": n} and n bytes of int16 samples after it, or {"error": "…"}; the first line, before
any request, says that it is ready. It ends when its input does. Nothing of this project is imported here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

LIBRARY_ERRORS = (ImportError, RuntimeError, ValueError, TypeError, KeyError, OSError, AssertionError)


class TurnCodec:
    """One reference voice and its turns: each has caches of its own (hundreds of megabytes), given to the library for
    the time of one call. One thread at a time."""

    def __init__(self, library: Any, reference: str) -> None:
        """`library`: a `Token2wav`. Preparing for the voice takes a second or two."""
        self._library = library
        self._reference = reference
        library.cache = None  # of other voices
        self._base = _cloned(library.set_stream_cache(reference))
        self._turns: dict[int, Any] = {}
        self.lookahead = int(library.flow.pre_lookahead_len)

    def begin(self, turn: int) -> None:
        """A turn in which nothing was said yet."""
        self._turns[turn] = _cloned(self._base)

    def stream(self, turn: int, codes: Sequence[int], *, is_last: bool) -> bytes:
        """int16 little-endian samples at 24 kHz: of all but the last `lookahead` codes, or with `is_last` of all."""
        library = self._library
        if turn not in self._turns:
            raise ValueError(f"turn {turn} was never begun, or is over")
        library.stream_cache, library.hift_cache_dict = self._turns.pop(turn)  # lost if the call fails
        pcm: bytes = library.stream(list(codes), prompt_wav=self._reference, last_chunk=is_last)
        if not is_last:
            self._turns[turn] = (library.stream_cache, library.hift_cache_dict)
        return pcm

    def forget(self, turn: int) -> None:
        """Free a turn's caches; one that has ended or failed has none."""
        self._turns.pop(turn, None)

    @property
    def turns(self) -> list[int]:
        """Those under way."""
        return list(self._turns)


def open_library(assets: str, *, steps: int, half: bool) -> Any:
    """A `Token2wav` on the current CUDA card. ImportError where the package is absent."""
    return importlib.import_module("stepaudio2").Token2wav(assets, float16=half, n_timesteps=steps)


def serve(codec: TurnCodec, requests: Iterator[bytes], answers: BinaryIO) -> None:
    """Answer every request until there are no more."""
    _answer(answers, {"ready": True, "lookahead": codec.lookahead})
    for line in requests:
        request = json.loads(line)
        pcm = b""
        try:
            if request["do"] == "stream":
                pcm = codec.stream(request["turn"], request["codes"], is_last=request["is_last"])
            elif request["do"] == "begin":
                codec.begin(request["turn"])
            else:
                codec.forget(request["turn"])
        except LIBRARY_ERRORS as error:
            _answer(answers, {"error": str(error) or type(error).__name__})
        else:
            _answer(answers, {"bytes": len(pcm)}, pcm)


def _answer(answers: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n" + body)
    answers.flush()


def _cloned(caches: Any) -> Any:
    """A copy whose tensors can be written to; other values are shared."""
    if isinstance(caches, dict):
        return {key: _cloned(value) for key, value in caches.items()}
    if isinstance(caches, (list, tuple)):
        return type(caches)(_cloned(each) for each in caches)
    return caches.clone() if hasattr(caches, "clone") else caches


def main() -> None:
    parser = argparse.ArgumentParser(description="Turns speech codes into sound; see the file's first lines.")
    parser.add_argument("assets")
    parser.add_argument("reference")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--half", action="store_true")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print shall not be taken for an answer
    try:
        codec = TurnCodec(open_library(args.assets, steps=args.steps, half=args.half), args.reference)
    except LIBRARY_ERRORS as error:
        _answer(answers, {"error": str(error) or type(error).__name__})
        return
    serve(codec, iter(sys.stdin.buffer.readline, b""), answers)


if __name__ == "__main__":
    main()
