"""Who stops us: a person, and neither noise nor a television nor ourselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omni_watch.domain.hearing import Heard, SpeechBegan, SpeechEnded, Transcript, Unheard, UnheardCause
from omni_watch.domain.rules import Language
from omni_watch.watch.barge_in import BACK_FAR_S, BACK_S, BUSY_SHARE, SINCE_S, BargeIn, Heed, Level
from omni_watch.watch.own_words import is_own_words
from omni_watch.watch.pinyin import has_han

MIC, CAMERA = "hall", "porch"
OURS = "The kettle is full. Please take it off the stove."
SAYS_S = 100.0  # when we begin to say it


def policy(**more: Callable[[str, Language], bool]) -> BargeIn:
    return BargeIn(cleaned={MIC}, **more)


def speaking(text: str = OURS, **more: Callable[[str, Language], bool]) -> BargeIn:
    barge_in = policy(**more)
    barge_in.speaking(text, "en", SAYS_S)
    return barge_in


def began(at_s: float, feed: str = MIC) -> SpeechBegan:
    return SpeechBegan(feed=feed, at_s=at_s)


def ended(start_s: float, end_s: float, feed: str = MIC) -> SpeechEnded:
    return SpeechEnded(feed=feed, start_s=start_s, end_s=end_s)


def heard(text: str, start_s: float, end_s: float, feed: str = MIC, **more: object) -> Heard:
    fields: dict[str, object] = {"language": "en", "confidence": 0.8} | more
    return Heard(feed=feed, start_s=start_s, end_s=end_s, text=text, **fields)  # type: ignore[arg-type]


def levels(
    barge_in: BargeIn, from_s: float, to_s: float, foreign: float, *, is_sure: bool = True, feed: str = MIC
) -> list[Heed]:
    """Blocks of 50 ms; what followed from each."""
    count = round((to_s - from_s) / 0.05)
    return [
        barge_in.level(
            feed,
            Level(at_s=from_s + k * 0.05, heard_db=-20, cleaned_db=-22, foreign=foreign, is_sure=is_sure),
        )
        for k in range(count)
    ]


# --- a microphone out of which our voice is taken ---


def test_a_person_who_begins_to_talk_while_we_speak_stops_us() -> None:
    barge_in = speaking()
    levels(barge_in, 100.0, 103.0, foreign=0.0)
    levels(barge_in, 103.0, 103.2, foreign=1.0)
    assert barge_in.hears(began(103.0)) is Heed.STOP


def test_nobody_is_stopped_who_does_not_speak() -> None:
    barge_in = policy()
    assert barge_in.hears(began(50.0)) is Heed.NOTHING
    barge_in.speaking(OURS, "en", SAYS_S)
    barge_in.silent(104.0)
    assert barge_in.hears(began(105.0)) is Heed.NOTHING
    assert barge_in.saying is None


def test_what_is_left_of_our_own_voice_does_not_stop_us() -> None:
    barge_in = speaking()
    levels(barge_in, 100.0, 103.2, foreign=0.1)
    assert barge_in.hears(began(103.0)) is Heed.NOTHING


def test_somebody_who_joins_in_while_a_voice_was_thought_to_be_ours_stops_us_too() -> None:
    barge_in = speaking()
    levels(barge_in, 100.0, 101.2, foreign=0.0)
    assert barge_in.hears(began(101.0)) is Heed.NOTHING
    assert Heed.STOP not in levels(barge_in, 101.2, 102.0, foreign=0.0)
    assert Heed.STOP in levels(barge_in, 102.0, 102.3, foreign=1.0)


def test_noise_without_a_voice_does_not_stop_us_however_loud() -> None:
    barge_in = speaking()
    assert set(levels(barge_in, 100.0, 110.0, foreign=1.0)) == {Heed.NOTHING}


def test_a_voice_in_a_pause_of_ours_so_long_that_nothing_is_cleaned_stops_us() -> None:
    assert speaking().hears(began(104.0)) is Heed.STOP


@pytest.mark.parametrize("cause", UnheardCause)
def test_a_voice_without_words_changes_nothing_more(cause: UnheardCause) -> None:
    assert speaking().hears(Unheard(feed=MIC, start_s=101.0, end_s=102.0, cause=cause)) is Heed.NOTHING


# --- where a voice was there before ---


def with_television(**more: Callable[[str, Language], bool]) -> BargeIn:
    """It speaks, with pauses, for most of the time before we do."""
    barge_in = policy(**more)
    at_s = SAYS_S - SINCE_S
    while at_s < SAYS_S - 4:
        barge_in.hears(began(at_s))
        barge_in.hears(ended(at_s, at_s + 2.5))
        at_s += 3.5
    barge_in.speaking(OURS, "en", SAYS_S)
    return barge_in


def test_a_television_that_ran_before_does_not_stop_us_with_its_next_sentence() -> None:
    barge_in = with_television()
    levels(barge_in, 100.0, 102.0, foreign=1.0)
    assert barge_in.hears(began(101.0)) is Heed.NOTHING
    assert barge_in.hears(heard("And now the weather for tomorrow.", 101.0, 103.0)) is Heed.NOTHING


def test_beside_a_television_a_request_stops_us() -> None:
    barge_in = with_television(is_request=lambda text, _language: text == "Be quiet.")
    assert barge_in.hears(heard("Be quiet.", 102.0, 103.0)) is Heed.STOP


def test_who_was_talking_when_we_began_goes_on_and_so_do_we() -> None:
    barge_in = policy()
    barge_in.hears(began(98.0))
    barge_in.speaking(OURS, "en", SAYS_S)
    assert Heed.STOP not in levels(barge_in, 100.0, 101.0, foreign=1.0)


def test_a_person_who_has_just_asked_for_something_may_interrupt_our_answer() -> None:
    barge_in = policy()
    barge_in.hears(began(95.0))
    barge_in.hears(ended(95.0, 95.0 + 0.6 * BUSY_SHARE * SINCE_S))
    barge_in.hears(heard("Tell me when the kettle is full.", 95.0, 98.6))
    barge_in.speaking("I will tell you when the kettle is full.", "en", SAYS_S)
    assert barge_in.hears(began(102.0)) is Heed.STOP


# --- a camera, which hears us ---


def test_no_voice_on_a_camera_stops_us_for_it_may_be_ours() -> None:
    assert speaking().hears(began(102.0, CAMERA)) is Heed.NOTHING


def test_words_on_a_camera_stop_us_when_they_are_not_ours() -> None:
    assert speaking().hears(heard("Thank you, I have heard it.", 101.0, 103.0, CAMERA)) is Heed.STOP
    assert speaking().hears(heard("The kettle is full, please.", 101.0, 103.0, CAMERA)) is Heed.OURS


def test_words_on_a_camera_that_are_hardly_made_out_stop_nobody() -> None:
    assert speaking().hears(heard("Mumble jumble tumble.", 101.0, 103.0, CAMERA, confidence=0.2)) is Heed.NOTHING
    assert speaking().hears(heard("Spool.", 101.0, 103.0, CAMERA)) is Heed.NOTHING


def test_misheard_words_of_what_is_left_of_us_stop_nobody_but_a_request_does() -> None:
    """In the first second after a start a canceller leaves more."""
    barge_in = speaking(is_request=lambda text, _language: text == "Be quiet.")
    levels(barge_in, 100.0, 103.0, foreign=0.0, is_sure=False)
    assert barge_in.hears(heard("Spool.", 101.0, 102.0)) is Heed.OURS
    assert barge_in.hears(heard("Be quiet.", 101.0, 102.0)) is Heed.STOP


def test_before_it_is_learnt_how_we_sound_here_words_stop_us_that_are_clear_and_not_ours() -> None:
    unsure, sure = speaking(), speaking()
    levels(unsure, 100.0, 103.0, foreign=0.0, is_sure=False)
    levels(sure, 100.0, 103.0, foreign=0.0)
    words = heard("I heard you, thanks.", 101.0, 102.0)
    assert unsure.hears(words) is Heed.STOP
    assert sure.hears(words) is Heed.OURS
    assert unsure.hears(heard("The kettle is full, please.", 101.0, 102.0)) is Heed.OURS
    assert unsure.hears(heard("Mumble jumble tumble.", 101.0, 102.0, confidence=0.3)) is Heed.OURS


def test_words_of_ours_that_nobody_knows_are_ours_whatever_a_camera_hears() -> None:
    """A companion with a voice of its own: its sound is there before its words are."""
    barge_in = speaking("", is_request=lambda text, _language: text == "Be quiet.")
    assert barge_in.hears(heard("A cat walks by.", 101.0, 103.0, CAMERA)) is Heed.OURS
    barge_in.adds("A cat walks by.")
    assert barge_in.hears(heard("Be quiet.", 101.0, 103.0, CAMERA)) is Heed.STOP
    assert barge_in.hears(heard("A cat walks by.", 101.0, 103.0, CAMERA)) is Heed.OURS


# --- our own words are never a command ---


@pytest.mark.parametrize(("feed", "back_s"), [(MIC, BACK_S), (CAMERA, BACK_FAR_S)])
def test_our_words_are_ours_for_as_long_as_they_may_come_back(feed: str, back_s: float) -> None:
    barge_in = speaking()
    barge_in.silent(104.0)
    words = "The kettle is full."
    assert barge_in.hears(heard(words, 101.0, 103.0, feed)) is Heed.OURS
    assert barge_in.hears(heard(words, 104.0 + back_s - 0.1, 106.0 + back_s, feed)) is Heed.OURS
    assert barge_in.hears(heard(words, 104.0 + back_s + 0.1, 106.0 + back_s, feed)) is Heed.NOTHING
    assert barge_in.hears(heard(words, 97.0, 99.0, feed)) is Heed.NOTHING


QUESTION, QUESTION_ZH = "Which one do you mean: the kettle or the bowl?", "你说的是哪一个：水壶还是碗？"


@pytest.mark.parametrize(
    ("said", "text", "is_ours"),
    [
        (QUESTION, "The kettle.", False),
        (QUESTION, "The bowl, please.", False),
        (QUESTION, "Which one do you mean, the kettle or the bowl?", True),
        (QUESTION, "Which one do you mean?", True),
        (QUESTION, "One do you mean the cattle or the ball", True),
        ("I have two of them. " + QUESTION, "Which one do you mean the kettle or the bowl", True),
        ("I have two of them. " + QUESTION, "The kettle.", False),
        (OURS, "The kettle is full.", True),
        (OURS, "Please take it off the stove.", True),
        (OURS, "Take it off the stove.", True),
        ("Shall I cancel the kettle or the dog?", "The dog.", False),
        ("Shall I cancel the kettle or the dog?", "Cancel the kettle.", True),  # as if we had been cut short
        ("The kettle?", "The kettle.", True),  # nobody can tell
        ("Please come to the kitchen and take it off the stove, before it boils over.", "Please come to the kit", True),
        (QUESTION_ZH, "水壶", False),
        (QUESTION_ZH, "水壶吧", False),
        (QUESTION_ZH, "碗", False),
        (QUESTION_ZH, "你说的是哪一个水壶还是碗", True),
        (QUESTION_ZH, "你说的是哪一个", True),
        ("水壶满了。请关火。", "请关火", True),
        ("水壶满了。请关火。", "水湖慢了", True),
    ],
)
def test_what_a_camera_hears_after_our_end_is_ours_only_if_whole_sentences_came_back(
    said: str, text: str, is_ours: bool
) -> None:
    barge_in = speaking(said)
    barge_in.silent(104.0)
    answer = heard(text, 105.0, 106.0, CAMERA, language="zh" if has_han(text) else "en")
    assert (barge_in.hears(answer) is Heed.OURS) is is_ours


def test_what_a_camera_hears_badly_after_our_end_is_ours_when_it_is_any_part_of_it() -> None:
    barge_in = speaking(QUESTION)
    barge_in.silent(104.0)
    assert barge_in.hears(heard("The kettle.", 105.0, 106.0, CAMERA, confidence=0.3)) is Heed.OURS


def test_a_person_who_says_our_words_while_we_say_them_is_believed_only_where_our_voice_is_surely_taken_out() -> None:
    sure, unsure = speaking("Shall I cancel the kettle or the dog?"), speaking("Shall I cancel the kettle or the dog?")
    levels(sure, 101.0, 102.0, foreign=0.9)
    levels(unsure, 101.0, 102.0, foreign=0.9, is_sure=False)
    answer = heard("The kettle.", 101.0, 102.0)
    assert sure.hears(answer) is Heed.STOP
    assert unsure.hears(answer) is Heed.OURS


def test_another_reading_of_what_was_heard_may_show_that_it_is_ours() -> None:
    reading = Transcript(text="The kettle is full", language="en", confidence=0.3)
    assert speaking().hears(heard("A cattle is feel", 101.0, 102.0, CAMERA, alternatives=(reading,))) is Heed.OURS


@pytest.mark.parametrize(
    ("text", "language", "said", "is_ours"),
    [
        ("The kettle is full.", "en", OURS, True),
        ("kettle is full please take", "en", OURS, True),
        ("take it off the stove", "en", OURS, True),
        ("Cattle is fool.", "en", OURS, True),
        ("Please take it of this stove", "en", OURS, True),
        ("stop", "en", OURS, False),
        ("Be quiet.", "en", OURS, False),
        ("Thank you, I have heard it.", "en", OURS, False),
        ("Stop watching the kettle.", "en", OURS, False),
        ("Tell me when the dog barks.", "en", OURS, False),
        ("What did you say?", "en", OURS, False),
        ("", "en", OURS, False),
        ("The kettle is full.", "en", "", False),
        ("水壶满了", "zh", "水壶满了,请关火。", True),
        ("水湖慢了", "zh", "水壶满了,请关火。", True),
        ("请关火", "zh", "水壶满了,请关火。", True),
        ("别说了", "zh", "水壶满了,请关火。", False),
        ("取消水壶的任务", "zh", "水壶满了,请关火。", False),
        ("知道了", "zh", "水壶满了,请关火。", False),
        ("Shui who man le", "en", "水壶满了", True),
    ],
)
def test_own_words(text: str, language: Language, said: str, is_ours: bool) -> None:
    assert is_own_words(text, language, said) is is_ours
