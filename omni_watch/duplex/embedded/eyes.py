"""The models that look: picture features and a reader of displays, shared by every task of every feed.

Both are onnxruntime sessions on one thread each that never spin. What they mean for a task is decided elsewhere
(`taught.py`, `displays.py`); here there are only pictures in and numbers or text out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.domain.regions import Region
from omni_watch.domain.units import Frame

FEATURE_SIDE: Final = 224  # pixels; the input of `features.features_onnx`
FEATURE_SIZE: Final = 5 * 1280
FEATURE_BATCH: Final = 8  # pictures a run; more only costs memory on one thread
READER_HEIGHT: Final = 48  # pixels; what the PP-OCR recognition models take
READER_WIDEST: Final = 960
ENLARGE: Final = 3  # measured: small displays read best enlarged three times, cubic, before the model's own resize
LONE_WIDTH: Final = 1.0  # width over height below which a display can hold hardly more than one character
REMEMBERED_FRAMES: Final = 4

Picture = NDArray[np.uint8]  # [H, W, 3] RGB
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What the reader saw."""

    text: str
    confidence: float  # 0..1, mean over characters; 0 when nothing was read


def _open(path: Path, what: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle model must not eat a core
    options.log_severity_level = 3
    if not path.is_file():
        raise ModelError(f"{path}: {what} is not there; run `omni-watch models pull`")
    try:
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except _onnx_errors() as error:
        raise ModelError(f"{path}: {what} cannot be loaded ({error}); run `omni-watch models pull`") from error


def _onnx_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file that is no model, or a model that it cannot run."""
    state = ort.capi.onnxruntime_pybind11_state
    return (
        state.Fail,
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.InvalidArgument,
        state.NoSuchFile,
        RuntimeError,
    )


class PictureFeatures:
    """EfficientNet-Lite0 without its classifier. Any thread; runs are independent."""

    def __init__(self, path: Path) -> None:
        self._session = _open(path, "the picture network")

    def of(self, pictures: list[Picture]) -> Vector:
        """[n, 6400]: the mean embedding and four quarter means of each picture, each part of length one."""
        batches = [pictures[at : at + FEATURE_BATCH] for at in range(0, len(pictures), FEATURE_BATCH)]
        return np.concatenate([self._run(batch) for batch in batches])

    def _run(self, pictures: list[Picture]) -> Vector:
        inputs = np.stack([self._input(picture) for picture in pictures])
        mean, quarters = self._session.run(["mean", "quarters"], {"pictures": inputs})
        parts = np.concatenate([mean.reshape(-1, 1, 1280), quarters.reshape(-1, 1280, 4).swapaxes(1, 2)], axis=1)
        parts /= np.linalg.norm(parts, axis=2, keepdims=True) + 1e-6
        return np.asarray(parts.reshape(-1, FEATURE_SIZE), np.float32)

    @staticmethod
    def _input(picture: Picture) -> Vector:
        shrinks = max(picture.shape[:2]) > FEATURE_SIDE
        resized = cv2.resize(
            picture, (FEATURE_SIDE, FEATURE_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return ((resized.astype(np.float32) - 127.0) / 128.0).transpose(2, 0, 1)  # the scaling it was trained with


class DisplayReader:
    """A PP-OCR text recogniser on one line of text. Any thread; runs are independent."""

    def __init__(self, path: Path) -> None:
        self._session = _open(path, "the display reader")
        listed = self._session.get_modelmeta().custom_metadata_map.get("character")
        if not listed:
            raise ModelError(f"{path}: the display reader names no characters; run `omni-watch models pull`")
        characters = listed.split("\n")
        # class 0 is the blank of CTC; a blank space, which the list does not hold, comes last
        self._characters = ["", *characters, " "]
        self._input = self._session.get_inputs()[0].name

    def read(self, picture: Picture) -> Text:
        """The one line of text in a picture of a display."""
        lit = trimmed(picture)
        large = np.asarray(cv2.resize(lit, None, fx=ENLARGE, fy=ENLARGE, interpolation=cv2.INTER_CUBIC), np.uint8)
        height, width = large.shape[:2]
        if width >= LONE_WIDTH * height:
            return self._line(large)
        # the model was trained on lines: a lone digit is read reliably only as three of them (18/37 -> 25/25)
        tripled = self._line(np.asarray(np.concatenate([large] * 3, axis=1), np.uint8))
        return Text(text=_one_of_three(tripled.text), confidence=tripled.confidence)

    def _line(self, picture: Picture) -> Text:
        height, width = picture.shape[:2]
        wide = int(np.clip(round(READER_HEIGHT * width / height), READER_HEIGHT, READER_WIDEST))
        resized = cv2.resize(picture, (wide, READER_HEIGHT), interpolation=cv2.INTER_LINEAR)
        bgr = resized[..., ::-1].astype(np.float32) / 127.5 - 1.0  # the recogniser was trained on BGR
        (classes,) = self._session.run(None, {self._input: bgr.transpose(2, 0, 1)[None]})
        return decode(classes[0], self._characters)


def trimmed(picture: Picture) -> Picture:
    """The part of a display's picture that holds its characters, with a margin; all of it when that is unclear.

    What differs from the display's ground and does not touch the edge is taken for characters: a frame or a wall that
    a loosely drawn region includes does touch it.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (3, 3), 0)
    apart = cv2.absdiff(grey, np.full_like(grey, np.median(grey)))
    count, _, boxes, _ = cv2.connectedComponentsWithStats((apart > 0.4 * apart.max()).astype(np.uint8))
    height, width = grey.shape
    left, top, wide, high = (boxes[1:, column] for column in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, 2, 3))
    inner = (left > 0) & (top > 0) & (left + wide < width) & (top + high < height)
    if count < 2 or not inner.any() or (high[inner].max() < 0.25 * height):
        return picture
    margin = max(2, round(0.25 * float(high[inner].max())))
    first, last = (left[inner].min() - margin, (left + wide)[inner].max() + margin)
    upper, lower = (top[inner].min() - margin, (top + high)[inner].max() + margin)
    return picture[max(0, upper) : lower, max(0, first) : last]


def decode(classes: NDArray[np.floating[Any]], characters: list[str]) -> Text:
    """Greedy CTC: [T, C] probabilities -> text; repeats without a blank between them are one character."""
    best, sure = classes.argmax(axis=1), classes.max(axis=1)
    starts = np.flatnonzero((best != 0) & (best != np.concatenate([[0], best[:-1]])))
    text = "".join(characters[best[at]] for at in starts)
    return Text(text=text.strip(), confidence=float(sure[starts].mean()) if len(starts) else 0.0)


def _one_of_three(text: str) -> str:
    """The text that stands three times in `text`, else the character that most of it agrees on, else nothing."""
    packed = text.replace(" ", "")
    third = len(packed) // 3
    if third and packed == packed[:third] * 3:
        return packed[:third]
    if not packed:
        return ""
    likeliest = max(dict.fromkeys(packed), key=packed.count)
    return likeliest if packed.count(likeliest) * 2 > len(packed) else packed


class Eyes:
    """The looking abilities of this installation. None = its model file is not there. Thread-safe."""

    def __init__(self, features: Path | None, reader: Path | None) -> None:
        """Load what is given.

        Raises:
            ModelError: a given file is missing, damaged, or not the model it should be.
        """
        self.features = PictureFeatures(features) if features else None
        self.reader = DisplayReader(reader) if reader else None
        self._lock = Lock()
        # id(frame) -> (frame, features by region); the frame is kept so that its id cannot be given to another
        self._seen: OrderedDict[int, tuple[Frame, dict[Region | None, Vector]]] = OrderedDict()

    def features_of(self, frame: Frame, region: Region | None) -> Vector:
        """[6400] of a region of a frame; worked out once however many tasks ask. ModelError without the network."""
        if self.features is None:
            raise ModelError("the picture network is not there; run `omni-watch models pull`")
        with self._lock:
            _, known = self._seen.setdefault(id(frame), (frame, {}))
            while len(self._seen) > REMEMBERED_FRAMES:
                self._seen.popitem(last=False)
            if region not in known:
                known[region] = self.features.of([crop(frame.rgb, region)])[0]
            return known[region]


def crop(picture: Picture, region: Region | None) -> Picture:
    """The region's part of the picture (a view)."""
    if region is None:
        return picture
    rows, columns = region.pixels(picture.shape[1], picture.shape[0])
    return picture[rows, columns]


def decode_jpeg(jpeg: bytes, what: str) -> Picture:
    """[H, W, 3] RGB. ModelError names `what` when the bytes are no picture."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if bgr is None:
        raise ModelError(f"{what}: the kept picture cannot be decoded; remove this example and show it again")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
