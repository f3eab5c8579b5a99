"""The tiny random checkpoint of MiniCPM-o 4.5, and what the reference computes from it."""

from __future__ import annotations

from pathlib import Path

import pytest

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
