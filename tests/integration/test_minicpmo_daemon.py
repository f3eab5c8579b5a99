"""MiniCPM-o in the real program, with the tiny random checkpoint: it watches live and lasts, is replayed, and breaks.

`OMNI_WATCH_LIVE_SECONDS=600 pytest -s tests/integration/test_minicpmo_daemon.py -k live` watches for ten minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from omni_watch import app
from omni_watch.alerts.messages import TopicNames
from omni_watch.app.house import open_house
from omni_watch.cli import run_command
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.tasks import TaskState
from omni_watch.duplex.minicpmo.language import Language
from tests.fakes.clips import write_clip
from tests.fakes.fake_observer import FakeObserver
from tests.fixtures_broker import Broker, Subscriber
from tests.fixtures_house import HouseProcess
from tests.fixtures_minicpmo import TINY
from tests.fixtures_rtsp import RtspCamera

TOPICS = TopicNames("test")
LIVE_SECONDS = int(os.environ.get("OMNI_WATCH_LIVE_SECONDS", "40"))
KETTLE, DOORBELL = "tell me when the kettle is full", "tell me every time the doorbell rings"
CONTEXT = 1200  # tokens; a briefing takes some 400, a second with a picture 79: a memory lasts for seconds


def model(path: Path = TINY, **more: Any) -> str:
    """The tables of the engine. One thread: a second gains nothing on a model so small."""
    values = {"path": str(path), "device": "cpu", "context_tokens": CONTEXT, "carried_s": 2, **more}
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    return (
        f'[engine]\nkind = "minicpm-o"\nthreads = 1\n[model]\n{table}[voice]\noutput = "off"\n[log]\nlevel = "debug"\n'
    )


def feed(video: object) -> str:
    return f'[[feeds]]\nname = "kitchen"\nvideo = "{video}"\naudio = "stream"\n'


def add_kettle(house: HouseProcess) -> str:
    """As `task add` does, without a process of its own; the task's id."""
    with open_house(house.config) as kept:
        return kept.add_task(KETTLE).id


# --- live ---


def margins(house: HouseProcess) -> list[dict[str, float]]:
    return [event.get("margins", {}) for event in house.events("unit.decided")]


def summary(house: HouseProcess) -> str:
    units, rotations = house.events("unit.decided"), house.events("session.rotated")
    missed = len(house.events("unit.skipped") + house.events("unit.dropped") + house.events("unit.shed"))
    steps, lags = [unit["step_ms"] for unit in units], [unit["lag_s"] for unit in units]
    p50, p95 = np.percentile(steps, [50, 95])
    return (
        f"{len(units)} units, {missed} missed, {len(rotations)} rotations; step {p50:.0f} ms p50, {p95:.0f} p95, "
        f"{max(steps):.0f} max; lag {np.median(lags):.2f} s p50, {max(lags):.2f} max"
    )


@pytest.mark.models
async def test_a_live_camera_is_watched_on_and_on_without_a_missed_second(
    rtsp_camera: Callable[..., RtspCamera],
    own_broker: Broker,
    make_house: Callable[..., HouseProcess],
    listen: Callable[..., Subscriber],
) -> None:
    own_broker.start()
    broker = f'[mqtt]\nenabled = true\nhost = "127.0.0.1"\nport = {own_broker.port}\n'
    house = make_house(feed(rtsp_camera("--size", "320x240", "--fps", "10").url) + broker + model())
    subscriber = listen(own_broker.port, f"{TOPICS.base}/#")
    kettle = add_kettle(house)
    house.start()
    await house.until_ready()
    await house.until(lambda: len(margins(house)) >= LIVE_SECONDS // 3, "units do not come", LIVE_SECONDS)
    added = await asyncio.to_thread(house.ask, "task", "add", DOORBELL)
    doorbell = added["task"]["id"]
    await house.until(lambda: len(margins(house)) >= LIVE_SECONDS, "units do not come", LIVE_SECONDS + 30)
    print(f"\n  {summary(house)}", end="")

    for lost in (
        "unit.skipped",
        "unit.dropped",
        "unit.shed",
        "engine.failed",
        "session.failed",
        "session.not_prepared",
    ):
        assert house.events(lost) == []
    indices = [unit["index"] for unit in house.events("unit.decided")]
    assert all(after == before + 1 for before, after in pairwise(indices))
    rotations = house.events("session.rotated")
    assert len(rotations) >= 3
    assert all(rotation["was_ready"] for rotation in rotations)
    assert all(rotation["tokens"] <= CONTEXT for rotation in rotations)
    traced = [set(margin) for margin in margins(house)]
    assert traced[0] == {kettle}
    assert traced[-1] == {kettle, doorbell}, "the session of the second task took over in between"
    assert house.events("task.left_out") == []

    shown = await asyncio.to_thread(house.ask, "task", "show", kettle)
    assert added["plan"]["means"] == shown["plan"]["means"] == ["model"]
    committed = {event["alert_id"] for event in house.events("alert.queued")}  # random words are hardly ever about it
    await subscriber.until(lambda: committed <= {each.json["alert_id"] for each in subscriber.on(TOPICS.alert)})
    await subscriber.until(lambda: any(each.json["model"] == "ready" for each in subscriber.on(TOPICS.hub_state)))
    state = subscriber.on(TOPICS.hub_state)[-1].json
    assert (state["engine"], state["tasks_active"], state["units_missed"]) == ("minicpm-o", 2, 0)
    assert await asyncio.to_thread(house.stop) == 0
    await subscriber.until(lambda: subscriber.on(TOPICS.availability)[-1].payload == b"offline")


# --- clips ---


def a_clip(path: Path, seconds: float) -> Path:
    """A picture that changes all the time, and beeps."""
    return write_clip(path, seconds=seconds, paint=lambda at_s: 60 + int(at_s * 10) * 37 % 120)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """The settings of a house whose only feed is a clip of so many seconds."""

    def made(seconds: float, *, tables: str) -> Settings:
        clip = a_clip(tmp_path / "clip.mp4", seconds)
        folders = f'[house]\nzone = "UTC"\nstate_dir = "{tmp_path}/state"\n[models]\nfolder = "{tmp_path}/none"\n'
        config = tmp_path / "config.toml"
        config.write_text(folders + feed(clip) + tables, "utf-8")
        return read_settings(config, environment={"HOME": str(tmp_path)})

    return made


def traced(settings: Settings, clip: Path) -> list[tuple[Any, ...]]:
    """What a replay decided in each second."""
    document = app.replay(settings, clip, tasks=[KETTLE, DOORBELL], keeps_trace=True)
    assert (document["engine"], document["warnings"], document["units"]["missed"]) == ("minicpm-o", [], 0)
    assert [task["means"] for task in document["tasks"]] == [["model"], ["model"]]
    return [(unit["index"], unit["spoke"], unit["margins"]) for unit in document["trace"]]


def test_two_replays_of_a_clip_decide_every_second_alike_though_memories_are_replaced(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    house = settings(12, tables=model(context_tokens=1000))

    first, second = (traced(house, tmp_path / "clip.mp4") for _ in range(2))

    assert first == second
    assert len(first) == 12
    assert all(set(margins) == {"t1", "t2"} for _, _, margins in first)
    wishes = {margins["t1"] >= 0 for _, _, margins in first}
    assert wishes == {True, False}, "in some seconds it wants to speak, and its words are read"


def test_a_replay_says_that_another_engine_watched_and_why(
    settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(2, tables=model(tmp_path / "nowhere").replace("minicpm-o", "auto"))
    command = ["replay", str(tmp_path / "clip.mp4"), "--task", KETTLE, "--config", str(tmp_path / "config.toml")]

    assert run_command(command) == 0
    assert f"MiniCPM-o cannot be used: '{tmp_path}/nowhere' is no folder" in " ".join(capsys.readouterr().out.split())
    assert run_command([*command, "--engine", "minicpm-o"]) == 1
    assert capsys.readouterr().err.startswith(f"error: '{tmp_path}/nowhere' is no folder")


# --- what breaks ---


def test_a_device_that_runs_out_of_memory_costs_the_seconds_it_happens_in_and_nothing_else(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = Language.forward, iter(range(1_000))

    def short(self: Language, *given: Any, **how: Any) -> Any:
        if next(calls) in (3, 4):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, *given, **how)

    house = settings(5, tables=model())
    with open_house(tmp_path / "config.toml") as kept:
        task = kept.add_task(KETTLE)
    observer = FakeObserver()
    monkeypatch.setattr(Language, "forward", short)

    app.run_daemon(house, [observer])

    restarts = observer.named("engine.restarted")
    assert len(restarts) == 2
    assert all("ran out of memory" in restart["why"] for restart in restarts)
    decided = observer.named("unit.decided")
    seconds = [unit["index"] for unit in decided]
    assert seconds[0] == 0
    assert seconds[1:] == list(range(3, 3 + len(seconds[1:])))
    assert len(seconds) > 1
    assert all(set(unit["margins"]) == {task.id} for unit in decided), "each new session knows the task"
    with open_house(tmp_path / "config.toml") as kept:
        assert [each.state for each in kept.tasks()] == [TaskState.ARMED]


HANGING = """
import threading
from omni_watch.cli import main
from omni_watch.duplex.minicpmo.language import Language
Language.forward = lambda *_given, **_how: threading.Event().wait()
main()
"""


def without_numbers(folder: Path) -> Path:
    """A checkpoint whose last norm was damaged: it loads, and computes nothing."""
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.npz", "expected_*"))
    weights = load_file(folder / "model.safetensors")
    weights["llm.model.norm.weight"][7] = torch.nan
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.models
async def test_weights_that_are_no_numbers_and_a_step_that_hangs_end_the_process_and_keep_every_task(
    make_house: Callable[..., HouseProcess], tmp_path: Path
) -> None:
    clip = a_clip(tmp_path / "clip.mp4", 30)
    spoilt = make_house(feed(clip) + model(without_numbers(tmp_path / "spoilt")))
    hanging = make_house(feed(clip) + model(step_limit_s=1))
    hanging.program = (sys.executable, "-c", HANGING)
    for house in (spoilt, hanging):  # side by side: both only wait
        add_kettle(house)
        house.start()

    assert [await house.until_ended() for house in (hanging, spoilt)] == [1, 1], "the service manager starts it anew"

    assert len(spoilt.events("engine.failed")) == 5
    assert len(spoilt.events("engine.restarted")) == 4
    assert all("are not finite" in event["why"] for event in spoilt.events("engine.failed"))
    assert "did not answer within 1 s" in hanging.events("engine.failed")[0]["why"]
    assert hanging.events("engine.restarted") == []
    for house in (spoilt, hanging):
        assert house.events("unit.decided") == []
        assert "Traceback" not in house.log_path.read_text()
        with open_house(house.config) as kept:
            assert [(task.text, task.state) for task in kept.tasks()] == [(KETTLE, TaskState.ARMED)]


@pytest.mark.models
async def test_a_hub_that_cannot_be_reached_is_told_at_once_and_the_house_is_watched_without_it(
    make_house: Callable[..., HouseProcess], tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    named = f'[model]\npath = "openbmb/MiniCPM-o-4_5"\nrevision = "{commit}"\n[voice]\noutput = "off"\n'
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    house = make_house(feed(a_clip(tmp_path / "clip.mp4", 2)) + named, **away)
    house.start()

    assert await house.until_ended() == 0

    assert [event["engine"] for event in house.events("engine.chosen")] == ["minicpm-o", "embedded"]
    why = house.events("engine.chosen")[-1]["why"]
    assert f"openbmb/MiniCPM-o-4_5 at {commit} cannot be fetched: " in why
    assert "\n" not in why
    assert house.events("ready")
    log = house.log_path.read_text()
    assert "Traceback" not in log
    assert "Retrying" not in log, "one question is enough"
