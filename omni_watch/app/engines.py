"""Which engine watches, and why; from model files to an engine.

What is missing is an ability less, said aloud; what is wrong is an error. Nothing here brings torch unless a
checkpoint is named: `omni_watch.duplex.minicpmo.building` is imported by the two functions that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from omni_watch.cabinet import Cabinet, Standing
from omni_watch.config.rulebook import load_rulebook
from omni_watch.config.settings import FeedSettings, Settings
from omni_watch.domain.errors import ConfigError, ModelError
from omni_watch.duplex.embedded.planner import Abilities
from omni_watch.watch.ports import Aloud, Clock, DuplexModel, Pronounce, TextSimilarity

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.building import MiniCpmSettings

Tell = Callable[..., None]  # an event name and its fields; any thread
MINICPM: Final = "minicpm-o"
SENSES_OF_EMBEDDED: Final = frozenset({"hear household sounds", "see what it was shown", "read displays"})


@dataclass(frozen=True, slots=True)
class Lack:
    """An ability that the engine goes without, and what would mend it."""

    ability: str
    mend: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that watches this house."""

    kind: Literal["embedded", "minicpm-o"]
    why: str
    is_second_best: bool = False  # a checkpoint is named, and cannot be used


def open_cabinet(settings: Settings) -> Cabinet:
    return Cabinet(settings.models_dir)


def lacks(cabinet: Cabinet, choice: Choice | None = None) -> list[Lack]:
    """What this house must do without because a file is missing or wrong."""
    found = {standing.ability: standing.mend for standing in needed_files(cabinet, choice) if standing.mend}
    return [Lack(ability, mend) for ability, mend in found.items()]


def needed_files(cabinet: Cabinet, choice: Choice | None = None) -> list[Standing]:
    """How the model files stand, compared byte for byte, without those of which the chosen engine has no use."""
    needless = SENSES_OF_EMBEDDED if choice is not None and choice.kind == MINICPM else frozenset()
    return [standing for standing in cabinet.verify() if standing.ability not in needless]


def abilities(cabinet: Cabinet) -> Abilities:
    """What the files that are there allow; nothing is loaded."""
    return Abilities(
        hears=None not in (cabinet.find("yamnet"), cabinet.find("yamnet-classes")),
        reads=cabinet.find("ppocr-rec") is not None,
        sees=cabinet.find("efficientnet-lite0") is not None,
    )


def choose_engine(settings: Settings) -> Choice:
    """MiniCPM-o when it is asked for, or when its checkpoint and enough memory are there; the weights are not read.

    Raises:
        ConfigError: it is asked for, and no checkpoint is named.
        ModelError: it is asked for, and its checkpoint cannot be used or does not fit.
    """
    kind = settings.engine.kind
    if kind == "embedded":
        return Choice("embedded", 'engine.kind is "embedded"')
    if settings.model.path is None:
        if kind == MINICPM:
            raise ConfigError(f'engine.kind: found "{MINICPM}" but no model.path; name the folder of its checkpoint')
        return Choice("embedded", "model.path names no checkpoint")
    from omni_watch.duplex.minicpmo import building

    try:
        return Choice(MINICPM, building.fit(_minicpm_settings(settings), is_asked=kind == MINICPM))
    except ModelError as error:
        return second_best(settings, error)


def second_best(settings: Settings, error: ModelError) -> Choice:
    """What watches where a checkpoint is named and cannot be used, or (found out later) not loaded.

    Raises:
        ModelError: the one given; MiniCPM-o is asked for, and nothing shall watch in its place.
    """
    if settings.engine.kind == MINICPM:
        raise error
    return Choice("embedded", f"MiniCPM-o cannot be used: {error}", is_second_best=True)


def open_engine(
    settings: Settings, *, clock: Clock, tell: Tell, aloud: Aloud | None = None, pronounce: Pronounce | None = None
) -> tuple[Choice, DuplexModel]:
    """The engine that watches this house, loaded, and why it is the one; the rest is as in `build_engine`.

    Raises:
        ConfigError: as `choose_engine`. ModelError: as `choose_engine` and `build_engine`.
    """
    build = partial(build_engine, settings, clock=clock, tell=tell, aloud=aloud, pronounce=pronounce)
    choice = _told(choose_engine(settings), tell)
    try:
        return choice, build(choice)
    except ModelError as error:
        if choice.kind == "embedded":
            raise
        choice = _told(second_best(settings, error), tell)
    return choice, build(choice)


def _told(choice: Choice, tell: Tell) -> Choice:
    tell("engine.chosen", engine=choice.kind, why=choice.why)
    if choice.is_second_best:
        tell("model.lacking", ability="use MiniCPM-o", mend=choice.why)
    return choice


def build_engine(
    settings: Settings,
    choice: Choice,
    *,
    clock: Clock,
    tell: Tell = lambda _event, **_fields: None,
    aloud: Aloud | None = None,
    pronounce: Pronounce | None = None,
) -> DuplexModel:
    """The chosen engine, ready to open sessions; minutes for a large checkpoint on a slow disk.

    `tell` is told how loading goes and, later, what becomes of sessions; on whatever thread that happens. `aloud` plays
    what companions say with a voice of the engine's own; `pronounce` gives a sentence as samples at 16 kHz, on whatever
    thread opens sessions.

    Raises:
        ModelError: a file is there with other bytes than expected, or cannot be loaded.
    """
    cabinet = open_cabinet(settings)
    if choice.kind == "embedded":
        return build_embedded(cabinet)
    from omni_watch.duplex.minicpmo import building

    return building.build(
        _minicpm_settings(settings),
        wall=clock.at,
        tongues=load_rulebook(settings.rules_dir).phrasebook.tongues,
        similarity=text_similarity(cabinet),
        tell=tell,
        aloud=aloud,
        pronounce=pronounce,
        is_asked=settings.engine.kind == MINICPM,
    )


def build_embedded(cabinet: Cabinet) -> DuplexModel:
    """The embedded engine with every ability whose model files are there. ModelError: as above."""
    from omni_watch.duplex.embedded.ears import Ears
    from omni_watch.duplex.embedded.engine import EmbeddedEngine
    from omni_watch.duplex.embedded.eyes import Eyes

    yamnet, classes = cabinet.find("yamnet"), cabinet.find("yamnet-classes")
    ears = Ears(yamnet, classes) if yamnet is not None and classes is not None else None
    eyes = Eyes(cabinet.find("efficientnet-lite0"), cabinet.find("ppocr-rec"))
    return EmbeddedEngine(ears=ears, eyes=eyes, abilities=abilities(cabinet))


def step_limit_s(settings: Settings, choice: Choice) -> float | None:
    """How long a step may take before it is taken to hang; None: the service manager's watchdog is enough."""
    return settings.model.step_limit_s if choice.kind == MINICPM else None


def text_similarity(cabinet: Cabinet) -> TextSimilarity | None:
    """How alike two English texts are in meaning; None when its model files are not there."""
    from omni_watch.duplex.embedded.similarity import MiniLm

    model, tokenizer = cabinet.find("minilm"), cabinet.find("minilm-tokenizer")
    return MiniLm(model, tokenizer) if model is not None and tokenizer is not None else None


def _minicpm_settings(settings: Settings) -> MiniCpmSettings:
    """The engine's own values; it knows nothing of our configuration file."""
    from omni_watch.duplex.minicpmo.building import ControlSettings, FeedPlace, FeedSenses, MiniCpmSettings, Presence

    model = settings.model
    if model.path is None:
        raise ConfigError("model.path: missing")

    def place(feed: FeedSettings) -> FeedPlace:
        senses = FeedSenses(has_camera=feed.video is not None, has_microphone=feed.audio is not None)
        return FeedPlace(presence=Presence(feed.mode), senses=senses)

    return MiniCpmSettings(
        path=model.path,
        revision=model.revision,
        device=model.device,
        dtype=model.dtype,
        quantization=model.quantization,
        threads=settings.engine.threads,
        window=model.window,
        window_low=model.window_low,
        window_high=model.window_high,
        window_units=model.window_units,
        context_tokens=model.context_tokens,
        carried_units=model.carried_s,
        control=ControlSettings(
            bias=model.bias,
            confirm_of=model.confirm_of,
            confirm_in=model.confirm_in,
            second_opinion=model.second_opinion,
        ),
        forced_picture_s=model.forced_picture_s,
        speak_requests=model.speak_requests,
        voice=model.voice,
        voice_sample=model.voice_sample,
        voice_python=model.voice_python,
        language=settings.language,
        zone=ZoneInfo(settings.zone),
        feeds={feed.name: place(feed) for feed in settings.feeds},
    )
