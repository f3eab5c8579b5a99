"""Tiny rendered places for the eyes' tests: a jug, a door and a display, under any light and from a nudged camera.

Pictures are [90, 160, 3]; drawn from numbers alone, so that the tests need no files.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.regions import Region
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.units import Frame, Unit
from tests.fakes.values import an_example

Picture = NDArray[np.uint8]
Scene = NDArray[np.float32]  # before any camera; 0..255 and beyond

HIGH, WIDE = 90, 160
JUG = Region(0.35, 0.2, 0.3, 0.65)  # loosely around it, as a person draws
DOOR = Region(0.3, 0.15, 0.4, 0.75)
DISPLAY = Region(0.25, 0.25, 0.5, 0.5)
SEGMENTS = {"0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc", "5": "afgcd"}
SEGMENTS |= {"6": "afgedc", "7": "abc", "8": "abcdefg", "9": "abfgcd", "E": "afged", "n": "egc", "d": "bcdeg"}
STROKES = {"a": (0, 0, 1, 0), "b": (1, 0, 1, 1), "c": (1, 1, 1, 2), "d": (0, 2, 1, 2), "e": (0, 1, 0, 2)}
STROKES |= {"f": (0, 0, 0, 1), "g": (0, 1, 1, 1)}


def wall(seed: int = 3) -> Scene:
    """A plastered wall with a shelf: something for the eyes to hold on to."""
    rng = np.random.default_rng(seed)
    stains = cv2.resize(rng.normal(0, 18, (12, 20)).astype(np.float32), (WIDE, HIGH), interpolation=cv2.INTER_CUBIC)
    picture = np.full((HIGH, WIDE, 3), (150, 140, 120), np.float32) + stains[..., None]
    picture[12:20, 8:40] = (70, 50, 40)
    picture[78:] = (90, 70, 60)
    return picture


def jug(level: float, *, arm: bool = False) -> Scene:
    """A glass jug filled to `level` (0..1), perhaps with an arm across it."""
    picture = wall()
    top, bottom, left, right = 25, 75, 62, 98
    picture[top - 4 : bottom, left - 2 : left] = 60
    picture[top - 4 : bottom, right : right + 2] = 60
    surface = bottom - level * (bottom - top)
    share = np.clip(np.arange(HIGH) - surface + 0.5, 0, 1) * (np.arange(HIGH) < bottom)
    water = (share * 0.5)[:, None, None]
    inside = picture[:, left:right]
    picture[:, left:right] = inside * (1 - water) + np.array((90, 130, 170)) * water
    if arm:
        picture[20:80, 55:110] = (200, 140, 110)
    return picture


def door(opened: float, *, person: bool = False) -> Scene:
    """A double sliding door, `opened` 0..1, onto a bright cabin; perhaps with somebody right in front."""
    picture = wall()
    top, bottom, left, right = 18, 78, 52, 108
    picture[top:bottom, left:right] = (225, 215, 180)
    picture[48:52, left:right] = (90, 80, 70)
    leaf = round((1 - opened) * (right - left) / 2)
    picture[top:bottom, left : left + leaf] = (110, 115, 125)
    picture[top:bottom, right - leaf : right] = (110, 115, 125)
    if person:
        picture[15:78, 48:106] = (160, 30, 40)
    return picture


def display(text: str, colour: tuple[int, int, int] = (60, 240, 90)) -> Scene:
    """A dark display with a seven-segment text in the middle of the wall."""
    picture = wall()
    picture[22:68, 40:120] = 12
    x = 80 - sum(7 if letter == ":" else 17 for letter in text) / 2
    for letter in text:
        if letter == ":":
            for y in (39, 51):
                cv2.circle(picture, (round(x + 2), y), 2, colour, -1)
            x += 7
            continue
        for stroke in SEGMENTS[letter]:
            x0, y0, x1, y1 = (value * 11 for value in STROKES[stroke])
            cv2.line(picture, (round(x + x0), 34 + y0), (round(x + x1), 34 + y1), colour, 2)
        x += 17
    return picture


def shot(
    scene: Scene,
    *,
    light: float = 1.0,
    tint: Sequence[float] = (1.0, 1.0, 1.0),
    gamma: float = 1.0,
    nudge: tuple[float, float] = (0.0, 0.0),
    noise: float = 3.0,
    seed: int = 0,
) -> Picture:
    """What a camera makes of a scene."""
    moved = cv2.warpAffine(
        scene, np.array([[1, 0, nudge[0]], [0, 1, nudge[1]]]), (WIDE, HIGH), borderMode=cv2.BORDER_REFLECT
    )
    lit = 255 * np.clip(moved * np.array(tint, np.float32) * light / 255, 0, 1) ** gamma
    grain = np.random.default_rng(seed).normal(0, noise, scene.shape)
    return np.clip(cv2.GaussianBlur(lit, (0, 0), 0.6) + grain, 0, 255).astype(np.uint8)


def unit(picture: Picture | None, index: int = 0) -> Unit:
    """The second that ends with this picture."""
    frames = () if picture is None else (Frame(at_s=index + 0.95, rgb=picture),)
    return Unit(feed="kitchen", index=index, start_s=float(index), audio=np.zeros(16_000, np.float32), frames=frames)


def example(label: Label, picture: Picture, number: int = 0) -> Example:
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return an_example(f"{label.value}{number}", label, jpeg=jpeg)


def lesson(region: Region, shown: dict[Label, list[Picture]], display_region: Region | None = None) -> Lesson:
    examples = [example(label, picture, i) for label, pictures in shown.items() for i, picture in enumerate(pictures)]
    return Lesson(
        task_id="kettle01", feed="kitchen", region=region, display_region=display_region, examples=tuple(examples)
    )
