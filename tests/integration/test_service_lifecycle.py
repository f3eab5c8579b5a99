"""The service as shipped: what its unit says, and how the real daemon lives under a manager that does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.clips import write_clip
from tests.fakes.service_manager import Run, Service, UnitFile
from tests.fixtures_house import PROGRAM, HouseProcess

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = {"system": DEPLOY / "omni-watch.service", "user": DEPLOY / "user" / "omni-watch.service"}
EXPOSURE_MAX = 2.5  # of 10, as `systemd-analyze security` counts
HURRY = 30.0  # a watchdog of 2 s instead of 60

# the daemon whose model falls silent in its third second, once: the marker is there from then on
HANGING_ONCE = """
import sys, threading
from pathlib import Path
from omni_watch.cli import main
from omni_watch.duplex.embedded.session import EmbeddedSession

marker, step = Path(sys.argv.pop(1)), EmbeddedSession.step

def hang_once(session, unit):
    if unit.index >= 2 and not marker.exists():
        marker.touch()
        threading.Event().wait()
    return step(session, unit)

EmbeddedSession.step = hang_once
main()
"""


def feed(video: Path | str) -> str:
    return f'[[feeds]]\nname = "kitchen"\nvideo = "{video}"\n[voice]\noutput = "off"\n'


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five minutes in which nothing happens."""
    return write_clip(
        tmp_path / "kitchen.mp4", seconds=300.0, fps=1, paint=lambda at_s: 60 + int(at_s) % 100, tone=None
    )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts houses as the shipped unit says; they are stopped after the test."""
    services: list[Service] = []

    def start(house: HouseProcess, *program: str, hurry: float = 1.0) -> Service:
        command = [*(program or [str(PROGRAM)]), "run", "--config", str(house.config)]
        unit = UnitFile.read(UNITS["system"])
        services.append(Service(unit, command, house.folder, environment=house.environment, hurry=hurry))
        services[-1].start()
        return services[-1]

    yield start
    for service in services:
        service.stop()


@pytest.mark.parametrize("scope", UNITS)
def test_systemd_finds_nothing_wrong_with_the_units(scope: str, tmp_path: Path) -> None:
    unit = tmp_path / "omni-watch.service"
    text, count = re.subn(r"^ExecStart=\S+", "ExecStart=/bin/true", UNITS[scope].read_text(), flags=re.MULTILINE)
    assert count == 1
    unit.write_text(text)

    verified = analyze("verify", f"--{scope}", "--man=no", str(unit), XDG_RUNTIME_DIR=str(tmp_path))

    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_service_is_little_exposed() -> None:
    looked = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", str(UNITS["system"]))

    assert looked.returncode == 0, looked.stdout[-2000:]


def test_both_units_agree_in_what_they_do_about_failures() -> None:
    system, user = (UnitFile.read(path) for path in UNITS.values())

    # fmt: off
    for key in (
        "Type", "NotifyAccess", "ExecReload", "WatchdogSec", "TimeoutStartSec", "TimeoutStopSec", "Restart",
        "RestartSec", "RestartPreventExitStatus", "StartLimitBurst", "StartLimitIntervalSec", "LimitCORE", "UMask",
    ):
        # fmt: on
        assert system.last(key) == user.last(key), key


def test_scripts_are_clean() -> None:
    scripts = sorted(map(str, DEPLOY.rglob("*.sh")))
    checked = subprocess.run([tool("shellcheck"), *scripts], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


async def test_a_life_as_the_manager_hears_it(
    make_house: Callable[..., HouseProcess], serve: Callable[..., Service], clip: Path
) -> None:
    house = make_house(feed(clip) + f'[rules]\nfolder = "{clip.parent}"\n')
    service = serve(house, hurry=HURRY)
    service.until(lambda: service.runs and service.runs[0].has_told("READY=1"), "not ready")
    run = service.runs[0]
    assert run.told[0] == "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=loading models", "first of all it asks for patience"

    service.until(lambda: run.told.count("WATCHDOG=1") >= 3, "the watchdog is not fed")
    service.signal(signal.SIGHUP)
    service.until(lambda: sum("READY=1" in each for each in run.told) == 2, "the reload did not end")
    reloading = index_of(run, "RELOADING=1")
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", run.told[reloading])
    assert next(each for each in run.told[reloading + 1 :] if each != "WATCHDOG=1").startswith("READY=1\n")

    assert service.stop().process.returncode == 0
    assert len(service.runs) == 1
    assert run.told[-1] == "STOPPING=1\nSTATUS=stopping"
    events = [json.loads(line)["event"] for line in service.journal.splitlines()]
    assert events.index("ready") < events.index("reloading") < events.index("stopping"), "JSON for the journal"


async def test_a_reload_while_it_loads_does_not_make_it_ready_too_soon(
    make_house: Callable[..., HouseProcess], serve: Callable[..., Service], clip: Path
) -> None:
    service = serve(make_house(feed(clip)), hurry=HURRY)
    service.until(lambda: service.runs and service.runs[0].told, "it does not load")

    service.signal(signal.SIGHUP)

    run = service.runs[0]
    service.until(lambda: run.has_told("READY=1"), "not ready")
    assert "WATCHDOG=1" in run.told[: index_of(run, "READY=1")], "a second was decided before"


async def test_a_model_thread_that_hangs_ends_in_a_restart_and_tells_where_it_hung(
    make_house: Callable[..., HouseProcess], serve: Callable[..., Service], clip: Path, tmp_path: Path
) -> None:
    house = make_house(feed(clip))
    task = house.ask("task", "add", "tell me every time the doorbell rings")["task"]["id"]

    service = serve(house, sys.executable, "-c", HANGING_ONCE, str(tmp_path / "hung"), hurry=HURRY)
    service.until(lambda: len(service.runs) == 2 and service.runs[1].told.count("WATCHDOG=1") >= 3, "no second life")

    first = service.runs[0]
    assert first.was_silent
    assert first.process.returncode == -signal.SIGABRT
    assert first.has_told("READY=1")
    assert "in hang_once" in service.journal, "every thread's place, through PYTHONFAULTHANDLER"
    assert service.stop().process.returncode == 0
    assert [each["id"] for each in house.ask("task", "list")["tasks"]] == [task]


async def test_a_house_whose_camera_is_away_is_ready_all_the_same(
    make_house: Callable[..., HouseProcess], serve: Callable[..., Service]
) -> None:
    service = serve(make_house(feed("rtsp://127.0.0.1:9/away")))

    service.until(lambda: service.runs and service.runs[0].has_told("READY=1"), "not ready")

    service.until(lambda: any("kitchen sight waiting" in each for each in service.runs[0].told), "not told")


@pytest.mark.parametrize(
    "settings",
    [feed("nothing://"), '[[feeds]]\nname = "kitchen"\n', ""],
    ids=["unknown address", "neither camera nor microphone", "no feed"],
)
async def test_a_wrong_configuration_is_not_tried_again(
    make_house: Callable[..., HouseProcess], serve: Callable[..., Service], settings: str
) -> None:
    service = serve(make_house(settings), hurry=HURRY)

    assert service.is_over.wait(30)

    assert [run.process.returncode for run in service.runs] == [78]


async def test_a_second_daemon_on_the_same_house_is_not_tried_again_either(
    make_house: Callable[..., HouseProcess], serve: Callable[..., Service], clip: Path
) -> None:
    house = make_house(feed(clip))
    house.start()
    await house.until_ready()

    service = serve(house, hurry=HURRY)

    assert service.is_over.wait(30)
    assert [run.process.returncode for run in service.runs] == [78]
    assert "another omni-watch runs on" in service.journal


def index_of(run: Run, line: str) -> int:
    return next(place for place, told in enumerate(run.told) if line in told.split("\n"))


def analyze(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [tool("systemd-analyze"), *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not there; `make packages-test` says how to get it"
    return found
