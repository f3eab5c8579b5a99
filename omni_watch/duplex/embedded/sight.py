"""From a lesson to the watchers that it allows.

A rule about a level is watched by the level alone where empty and full were shown: a taught head calls the last tenth
full (measured: 16 s early on a narrow gauge), the level does not.
"""

from __future__ import annotations

from dataclasses import replace

from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import DisplayCue, Rule, SightKind
from omni_watch.domain.teaching import Example, Label, Lesson
from omni_watch.duplex.embedded.displays import DisplayWatcher
from omni_watch.duplex.embedded.eyes import Eyes, Picture, decode_jpeg
from omni_watch.duplex.embedded.levels import NO_CONTRAST, LevelWatcher, TaughtLevel, teach_level
from omni_watch.duplex.embedded.registration import Follower, Outline
from omni_watch.duplex.embedded.taught import TaughtWatcher, fit
from omni_watch.duplex.embedded.watcher import Watcher


def watchers_for(lesson: Lesson, rule: Rule | None, eyes: Eyes) -> list[Watcher]:
    """The watchers of one task on one feed; empty when the lesson allows none. Seconds when there is much to fit.

    What cannot be learnt from the pictures is left out, so that one lesson never blinds a feed; `missing` says why.
    """
    lesson, _ = _sorted_out(lesson)
    camera = _camera(lesson)
    watchers: list[Watcher] = []
    cue = rule.display if rule is not None else DisplayCue()
    can_tell = bool(cue.texts) or cue.last_of_countdown
    if can_tell and lesson.display_region is not None and eyes.reader is not None:
        watchers.append(DisplayWatcher(lesson.display_region, cue, eyes.reader, camera))
    if camera is None:
        return watchers
    has_level = bool(lesson.labelled(Label.EMPTY) and lesson.labelled(Label.FULL))
    if has_level and (level := _level(lesson)) is not None:
        watchers.append(LevelWatcher(level, camera))
    level_decides = has_level and (rule is None or rule.sight is SightKind.LEVEL)
    has_states = bool(lesson.labelled(Label.NOT_YET) and lesson.labelled(Label.DONE))
    if has_states and not level_decides and eyes.features is not None:
        fills_slowly = rule is not None and rule.sight is SightKind.LEVEL
        watchers.append(TaughtWatcher(fit(lesson, eyes.features), eyes, camera, fills_slowly=fills_slowly))
    return watchers


def _camera(lesson: Lesson) -> Follower | None:
    """Follows the place from its first shown picture; the lesson's watchers share it."""
    if not lesson.examples:
        return None
    first = lesson.examples[0]
    return Follower(Outline(decode_jpeg(first.jpeg, f"example {first.id}")))


def missing(lesson: Lesson) -> list[str]:
    """What keeps a lesson's pictures from being used, one sentence each; empty when nothing does."""
    lesson, found = _sorted_out(lesson)
    for one, other in ((Label.NOT_YET, Label.DONE), (Label.EMPTY, Label.FULL)):
        shown, lacking = (one, other) if lesson.labelled(one) else (other, one)
        if lesson.labelled(shown) and not lesson.labelled(lacking):
            found.append(f"{shown.value!r} was shown but not {lacking.value!r}; show both")
    if lesson.labelled(Label.EMPTY) and lesson.labelled(Label.FULL):
        found += [NO_CONTRAST] if _level(lesson) is None else []
    return found


def _sorted_out(lesson: Lesson) -> tuple[Lesson, list[str]]:
    """The lesson without the examples whose pictures are damaged, and a sentence about each of those."""
    readable: list[Example] = []
    damaged: list[str] = []
    for example in lesson.examples:
        try:
            decode_jpeg(example.jpeg, f"example {example.id}")
        except ModelError as error:
            damaged.append(f"{error} (omni-watch teach TASK --remove {example.id})")
        else:
            readable.append(example)
    return replace(lesson, examples=tuple(readable)), damaged


def _level(lesson: Lesson) -> TaughtLevel | None:
    return teach_level(_shown(lesson, Label.EMPTY), _shown(lesson, Label.FULL), lesson.region)


def _shown(lesson: Lesson, label: Label) -> list[Picture]:
    return [decode_jpeg(example.jpeg, f"example {example.id}") for example in lesson.labelled(label)]
