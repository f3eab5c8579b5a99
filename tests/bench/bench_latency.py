"""From the event in a stream to the MQTT message received, with the real daemon at the speed of life."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil

from tests.bench.report import Report
from tests.fakes import synthetic_sounds as sounds
from tests.fakes.clips import write_clip
from tests.fixtures_broker import Broker, Subscriber

OMNI_WATCH = str(Path(sys.executable).with_name("omni-watch"))
ROUNDS = 8
EVENT_S = 6.0  # when the third of four beeps begins is when "three beeps" has happened
BEEP_S, GAP_S = 0.25, 0.25


def bench(report: Report) -> None:
    """Eight rounds of a clip played at its own pace, at different offsets of the event within its second."""
    delays, first_decisions, memory = [], [], []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            started_s, decided_s, delay_s, rss_mb = asyncio.run(_round(Path(name), number / ROUNDS))
            delays.append(delay_s)
            first_decisions.append(decided_s - started_s)
            memory.append(rss_mb)
    report.note(f"{ROUNDS} rounds; the event is the beginning of the third beep")
    report.measured("daemon: start to first decision, median", float(np.median(first_decisions)), "s", at_most=8)
    report.measured("event to MQTT message received, p50", float(np.percentile(delays, 50)), "s", at_most=2.6)
    report.measured("event to MQTT message received, p90", float(np.percentile(delays, 90)), "s")
    report.measured("daemon with two feeds: peak memory", max(memory), "MB", at_most=700)


async def _round(folder: Path, offset_s: float) -> tuple[float, float, float, float]:
    clip = _clip(folder, EVENT_S + offset_s)
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    broker.start()
    subscriber = Subscriber(broker.port, "omni_watch/bench/#")
    config = _config(folder, clip, broker.port)
    _ask(config, "task", "add", "tell me when the microwave is done")
    log = folder / "log"
    try:
        with log.open("wb") as out, _daemon(config, out) as process:
            started_s = time.time()
            message = await subscriber.first_on("omni_watch/bench/alert", 60)
            received_s = time.time()
            rss_mb = psutil.Process(process.pid).memory_info().rss / 2**20
            assert message.json["text"]
    finally:
        subscriber.close()
        broker.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    ready_s = _when(lines, "ready")
    # the alert says when the first beep began, on the feed's timeline, to some 20 ms
    third_beep_s = datetime.fromisoformat(message.json["condition_at"]).timestamp() + 2 * (BEEP_S + GAP_S)
    return started_s, ready_s, received_s - third_beep_s, rss_mb


def _ask(config: str, *words: str) -> None:
    subprocess.run([OMNI_WATCH, *words, "--config", config], check=True, stdout=subprocess.DEVNULL)


def _when(lines: list[dict[str, object]], event: str, **fields: str) -> float:
    found = next(line for line in lines if line["event"] == event and all(line.get(k) == v for k, v in fields.items()))
    return datetime.fromisoformat(str(found["at"])).timestamp()


@contextlib.contextmanager
def _daemon(config: str, out: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [OMNI_WATCH, "run", "--config", config, "--json"]
    with subprocess.Popen(command, stdout=out, stderr=out, env=os.environ) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()
            process.wait(15)


def _clip(folder: Path, beeps_at_s: float) -> Path:
    rng = np.random.default_rng(round(beeps_at_s * 1000))
    beeps = sounds.at_level(sounds.row(rng.uniform(1500, 3000), BEEP_S, GAP_S, 4), -18)
    track = sounds.mixed(sounds.room_noise(14.0, 0.002, rng), beeps, beeps_at_s)
    return write_clip(
        folder / "clip.mp4",
        seconds=14.0,
        size=(640, 360),
        tone=lambda at: track[np.minimum((at * 16_000).astype(int), len(track) - 1)].astype(np.float64),
    )


def _config(folder: Path, clip: Path, port: int) -> str:
    feeds = "".join(
        f'[[feeds]]\nname = "{name}"\nvideo = "{clip}"\naudio = "stream"\n' for name in itertools.islice(("a", "b"), 2)
    )
    text = (
        f'[house]\ninstance = "bench"\nstate_dir = "{folder / "state"}"\n{feeds}'
        f'[mqtt]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\n[voice]\noutput = "off"\n'
    )
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)
