"""What a session makes of several means of one task: told once, whichever means notices first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omni_watch.domain.decisions import Decision, Means, Speak
from omni_watch.domain.rules import Priority, Rule
from omni_watch.domain.tasks import Task
from omni_watch.domain.units import Gap, GapCause, Sense, Unit
from omni_watch.duplex.embedded.session import EmbeddedSession, Guard, Vigil
from omni_watch.duplex.embedded.watcher import Evidence, Heard
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.deciding import Gate, GateSettings
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_feed import unit

QUICK = GateSettings(on=0.6, off=0.4, confirm_of=1, confirm_in=1, prime_s=1, rearm_s=3)


class Scripted:
    """A watcher that gives one score after the other, then the last one for ever."""

    def __init__(self, means: Means, scores: Sequence[float | None]) -> None:
        self.means = means
        self.gate = QUICK
        self.scores = list(scores)
        self.shown: list[int] = []

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        self.shown.append(unit.index)
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return Evidence(score=score)


def task(task_id: str = "m1", priority: Priority = Priority.NORMAL) -> Task:
    return Task(
        id=task_id,
        text="tell me when the microwave is done",
        language="en",
        message="The microwave is done.",
        set_by="test",
        set_at=NOON,
        priority=priority,
    )


def vigil(*watchers: Scripted, of: Task | None = None, rule: Rule | None = None) -> Vigil:
    guards = tuple(Guard(watcher, Gate.fresh(watcher.gate)) for watcher in watchers)
    return Vigil(briefed=BriefedTask(task=of or task(), rule=rule), guards=guards)


def session(*vigils: Vigil) -> EmbeddedSession:
    briefing = Briefing(feed="kitchen", tasks=tuple(each.briefed for each in vigils))
    return EmbeddedSession(briefing, vigils, None)


def steps(of: EmbeddedSession, count: int, first: int = 0) -> list[Decision]:
    return [of.step(unit(index)) for index in range(first, first + count)]


def spoken_at(decisions: Sequence[Decision]) -> list[int]:
    return [index for index, decision in enumerate(decisions) if isinstance(decision, Speak)]


def test_beeps_after_the_display_said_end_are_the_same_occurrence() -> None:
    display = Scripted(Means.DISPLAY, [0, 0, 1, 1, 1, 1, 1, 1, 1])
    beeps = Scripted(Means.BEEPS, [0, 0, 0, 0, 1, 1, 0, 0, 0])
    assert spoken_at(steps(session(vigil(display, beeps)), 9)) == [2]


def test_two_means_that_notice_in_the_same_second_are_one_utterance_that_names_both() -> None:
    both = session(vigil(Scripted(Means.DISPLAY, [0, 1]), Scripted(Means.BEEPS, [0, 0.8])))
    spoken = [decision for decision in steps(both, 3) if isinstance(decision, Speak)]
    assert [utterance.means for utterance in spoken[0].utterances] == [(Means.DISPLAY, Means.BEEPS)]
    assert len(spoken) == 1


def test_a_means_that_held_from_the_beginning_does_not_silence_another() -> None:
    never_seen_false = Scripted(Means.TAUGHT, [1])
    beeps = Scripted(Means.BEEPS, [0, 0, 1, 1, 0])
    assert spoken_at(steps(session(vigil(never_seen_false, beeps)), 5)) == [2]


def test_after_it_was_seen_false_by_every_means_it_can_be_told_again() -> None:
    display = Scripted(Means.DISPLAY, [0, 1, 1, 0, 0, 0, 0, 1])
    beeps = Scripted(Means.BEEPS, [0, 0, 1, 0, 0, 0, 0, 0])
    assert spoken_at(steps(session(vigil(display, beeps)), 9)) == [1, 7]


def test_a_second_that_was_not_sensed_says_nothing_about_the_condition() -> None:
    blind = session(vigil(Scripted(Means.TAUGHT, [None])))
    (decision,) = steps(blind, 1)
    assert (decision.readings[0].score, decision.readings[0].holds) == (None, None)


def test_a_task_without_any_means_is_read_as_unknown() -> None:
    (decision,) = steps(session(vigil()), 1)
    assert decision.readings[0].holds is None


def test_the_margin_is_above_zero_exactly_when_the_threshold_is_crossed() -> None:
    margins = [
        decision.readings[0].margin for decision in steps(session(vigil(Scripted(Means.LEVEL, [0.5, 0.6, 0.7]))), 3)
    ]
    assert margins[0] is not None
    assert margins[2] is not None
    assert margins[0] < 0
    assert margins[1] == pytest.approx(0)
    assert margins[2] > 0


def test_urgent_things_are_said_first() -> None:
    calm = vigil(Scripted(Means.SOUND, [0, 1]), of=task("calm"))
    urgent = vigil(Scripted(Means.SOUND, [0, 1]), of=task("fire", Priority.URGENT))
    decision = steps(session(calm, urgent), 2)[1]
    assert isinstance(decision, Speak)
    assert [utterance.task_id for utterance in decision.utterances] == ["fire", "calm"]


def test_a_new_task_does_not_make_an_old_one_forget_that_it_was_told() -> None:
    display = Scripted(Means.DISPLAY, [0, 1, 1, 1, 1])
    before = session(vigil(display))
    assert spoken_at(steps(before, 2)) == [1]

    unfilled = Vigil(briefed=BriefedTask(task=task()), guards=())
    after = session(unfilled, vigil(Scripted(Means.SOUND, [0]), of=task("new")))
    after.inherit(before)
    assert spoken_at(steps(after, 3, first=2)) == []
    assert display.shown == [0, 1, 2, 3, 4]


def test_what_is_taught_anew_keeps_what_the_old_lesson_knew_of_the_condition() -> None:
    before = session(vigil(Scripted(Means.TAUGHT, [0, 1])))
    assert spoken_at(steps(before, 2)) == [1]

    retaught = vigil(Scripted(Means.TAUGHT, [1]), rule=_a_rule())
    after = session(retaught)
    after.inherit(before)
    assert spoken_at(steps(after, 5, first=2)) == [], "still full, and told before"


def test_memory_passes_through_a_session_that_was_never_stepped() -> None:
    display = Scripted(Means.DISPLAY, [0, 1, 1, 1])
    first = session(vigil(display))
    steps(first, 2)
    second, third = (session(Vigil(briefed=BriefedTask(task=task()), guards=())) for _ in range(2))
    second.inherit(first)
    third.inherit(second)
    assert spoken_at(steps(third, 2, first=2)) == []


def test_a_gap_in_hearing_leaves_the_listeners_without_a_word() -> None:
    deaf = unit(0, gaps=(Gap(Sense.HEARING, GapCause.LOST),))

    class Listener(Scripted):
        def step(self, unit: Unit, heard: Heard | None) -> Evidence:
            assert heard is None
            return Evidence(score=None)

    decision = session(vigil(Listener(Means.SOUND, [0]))).step(deaf)
    assert decision.readings[0].holds is None


def _a_rule() -> Rule:
    return Rule(id="microwave_done", phrases={}, names={}, message={}, ask={})
