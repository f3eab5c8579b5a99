"""What a network camera costs beside the model, how prompt its units are, and how fast a clip can be walked through."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from omni_watch.sensing.opening import open_feed
from omni_watch.sensing.recording import Recording
from omni_watch.telemetry.clock import SystemClock
from tests.bench.report import Report
from tests.fakes.clips import write_clip
from tests.fakes.fake_observer import FakeObserver
from tests.fixtures_rtsp import RtspCamera

WATCHED_UNITS = 30
CLIP_S = 60.0
CAMERA = ("--size", "1280x720", "--fps", "15", "--kbps", "2000", "--sound", "aac")


def bench(report: Report) -> None:
    for what, options in (("quiet picture", ()), ("everything moves", ("--busy",))):
        report.note(f"RTSP over TCP, H.264 720p15 at most 2 Mbit/s and AAC 48 kHz stereo, {what}")
        camera = RtspCamera(*CAMERA, *options)
        try:
            asyncio.run(_watch(report, camera.url, what))
        finally:
            camera.kill()
    _walk(report)


async def _watch(report: Report, url: str, what: str) -> None:
    """Half a minute of a camera; the process does nothing else."""
    clock, process = SystemClock(), psutil.Process()
    feed = open_feed("camera", url, "stream", clock=clock, observer=FakeObserver())
    lags_s: list[float] = []
    wall_s = cpu_s = 0.0
    async for unit in feed.units():
        if unit.gaps:
            continue
        if not lags_s:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
        lags_s.append(clock.monotonic() - unit.end_s)
        if len(lags_s) > WATCHED_UNITS:
            break
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    await feed.close()
    report.measured(f"camera, {what}: processor", 100 * cpu_s / wall_s, "% core", at_most=12)
    report.measured(f"camera, {what}: unit after its end, median", 1000 * statistics.median(lags_s), "ms")
    report.measured(f"camera, {what}: unit after its end, latest", 1000 * max(lags_s), "ms")
    report.measured("memory of the process", process.memory_info().rss / 2**20, "MB")


def _tone(at_s: float) -> int:
    return int(at_s * 40) % 200


def _walk(report: Report) -> None:
    """A clip of a camera's size, unit by unit."""
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "clip.mp4", seconds=CLIP_S, fps=15, size=(1280, 720), paint=_tone)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        count = sum(1 for _ in Recording(clip, "clip").read())
        report.measured("clip 720p15: walked through", count / (time.perf_counter() - began_s), "x life", at_least=8)
        report.measured("clip 720p15: processor", 1000 * (time.process_time() - cpu_s) / count, "ms/unit")
