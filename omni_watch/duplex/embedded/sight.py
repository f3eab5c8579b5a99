"""From a lesson to the watchers that it allows.

A rule about a level is watched by the level alone where empty and full were shown: a taught head calls the last tenth
full (measured: 16 s early on a narrow gauge), the level does not.
"""

from __future__ import annotations

from omni_watch.domain.rules import DisplayCue, Rule, SightKind
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.duplex.embedded.displays import DisplayWatcher
from omni_watch.duplex.embedded.eyes import Eyes, Picture, decode_jpeg
from omni_watch.duplex.embedded.levels import LevelWatcher, teach_level
from omni_watch.duplex.embedded.registration import Follower, Outline
from omni_watch.duplex.embedded.taught import TaughtWatcher, fit
from omni_watch.duplex.embedded.watcher import Watcher


def watchers_for(lesson: Lesson, rule: Rule | None, eyes: Eyes) -> list[Watcher]:
    """The watchers of one task on one feed; empty when the lesson allows none. Seconds when there is much to fit.

    Raises:
        ModelError: an example cannot be decoded, or empty and full look the same where the lesson says to look.
    """
    camera = _camera(lesson)
    watchers: list[Watcher] = []
    cue = rule.display if rule is not None else DisplayCue()
    can_tell = bool(cue.texts) or cue.last_of_countdown
    if can_tell and lesson.display_region is not None and eyes.reader is not None:
        watchers.append(DisplayWatcher(lesson.display_region, cue, eyes.reader, camera))
    if camera is None:
        return watchers
    has_level = bool(lesson.labelled(Label.EMPTY) and lesson.labelled(Label.FULL))
    if has_level:
        empty, full = _shown(lesson, Label.EMPTY), _shown(lesson, Label.FULL)
        watchers.append(LevelWatcher(teach_level(empty, full, lesson.region), camera))
    level_decides = has_level and (rule is None or rule.sight is SightKind.LEVEL)
    has_states = bool(lesson.labelled(Label.NOT_YET) and lesson.labelled(Label.DONE))
    if has_states and not level_decides and eyes.features is not None:
        watchers.append(TaughtWatcher(fit(lesson, eyes.features), eyes, camera))
    return watchers


def _camera(lesson: Lesson) -> Follower | None:
    """Follows the place from its first shown picture; the lesson's watchers share it."""
    if not lesson.examples:
        return None
    first = lesson.examples[0]
    return Follower(Outline(decode_jpeg(first.jpeg, f"example {first.id}")))


def _shown(lesson: Lesson, label: Label) -> list[Picture]:
    return [decode_jpeg(example.jpeg, f"example {example.id}") for example in lesson.labelled(label)]
