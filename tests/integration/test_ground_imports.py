"""What importing our modules brings along, asked of a fresh interpreter."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import omni_watch

ONLY_FOR_PREPARING = {"omni_watch.duplex.embedded.features"}  # runs in a process of its own, with torch
LANGUAGE_MODEL = "omni_watch.duplex.minicpmo."  # imported when a checkpoint is named, and not before ...
PLANS_FOR_IT = "omni_watch.duplex.minicpmo.planning"  # ... except what says how it would watch
RECOGNISING = {f"omni_watch.duplex.embedded.words.{name}" for name in ("recognizer", "program")}  # a process of its own
LIST = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(list(sys.modules)))
"""


def modules_after_importing(names: Iterable[str]) -> set[str]:
    """The modules of an interpreter that imported these and nothing else."""
    ended = subprocess.run([sys.executable, "-c", LIST, *names], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


def ours(*within: str) -> list[str]:
    """Our modules, all or those within these packages."""
    found = [module.name for module in pkgutil.walk_packages(omni_watch.__path__, "omni_watch.")]
    return [name for name in found if not within or name.startswith(within)]


def test_the_library_that_runs_models_reports_to_nobody(tmp_path: Path) -> None:
    program = "import omni_watch.duplex.embedded.yamnet, onnxruntime; onnxruntime.get_available_providers()"

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, check=True)

    assert list(tmp_path.rglob("*")) == [], "it keeps a device id and a queue of what it will report"


def test_the_daemon_and_the_commands_bring_no_torch() -> None:
    apart = ONLY_FOR_PREPARING | RECOGNISING
    own_way = [name for name in ours() if name in apart or name.startswith(LANGUAGE_MODEL)]
    brought = modules_after_importing({*ours()} - {*own_way} | {PLANS_FOR_IT})
    assert not {"torch", "transformers", "piper", "ctranslate2", "faster_whisper"} & brought


def test_the_program_that_recognises_speech_brings_no_torch() -> None:
    brought = modules_after_importing(RECOGNISING)
    assert "ctranslate2" in brought
    assert not {"torch", "transformers"} & brought


@pytest.mark.parametrize("package", ["omni_watch.domain", "omni_watch.watch"])
def test_the_middle_works_with_numpy_alone(package: str) -> None:
    brought = modules_after_importing(ours(package))
    libraries = {"sqlalchemy", "cv2", "av", "paho", "onnxruntime", "onnx", "apscheduler", "pydantic", "click", "rich"}
    assert "numpy" in brought
    assert not libraries & brought
