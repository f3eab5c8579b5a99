"""What one feed's session tells, when, in which words; and how it lasts longer than the model's memory.

Every rule runs for real but the model's arithmetic: see `ScriptedBrain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from omni_watch.domain.decisions import Decision, Means
from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Repeat
from omni_watch.domain.units import Gap, GapCause, Sense
from omni_watch.duplex.minicpmo.control import ControlSettings
from omni_watch.duplex.minicpmo.engine import FeedPlace
from omni_watch.duplex.minicpmo.prompts import Presence
from omni_watch.duplex.minicpmo.surroundings import WatchSettings
from omni_watch.duplex.minicpmo.watching import MiniCpmSession
from omni_watch.watch.briefing import BriefedTask, Briefing
from omni_watch.watch.ports import Pronounce
from tests.fakes.scripted_brain import QUIET, Said, ScriptedBrain, Watch, rulebook, second, seconds_in, told, words_in
from tests.fakes.values import a_task

FULL: Said = (3.0, "The kettle is full.")
BOILS: Said = (3.0, "The kettle is boiling.")
REMARK: Said = (3.0, "A cat walks by.")
CONTEXT = 1200  # tokens; the briefing takes about 350, a second 8
COMPANY = {"kitchen": FeedPlace(presence=Presence.COMPANION)}


def kettle(task_id: str = "k", rule: str = "kettle_full", *, is_primed: bool = True, **changes: Any) -> BriefedTask:
    found = rulebook().get(rule)
    assert found is not None
    task = a_task(task_id, text="tell me when the kettle is full", message=found.message["en"], rule=rule, **changes)
    return BriefedTask(task=task, rule=found, is_primed=is_primed)


def boiling(**changes: Any) -> BriefedTask:
    return kettle("b", "kettle_boiling", **changes)


def watching(
    script: Mapping[int, Said],
    *tasks: BriefedTask,
    control: ControlSettings | None = None,
    context_tokens: int = 100_000,
    carried_units: int = 4,
    **more: Any,
) -> tuple[Watch, MiniCpmSession]:
    settings = WatchSettings(
        control=control or ControlSettings(), context_tokens=context_tokens, carried_units=carried_units
    )
    watch = Watch(ScriptedBrain(script), settings, **more)
    return watch, watch.engine.open(Briefing(feed="kitchen", tasks=tasks))


def lived(script: Mapping[int, Said], *tasks: BriefedTask, seconds: int = 20, **more: Any) -> list[Decision]:
    watch, session = watching(script, *tasks, **more)
    return watch.live(session, [second(number) for number in range(seconds)])


def over(*numbers: int, said: Said = FULL) -> dict[int, Said]:
    return dict.fromkeys(numbers, said)


# --- what is told ---


def test_an_alert_is_told_at_the_second_that_confirms_it_and_once() -> None:
    decisions = lived(over(5, 6, 7, 8), kettle())
    assert told(decisions) == [(6, "k", "The kettle is full.")]
    (utterance,) = decisions[6].utterances  # type: ignore[union-attr]
    assert utterance.condition_at_s == 5.0, "when the condition began, not when it was certain"
    assert utterance.means == (Means.MODEL,)
    assert 0.5 < utterance.confidence <= 1


def test_a_wish_of_one_second_is_told_to_nobody_and_the_model_never_knows_that_it_spoke() -> None:
    watch, session = watching(over(5), kettle())
    decisions = watch.live(session, [second(number) for number in range(10)])
    silent, listener = watching({}, kettle())
    silent.live(listener, [second(number) for number in range(10)])
    assert told(decisions) == []
    assert words_in(watch.brain.minds[0]) == words_in(silent.brain.minds[0])


def test_what_was_told_stays_said_so_that_the_model_is_content() -> None:
    watch, session = watching(over(5, 6), kettle())
    watch.live(session, [second(number) for number in range(10)])
    assert words_in(watch.brain.minds[0]).count("The kettle is full.") == 2, "once in the briefing, once said"
    assert not watch.brain.minds[0].turn_is_open


def test_what_stood_from_the_beginning_is_not_told_and_its_next_occurrence_is() -> None:
    always_then_again = over(*range(6), *range(20, 24))
    assert told(lived(always_then_again, kettle(is_primed=False), seconds=30)) == [(21, "k", "The kettle is full.")]


def test_after_an_alert_the_condition_must_be_seen_over_before_it_is_told_again() -> None:
    soon = over(5, 6, 9, 10)
    assert [at for at, _, _ in told(lived(soon, kettle()))] == [6]
    later = over(5, 6, 30, 31)
    assert [at for at, _, _ in told(lived(later, kettle(), seconds=40))] == [6, 31]


def test_each_tasks_words_are_its_own_and_two_that_happen_are_both_told() -> None:
    script = over(5, 6) | over(7, 8, said=BOILS)
    assert told(lived(script, kettle(), boiling())) == [
        (6, "k", "The kettle is full."),
        (8, "b", "The kettle is boiling."),
    ]


def test_words_about_no_task_are_told_to_nobody() -> None:
    watch, session = watching(over(4, 5, 6, said=REMARK), kettle())
    decisions = watch.live(session, [second(number) for number in range(10)])
    assert told(decisions) == []
    assert "A cat walks by." in words_in(watch.brain.minds[0])


def test_a_feed_without_tasks_listens_whatever_the_model_wishes() -> None:
    watch, session = watching(over(*range(10)))
    assert told(watch.live(session, [second(number) for number in range(10)])) == []
    assert "kettle" not in words_in(watch.brain.minds[0])


def test_the_persons_own_words_are_what_is_told() -> None:
    own = BriefedTask(task=a_task("k", text="tell me when the kettle is full", message="Tea time!"), is_primed=True)
    assert told(lived(over(5, 6), own)) == [(6, "k", "Tea time!")]


def test_without_own_words_the_models_sentence_is_told_whole_and_without_what_follows() -> None:
    longer = "Hey, the kettle is full. It stands on the"
    assert told(lived(over(5, 6, said=(3.0, longer)), kettle())) == [(6, "k", "Hey, the kettle is full.")]


def test_a_sentence_that_finds_no_end_is_replaced_by_the_rules() -> None:
    endless = "the kettle is full and " * 20
    ((_, task_id, text),) = told(lived(over(5, 6, said=(3.0, endless)), kettle()))
    assert (task_id, text) == ("k", kettle().task.message)


def test_a_turn_ended_without_a_mark_is_given_one() -> None:
    assert told(lived(over(5, 6, said=(3.0, "the kettle is full")), kettle())) == [(6, "k", "The kettle is full.")]


def test_every_task_has_a_reading_in_every_second_with_the_margin_of_the_trace() -> None:
    decisions = lived(over(5, 6), kettle(), boiling())
    for number, decision in enumerate(decisions):
        assert [reading.task_id for reading in decision.readings] == ["k", "b"]
        margin = 3.0 if number in (5, 6) else QUIET
        assert [reading.margin for reading in decision.readings] == [margin, margin]
    assert [decisions[number].readings[0].holds for number in (4, 6, 18)] == [False, True, False]


def test_a_lost_camera_neither_primes_nor_rearms_what_is_to_be_seen() -> None:
    blind = (Gap(Sense.SIGHT, GapCause.LOST),)
    watch, session = watching(over(*range(4), 20, 21), kettle(is_primed=False))
    units = [second(number, gaps=blind if 4 <= number < 20 else ()) for number in range(30)]
    assert told(watch.live(session, units)) == [], "it was full before, and nobody saw it empty"


# --- second opinions ---


def test_a_second_opinion_that_disagrees_keeps_an_alert_from_being_told() -> None:
    watch, session = watching(over(5, 6), kettle(), control=ControlSettings(second_opinion=True))
    watch.brain.opinions = [False]
    assert told(watch.live(session, [second(number) for number in range(12)])) == []
    assert watch.brain.asked == ["The kettle is full"]
    assert session._guards["k"].gate.is_primed, "it can still happen"


def test_a_second_opinion_that_agrees_costs_no_second_because_it_is_asked_ahead() -> None:
    watch, session = watching(over(5, 6), kettle(), control=ControlSettings(second_opinion=True))
    watch.brain.opinions = [True]
    assert [at for at, _, _ in told(watch.live(session, [second(number) for number in range(12)]))] == [6]


@pytest.mark.parametrize("rests", [True, False])
def test_an_alert_without_an_opinion_is_told_all_the_same(rests: bool) -> None:
    watch, session = watching(over(5, 6), kettle(), control=ControlSettings(second_opinion=True))
    decisions = watch.live(session, [second(number) for number in range(12)], rests=rests)
    assert [at for at, _, _ in told(decisions)] == [6]
    assert watch.named("opinion.failed")


def test_with_no_time_ahead_the_opinion_is_asked_within_the_second() -> None:
    watch, session = watching(over(5, 6), kettle(), control=ControlSettings(second_opinion=True))
    watch.brain.opinions = [False]
    assert told(watch.live(session, [second(number) for number in range(12)], rests=False)) == []
    assert len(watch.brain.asked) == 1


# --- memory ---


@pytest.mark.parametrize("rests", [True, False])
def test_a_full_memory_is_replaced_and_no_second_is_lost(rests: bool) -> None:
    watch, session = watching({}, kettle(), context_tokens=CONTEXT)
    watch.live(session, [second(number) for number in range(400)], rests=rests)
    rotations = watch.named("session.rotated")
    assert len(rotations) >= 3
    assert all(rotation["was_ready"] is rests for rotation in rotations)
    ears = session._ears
    assert ears is not None
    assert ears.heard == list(range(400)), "the ears hear on, whatever memory listens"  # type: ignore[attr-defined]
    assert max(rotation["tokens"] for rotation in rotations) <= CONTEXT
    for mind in watch.brain.minds:
        seen = seconds_in(mind)
        assert seen == list(range(seen[0], seen[0] + len(seen))), "what a memory lives through has no holes"
    first, then = watch.brain.minds[0], watch.brain.minds[1]
    assert seconds_in(then)[:4] == seconds_in(first)[-4:], "it begins with the last seconds of the one before"


def test_a_fresh_memory_takes_one_forward_for_briefing_and_past_seconds() -> None:
    watch, session = watching({}, kettle(), context_tokens=CONTEXT)
    number = 0
    while not watch.named("session.rotated"):
        before = len(watch.brain.rounds)
        watch.live(session, [second(number)])
        number += 1
        assert len(watch.brain.rounds) - before <= 2, "one for the second, one for what is made ready"


def test_the_fresh_memory_is_told_what_was_told_already() -> None:
    watch, session = watching(over(5, 6), kettle(), context_tokens=CONTEXT)
    watch.live(session, [second(number) for number in range(200)])
    assert "Already told" not in words_in(watch.brain.minds[0])
    assert "Already told: number 1 at" in words_in(watch.brain.minds[-1])


def first_rotation(script: Mapping[int, Said], *tasks: BriefedTask, **more: Any) -> tuple[Watch, int]:
    """The second before which the first memory was replaced."""
    watch, session = watching(script, *tasks, context_tokens=CONTEXT, **more)
    for number in range(400):
        watch.live(session, [second(number)])
        if watch.named("session.rotated"):
            return watch, number
    pytest.fail("no memory was replaced")


def test_an_alert_on_its_way_is_not_disturbed_by_a_new_memory_which_then_knows_that_it_was_told() -> None:
    _, usual = first_rotation({}, kettle())
    watch, now = first_rotation(over(usual - 1, usual), kettle())
    assert now > usual
    assert "Already told: number 1 at" in words_in(watch.brain.minds[-1])


def test_a_memory_that_is_brimful_is_replaced_even_in_a_restless_second() -> None:
    restless = over(*(number for number in range(400) if number % 8))  # never nine in a row
    _, usual = first_rotation({}, kettle())
    watch, now = first_rotation(restless, kettle(), control=ControlSettings(confirm_of=9, confirm_in=9))
    assert now > usual
    assert 0.95 * CONTEXT <= watch.named("session.rotated")[0]["tokens"] <= CONTEXT


def test_memory_does_not_grow_over_two_thousand_seconds() -> None:
    watch, session = watching(over(*range(0, 2000, 97)), kettle(), context_tokens=CONTEXT)
    sizes = []
    for number in range(2000):
        watch.live(session, [second(number)])
        assert session._memories.present is not None
        sizes.append(session._memories.present.mind.length)
        watch.brain.minds.clear()
    assert max(sizes) <= CONTEXT
    assert len(session._memories.recent) == 4


def test_a_briefing_with_more_tasks_than_a_prompt_holds_says_once_which_are_not_watched() -> None:
    tasks = [kettle(f"k{number}") for number in range(8)]
    watch, session = watching({}, *tasks, context_tokens=CONTEXT)
    decisions = watch.live(session, [second(number) for number in range(250)])
    left_out = watch.named("task.left_out")
    assert len(left_out) == 3
    reading = next(one for one in decisions[9].readings if one.task_id == left_out[0]["task_id"])
    assert (reading.score, reading.margin, reading.holds) == (None, None, None)


# --- a new briefing ---


def test_a_session_of_a_new_briefing_goes_on_where_the_old_one_was() -> None:
    watch, old = watching(over(5, 6, 7, 8) | over(9, 10, said=BOILS), kettle())
    watch.live(old, [second(number) for number in range(7)])
    new = watch.engine.open(Briefing(feed="kitchen", tasks=(kettle(), boiling())), after=old)
    first = watch.live(new, [second(7)])
    old.close()
    rest = watch.live(new, [second(number) for number in range(8, 12)])
    assert told(first + rest) == [(3, "b", "The kettle is boiling.")], "the full kettle was told by the session before"
    assert seconds_in(watch.brain.minds[-1])[:5] == [3, 4, 5, 6, 7], "it lived through the last seconds first"
    assert "boiling" in words_in(watch.brain.minds[-1])
    assert new._ears is old._ears or old._ears is None


def test_a_chain_of_sessions_that_were_never_stepped_loses_nothing() -> None:
    watch, old = watching(over(5, 6, 7, 8), kettle())
    watch.live(old, [second(number) for number in range(6)])
    between = watch.engine.open(Briefing(feed="kitchen", tasks=(kettle(), boiling())), after=old)
    last = watch.engine.open(Briefing(feed="kitchen", tasks=(kettle(),)), after=between)
    assert told(watch.live(last, [second(6)])) == [(0, "k", "The kettle is full.")], "half of it was confirmed before"


def test_what_a_task_was_told_before_this_process_began_is_in_the_prompt() -> None:
    before = kettle(fired_count=2, last_fired_at=a_task().set_at, repeat=Repeat.EACH)
    watch, session = watching({}, before)
    watch.live(session, [second(0), second(1)])
    assert "Already told: number 1, 2 times" in words_in(watch.brain.minds[0])


# --- seeing ---


def test_a_picture_that_has_not_changed_is_shown_every_five_seconds_and_sound_always() -> None:
    watch, session = watching({}, kettle(), looks_away=True)
    still = np.full((48, 64, 3), 90, np.uint8)
    watch.live(session, [second(number, frame=still) for number in range(30)])
    assert sum(watch.brain.frames_seen[5:]) == 5
    assert session._ears is not None
    assert len(session._ears.heard) == 30  # type: ignore[attr-defined]


def test_a_companion_looks_at_every_picture() -> None:
    watch, session = watching({}, kettle(), looks_away=True, feeds=COMPANY)
    still = np.full((48, 64, 3), 90, np.uint8)
    watch.live(session, [second(number, frame=still) for number in range(10)])
    assert watch.brain.frames_seen == [1] * 10


# --- requests that are spoken to the model ---

ASKED = 90  # the number that stands in every second of a pronounced request


def pronounced(seconds: float, said: list[str]) -> Pronounce:
    def pronounce(sentence: str, _language: str) -> NDArray[np.float32]:
        said.append(sentence)
        return np.full(int(seconds * 16_000), ASKED / 20_000, np.float32)

    return pronounce


def test_every_fresh_memory_hears_the_requests_first_and_the_feeds_own_ears_do_not() -> None:
    said: list[str] = []
    watch, session = watching({}, kettle(), boiling(), context_tokens=CONTEXT, pronounce=pronounced(1.5, said))
    watch.live(session, [second(number) for number in range(80)])
    assert said == [kettle().task.text, boiling().task.text], "pronounced once, for all memories"
    assert len(watch.brain.minds) > 1
    for mind in watch.brain.minds:
        assert seconds_in(mind)[:4] == [ASKED] * 4, "each request is two seconds long, with the silence after it"
        assert ASKED not in seconds_in(mind)[4:]


def test_requests_that_would_leave_no_room_lose_their_beginning() -> None:
    watch, session = watching({}, kettle(), context_tokens=CONTEXT, pronounce=pronounced(1000, []))
    watch.live(session, [second(number) for number in range(5)])
    (mind,) = watch.brain.minds
    assert 0 < seconds_in(mind).count(ASKED) < 1000
    assert seconds_in(mind)[-5:] == list(range(5))


def test_a_house_without_a_voice_asks_in_writing_alone() -> None:
    watch, session = watching({}, kettle())
    watch.live(session, [second(0)])
    assert seconds_in(watch.brain.minds[0]) == [0]


# --- companion ---


def test_a_companion_says_its_sentences_as_comments_and_what_was_asked_as_an_alert() -> None:
    script = {3: REMARK, 5: (3.0, "A dog! The kettle is full.")}
    decisions = lived(script, kettle(), feeds=COMPANY)
    assert told(decisions) == [
        (3, None, "A cat walks by."),
        (5, "k", "The kettle is full."),
        (5, None, "A dog!"),
    ]


def test_a_companion_tells_an_occurrence_once_and_may_go_on_talking_about_it() -> None:
    decisions = lived(over(5, 7), kettle(), feeds=COMPANY)
    assert told(decisions) == [(5, "k", "The kettle is full."), (7, None, "The kettle is full.")]


def test_a_companions_sentence_may_take_several_seconds() -> None:
    long = "This is a very long sentence about a cat that walks by and by."
    watch, session = watching({3: (3.0, long)}, kettle(), feeds=COMPANY)
    decisions = watch.live(session, [second(number) for number in range(4)])
    assert told(decisions) == [], "it was not finished in its first second"
    assert session._phrase
    assert long.startswith(session._phrase.strip())


def test_a_companion_changes_its_memory_only_between_turns() -> None:
    _, usual = first_rotation({}, feeds=COMPANY)
    talking = {usual - 1: (3.0, "This is a very long sentence about a cat that walks by and by.")}
    _, now = first_rotation(talking, feeds=COMPANY)
    assert now > usual


# --- failures ---


def test_a_session_that_fails_is_closed_and_the_other_feeds_hear_nothing_of_it() -> None:
    watch, good = watching(over(5, 6), kettle())
    bad = watch.engine.open(Briefing(feed="porch", tasks=(kettle(),)))
    watch.brain.failing = {103: ModelError("the sound is broken", can_retry=True)}
    results = [watch.together((good, second(number)), (bad, second(100 + number))) for number in range(4)]
    assert isinstance(results[3][1], ModelError)
    assert bad.is_closed
    assert not isinstance(results[3][0], ModelError)
    assert [at for at, _, _ in told(watch.live(good, [second(number) for number in range(4, 8)]))] == [2]


def test_what_cannot_be_made_ready_ahead_is_tried_again_and_costs_no_second() -> None:
    watch, session = watching({}, kettle(), context_tokens=CONTEXT)
    brain = watch.brain
    failures = [ModelError("out of memory", can_retry=True)] * 2
    make = brain.mind

    def mind(presence: Presence) -> Any:
        if len(brain.minds) == 1 and failures:
            raise failures.pop()
        return make(presence)

    brain.mind = mind  # type: ignore[method-assign]
    decisions = watch.live(session, [second(number) for number in range(200)])
    assert len(decisions) == 200
    assert len(watch.named("session.not_prepared")) == 2
    assert watch.named("session.rotated")
