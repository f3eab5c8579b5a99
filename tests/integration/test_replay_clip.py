"""`omni-watch replay` on the shipped clip, as scripts use it; and what it says of clips and teaching that are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omni_watch.app.demo import CLIP, TASK, TEACHING
from tests.fakes.clips import write_clip

pytestmark = pytest.mark.models

PROGRAM = Path(sys.executable).with_name("omni-watch")
KEYS = {"clip", "duration_s", "engine", "tasks", "alerts", "units", "wall_s", "rss_mb_peak"}
TASK_KEYS = {"id", "text", "means", "set_by", "set_at_s", "state"}
ALERT_KEYS = {"id", "task_id", "task", "stream_s", "text", "confidence", "means"}


def run(*words: object, cabinet: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "OMNI_WATCH_MODELS": str(cabinet)}
    command = [str(PROGRAM), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def replay(*words: object, cabinet: Path) -> dict[str, Any]:
    done = run("replay", *words, "--json", cabinet=cabinet)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_taught_kettle_is_told_once_at_the_right_second_and_the_same_each_time(cabinet_dir: Path) -> None:
    first, second = (replay(CLIP, "--task", TASK, "--teach", TEACHING, cabinet=cabinet_dir) for _ in range(2))
    (alert,) = first["alerts"]
    assert 25.5 <= alert["stream_s"] <= 30
    assert alert["text"] == "The kettle is full."
    assert first["alerts"] == second["alerts"]
    assert (first["units"]["count"], first["units"]["missed"]) == (40, 0)
    assert first.keys() >= KEYS
    assert first["tasks"][0].keys() >= TASK_KEYS
    assert alert.keys() >= ALERT_KEYS
    assert first["tasks"][0]["state"] == "done"


def test_what_was_taught_in_one_language_serves_the_same_request_in_the_other(cabinet_dir: Path) -> None:
    document = replay(CLIP, "--task", "水满了提醒我", "--teach", TEACHING, cabinet=cabinet_dir)
    (alert,) = document["alerts"]
    assert 25.5 <= alert["stream_s"] <= 30
    assert alert["text"] == "水满了"


def test_a_task_that_nothing_was_shown_for_asks_to_be_shown_and_tells_nothing(cabinet_dir: Path) -> None:
    document = replay(CLIP, "--task", "水满了提醒我", cabinet=cabinet_dir)
    assert document["alerts"] == []
    assert document["tasks"][0]["means"] == []
    assert "给我看看" in document["tasks"][0]["ask"]


def test_several_tasks_are_watched_at_once_and_a_dog_that_barks_once_is_told_once(cabinet_dir: Path) -> None:
    words = ["--task", TASK, "--task", "tell me when the doorbell rings", "--teach", TEACHING]
    document = replay(CLIP, *words, cabinet=cabinet_dir)
    assert [task["id"] for task in document["tasks"]] == ["t1", "t2"]
    assert {alert["task_id"] for alert in document["alerts"]} == {"t1"}


@pytest.mark.parametrize(
    ("teaching", "said"),
    [
        ("{", "this is not JSON"),
        ('{"version": 2, "takes": {}}', "version"),
        ('{"version": 1, "takes": {"a": {"file": "x.mp4", "for_task": "t", "not_yet_at": [1]}}}', "not_yet_at_s"),
        ('{"version": 1, "takes": {"a": {"file": "x.mp4"}}}', "takes.a.for_task: missing"),
        ('{"version": 1, "takes": {"a": {"file": "x.mp4", "for_task": "FOR", "done_at_s": [1]}}}', "no such file"),
        (
            '{"version": 1, "takes": {"a": {"file": "CLIP", "for_task": "FOR", "region": [0, 0, 3, 1]}}}',
            "region 0,0,3,1",
        ),
        ('{"version": 1, "takes": {"a": {"file": "CLIP", "for_task": "FOR", "done_at_s": [99]}}}', "99"),
    ],
)
def test_a_teach_file_that_cannot_be_used_says_what_is_wrong_without_a_traceback(
    teaching: str, said: str, tmp_path: Path, cabinet_dir: Path
) -> None:
    path = tmp_path / "teach.json"
    path.write_text(teaching.replace("CLIP", str(CLIP)).replace("FOR", TASK), "utf-8")
    done = run("replay", CLIP, "--task", TASK, "--teach", path, cabinet=cabinet_dir)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_clip_that_is_none_is_named_and_one_without_sound_is_watched_all_the_same(
    tmp_path: Path, cabinet_dir: Path
) -> None:
    (tmp_path / "empty.mp4").touch()
    for clip in (tmp_path / "empty.mp4", tmp_path / "missing.mp4", tmp_path):
        done = run("replay", clip, "--task", TASK, cabinet=cabinet_dir)
        assert done.returncode == 1
        assert str(clip) in done.stderr
        assert "Traceback" not in done.stderr
    silent = write_clip(tmp_path / "silent.mp4", seconds=4, tone=None)
    document = replay(silent, "--task", "tell me when the doorbell rings", cabinet=cabinet_dir)
    assert (document["units"]["count"], document["alerts"]) == (4, [])


def test_the_demo_tells_in_words_over_mqtt_and_aloud(tmp_path: Path, cabinet_dir: Path) -> None:
    done = run("demo", "--folder", tmp_path / "demo", cabinet=cabinet_dir)
    assert done.returncode == 0, done.stderr
    assert "The kettle is full." in done.stdout
    assert '"event_type": "alert"' in " ".join(done.stdout.split())
    (wav,) = (tmp_path / "demo").glob("*.wav")
    assert wav.stat().st_size > 10_000
    assert len(list((tmp_path / "demo").glob("*.jpg"))) == 2
