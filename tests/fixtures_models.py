"""The real model files, for tests that listen, look, read or speak with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings


@pytest.fixture(scope="session")
def cabinet() -> Cabinet:
    """The cabinet that `make models` fills, complete; what is missing is pulled now."""
    complete = Cabinet(read_settings().models_dir)
    complete.pull()
    return complete


@pytest.fixture(scope="session")
def cabinet_dir(cabinet: Cabinet) -> Path:
    """Its folder."""
    return cabinet.folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the cabinet carries the marker `models`, so that `-m "not models"` works without a network."""
    for item in items:
        if isinstance(item, pytest.Function) and {"cabinet", "cabinet_dir"} & set(item.fixturenames):
            item.add_marker("models")
