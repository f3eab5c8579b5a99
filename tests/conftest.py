"""Fixtures are kept by topic in fixtures_<topic>.py and registered here."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures_broker",
    "tests.fixtures_minicpmo",
    "tests.fixtures_models",
    "tests.fixtures_rtsp",
    "tests.fixtures_pulse",
    "tests.fixtures_house",
    "tests.fixtures_terminal",
]
