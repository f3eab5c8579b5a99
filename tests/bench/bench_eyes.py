"""What one second costs the eyes: a taught state, a level and a display, on pictures of a camera's size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import read_settings
from omni_watch.domain.rules import DisplayCue, Rule
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.duplex.embedded.eyes import Eyes
from omni_watch.duplex.embedded.sight import watchers_for
from tests.bench.report import Report
from tests.scenes import places

UNITS = 30
SIZE = (1280, 720)
TIMER = Rule(id="timer", phrases={}, names={}, message={}, ask={}, display=DisplayCue(texts=("End",), countdown=True))


def bench(report: Report) -> None:
    cabinet = Cabinet(read_settings().models_dir)
    eyes = Eyes(cabinet.find("efficientnet-lite0"), cabinet.find("ppocr-rec"))
    door = places.lesson(
        places.DOOR, {Label.NOT_YET: _large(places.door(0.0), 4), Label.DONE: _large(places.door(1.0), 3)}
    )
    jug = places.lesson(places.JUG, {Label.EMPTY: _large(places.jug(0.0), 3), Label.FULL: _large(places.jug(1.0), 3)})
    clock = places.lesson(places.DISPLAY, {}, places.DISPLAY)
    began = time.perf_counter()
    watchers_for(door, None, eyes)
    report.measured("fitting 7 shown pictures", time.perf_counter() - began, "s", at_most=8)
    _steps(report, "a taught state", eyes, door, lambda i: places.door(0.3 * (i % 3)), at_most=70)
    _steps(report, "a level", eyes, jug, lambda i: places.jug(i / UNITS), at_most=70)
    _steps(report, "a display", eyes, clock, lambda i: places.display(f"{i % 10}:{i % 6}7"), at_most=60)


def _large(scene: places.Scene, count: int) -> list[places.Picture]:
    shots = [places.shot(scene, seed=seed) for seed in range(count)]
    return [np.asarray(cv2.resize(shot, SIZE, interpolation=cv2.INTER_LINEAR), np.uint8) for shot in shots]


def _steps(
    report: Report, what: str, eyes: Eyes, lesson: Lesson, scene: Callable[[int], places.Scene], *, at_most: float
) -> None:
    (watcher,) = watchers_for(lesson, TIMER, eyes)
    units = [places.unit(_large(scene(i), 1)[0], i) for i in range(UNITS)]
    took = []
    for unit in units:
        began = time.perf_counter()
        watcher.step(unit, None)
        took.append((time.perf_counter() - began) * 1e3)
    report.measured(f"{what}, one second, median", statistics.median(took), "ms", at_most=at_most)
    report.measured(f"{what}, one second, p95", statistics.quantiles(took, n=20)[-1], "ms")
