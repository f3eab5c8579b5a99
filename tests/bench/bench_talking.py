"""A person asks in a room, the real daemon answers aloud: how soon, at what cost, and whether it goes on watching."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings
from tests.bench.report import Report
from tests.fakes.spoken import in_a_room, piper, recorded
from tests.fixtures_pulse import RATE_HZ, Room, built_room

Floats = NDArray[np.float32]
OMNI_WATCH: Final = str(Path(sys.executable).with_name("omni-watch"))
FRAME: Final = RATE_HZ // 50  # 20 ms
LOUD: Final = 0.02  # of a frame; the room's noise is a tenth of it
GAP_S: Final = 0.25  # the answer never begins sooner
LIMIT_S: Final = 30.0
PROGRAMS: Final[Mapping[str, str]] = {  # by what their command holds
    "omni_watch.alerts.player": "the player of a sound",
    "embedded.voices": "Kokoro",
    "embedded.words": "the ears for words",
    "/piper": "Piper",
    "espeak-ng": "espeak-ng",
    "omni-watch run": "the daemon",
}
SENTENCES: Final = (
    "Tell me when the kettle is full.",
    "Let me know when the elevator arrives.",
    "Tell me every time the dog barks.",
    "What are you watching for?",
    "Stop watching the kettle.",
    "Tell me when the microwave is done.",
    "Remind me to call mum in twenty minutes.",
    "Did anything happen?",
    "Tell me if the smoke alarm goes off.",
    "Stop watching the elevator.",
    "Let me know when somebody knocks.",
    "Pause the microwave.",
)
MANDARIN: Final = ("elevator", "microwave", "baby", "knock", "watching")


def bench(report: Report) -> None:
    """Each sentence once, in one house; then the same with what it has in its cache."""
    cabinet = Cabinet(read_settings().models_dir)
    rng = np.random.default_rng(11)
    asked = {"en": [piper(each, cabinet.path("voice-en")) for each in SENTENCES]}
    asked["zh"] = [recorded(name) for name in MANDARIN]
    report.note(f"{len(SENTENCES)} English sentences, spoken by Piper; {len(MANDARIN)} Mandarin ones, by Kokoro")
    with tempfile.TemporaryDirectory() as folder, built_room() as room:
        house = _House(Path(folder), room)
        with house.running():
            house.until(lambda: bool(house.events("words.ready")))
            understood = 0
            for language, sounds in asked.items():
                delays = [house.ask(in_a_room(sound, rng)) for sound in sounds]
                answered = [delay for delay in delays if delay is not None]
                for heard in house.not_understood():
                    report.note(f"{language}: not taken as a request: {heard}")
                report.measured(f"{language}: sentences that were answered", len(answered) / len(delays), "share")
                for percent, limit in ((50, 2.0), (95, 3.5)):
                    what = f"{language}: end of the sentence to the answer, p{percent}"
                    report.measured(what, float(np.percentile(answered, percent)), "s", at_most=limit)
                after = [event["after_s"] for event in house.events("words.understood")[understood:]]
                understood += len(after)
                what = f"{language}: end of the sentence to what it asks for, p50"
                report.measured(what, float(np.percentile(after, 50)), "s")
            report.measured("most memory, all programs together", house.most_mb, "MB", at_most=1200)
            for program, most_mb in sorted(house.most_mb_of.items()):
                report.measured(f"  the most of {program}", most_mb, "MB")
            report.note("memory is PSS: a page that programs share is counted once, in equal parts")
            missed = len(house.events("unit.skipped")) + len(house.events("unit.dropped"))
            report.measured("units missed", missed, "", at_most=0)


class _House:
    """A daemon that hears and speaks in the room."""

    def __init__(self, folder: Path, room: Room) -> None:
        self._room = room
        self._log = folder / "log"
        self._config = folder / "config.toml"
        self._config.write_text(
            f'[house]\ninstance = "bench"\nstate_dir = "{folder / "state"}"\n'
            '[[feeds]]\nname = "kitchen"\naudio = "mic"\n[ears]\nkeep_heard = true\n[log]\nlevel = "debug"\n'
        )
        self._heard = folder / "state" / "heard.jsonl"
        self._looked_at = 0  # lines of it
        self.most_mb = 0.0
        self.most_mb_of: dict[str, float] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        command = [OMNI_WATCH, "run", "--config", str(self._config), "--json"]
        environment = {**os.environ, **self._room.environment}
        with self._log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process:
            over = threading.Event()
            watcher = threading.Thread(target=self._weigh, args=(process.pid, over))
            watcher.start()
            try:
                yield
            finally:
                over.set()
                watcher.join()
                process.terminate()
                process.wait(15)

    def ask(self, speech: Floats) -> float | None:
        """Seconds from the end of the sentence to the first sound of the answer; None: there was none."""
        before = len(self.events("answer.spoken"))
        with self._room.record() as heard:
            self._room.play_samples(speech)
            is_answered = self.until(lambda: len(self.events("answer.spoken")) > before, LIMIT_S)
        if not is_answered:
            return None
        said_s = _last_loud_s(resampled_back(speech)) - _first_loud_s(resampled_back(speech))
        begins_s = _first_loud_s(heard.samples)
        ends_s = begins_s + said_s
        rest = heard.samples[round((ends_s + GAP_S) * RATE_HZ) :]
        return GAP_S + _first_loud_s(rest)

    def not_understood(self) -> list[str]:
        """What was heard since the last call and not taken, our own words among it."""
        lines = self._heard.read_text("utf-8").splitlines() if self._heard.exists() else []
        new, self._looked_at = lines[self._looked_at :], len(lines)
        return [line["heard"] for line in map(json.loads, new) if line["op"] is None]

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith('{"')]
        return [line for line in found if line.get("event") == name]

    def until(self, fact: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
        deadline_s = time.monotonic() + limit_s
        while not fact():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.05)
        return True

    def _weigh(self, pid: int, over: threading.Event) -> None:
        while not over.wait(0.2):
            total_mb = 0.0
            for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                try:
                    name, own_mb = _program(each.cmdline() or [each.name()]), each.memory_full_info().pss / 2**20
                except psutil.Error:  # it has just ended
                    continue
                self.most_mb_of[name] = max(self.most_mb_of.get(name, 0.0), own_mb)
                total_mb += own_mb
            self.most_mb = max(self.most_mb, total_mb)


def _program(command: Sequence[str]) -> str:
    """Which of ours it is."""
    words = " ".join(command)
    return next((name for mark, name in PROGRAMS.items() if mark in words), command[0])


def resampled_back(speech: Floats) -> Floats:
    """16 kHz as it is heard in the room's recording."""
    return np.repeat(speech, RATE_HZ // 16_000)


def _loud(samples: Floats) -> NDArray[np.intp]:
    """Indices of the loud frames of 20 ms."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return np.flatnonzero(np.sqrt((frames**2).mean(axis=1)) > LOUD)


def _first_loud_s(samples: Floats) -> float:
    return float(_loud(samples)[0] * FRAME / RATE_HZ)


def _last_loud_s(samples: Floats) -> float:
    return float((_loud(samples)[-1] + 1) * FRAME / RATE_HZ)
