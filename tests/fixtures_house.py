"""The real program, as a person runs it: `omni-watch` in processes of its own, on a house in a temporary folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omni_watch.config.rulebook import shipped_rules

PROGRAM = Path(sys.executable).with_name("omni-watch")
READY_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0  # what the service manager is promised


def kitchen(clip: Path, port: int, *, voice: str = 'output = "off"') -> str:
    """Settings of a house with a clip for a kitchen and a broker on this port; `voice`: the lines of its table."""
    return f"""
[[feeds]]
name = "kitchen"
video = "{clip}"
audio = "stream"

[mqtt]
enabled = true
host = "127.0.0.1"
port = {port}

[voice]
{voice}
"""


@dataclass(frozen=True)
class OwnRules:
    """A folder of rules that are ours but for what a test changes in them."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def settings(self) -> str:
        return f'\n[rules]\nfolder = "{self.folder}"\n'

    def change(self, name: str, old: str, new: str) -> None:
        rule = (shipped_rules() / f"{name}.yaml").read_text("utf-8")
        assert old in rule
        (self.folder / f"{name}.yaml").write_text(rule.replace(old, new), "utf-8")


@dataclass
class HouseProcess:
    """One house; its daemon may be started, stopped and killed again and again."""

    folder: Path
    config: Path
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = (str(PROGRAM),)  # what is started as the daemon
    _process: subprocess.Popen[bytes] | None = None
    _log_from: int = 0

    @property
    def log_path(self) -> Path:
        return self.folder / "daemon.log"

    def ask(self, *words: str) -> Any:
        """What a command answers, from its JSON."""
        command = [str(PROGRAM), *words, "--config", str(self.config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environ(), timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return json.loads(done.stdout)

    def start(self) -> None:
        """Start the daemon; returns at once."""
        self._log_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            command = [*self.program, "run", "--config", str(self.config), "--json"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environ())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of that name since the last start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_from)
            lines = log.read().decode("utf-8", "replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith('{"')]
        return [line for line in found if line.get("event") == name]

    async def until(self, fact: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
        """Wait until a fact holds; the log is shown when it does not."""
        deadline_s = time.monotonic() + limit_s
        while not fact():
            is_gone = self._process is not None and self._process.poll() is not None
            if time.monotonic() > deadline_s or is_gone:
                why = "the daemon ended" if is_gone else f"not within {limit_s:g} s"
                pytest.fail(f"{what}: {why}\n{self.log_path.read_text()[-6000:]}")
            await asyncio.sleep(0.05)

    async def until_ready(self) -> None:
        await self.until(lambda: self.events("ready"), "the house is not ready", READY_LIMIT_S)

    async def until_ended(self, limit_s: float = READY_LIMIT_S) -> int:
        """Wait until the daemon has ended by itself; its exit status."""
        process, self._process = self._process, None
        assert process is not None, "the daemon was not started"
        try:
            return await asyncio.to_thread(process.wait, limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            pytest.fail(f"did not end within {limit_s:g} s\n{self.log_path.read_text()[-4000:]}")

    def stop(self) -> int:
        """SIGTERM, as the service manager does; the exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            pytest.fail(f"did not stop within {STOP_LIMIT_S:g} s\n{self.log_path.read_text()[-4000:]}")

    def hang_up(self) -> None:
        """SIGHUP: it shall read its rules again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(10)

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


@pytest.fixture
def make_house(tmp_path: Path, cabinet_dir: Path) -> Iterator[Callable[..., HouseProcess]]:
    """Makes houses of configuration text; their daemons are killed after the test."""
    houses: list[HouseProcess] = []

    def make(settings: str, **environment: str) -> HouseProcess:
        folder = tmp_path / f"house{len(houses)}"
        folder.mkdir()
        config = folder / "config.toml"
        place = f'[house]\ninstance = "test"\nzone = "UTC"\nstate_dir = "{folder / "state"}"\n'
        config.write_text(f'{place}[models]\nfolder = "{cabinet_dir}"\n{settings}', "utf-8")
        houses.append(HouseProcess(folder, config, environment))
        return houses[-1]

    yield make
    for house in houses:
        house.kill()
