"""From a checkpoint to an engine: whether it fits, where it goes, and how it is put together.

The only module of this package that the rest of the program imports, and only when a checkpoint is named: it brings
torch.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from math import prod
from pathlib import Path
from typing import Final, Literal

import torch

from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Language
from omni_watch.duplex.minicpmo.checkpoint import DTYPES, Checkpoint, find, open_checkpoint, resolve
from omni_watch.duplex.minicpmo.control import ControlSettings
from omni_watch.duplex.minicpmo.engine import FeedPlace, MiniCpmEngine, OwnVoice, SharedBrain
from omni_watch.duplex.minicpmo.planning import FeedSenses
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.room import Quantization, device_named, free_memory
from omni_watch.duplex.minicpmo.stillness import StillnessGate
from omni_watch.duplex.minicpmo.surroundings import Surroundings, WatchSettings
from omni_watch.duplex.minicpmo.vocoder import (
    ASSETS,
    Codec,
    CodecProcess,
    CodecVocoder,
    check_assets,
    codec_command,
    open_token2wav,
)
from omni_watch.duplex.minicpmo.voice import ReferenceVoice, read_reference_voice
from omni_watch.duplex.minicpmo.windows import Basic, Context, Off, Window
from omni_watch.watch.ports import Aloud, Pronounce, TextSimilarity
from omni_watch.watch.tongues import Tongue

Tell = Callable[..., None]  # an event name and its fields; any thread

LARGEST_ON_CPU: Final = 1_500_000_000  # weights; more than that takes several seconds for one, on any processor
PROGRESS_STEPS: Final = 10
FETCHING_EVERY_S: Final = 20.0  # it is told that fetching goes on; a starting service is given 60 s each time


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniCpmSettings:
    """Everything that a person may set about this engine."""

    path: str  # a folder, or a hub id
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantization: Literal["none", "int8", "int4"] = "none"
    threads: int | None = None
    window: Literal["off", "basic", "context"] = "off"
    window_low: int = 5000
    window_high: int = 6500
    window_units: int = 24
    context_tokens: int = 8192
    carried_units: int = 16
    control: ControlSettings = field(default_factory=ControlSettings)
    forced_picture_s: float = 5.0
    speak_requests: bool = False
    voice: Literal["daemon", "model"] = "daemon"
    voice_sample: Path | None = None  # a recording of the voice that the model shall speak with
    voice_python: Path | None = None  # the Python of the codec's own environment; None: ours
    language: Language = "en"
    zone: tzinfo | None = None
    feeds: Mapping[str, FeedPlace] = field(default_factory=dict)

    @property
    def smaller(self) -> Quantization | None:
        return None if self.quantization == "none" else self.quantization


@dataclass(frozen=True, slots=True)
class Fit:
    """Where a checkpoint goes, and why."""

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    why: str


def fit(settings: MiniCpmSettings, *, is_asked: bool) -> str:
    """Why this checkpoint can run here; its weights are not read, and nothing is fetched.

    `is_asked`: it is asked for by name, so that a processor may be as slow as it is.

    Raises:
        ModelError: it cannot; says what would mend it.
    """
    folder = find(settings.path, settings.revision)
    if folder is None:
        return f"{settings.path} at {str(settings.revision)[:12]} is not here yet; it is fetched at the first start"
    return _fit(open_checkpoint(folder), settings, is_asked=is_asked).why


def build(
    settings: MiniCpmSettings,
    *,
    wall: Callable[[float], datetime],
    tongues: Sequence[Tongue],
    similarity: TextSimilarity | None,
    tell: Tell,
    aloud: Aloud | None = None,
    pronounce: Pronounce | None = None,
    is_asked: bool = True,
) -> MiniCpmEngine:
    """The engine with its weights in place; minutes for a large checkpoint on a slow disk.

    `aloud` plays what companions say with the model's own voice; None: nobody would hear it. Where that voice is wished
    and cannot be had, the reason is told, and the daemon's voices speak. `pronounce` says the tasks to the model, where
    that is wished. `is_asked`: as for `fit`, which may not have seen the checkpoint: one that is fetched now.

    Raises:
        ModelError: the checkpoint cannot be fetched or used, or does not fit.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    found = _fit(open_checkpoint(_folder(settings, tell)), settings, is_asked=is_asked)
    tell("loading", what=f"the model, {found.why}")
    checkpoint = found.checkpoint
    with ExitStack() as if_it_fails:
        sample, voice = _own_voice(settings, checkpoint, tell, aloud)
        if voice is not None:
            if_it_fails.callback(voice.vocoder.close)
        model = checkpoint.load(
            device=found.device,
            dtype=found.dtype,
            quantization=settings.smaller,
            with_speech=voice is not None,
            progress=_Progress(tell),
        )
        if_it_fails.pop_all()
    gc.collect()
    brain = SharedBrain(model, checkpoint.tokens, window=_window(settings), bias=settings.control.bias, voice=sample)
    around = Surroundings(
        tongues=tongues,
        similarity=similarity,
        wall=wall,
        tell=tell,
        eyelid=lambda: _eyelid(settings),
        pronounce=pronounce if pronounce is not None and settings.speak_requests else _nobody_pronounces,
    )
    return MiniCpmEngine(
        brain,
        brain.run,
        speak=checkpoint.tokens.speak,
        listen=checkpoint.tokens.listen,
        settings=_watching(settings, checkpoint),
        around=around,
        feeds=settings.feeds,
        voice=voice,
    )


def _watching(settings: MiniCpmSettings, checkpoint: Checkpoint) -> WatchSettings:
    return WatchSettings(
        control=settings.control,
        context_tokens=min(settings.context_tokens, checkpoint.config.language.max_positions),
        carried_units=settings.carried_units,
        language=settings.language,
        zone=settings.zone,
    )


def _folder(settings: MiniCpmSettings, tell: Tell) -> Path:
    """Where the checkpoint is, fetched if need be; the service manager is told that it goes on, for hours perhaps."""
    if (folder := find(settings.path, settings.revision)) is not None:
        return folder
    has_ended = threading.Event()

    def tell_on() -> None:
        tell("loading", what=f"{settings.path}, which is being fetched")
        while not has_ended.wait(FETCHING_EVERY_S):
            tell("loading", what=f"{settings.path}, which is still being fetched")

    telling = threading.Thread(target=tell_on, name="fetching", daemon=True)
    telling.start()
    try:
        return resolve(settings.path, settings.revision)
    finally:
        has_ended.set()
        telling.join()


def _own_voice(
    settings: MiniCpmSettings, checkpoint: Checkpoint, tell: Tell, aloud: Aloud | None
) -> tuple[torch.Tensor, OwnVoice] | tuple[None, None]:
    """The voice's recording, [n] at 16 kHz, and what makes codes into sound; nothing, where nobody would hear it."""
    companions = [place for place in settings.feeds.values() if place.presence is Presence.COMPANION]
    if settings.voice != "model" or aloud is None or not companions:
        return None, None
    try:
        sample, codec = _voice_of(settings, checkpoint)
    except ModelError as error:
        tell("model.lacking", ability="speak with MiniCPM-o's own voice", mend=str(error))
        return None, None

    def failed(error: ModelError) -> None:
        tell("voice.failed", why=str(error))

    return torch.from_numpy(sample.samples), OwnVoice(CodecVocoder(codec), aloud, failed)


def _voice_of(settings: MiniCpmSettings, checkpoint: Checkpoint) -> tuple[ReferenceVoice, Codec]:
    """ModelError: a recording, the codec's files, its package or its card is missing."""
    if checkpoint.config.speech is None:
        raise ModelError(f"{checkpoint.folder} holds no speech decoder; use the whole published checkpoint")
    if settings.voice_sample is None:
        raise ModelError("name a recording of the voice that it shall speak with, 1 to 30 s, in model.voice_sample")
    sample = read_reference_voice(settings.voice_sample)
    assets = checkpoint.folder / ASSETS
    if settings.voice_python is None:
        return sample, open_token2wav(assets, sample.path)
    check_assets(assets)
    codec = CodecProcess(codec_command(settings.voice_python, assets, sample.path))
    codec.start()
    return sample, codec


def _nobody_pronounces(_sentence: str, _language: Language) -> None:
    return None


class _Progress:
    """Tells of every tenth of the weights."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        step = PROGRESS_STEPS * done // max(total, 1)
        if step > self._told:
            self._told = step
            self._tell("loading", what=f"the model, {100 * step // PROGRESS_STEPS} % of {total / 1e9:.1f} GB")


def _fit(checkpoint: Checkpoint, settings: MiniCpmSettings, *, is_asked: bool) -> Fit:
    """The first device that takes it, in the order of preference."""
    refusals: list[ModelError] = []
    for device in _devices(settings.device):
        try:
            return _fit_on(device, checkpoint, settings, is_asked=is_asked)
        except ModelError as error:
            refusals.append(error)
    raise refusals[0] if len(refusals) == 1 else ModelError("; ".join(str(refusal) for refusal in refusals))


def _fit_on(device: torch.device, checkpoint: Checkpoint, settings: MiniCpmSettings, *, is_asked: bool) -> Fit:
    dtype = _dtype(device, settings.dtype)
    weights = sum(prod(stored.shape) for stored in checkpoint.stored.values())
    if device.type == "cpu" and weights > LARGEST_ON_CPU and not is_asked:
        raise ModelError(
            f"{checkpoint.folder.name} has {weights / 1e9:.1f} billion weights, too many for a processor to answer "
            'each second; it needs a graphics card (engine.kind = "minicpm-o" tries all the same)'
        )
    checkpoint.refuse_if_too_large(
        device=device,
        dtype=dtype,
        quantization=settings.smaller,
        feeds=len(settings.feeds) + 1,  # one of them may have a fresh memory standing by
        positions=settings.context_tokens,
        with_speech=settings.voice == "model",
    )
    kind = str(dtype).removeprefix("torch.") + (f", {settings.quantization} weights" if settings.smaller else "")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    return Fit(checkpoint, device, dtype, f"{checkpoint.folder.name} on {name}, {kind}")


def _devices(wanted: str) -> list[torch.device]:
    """Where it may go, best first.

    Raises:
        ModelError: a graphics card is asked for that is not there.
    """
    if wanted == "auto":
        cards = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
        return [*sorted(cards, key=lambda card: -(free_memory(card) or 0)), torch.device("cpu")]
    return [device_named(wanted, key="model.device")]


def _dtype(device: torch.device, wanted: str) -> torch.dtype:
    """What the device is good at: half the size where that costs no speed."""
    if wanted != "auto":
        return DTYPES[wanted]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _window(settings: MiniCpmSettings) -> Window:
    match settings.window:
        case "basic":
            return Basic(high=settings.window_high, low=settings.window_low)
        case "context":
            return Context(max_units=settings.window_units)
        case _:
            return Off()


def _eyelid(settings: MiniCpmSettings) -> StillnessGate | None:
    return StillnessGate(longest_s=settings.forced_picture_s) if settings.forced_picture_s > 0 else None


__all__ = ["ControlSettings", "FeedPlace", "FeedSenses", "MiniCpmSettings", "Presence", "build", "fit"]
