"""Teaching: from a recording's seconds or a live frame to examples; and the teach file that replays read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from omni_watch.domain.errors import ConfigError
from omni_watch.domain.regions import Region
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.domain.units import Frame
from omni_watch.sensing.pictures import encode_jpeg
from omni_watch.sensing.recording import frame_at
from omni_watch.watch.ports import Transaction

EXAMPLE_QUALITY = 95  # JPEG; what is taught is looked at for years, so artefacts must not become part of it

Seconds = Annotated[float, Field(ge=0)]
Corners = tuple[float, float, float, float]


class Take(BaseModel):
    """One recording of a place with the seconds at which a person would press a button."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    for_task: str
    region: Corners | None = None
    display_region: Corners | None = None
    not_yet_at_s: tuple[Seconds, ...] = ()
    done_at_s: tuple[Seconds, ...] = ()
    empty_at_s: tuple[Seconds, ...] = ()
    full_at_s: tuple[Seconds, ...] = ()

    @property
    def times(self) -> dict[Label, tuple[float, ...]]:
        return {
            Label.NOT_YET: self.not_yet_at_s,
            Label.DONE: self.done_at_s,
            Label.EMPTY: self.empty_at_s,
            Label.FULL: self.full_at_s,
        }


class TeachFile(BaseModel):
    """The document that `omni-watch replay --teach` reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int = Field(ge=1, le=1)
    takes: dict[str, Take]


def read_teach_file(path: Path) -> list[tuple[Take, Path]]:
    """Every take with the path of its recording (relative to the file).

    Raises:
        ConfigError: not there, not JSON, a field that is wrong or unknown; every problem at once.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        teach = TeachFile.model_validate(document)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not JSON: {error}") from error
    except ValidationError as error:
        raise ConfigError(*(f"{path}: {_in_words(problem)}" for problem in error.errors())) from error
    return [(take, path.parent / take.file) for take in teach.takes.values()]


def _in_words(problem: ErrorDetails) -> str:
    """One of pydantic's findings as a sentence; an unknown field is told the nearest right one."""
    where = ".".join(map(str, problem["loc"])) or "the document"
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), Take.model_fields, n=1)
        return f"{where}: unknown field; " + (
            f"did you mean {near[0]}?" if near else f"known: {', '.join(Take.model_fields)}"
        )
    if problem["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: found {str(problem['input'])[:60]!r}; {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def lesson_from_clip(
    *,
    task_id: str,
    feed: str,
    clip: Path,
    times: Mapping[Label, Sequence[float]],
    region: Region | None,
    display_region: Region | None,
    taken_at: datetime,
) -> Lesson:
    """What a recording shows at these seconds.

    Raises:
        FeedError: the clip cannot be read, or a second lies outside it.
    """
    examples = [
        example_from(frame_at(clip, second), label=label, taken_at=taken_at, origin=f"clip {clip.name} at {second:g} s")
        for label, seconds in times.items()
        for second in seconds
    ]
    return Lesson(task_id=task_id, feed=feed, region=region, display_region=display_region, examples=tuple(examples))


def example_from(frame: Frame, *, label: Label, taken_at: datetime, origin: str) -> Example:
    return Example(
        id=token_hex(4),
        label=label,
        jpeg=encode_jpeg(frame.rgb, quality=EXAMPLE_QUALITY),
        taken_at=taken_at,
        origin=origin,
    )


def keep_lesson(tx: Transaction, lesson: Lesson) -> Lesson:
    """Keep a lesson's places and add its examples to those that are there; the whole lesson as kept."""
    kept = next((old for old in tx.lessons.of(lesson.task_id) if old.feed == lesson.feed), None)
    place = replace(
        lesson,
        region=lesson.region or (kept.region if kept else None),
        display_region=lesson.display_region or (kept.display_region if kept else None),
    )
    tx.lessons.set_place(place)
    for example in lesson.examples:
        tx.lessons.add(lesson.task_id, lesson.feed, example)
    return next(one for one in tx.lessons.of(lesson.task_id) if one.feed == lesson.feed)


def region_of(corners: Corners | None, where: str) -> Region | None:
    """The region of a teach file's four numbers.

    Raises:
        ConfigError: it does not lie inside the picture.
    """
    if corners is None:
        return None
    try:
        return Region(*corners)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
