"""The script that sees to Debian packages, with every Debian program replaced by one that only writes down its call."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "debian-packages.sh"
NEEDED = ("bash", "rm", "chmod")

OPENCV = ("libgl1", "libglib2.0-0", "libsm6", "libxext6")


class Machine:
    """A machine where `installed` packages are there; `calls` are those of apt-get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "policy-rc.d"
        self.log = folder / "calls"
        for name in NEEDED:
            (folder / name).symlink_to(shutil.which(name) or name)
        self.program("apt-get", f'echo "$1 ${{*: -1}} $({self.policy} 2>/dev/null; echo $?)" >>{self.log}')
        self.program("apt-cache", "true")
        self.is_root(True)

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def is_root(self, yes: bool) -> None:
        self.program("id", f"echo {0 if yes else 1000}")

    def has(self, *installed: str) -> None:
        self.program(
            "dpkg-query", f'case " {" ".join(installed)} " in *" $4 "*) echo -n installed ;; *) exit 1 ;; esac'
        )

    def run(self, *groups: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder), "POLICY": str(self.policy), "HOME": os.environ.get("HOME", "/")}
        command = ["bash", str(SCRIPT), *groups]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_root_gets_what_is_missing_and_no_service_is_started_on_the_way(machine: Machine) -> None:
    machine.has("ffmpeg", "mosquitto", "libportaudio2", *OPENCV)
    ended = machine.run("run")
    assert ended.returncode == 0
    assert ended.stdout == "Installing Debian packages: espeak-ng\n"
    assert machine.calls == ["install espeak-ng 101"]  # invoke-rc.d(8): 101 is "not allowed"
    assert not machine.policy.exists()


def test_a_policy_that_is_there_already_stays(machine: Machine) -> None:
    machine.has()
    machine.policy.write_text("mine")
    assert machine.run("run").returncode == 0
    assert machine.policy.read_text() == "mine"


def test_stale_package_lists_are_fetched_once_and_only_then(machine: Machine) -> None:
    machine.has("python3")
    machine.program("apt-cache", "exit 100")
    assert machine.run("python").returncode == 0
    assert [call.split()[0] for call in machine.calls] == ["update", "install"]


def test_where_all_is_there_nothing_is_called(machine: Machine) -> None:
    machine.has("python3", "python3-venv")
    ended = machine.run("python")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert machine.calls == []


def test_somebody_else_is_told_the_one_command(machine: Machine) -> None:
    machine.has("ffmpeg", "mosquitto", "libportaudio2", *OPENCV, "python3")
    machine.is_root(False)
    ended = machine.run("python", "run")
    assert ended.returncode == 1
    assert (
        "  sudo apt-get update && sudo apt-get install -y --no-install-recommends python3-venv espeak-ng\n"
        in ended.stderr
    )
    assert machine.calls == []


def test_another_distribution_is_told_what_is_needed_and_not_held_up(machine: Machine) -> None:
    ended = machine.run("run")
    assert ended.returncode == 0
    assert "not Debian" in ended.stderr
    assert "mosquitto" in ended.stderr


@pytest.mark.parametrize("groups", [[], ["everything"]])
def test_a_group_that_is_unknown_or_missing_is_a_mistake(machine: Machine, groups: list[str]) -> None:
    machine.has()
    assert machine.run(*groups).returncode == 64
