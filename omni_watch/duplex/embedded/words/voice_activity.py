"""Is there a voice? Silero VAD on onnxruntime: a probability for each window of 32 ms.

All memory is in `VoiceState`; the net has none. Windows are run one by one, as a microphone brings them, so that a
recording and a stream go through the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.duplex.embedded.yamnet import RUNTIME_ERRORS

WINDOW: Final = 512  # samples; the only size the net knows at 16 kHz
WINDOW_S: Final = WINDOW / SAMPLE_RATE_HZ
CONTEXT: Final = 64  # samples before a window that the net sees with it
HIDDEN: Final = 128
INPUTS: Final = ["input", "h", "c"]
OUTPUTS: Final = ["speech_probs", "hn", "cn"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class VoiceState:
    """What the net remembers of one stream; `rest` are samples that do not fill a window yet."""

    hidden: Floats  # [1, 1, 128]
    cell: Floats  # [1, 1, 128]
    context: Floats  # [64]
    rest: Floats  # [0..511]

    @classmethod
    def start(cls) -> VoiceState:
        zeros = np.zeros((1, 1, HIDDEN), np.float32)
        return cls(zeros, zeros, np.zeros(CONTEXT, np.float32), np.zeros(0, np.float32))


class VoiceActivity:
    """The net, shared by all feeds. Any thread."""

    def __init__(self, model: Path) -> None:
        """ModelError when the file is missing or another graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # its windows are small
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except RUNTIME_ERRORS as error:
            raise ModelError(f"{model}: onnxruntime cannot open it ({error}); run `omni-watch models pull`") from error
        found = [each.name for each in (*self._session.get_inputs(), *self._session.get_outputs())]
        if found != INPUTS + OUTPUTS:
            raise ModelError(f"{model}: has {found}, expected {INPUTS + OUTPUTS}; run `omni-watch models pull`")

    def step(self, samples: Floats, past: VoiceState) -> tuple[list[tuple[float, Floats]], VoiceState]:
        """Each window that `samples` (any number, 16 kHz, -1..1) completes, with the probability that it is speech.

        Raises:
            ModelError: (retryable) the runtime refused.
        """
        waiting = np.concatenate([past.rest, samples.astype(np.float32, copy=False)])
        whole = len(waiting) - len(waiting) % WINDOW
        hidden, cell, context = past.hidden, past.cell, past.context
        judged: list[tuple[float, Floats]] = []
        for window in waiting[:whole].reshape(-1, WINDOW):
            inputs = (np.concatenate([context, window])[None], hidden, cell)
            try:
                probability, hidden, cell = self._session.run(OUTPUTS, dict(zip(INPUTS, inputs, strict=True)))
            except RUNTIME_ERRORS as error:
                raise ModelError(f"voice activity failed: {error}", can_retry=True) from error
            context = window[-CONTEXT:]
            judged.append((float(probability.reshape(-1)[0]), window))
        return judged, VoiceState(hidden, cell, context, waiting[whole:])
