"""What waits to be recognised: results at the pause are used, trials that were too early are not, and nothing grows."""

from __future__ import annotations

import numpy as np

from omni_watch.domain.hearing import Heard, Hearing, Transcript, Unheard, UnheardCause
from omni_watch.duplex.embedded.words.backlog import Backlog, Job
from omni_watch.duplex.embedded.words.listening import Utterance


def utterance(number: int, *, start_s: float = 1.0) -> Utterance:
    samples = np.zeros(16_000, np.float32)
    return Utterance(number=number, samples=samples, start_s=start_s, end_s=start_s + 1.0, is_cut=False)


def words(text: str = "hello", confidence: float = 0.9) -> Transcript:
    return Transcript(text=text, language="en", confidence=confidence)


def texts(hearings: list[Hearing]) -> list[str]:
    return [hearing.text for hearing in hearings if isinstance(hearing, Heard)]


def taken(backlog: Backlog) -> Job:
    job = backlog.take()
    assert job is not None
    return job


def test_what_was_recognised_at_the_pause_is_told_at_the_end_at_once() -> None:
    backlog = Backlog()
    backlog.offer("hall", utterance(0))
    assert taken(backlog).feed == "hall"
    assert backlog.done([words("hello"), words("yellow", 0.2)]) == [], "nobody knows yet whether it is all"
    assert backlog.take() is None
    (told,) = backlog.settle("hall", utterance(0))
    assert told == Heard(
        feed="hall",
        start_s=1.0,
        end_s=2.0,
        text="hello",
        language="en",
        confidence=0.9,
        alternatives=(words("yellow", 0.2),),
    )


def test_what_is_in_work_when_it_ends_is_told_when_it_is_done() -> None:
    backlog = Backlog()
    backlog.offer("hall", utterance(0))
    taken(backlog)
    assert backlog.settle("hall", utterance(0)) == []
    assert backlog.take() is None, "and it is not recognised twice"


def test_it_is_told_once() -> None:
    backlog = Backlog()
    backlog.offer("hall", utterance(0))
    taken(backlog)
    backlog.settle("hall", utterance(0))
    assert texts(backlog.done([words()])) == ["hello"]
    assert backlog.take() is None


def test_a_trial_is_forgotten_when_the_voice_goes_on() -> None:
    backlog = Backlog()
    backlog.offer("hall", utterance(0))
    taken(backlog)
    backlog.withdraw("hall")
    assert backlog.done([words("half of it")]) == []
    backlog.offer("hall", utterance(0))
    taken(backlog)
    backlog.done([words("all of it")])
    assert texts(backlog.settle("hall", utterance(0))) == ["all of it"]


def test_a_trial_that_waits_makes_room_for_a_later_one() -> None:
    backlog = Backlog()
    for number in range(5):
        backlog.offer("hall", utterance(number))
    assert taken(backlog).utterance.number == 4
    backlog.done([words()])
    assert backlog.take() is None


def test_what_was_never_offered_is_recognised_when_it_ends() -> None:
    backlog = Backlog()
    assert backlog.settle("hall", utterance(0)) == []
    assert taken(backlog).is_final
    assert texts(backlog.done([words()])) == ["hello"]


def test_the_result_of_another_utterance_is_not_taken_for_it() -> None:
    backlog = Backlog()
    backlog.offer("hall", utterance(0))
    taken(backlog)
    backlog.done([words("old")])
    assert backlog.settle("hall", utterance(1)) == []
    taken(backlog)
    assert texts(backlog.done([words("new")])) == ["new"]


def test_those_that_are_all_go_before_trials_and_the_oldest_first() -> None:
    backlog = Backlog()
    backlog.offer("attic", utterance(0))
    backlog.settle("hall", utterance(0))
    backlog.settle("cellar", utterance(0))
    order = []
    for _ in range(3):
        order.append(taken(backlog).feed)
        backlog.done([words()])
    assert order == ["hall", "cellar", "attic"]


def test_when_too_many_wait_the_oldest_is_let_go_and_told() -> None:
    backlog = Backlog(most_waiting=2)
    told = [
        hearing for number in range(4) for hearing in backlog.settle("hall", utterance(number, start_s=10 * number))
    ]
    behind = [each for each in told if isinstance(each, Unheard)]
    assert [(each.start_s, each.cause) for each in behind] == [(0.0, UnheardCause.BEHIND), (10.0, UnheardCause.BEHIND)]
    assert len(told) == len(behind)
    assert len(backlog) == 2


def test_a_voice_without_words_is_told_as_that() -> None:
    backlog = Backlog()
    backlog.settle("hall", utterance(0))
    taken(backlog)
    (told,) = backlog.done([])
    assert isinstance(told, Unheard)
    assert told.cause is UnheardCause.NO_WORDS


def test_each_feed_has_a_trial_of_its_own() -> None:
    backlog = Backlog()
    backlog.offer("hall", utterance(0))
    backlog.offer("attic", utterance(0))
    backlog.withdraw("hall")
    assert taken(backlog).feed == "attic"


def idle(backlog: Backlog) -> bool:
    return backlog.is_idle


def test_it_is_idle_when_nothing_is_left_to_recognise_on_trial_or_for_good() -> None:
    backlog = Backlog()
    assert idle(backlog)
    backlog.offer("hall", utterance(0))
    assert not idle(backlog), "a trial waits"
    taken(backlog)
    assert not idle(backlog), "it is in work"
    backlog.done([words()])
    assert idle(backlog), "it is done, and nobody knows yet whether it was all"
    backlog.settle("hall", utterance(1))
    assert not idle(backlog)
    taken(backlog)
    backlog.done([])
    assert idle(backlog)
