"""`omni-watch replay --listen`: what people ask for in a clip is done, at the second at which a house would do it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from tests.fakes import synthetic_sounds as sounds
from tests.fakes.clips import write_clip
from tests.fakes.spoken import espeak, in_a_room, piper, recorded

pytestmark = pytest.mark.models

Floats = NDArray[np.float32]
RATE: Final = 16_000
PROGRAM: Final = Path(sys.executable).with_name("omni-watch")
SAID_AT_S: Final = 1.0
RINGS_AT_S: Final = 12.0
LENGTH_S: Final = 20.0


def run(*words: object, cabinet: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HOME": "/nonexistent", "OMNI_WATCH_MODELS": str(cabinet)}
    command = [str(PROGRAM), "replay", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def replayed(clip: Path, *words: object, cabinet: Path) -> dict[str, Any]:
    done = run(clip, "--listen", *words, "--json", cabinet=cabinet)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def written(path: Path, said: Sequence[tuple[float, Floats]], *, length_s: float = LENGTH_S, seed: int = 5) -> Path:
    """A clip of a quiet room in which these are heard at their seconds."""
    rng = np.random.default_rng(seed)
    whole = sounds.room_noise(length_s, 0.002, rng)
    for at_s, sound in said:
        whole = sounds.mixed(whole, sound, at_s)
    at = np.arange(len(whole)) / RATE
    return write_clip(
        path, seconds=length_s, size=(32, 24), fps=2, paint=lambda _at_s: 90, tone=lambda t: np.interp(t, at, whole)
    )


def spoken(speech: Floats, seed: int = 1) -> Floats:
    return in_a_room(speech, np.random.default_rng(seed), level=0.08, noise=0.0)


def beeping() -> Floats:
    """The end of a microwave."""
    return sounds.at_level(sounds.row(2000, 0.5, 0.5, 3, square=True), -20.0)


def ringing() -> Floats:
    return sounds.at_level(sounds.telephone_bell(3, np.random.default_rng(3)), -20.0)


def speeches(cabinet: Cabinet) -> dict[str, tuple[Floats, str, str, Floats]]:
    """By name: what is said, the rule it is about, what will be told, and what then happens."""
    joe = cabinet.path("voice-en")
    return {
        "a natural voice": (
            piper("Could you let me know once the microwave has finished?", joe),
            "microwave_done",
            "The microwave is done.",
            beeping(),
        ),
        "a machine's voice": (
            espeak("Tell me when the phone rings.", "en-gb"),
            "phone",
            "The phone is ringing.",
            ringing(),
        ),
        "Mandarin": (recorded("microwave"), "microwave_done", "微波炉好了", beeping()),
    }


@pytest.mark.parametrize("who", ["a natural voice", "a machine's voice", "Mandarin"])
def test_what_is_asked_for_aloud_is_watched_for_from_then_on(who: str, tmp_path: Path, cabinet: Cabinet) -> None:
    speech, rule, told, sound = speeches(cabinet)[who]
    clip = written(tmp_path / "clip.mkv", [(SAID_AT_S, spoken(speech)), (RINGS_AT_S, sound)])
    document = replayed(clip, cabinet=cabinet.folder)
    (command,) = document["commands"]
    ended_s = SAID_AT_S + len(speech) / RATE
    assert ended_s - 0.7 <= command["ended_s"] <= ended_s + 0.3
    assert command["ended_s"] + 1.0 <= command["stream_s"] <= ended_s + 4.0
    assert (command["op"], command["task_id"]) == ("add", "t1")
    assert command["language"] == ("zh" if who == "Mandarin" else "en")
    (task,) = document["tasks"]
    assert (task["rule"], task["set_by"], task["id"]) == (rule, "voice", "t1")
    assert task["set_at_s"] == command["ended_s"]
    (alert,) = document["alerts"]
    assert alert["text"] == told
    assert RINGS_AT_S <= alert["stream_s"] <= RINGS_AT_S + 5


def test_two_replays_of_what_was_said_tell_the_same(tmp_path: Path, cabinet: Cabinet) -> None:
    speech, _, _, sound = speeches(cabinet)["Mandarin"]
    clip = written(tmp_path / "clip.mkv", [(SAID_AT_S, spoken(speech)), (RINGS_AT_S, sound)])
    first, second = (replayed(clip, cabinet=cabinet.folder) for _ in range(2))
    assert first["commands"] == second["commands"]
    assert first["alerts"] == second["alerts"]
    assert first["tasks"] == second["tasks"]


def test_talk_that_asks_the_house_for_nothing_does_nothing(tmp_path: Path, cabinet: Cabinet) -> None:
    joe = cabinet.path("voice-en")
    talk = [
        piper("The neighbours' dog was barking again last night.", joe),
        espeak("Did you put the kettle on?", "en-gb"),
        espeak("Tell me, how was your day?", "en-us"),
        recorded("watching"),
    ]
    at_s = [1.0 + 5.0 * number for number in range(len(talk))]
    clip = written(tmp_path / "clip.mkv", [(at, spoken(speech)) for at, speech in zip(at_s, talk, strict=True)])
    document = replayed(clip, cabinet=cabinet.folder)
    assert [command["op"] for command in document["commands"]] == ["list"], "the last one asks what is watched for"
    assert document["tasks"] == []
    assert document["alerts"] == []


def test_tasks_that_were_typed_can_be_spoken_about(tmp_path: Path, cabinet: Cabinet) -> None:
    speech = piper("Stop watching the microwave.", cabinet.path("voice-en"))
    clip = written(tmp_path / "clip.mkv", [(SAID_AT_S, spoken(speech)), (RINGS_AT_S, beeping())])
    typed = ("--task", "tell me when the microwave is done")
    kept = run(clip, *typed, "--json", cabinet=cabinet.folder)
    assert [alert["task_id"] for alert in json.loads(kept.stdout)["alerts"]] == ["t1"], kept.stderr
    document = replayed(clip, *typed, cabinet=cabinet.folder)
    assert [(command["op"], command["task_id"]) for command in document["commands"]] == [("cancel", "t1")]
    assert [(task["set_by"], task["state"]) for task in document["tasks"]] == [("replay", "cancelled")]
    assert document["alerts"] == []


def test_a_person_reads_what_was_heard_answered_and_told_in_the_order_of_time(tmp_path: Path, cabinet: Cabinet) -> None:
    speech, _, told, sound = speeches(cabinet)["a machine's voice"]
    clip = written(tmp_path / "clip.mkv", [(SAID_AT_S, spoken(speech)), (RINGS_AT_S, sound)])
    done = run(clip, "--listen", cabinet=cabinet.folder)
    assert done.returncode == 0, done.stderr
    places = [done.stdout.find(words) for words in ("when the phone rings", "Okay. I'll tell you", told)]
    assert -1 < places[0] < places[1] < places[2], done.stdout


def test_a_clip_without_sound_and_a_house_without_models_for_words_are_told(tmp_path: Path, cabinet: Cabinet) -> None:
    silent = write_clip(tmp_path / "silent.mp4", seconds=3, tone=None)
    done = run(silent, "--listen", cabinet=cabinet.folder)
    assert done.returncode != 0
    assert "has no sound, so nothing can be heard in it" in done.stderr
    clip = write_clip(tmp_path / "clip.mp4", seconds=3)
    done = run(clip, "--listen", cabinet=tmp_path / "empty")
    assert done.returncode != 0
    assert "omni-watch models pull" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
