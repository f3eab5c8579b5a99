"""Which means will watch for a task, and why; or what a person must do first. Pure.

The engine follows the plan and `omni-watch task show` prints it, so that nobody has to guess what is being watched.
What the engine cannot do is said, never pretended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from omni_watch.domain.decisions import Means
from omni_watch.domain.rules import DisplayCue, Language, Rule, SightKind
from omni_watch.domain.teaching import Label, Lesson
from omni_watch.watch.briefing import BriefedTask, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this installation and this feed can do. The first three say whether a model file is there."""

    hears: bool = True  # household sounds and, guarded by them, rows of beeps
    reads: bool = True  # displays
    sees: bool = True  # taught states; fill levels need no model
    has_camera: bool = True
    has_microphone: bool = True
    is_deaf: bool = False  # its microphone is switched off


@dataclass(frozen=True, slots=True)
class _Finding:
    """One means that could serve: used, or why not."""

    means: Means | None  # None: not to be had
    sentence: str  # key of _SENTENCES


def plan(briefed: BriefedTask, abilities: Abilities) -> Plan:
    """How the embedded engine watches for the task."""
    findings = [
        *_by_ear(briefed.rule, abilities),
        *_by_display(briefed.rule, briefed.lesson, abilities),
        *_by_sight(briefed.rule, briefed.lesson, abilities),
    ]
    means = tuple(dict.fromkeys(finding.means for finding in findings if finding.means is not None))
    say = _Speaker(briefed)
    why = [say(finding.sentence) for finding in findings]
    if not findings:
        why = [say("no_means" if briefed.rule is None else "nothing_shown")]
    return Plan(task_id=briefed.task.id, means=means, why=tuple(why), ask=_ask(briefed, abilities, means, say))


def _by_ear(rule: Rule | None, abilities: Abilities) -> Iterator[_Finding]:
    if rule is None or not (rule.sounds or rule.beeps):
        return
    if not abilities.has_microphone:
        yield _Finding(None, "no_microphone")
    elif abilities.is_deaf:
        yield _Finding(None, "microphone_off")
    elif not abilities.hears:
        yield _Finding(None, "no_hearing")
    else:
        if rule.sounds:
            yield _Finding(Means.SOUND, "sound")
        if rule.beeps:
            yield _Finding(Means.BEEPS, "beeps")


def _by_display(rule: Rule | None, lesson: Lesson | None, abilities: Abilities) -> Iterator[_Finding]:
    is_marked = lesson is not None and lesson.display_region is not None
    if rule is None or not _says_something(rule.display):
        if is_marked:
            yield _Finding(None, "display_unknown")
        return
    if not abilities.has_camera:
        return  # said once, by `_by_sight`
    if not is_marked:
        yield _Finding(None, "display_unmarked")
    elif not abilities.reads:
        yield _Finding(None, "no_reading")
    else:
        yield _Finding(Means.DISPLAY, "display")


def _says_something(cue: DisplayCue) -> bool:
    return bool(cue.texts) or cue.last_of_countdown


def _by_sight(rule: Rule | None, lesson: Lesson | None, abilities: Abilities) -> Iterator[_Finding]:
    could_be_shown = rule is not None and (rule.sight is not SightKind.NONE or _says_something(rule.display))
    if not abilities.has_camera:
        if could_be_shown or lesson is not None:
            yield _Finding(None, "no_camera")
        return
    if lesson is None or not lesson.examples:
        return
    has_level = _has(lesson, Label.EMPTY) and _has(lesson, Label.FULL)
    if has_level:
        yield _Finding(Means.LEVEL, "level")
    elif _has(lesson, Label.EMPTY) or _has(lesson, Label.FULL):
        yield _Finding(None, "level_half")
    # near the top a taught "full" comes early, a level does not
    if not (has_level and (rule is None or rule.sight is SightKind.LEVEL)):
        yield from _by_states(lesson, abilities)


def _by_states(lesson: Lesson, abilities: Abilities) -> Iterator[_Finding]:
    shown = [label for label in (Label.NOT_YET, Label.DONE) if _has(lesson, label)]
    if len(shown) == 1:
        yield _Finding(None, f"only_{shown[0].value}")
    elif shown:
        yield _Finding(Means.TAUGHT, "taught") if abilities.sees else _Finding(None, "no_sight")


def _has(lesson: Lesson, label: Label) -> bool:
    return bool(lesson.labelled(label))


def _ask(briefed: BriefedTask, abilities: Abilities, means: tuple[Means, ...], say: _Speaker) -> str:
    """What a person should do: so that the task can be watched at all, or better. Empty when all is well."""
    rule = briefed.rule
    is_shown = Means.TAUGHT in means or Means.LEVEL in means
    by_ear_only = rule is not None and rule.sight is SightKind.NONE
    if is_shown or (means and by_ear_only):
        return ""
    if by_ear_only:
        return say(_lacks_by_ear(abilities))
    if not abilities.has_camera:
        return "" if means else say("needs_camera")
    if not abilities.sees and _is_taught(briefed.lesson):
        return say("needs_models")
    return say("ask_better" if means else "ask")


def _lacks_by_ear(abilities: Abilities) -> str:
    if not abilities.has_microphone:
        return "needs_microphone"
    return "needs_listening" if abilities.is_deaf else "needs_models"


def _is_taught(lesson: Lesson | None) -> bool:
    return lesson is not None and _has(lesson, Label.NOT_YET) and _has(lesson, Label.DONE)


class _Speaker:
    """Words for people, in the task's language; English when there are none."""

    def __init__(self, briefed: BriefedTask) -> None:
        rule, language = briefed.rule, briefed.task.language
        self._sentences = _SENTENCES.get(language, _SENTENCES["en"])
        names = rule.names.get(language, ()) if rule else ()
        self._values = {
            "task": briefed.task.id,
            "name": names[0] if names else (rule.id if rule else ""),
            "beeps": str(rule.beeps) if rule else "",
            "texts": ", ".join(rule.display.texts) if rule else "",
            "ask": (rule.ask.get(language) if rule else None) or self._sentences["show_me"],
        }

    def __call__(self, key: str) -> str:
        return self._sentences[key].format(**self._values)


_SENTENCES: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "sound": "I listen for this sound: {name}.",
        "beeps": "I listen for a row of at least {beeps} like beeps.",
        "display": "I read the marked display for: {texts}.",
        "level": "I follow the fill level between the empty and the full that you showed me.",
        "taught": 'I compare what I see with the "not yet" and the "done" that you showed me.',
        "no_microphone": "This feed has no microphone, so I cannot hear it.",
        "microphone_off": "I could hear it, but I am not to listen there.",
        "no_hearing": "I could hear it, but a model file is missing; run: omni-watch models pull",
        "no_camera": "This feed has no camera, so I cannot see it.",
        "no_reading": "I could read its display, but a model file is missing; run: omni-watch models pull",
        "no_sight": "You showed me what to look for, but a model file is missing; run: omni-watch models pull",
        "display_unmarked": "I could also read its display, if you mark where it is (teach --display-region).",
        "display_unknown": "You marked a display, but I do not know which text on it would mean that it has happened.",
        "level_half": "For a fill level I need pictures of both empty and full; one of them is missing.",
        "only_not_yet": 'You showed me "not yet" but no "done"; I need both.',
        "only_done": 'You showed me "done" but no "not yet"; I need both.',
        "nothing_shown": "This is something to be seen, and nothing has been shown to me yet.",
        "no_means": "No sound, display or picture that I know goes with these words.",
        "show_me": "Show me what it looks like before, and what done looks like.",
        "ask": "{ask} (omni-watch teach {task})",
        "ask_better": "It gets surer when I have seen it. {ask} (omni-watch teach {task})",
        "needs_microphone": "I can only hear this; give the feed a microphone.",
        "needs_listening": "I can only hear this; let me listen there again (omni-watch listen FEED on).",
        "needs_models": "Fetch the model files: omni-watch models pull",
        "needs_camera": "I can only see this; give the feed a camera.",
    },
    "zh": {
        "sound": "我听这种声音：{name}。",
        "beeps": "我听一连串至少 {beeps} 声相同的提示音。",
        "display": "我读标出的显示屏，等它显示：{texts}。",
        "level": "我看水位在你给我看过的“空”和“满”之间的变化。",
        "taught": "我把看到的画面和你给我看过的“还没好”与“好了”作比较。",
        "no_microphone": "这一路没有麦克风，我听不到。",
        "microphone_off": "我本来可以听，但那里不让我听。",
        "no_hearing": "我本来可以听，但缺少模型文件；请运行：omni-watch models pull",
        "no_camera": "这一路没有摄像头，我看不到。",
        "no_reading": "我本来可以读它的显示屏，但缺少模型文件；请运行：omni-watch models pull",
        "no_sight": "你已经给我看过，但缺少模型文件；请运行：omni-watch models pull",
        "display_unmarked": "如果你标出显示屏的位置，我还可以读它（teach --display-region）。",
        "display_unknown": "你标出了显示屏，但我不知道上面出现什么字才算发生了。",
        "level_half": "看水位需要“空”和“满”两种画面，现在还缺一种。",
        "only_not_yet": "你给我看过“还没好”，但没有“好了”；两种都需要。",
        "only_done": "你给我看过“好了”，但没有“还没好”；两种都需要。",
        "nothing_shown": "这件事要用眼睛看，而我还没有看过它的样子。",
        "no_means": "这句话没有对应我认识的声音、显示屏或画面。",
        "show_me": "请给我看看之前和之后各是什么样子。",
        "ask": "{ask}（omni-watch teach {task}）",
        "ask_better": "给我看过会更可靠。{ask}（omni-watch teach {task}）",
        "needs_microphone": "这件事只能听；请给这一路接上麦克风。",
        "needs_listening": "这件事只能听；请让我重新听那里的声音（omni-watch listen FEED on）。",
        "needs_models": "请取得模型文件：omni-watch models pull",
        "needs_camera": "这件事只能看；请给这一路接上摄像头。",
    },
}
