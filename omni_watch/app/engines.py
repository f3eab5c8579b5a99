"""From model files to an engine. What is missing is an ability less, said aloud; what is wrong is an error."""

from __future__ import annotations

from dataclasses import dataclass

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import Settings
from omni_watch.duplex.embedded.planner import Abilities
from omni_watch.watch.ports import DuplexModel, TextSimilarity


@dataclass(frozen=True, slots=True)
class Lack:
    """An ability that the engine goes without, and what would mend it."""

    ability: str
    mend: str


def open_cabinet(settings: Settings) -> Cabinet:
    return Cabinet(settings.models_dir)


def lacks(cabinet: Cabinet) -> list[Lack]:
    """What the engine must do without because a file is missing or wrong."""
    found = {standing.ability: standing.mend for standing in cabinet.verify() if standing.mend}
    return [Lack(ability, mend) for ability, mend in found.items()]


def abilities(cabinet: Cabinet) -> Abilities:
    """What the files that are there allow; nothing is loaded."""
    return Abilities(
        hears=None not in (cabinet.find("yamnet"), cabinet.find("yamnet-classes")),
        reads=cabinet.find("ppocr-rec") is not None,
        sees=cabinet.find("efficientnet-lite0") is not None,
    )


def build_engine(cabinet: Cabinet) -> DuplexModel:
    """The embedded engine with every ability whose model files are there.

    Raises:
        ModelError: a file is there with other bytes than expected, or cannot be loaded.
    """
    from omni_watch.duplex.embedded.ears import Ears
    from omni_watch.duplex.embedded.engine import EmbeddedEngine
    from omni_watch.duplex.embedded.eyes import Eyes

    yamnet, classes = cabinet.find("yamnet"), cabinet.find("yamnet-classes")
    ears = Ears(yamnet, classes) if yamnet is not None and classes is not None else None
    eyes = Eyes(cabinet.find("efficientnet-lite0"), cabinet.find("ppocr-rec"))
    return EmbeddedEngine(ears=ears, eyes=eyes, abilities=abilities(cabinet))


def text_similarity(cabinet: Cabinet) -> TextSimilarity | None:
    """How alike two English texts are in meaning; None when its model files are not there."""
    from omni_watch.duplex.embedded.similarity import MiniLm

    model, tokenizer = cabinet.find("minilm"), cabinet.find("minilm-tokenizer")
    return MiniLm(model, tokenizer) if model is not None and tokenizer is not None else None
