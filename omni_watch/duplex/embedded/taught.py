"""States a person has shown: "not yet looks like this, done looks like that".

Two judges look at the marked region. The first compares it cell by cell with both shown looks (`likeness.py`): precise
under other light and after a nudge of the camera, and it notices what stands in the way. The second is a small
logistic head on picture features, fitted from the shown pictures and random variants of them: it knows what things
look like rather than where every pixel is. The first decides; the second may object, and stands in for the first
where the place has changed so much that nothing is where it was.

Measured on rendered places under other light (balanced per clip, 38 lessons): cells alone 75 of 76 clips right, the
head alone 65 of 76; its scores keep their order but not their scale when light changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import ModelError
from omni_watch.domain.regions import Region
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.domain.units import Frame, Unit
from omni_watch.duplex.embedded.eyes import Eyes, Picture, PictureFeatures, Vector, crop, decode_jpeg
from omni_watch.duplex.embedded.likeness import Cells, Contrast, Likeness, compare, contrast
from omni_watch.duplex.embedded.registration import Follower
from omni_watch.duplex.embedded.watcher import Evidence, Heard
from omni_watch.watch.deciding import GateSettings

CELLS: Final = Cells(high=3.0, wide=3.0, most_rows=48, most_columns=48)
VARIANTS: Final = 5  # of each shown picture
SEED: Final = 20_240_229  # any fixed number: the same lesson always gives the same head
PENALTY: Final = 0.1  # on the head's weights; 0.02 to 1 judge alike
TRUSTED_OFF: Final = 0.5  # of the deciding cells may be foreign; half a door may be hidden by whoever waits there
OBJECTION: Final = 0.05  # a head this sure of "not yet" is believed against the cells
STRANGE_S: Final = 10.0  # nothing was where it should be for so long: the place has changed, the head stands in
NEARLY_ALL: Final = 0.9  # of what can be judged must look done where things fill slowly; 0.6 does for doors and lamps
SURE: Final = 0.8  # what the head must give when it stands in: its scale is not to be trusted further


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A logistic boundary between two states."""

    weights: Vector  # [6400]
    bias: float

    def score(self, features: Vector) -> float:
        """0 looks like "not yet", 1 like "done"."""
        return float(1 / (1 + np.exp(-np.clip(features @ self.weights + self.bias, -30, 30))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaughtState:
    """What a lesson says of two states."""

    region: Region | None
    looks: Contrast | None  # None: the two differ nowhere by more than noise, only the head can tell
    head: Head


def fit_head(features: Vector, is_done: NDArray[np.bool_]) -> Head:
    """The head of shown pictures [n, d], both classes weighing the same however many were shown.

    Newton's method in the span of the examples: n is some dozens, d some thousands.
    """
    count = len(features)
    balance = np.where(is_done, 0.5 / is_done.mean(), 0.5 / (~is_done).mean())
    gram = (features @ features.T).astype(np.float64)
    basis = np.concatenate([gram, np.ones((count, 1))], axis=1)
    pull = np.zeros((count + 1, count + 1))
    pull[:count, :count] = PENALTY * gram
    solution = np.zeros(count + 1)
    for _ in range(12):
        p = 1 / (1 + np.exp(-np.clip(basis @ solution, -30, 30)))
        slope = basis.T @ (balance * (p - is_done)) + pull @ solution
        bend = (basis * (balance * p * (1 - p))[:, None]).T @ basis + pull + 1e-6 * np.eye(count + 1)
        solution -= np.linalg.solve(bend, slope)
    return Head(weights=(solution[:count] @ features).astype(np.float32), bias=float(solution[count]))


def variants(picture: Picture, region: Region | None, rng: np.random.Generator) -> list[Picture]:
    """The region as shown and `VARIANTS` times as another camera, hour or nudge might show it."""
    return [crop(picture, region), *(_variant(picture, region, rng) for _ in range(VARIANTS))]


def _variant(picture: Picture, region: Region | None, rng: np.random.Generator) -> Picture:
    move = rng.uniform(-5, 5, 2) * picture.shape[1] / 640
    moved = cv2.warpAffine(
        picture, np.array([[1, 0, move[0]], [0, 1, move[1]]]), picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
    )
    part = crop(np.asarray(moved, np.uint8), region).astype(np.float32)
    light, tint = rng.uniform(0.7, 1.25), rng.uniform(0.94, 1.06, 3)
    noise = rng.standard_normal(part.shape, np.float32) * rng.uniform(0, 9)
    return np.clip(part * (light * tint).astype(np.float32) + noise, 0, 255).astype(np.uint8)


def fit(lesson: Lesson, features: PictureFeatures) -> TaughtState:
    """What the lesson's "not yet" and "done" teach; a second or two, so never on the path of the watching.

    Raises:
        ModelError: one of the two was not shown, or a kept picture cannot be decoded.
    """
    shown = {
        label: [decode_jpeg(example.jpeg, f"example {example.id}") for example in lesson.labelled(label)]
        for label in (Label.NOT_YET, Label.DONE)
    }
    for label, pictures in shown.items():
        if not pictures:
            raise ModelError(f"task {lesson.task_id}: no example of {label.value!r}; both states must be shown")
    rng = np.random.default_rng(SEED)
    crops = [(part, label) for label, ps in shown.items() for p in ps for part in variants(p, lesson.region, rng)]
    is_done = np.array([label is Label.DONE for _, label in crops])
    looks = contrast(shown[Label.NOT_YET], shown[Label.DONE], lesson.region, CELLS)
    return TaughtState(
        region=lesson.region,
        looks=looks if looks.is_clear else None,
        head=fit_head(features.of([part for part, _ in crops]), is_done),
    )


class TaughtWatcher:
    """Watches for one shown state. Keeps only for how long the place has been unrecognisable."""

    means = Means.TAUGHT

    def __init__(self, taught: TaughtState, eyes: Eyes, camera: Follower, *, fills_slowly: bool = False) -> None:
        self.gate = GateSettings(on=NEARLY_ALL) if fills_slowly else GateSettings()
        self._taught = taught
        self._eyes = eyes
        self._camera = camera
        self._strange_s = 0.0

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        """Which state the unit's frame shows; no score while something is in the way. Model thread only."""
        frame = unit.frame
        if frame is None:
            return Evidence(score=None)
        head = self._head(frame)
        if self._taught.looks is None:
            return self._evidence(head, frame, f"head {head:.2f}")
        done, off = state(self._taught.looks, compare(self._taught.looks, frame.rgb, self._camera.step(frame.rgb)))
        detail = f"done {done:.2f} off {off:.2f} head {head:.2f}"
        self._strange_s = self._strange_s + 1.0 if off > TRUSTED_OFF else 0.0
        if off <= TRUSTED_OFF:
            return self._evidence(min(done, 0.5) if head < OBJECTION else done, frame, detail)
        if self._strange_s < STRANGE_S:
            return Evidence(score=None, detail=f"{detail}, something is in the way")
        return self._evidence(head if not 1 - SURE < head < SURE else 0.5, frame, f"{detail}, the place looks strange")

    def _head(self, frame: Frame) -> float:
        region = self._taught.region
        here = self._camera.step(frame.rgb).of(region) if region is not None else None
        return self._taught.head.score(self._eyes.features_of(frame, here))

    def _evidence(self, score: float, frame: Frame, detail: str) -> Evidence:
        return Evidence(score=score, condition_at_s=frame.at_s if score >= self.gate.on else None, detail=detail)


def state(looks: Contrast, found: Likeness) -> tuple[float, float]:
    """(how much of what can be judged looks done, how much cannot be judged), both 0..1 of the deciding cells."""
    known = np.where(found.foreign, 0.0, looks.weight) + 1e-9
    done = float(known[found.after > 0.5].sum() / known.sum())
    return done, float(looks.weight[found.foreign].sum() / looks.weight.sum())
