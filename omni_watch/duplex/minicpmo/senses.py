"""One feed's eyes and ears: pictures and sound of a second become vectors that a language model reads.

Sound is a stream: what was heard before shapes how the next second sounds. So `Senses` belongs to a feed and outlives
its dialogues; several dialogues (the running one and the one that is being warmed) read what it perceived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.hearing import AudioProjection, HearingEncoder
from omni_watch.duplex.minicpmo.mel import SAMPLES_PER_UNIT, MelFrontEnd
from omni_watch.duplex.minicpmo.work import Hear, See, Work

Picture = Tensor  # [3, h, w] float32, normalised: a frame's overview, or a tile of it


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Perceived:
    """One second as the language model reads it. H is the language model's width."""

    frames: tuple[tuple[Tensor, ...], ...] = ()  # [num_queries, H] for each frame's overview, then for its tiles
    sound: Tensor | None = None  # [10, H]

    @property
    def is_nothing(self) -> bool:
        """Neither seen nor heard: there is nothing to feed."""
        return self.sound is None and not self.frames


class Senses:
    """What one feed has heard so far, and the way to perceive its next second.

    One second at a time, on the model thread; seconds in order.
    """

    def __init__(self, mel: MelFrontEnd, encoder: HearingEncoder) -> None:
        self._mel = mel
        self._encoder = encoder
        self._mel_memory = mel.start()
        self.hearing = encoder.start()

    def start_over(self, *, keeps_hearing: bool = False) -> None:
        """Forget everything heard. The published code keeps the encoder's memory, so that one session hears the last
        seconds of the one before; `keeps_hearing` reproduces that."""
        self._mel_memory = self._mel.start()
        if not keeps_hearing:
            self.hearing.forget()

    def perceive(self, sound: Tensor | None, frames: Sequence[Sequence[Picture]] = ()) -> Work[Perceived]:
        """Encode one second.

        Args:
            sound: [16000] float32, -1..1; None when nothing was recorded: the stream then goes on with the next one.
            frames: of each frame its overview and its tiles, as `pictures.pictures_of` gives them.

        Raises:
            ModelError: sound of another shape, or a frame without pictures; nothing was heard then.
        """
        _check(sound, frames)
        pictures = [picture for frame in frames for picture in frame]
        seen = iter((yield See(pictures=pictures)) if pictures else ())
        heard = None
        if sound is not None:
            heard = yield Hear(mel=self._mel.step(sound, self._mel_memory), memory=self.hearing)
        return Perceived(frames=tuple(tuple(next(seen) for _ in frame) for frame in frames), sound=heard)


def _check(sound: Tensor | None, frames: Sequence[Sequence[Picture]]) -> None:
    """Before anything is encoded: a failure halfway would leave the stream a second ahead of the dialogue."""
    if sound is not None and sound.shape != (SAMPLES_PER_UNIT,):
        raise ModelError(f"a unit's sound has shape {list(sound.shape)}; expected [{SAMPLES_PER_UNIT}], 1 s at 16 kHz")
    if not all(frames):
        raise ModelError("a frame came without pictures; expected its overview and then its tiles, if any")


def voice_vectors(
    samples: Tensor,
    mel: MelFrontEnd,
    encoder: HearingEncoder,
    projection: AudioProjection,
    *,
    has_dynamic_floor: bool = True,
) -> Tensor:
    """[n] float32 samples at 16 kHz of a reference voice -> [m, H] for the system prompt, m about 10 n / 16000."""
    pieces = mel.offline(samples, dynamic_floor=has_dynamic_floor)
    return torch.cat([projection.pooled(encoder.offline(piece)) for piece in pieces])
