"""What a second costs the embedded engine, how fast a clip replays, how much memory the process takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.report import Report

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "omni_watch" / "data" / "demo"
TASK = "tell me when the kettle is full"


def bench(report: Report) -> None:
    """The shipped clip with its teaching and a display region, on one core."""
    document = _replayed(report)
    steps = document["units"]["step_ms"]
    report.measured("engine: step, sound + taught region + display, p50", steps["p50"], "ms")
    report.measured("engine: step, sound + taught region + display, p95", steps["p95"], "ms", at_most=120)
    report.measured("engine: longest step", steps["max"], "ms")
    walking_s = document["wall_s"]
    report.measured(
        "replay: whole run with start and teaching", document["duration_s"] / walking_s, "x life", at_least=8
    )
    report.measured("replay: peak memory", document["rss_mb_peak"], "MB", at_most=700)


def _replayed(report: Report) -> dict[str, Any]:
    """A replay in a process of its own that may use one core."""
    core = min(os.sched_getaffinity(0))
    command = [Path(sys.executable).with_name("omni-watch"), "replay", DEMO / "kettle_filling.mp4"]
    command += ["--task", TASK, "--teach", _teaching_with_display(), "--json"]
    ended = subprocess.run(
        ["taskset", "-c", str(core), *map(str, command)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    report.note(f"one core of {os.cpu_count()}, clip {DEMO.name}/kettle_filling.mp4, task {TASK!r}")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def _teaching_with_display() -> Path:
    """The shipped teaching, with some region read as a display on top, since the limit is for all three means."""
    teach = json.loads((DEMO / "teach.json").read_text("utf-8"))
    for take in teach["takes"].values():
        take["display_region"] = [0.7, 0.1, 0.2, 0.1]
        take["file"] = str(DEMO / take["file"])
    target = Path("/tmp") / f"omni-watch-bench-{os.getpid()}.json"  # noqa: S108
    target.write_text(json.dumps(teach), "utf-8")
    return target
