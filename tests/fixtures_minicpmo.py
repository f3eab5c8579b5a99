"""The tiny random checkpoint of MiniCPM-o 4.5, and what the reference computes from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # torch only for the tests that ask for the model
    from omni_watch.duplex.minicpmo.weights import MiniCpmO

GOLDEN = Path(__file__).parent / "golden" / "minicpmo"
TINY = GOLDEN / "tiny-a"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of `official_config.json`, `official_keys.json.gz` and `tiny-a`."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """A complete checkpoint, with the sessions that were recorded from it; read-only by agreement."""
    return TINY


@pytest.fixture(scope="session")
def tiny_model() -> MiniCpmO:
    """The tiny checkpoint loaded, float32 on the CPU. Holds weights only; whoever uses it keeps its own memories."""
    import torch

    from omni_watch.duplex.minicpmo.checkpoint import open_checkpoint

    return open_checkpoint(TINY).load(dtype=torch.float32)
