"""Talking with the house: it does what was asked, asks one question when it must, and says truly what it will do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest

from omni_watch.domain.alerts import AlertState
from omni_watch.domain.rhythms import WORKDAYS, OnDays, Reminder
from omni_watch.domain.rules import Escalation, Priority, Repeat
from omni_watch.domain.tasks import TaskState, WatchWindow
from omni_watch.watch import being_quiet, requests
from omni_watch.watch.conversing import ANSWER_WITHIN, Talking, note_of, talking_of
from omni_watch.watch.ports import Transaction
from omni_watch.watch.requests import LIVE_MAX
from tests.fakes.hearing import ZONE
from tests.fakes.talking_house import HOUSEHOLD, TalkingHouse, at, patience
from tests.fakes.values import a_task

KETTLE, DOG, LIFT = (
    "tell me when the kettle is full",
    "tell me every time the dog barks",
    "tell me when the elevator arrives",
)


@pytest.fixture
def house() -> Iterator[TalkingHouse]:
    with TalkingHouse() as made:
        yield made


@pytest.fixture
def busy(house: TalkingHouse) -> TalkingHouse:
    """Three tasks, asked for one after the other, a while ago."""
    for sentence in (KETTLE, DOG, LIFT):
        house.say(sentence)
    house.now += timedelta(minutes=10)
    return house


# --- adding ---


@pytest.mark.parametrize(
    ("sentence", "reply"),
    [
        (DOG, "Okay. I'll tell you every time the dog barks. I'll listen for it."),
        ("tell me when my phone rings", "Okay. I'll tell you when your phone rings. I'll listen for it."),
        (
            "when the alarm rings tell me the game is over",
            "Okay. When the alarm rings, I'll say: The game is over. I'll listen for it.",
        ),
        (
            "let me know when the microwave beeps",
            "Okay. I'll tell you when the microwave beeps. I'll listen for its beeps.",
        ),
        (
            "tell me whenever the dog barks in the kitchen until six",
            "Okay. I'll tell you every time the dog barks, watching only the kitchen, until 6:00 pm. "
            "I'll listen for it.",
        ),
        ("每次狗叫都告诉我", "好，每次狗叫都告诉你。我会听声音。"),
        ("闹钟响了告诉我游戏结束了", "好，闹钟响了我就说：游戏结束了。我会听声音。"),
        ("等电梯到了叫我", "好，电梯到了就告诉你。不过我现在还看不出来。请给我看看电梯门关着和开着的样子。"),
    ],
)
def test_what_was_understood_is_said_back_with_how_it_will_be_watched(
    house: TalkingHouse, sentence: str, reply: str
) -> None:
    answered = house.say(sentence)

    assert answered.text == reply
    assert (answered.deed, answered.is_done, len(house.live)) == ("add", True, 1)
    assert answered.task_ids == (house.live[0].id,)


def test_what_cannot_be_told_yet_is_admitted_until_it_was_shown(house: TalkingHouse) -> None:
    first = house.say(KETTLE)
    assert first.text == (
        "Okay. I'll tell you when the kettle is full. But I can't tell that yet. "
        "Show me what an empty and a full kettle look like."
    )


def test_everything_that_was_said_is_in_the_task(house: TalkingHouse) -> None:
    house.say("Omni, tell me every time the baby cries in the garage between ten and six at night until tomorrow")

    (task,) = house.live
    assert task.rule == "baby_crying"
    assert task.feeds == ("garage",)
    assert task.repeat is Repeat.EACH
    assert task.window == WatchWindow(begins=time(22), ends=time(6), zone=ZONE)
    assert task.expires_at == at(29, 9)
    assert task.set_by == "voice"
    assert not task.text.lower().startswith("omni")


def test_the_same_again_is_no_second_task(house: TalkingHouse) -> None:
    house.say(KETTLE)

    again = house.say("let me know when the kettle is filled up")
    assert again.text == "I'm already watching for that: the kettle is full."
    assert len(house.live) == 1


def test_the_same_again_but_more_often_changes_the_first(house: TalkingHouse) -> None:
    house.say(KETTLE)

    again = house.say("tell me every time the kettle is full")
    assert again.text.startswith("Okay, changed. I'll tell you every time the kettle is full.")
    assert [task.repeat for task in house.live] == [Repeat.EACH]


def test_there_is_a_most_that_can_be_watched(house: TalkingHouse) -> None:
    for number in range(LIVE_MAX):
        task = a_task(f"t{number}", text=f"thing {number}")
        house.store.transact(lambda tx, task=task: tx.tasks.add(task))  # type: ignore[misc]

    reply = house.say(KETTLE)
    assert not reply.is_done
    assert str(LIVE_MAX) in reply.text


def test_a_mention_is_answered_by_silence_and_forgets_nothing(busy: TalkingHouse) -> None:
    busy.say("stop watching it")
    before = busy.talking

    reply = busy.say("the kettle was full yesterday")
    assert (reply.text, reply.deed, reply.is_done) == ("", "nothing", False)
    assert busy.talking == before


# --- which one ---


def test_what_is_not_clear_is_asked_once_and_the_answer_is_done(busy: TalkingHouse) -> None:
    question = busy.say("stop watching it")

    assert question.is_question
    assert question.text == "Which one do you mean: the kettle is full, the dog barks, or the elevator arrives?"
    assert len(busy.live) == 3
    reply = busy.say("the second one")
    assert (reply.text, reply.deed) == ("Okay. I've stopped watching for this: the dog barks.", "cancel")
    assert busy.texts == [KETTLE, LIFT]
    assert busy.say("the second one").deed == "nothing"


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("the kettle", [DOG, LIFT]),
        ("the dog one", [KETTLE, LIFT]),
        ("the last one", [KETTLE, DOG]),
        ("I mean the elevator", [KETTLE, DOG]),
        ("all of them", []),
        ("never mind", [KETTLE, DOG, LIFT]),
        ("no", [KETTLE, DOG, LIFT]),
        ("第一个", [DOG, LIFT]),
        ("电梯那个", [KETTLE, DOG]),
        ("都取消", []),
        ("算了", [KETTLE, DOG, LIFT]),
        ("the fifth one", [KETTLE, DOG, LIFT]),
        ("what a lovely day", [KETTLE, DOG, LIFT]),
    ],
)
def test_every_way_to_answer(busy: TalkingHouse, answer: str, left: list[str]) -> None:
    busy.say("stop watching it")
    reply = busy.say(answer)

    assert busy.texts == left
    assert not reply.is_question, "there is one question, not two"


def test_after_ten_seconds_the_question_is_forgotten(busy: TalkingHouse) -> None:
    busy.say("stop watching it")
    busy.now += ANSWER_WITHIN
    assert busy.say("what a lovely day").deed == "nothing"
    busy.now += timedelta(seconds=0.1)

    assert busy.say("the second one").deed == "nothing"
    assert len(busy.live) == 3


def test_a_new_request_takes_the_place_of_the_answer(busy: TalkingHouse) -> None:
    busy.say("stop watching it")
    busy.say("stop watching the elevator")

    assert busy.texts == [KETTLE, DOG]
    assert busy.say("the first one").deed == "nothing"


def test_with_one_task_it_is_that_one(house: TalkingHouse) -> None:
    house.say(KETTLE)

    assert house.say("stop watching it").text == "Okay. I've stopped watching for this: the kettle is full."
    assert house.live == []


def test_words_that_mean_two_tasks_ask_among_these(house: TalkingHouse) -> None:
    for sentence in (DOG, "tell me when the alarm clock rings", "tell me when the smoke alarm goes off"):
        house.say(sentence)

    reply = house.say("stop watching for the alarm")
    assert reply.text == "Which one do you mean: the alarm clock rings, or the smoke alarm goes off?"
    house.say("the smoke alarm")
    assert len(house.live) == 2


def test_tasks_of_another_language_are_meant_too(house: TalkingHouse) -> None:
    house.say("水满了告诉我")
    house.say(DOG)

    assert house.say("stop watching the kettle").is_done
    assert house.say("别再提醒我狗叫了").is_done
    assert house.live == []


def test_everything_means_reminders_too(busy: TalkingHouse) -> None:
    busy.say("remind me in ten minutes to call mom")

    assert busy.say("cancel everything").text == "Okay. I've stopped watching for everything."
    assert busy.live == []


# --- pausing, changing ---


def test_pause_and_resume(busy: TalkingHouse) -> None:
    assert busy.say("pause the dog").text == "Okay. Paused: the dog barks."
    assert [task.state for task in busy.live] == [TaskState.ARMED, TaskState.PAUSED, TaskState.ARMED]

    assert busy.say("resume it").text == "Okay. Watching again: the dog barks.", "only one is paused"
    assert all(task.state is TaskState.ARMED for task in busy.live)


def test_a_pause_with_an_end_ends_by_itself(busy: TalkingHouse) -> None:
    reply = busy.say("don't tell me about the dog until tomorrow morning")

    assert reply.text == "Okay. Paused until tomorrow at 8:00 am: the dog barks."
    assert busy.live[1].snoozed_until == at(29, 8)


def test_it_is_what_was_just_spoken_of_when_that_does_no_harm(house: TalkingHouse) -> None:
    for sentence in (DOG, LIFT, KETTLE):
        house.say(sentence)

    house.say("make it every time")
    assert [task.repeat for task in house.live] == [Repeat.EACH, Repeat.ONCE, Repeat.EACH]
    assert house.say("stop watching it").is_question, "what cannot be undone is asked"


def test_long_after_it_must_be_said_which(busy: TalkingHouse) -> None:
    assert busy.say("make it every time").is_question
    busy.say("the elevator")

    assert [task.repeat for task in busy.live] == [Repeat.ONCE, Repeat.EACH, Repeat.EACH]


def test_what_was_cancelled_is_not_meant_by_it_any_more(busy: TalkingHouse) -> None:
    before = busy.texts
    busy.say("stop watching the dog")

    assert busy.say("make it just once").is_question
    assert busy.texts == [text for text in before if text != DOG], "nothing rises from the dead"


def test_one_thing_for_another_is_another_task(house: TalkingHouse) -> None:
    house.say("tell me when the cup is full")
    (cup,) = house.live

    reply = house.say("not the cup, the bowl")
    assert reply.text.startswith("Okay, changed. I'll tell you when the bowl is full.")
    (bowl,) = house.live
    assert (bowl.text, bowl.message) == ("tell me when the bowl is full", "The bowl is full.")
    assert bowl.id != cup.id
    assert house.store.transact(lambda tx: tx.tasks.get(cup.id)) == replace(cup, state=TaskState.CANCELLED)


def test_the_exchange_in_chinese_keeps_the_persons_own_words(house: TalkingHouse) -> None:
    house.say("杯子满了告诉我可以喝了")
    house.say("不是杯子，是碗")

    (task,) = house.live
    assert (task.text, task.message) == ("碗满了告诉我可以喝了", "可以喝了")


def test_other_words_to_say(house: TalkingHouse) -> None:
    house.say(KETTLE)
    reply = house.say("say the tea is ready instead")

    assert reply.text.startswith("Okay, changed. When the kettle is full, I'll say: The tea is ready.")
    assert house.live[0].message == "The tea is ready."


def test_what_ended_with_its_alert_can_be_made_to_go_on(house: TalkingHouse) -> None:
    house.say(KETTLE)
    house.happen("kettle")
    assert house.live == []

    assert house.say("make it every time").is_done
    assert [(task.text, task.repeat) for task in house.live] == [(KETTLE, Repeat.EACH)]


# --- what was told ---


def test_note_taken_ends_what_is_still_to_be_told(house: TalkingHouse) -> None:
    house.say(KETTLE)
    house.happen("kettle")

    assert house.say("got it").text == "Okay, noted: The kettle is full."
    house.now += timedelta(minutes=5)
    assert house.say("got it").deed == "nothing", "by then it is said to somebody else"


def urgent(house: TalkingHouse, word: str) -> None:
    """The live task of that word becomes an urgent one."""
    task = next(task for task in house.live if word in task.text)
    house.store.transact(lambda tx: requests.change(tx, replace(task, priority=Priority.URGENT)))


def state_of_alerts(house: TalkingHouse) -> dict[str, AlertState]:
    def work(tx: Transaction) -> dict[str, AlertState]:
        courses = ((alert, tx.alerts.course(alert.id)) for alert in tx.alerts.recent())
        return {alert.text: course.state for alert, course in courses if course is not None}

    return house.store.transact(work)


def test_of_several_open_alerts_the_urgent_one_is_meant_then_the_one_told_last(busy: TalkingHouse) -> None:
    urgent(busy, "dog")
    busy.happen("dog")
    busy.happen("kettle")

    assert "dog" in busy.say("got it").text
    assert "kettle" in busy.say("got it").text
    assert set(state_of_alerts(busy).values()) == {AlertState.ACKNOWLEDGED}
    assert "kettle" in busy.say("dismiss the alert").text, "again is no mistake"


def test_an_alert_that_was_told_again_just_now_can_be_noted_however_long_ago_it_began(busy: TalkingHouse) -> None:
    urgent(busy, "dog")
    busy.happen("dog")
    busy.now += timedelta(minutes=5)
    assert busy.say("got it").deed == "nothing"

    usual = Escalation()
    (again,) = busy.store.transact(lambda tx: requests.escalate(tx, busy.now, patience, lambda _rule: usual))
    assert again[1].repeats == 1
    busy.now += timedelta(seconds=20)
    assert busy.say("got it").is_done
    assert set(state_of_alerts(busy).values()) == {AlertState.ACKNOWLEDGED}


def test_what_is_over_already_is_said_to_be(house: TalkingHouse) -> None:
    house.say(KETTLE)
    house.happen("kettle")
    house.now += timedelta(hours=2)
    house.store.transact(lambda tx: requests.escalate(tx, house.now, patience, lambda _rule: Escalation()))

    reply = house.say("dismiss the alert")
    assert (reply.text, reply.is_done) == ("That one is over already: The kettle is full.", False)
    assert house.say("关闭提醒").text == "那条已经结束了：The kettle is full."


def test_an_urgent_alert_that_is_to_be_told_again_later_is_silent_until_then(busy: TalkingHouse) -> None:
    urgent(busy, "dog")
    busy.happen("dog")
    busy.happen("kettle")
    assert busy.say("remind me again in ten minutes").is_done
    states = state_of_alerts(busy)
    assert [states[text] for text in states if "dog" in text] == [AlertState.SNOOZED]
    assert [states[text] for text in states if "kettle" in text] == [AlertState.OPEN]


def test_tell_me_again_later_tells_again_even_what_was_for_once(house: TalkingHouse) -> None:
    house.say(KETTLE)
    house.happen("kettle")
    assert house.say("remind me again in ten minutes").text == "Okay. I'll tell you again at 10:40 am."

    house.pass_seconds(601)
    assert [text for _, _, text in house.told] == ["The kettle is full.", "The kettle is full."]


def test_snooze_by_name_stops_watching_for_a_while(busy: TalkingHouse) -> None:
    reply = busy.say("snooze the dog for half an hour")

    assert reply.text == "Okay. I'll watch for it again at 11:10 am: the dog barks."
    assert busy.live[1].snoozed_until == at(28, 11, 10)


def test_did_anything_happen(house: TalkingHouse) -> None:
    house.say(DOG)
    assert house.say("did anything happen").text == "Nothing has happened since yesterday at 10:30 pm."

    house.happen("dog")
    assert house.say("did anything happen today").text == "At 10:30 am: The dog is barking."
    assert house.say("did the dog bark").text == "At 10:30 am: The dog is barking."
    house.now += timedelta(hours=20)
    assert house.say("did the dog bark").text == "I haven't told you of that since yesterday at 6:30 pm."


def test_say_that_again(house: TalkingHouse) -> None:
    assert house.say("repeat the last alert").text == "I haven't said anything yet."
    first = house.say(DOG)
    assert house.say("say that again").text == first.text

    house.happen("dog")
    assert house.say("what did you say").text == "The dog is barking."


def test_the_list(busy: TalkingHouse) -> None:
    busy.say("pause the dog")
    busy.say("remind me at seven to feed the cat")

    assert busy.say("what are you watching for").text == (
        "I'm watching for: the kettle is full, the dog barks (paused) and the elevator arrives. "
        "Reminders: at 7:00 pm, Feed the cat."
    )


def test_quiet(house: TalkingHouse) -> None:
    assert house.say("be quiet until eight").text == "Okay. I'll be quiet until 8:00 pm, unless it's urgent."
    assert house.store.transact(lambda tx: being_quiet.quiet_until(tx, house.now)) == at(28, 20)

    assert house.say("you can talk again").text == "Okay. I'm speaking again."
    assert house.store.transact(lambda tx: being_quiet.quiet_until(tx, house.now)) is None


@pytest.mark.parametrize(
    ("quiet", "talk", "answer"),
    [
        (
            "be quiet until eight",
            "you can talk again",
            "Okay. I'm speaking again. While I was quiet, this happened. At 10:30 am: The kettle is full.",
        ),
        ("安静到八点", "你可以说话了", "好，我可以说话了。我安静的时候有这些事。10点30分：水满了"),
    ],
)
def test_who_lets_us_speak_again_is_told_what_we_kept_to_ourselves(
    house: TalkingHouse, quiet: str, talk: str, answer: str
) -> None:
    house.say("tell me when the kettle is full" if "quiet" in quiet else "水满了告诉我")
    house.say("tell me every time the dog barks")
    house.happen("dog")
    house.say(quiet)
    house.is_quiet = True
    house.happen("kettle" if "quiet" in quiet else "水")
    house.say(quiet)  # again, and it has been quiet all the while
    house.is_quiet = False
    house.happen("dog")
    assert house.say(talk).text == answer
    assert "kettle" not in house.say(talk).text


def test_what_somebody_took_note_of_while_we_were_quiet_is_not_told_again(house: TalkingHouse) -> None:
    house.say("tell me when the kettle is full")
    house.say("be quiet until eight")
    house.is_quiet = True
    house.happen("kettle")
    house.say("got it")
    assert house.say("you can talk again").text == "Okay. I'm speaking again."


def test_in_quiet_hours_leave_to_speak_is_answered_with_what_will_be_said_all_the_same(house: TalkingHouse) -> None:
    local = house.now.astimezone(ZoneInfo(ZONE)).time()
    hours = WatchWindow(begins=local.replace(second=0), ends=local.replace(hour=local.hour + 2), zone=ZONE)
    house.household = replace(HOUSEHOLD, quiet_hours=hours)

    assert "quiet hours, until" in house.say("you can talk again").text
    house.now += timedelta(hours=2)
    assert house.say("you can talk again").text == "Okay. I'm speaking again."


# --- reminders ---


def test_a_reminder_is_kept_and_said(house: TalkingHouse) -> None:
    reply = house.say("in ten minutes remind me to take out my bread")

    assert reply.text == "Okay. I'll remind you at 10:40 am: Take out your bread."
    assert house.live[0].reminder == Reminder(at=at(28, 10, 40))
    house.pass_seconds(599)
    assert house.told == []
    house.pass_seconds(3)
    assert house.told == [(600, reply.task_ids[0], "Take out your bread.")]
    assert house.live == []


def test_a_rhythm_is_said_back(house: TalkingHouse) -> None:
    reply = house.say("every weekday at eight remind me to take my pills")

    assert reply.text == "Okay. I'll remind you every weekday at 8:00 am: Take your pills."
    rhythm = OnDays(days=WORKDAYS, at=time(8), zone=ZONE)
    assert house.live[0].reminder == Reminder(at=at(30, 8), rhythm=rhythm)
    assert house.say("每天早上七点半叫我起床").text == "好，每天7点30分提醒你：起床"


def test_a_timer_without_words(house: TalkingHouse) -> None:
    assert house.say("set a timer for fifteen minutes").text == "Okay. I'll tell you at 10:45 am."
    assert house.live[0].message == "Time is up."
    assert house.say("cancel the timer").text == "Okay. I won't remind you of this: Time is up."


def test_a_reminder_is_no_task_that_can_be_watched_otherwise(house: TalkingHouse) -> None:
    house.say("remind me at seven to feed the cat")

    reply = house.say("not the cat, the dog")
    assert not reply.is_done
    assert house.texts == ["remind me at seven to feed the cat"]


# --- between two runs of the command line ---


def test_a_question_outlives_the_program_that_asked_it(busy: TalkingHouse) -> None:
    busy.say("stop watching it")
    note = note_of(busy.talking)

    busy.talking = busy.store.transact(lambda tx: talking_of(note, tx, HOUSEHOLD, busy.now))
    busy.say("the second one")
    assert busy.texts == [KETTLE, LIFT]


def test_an_old_note_asks_nothing(busy: TalkingHouse) -> None:
    busy.say("stop watching it")
    note = note_of(busy.talking)
    later = busy.now + timedelta(minutes=1)

    talking = busy.store.transact(lambda tx: talking_of(note, tx, HOUSEHOLD, later))
    assert talking.question is None
    assert talking.said == busy.talking.said
    assert busy.store.transact(lambda tx: talking_of(None, tx, HOUSEHOLD, later)) == Talking()


# --- what cannot be done is said ---


@pytest.mark.parametrize(
    ("sentence", "reply"),
    [
        ("Omni, stop watching it", "I'm not watching for anything."),
        ("Omni, stop watching the parrot", "I'm not watching for that: the parrot."),
        ("Omni, cancel everything", "I'm not watching for anything."),
        ("dismiss the alert", "There is nothing to note: I haven't told you anything."),
        ("what are you watching", "I'm not watching for anything, and there are no reminders."),
        ("Omni, be quiet", "Okay."),
        ("你在看什么", "我没有在留意什么，也没有提醒。"),
        ("有什么情况吗", "从昨天22点30分到现在没有发生什么。"),
    ],
)
def test_in_an_empty_house(house: TalkingHouse, sentence: str, reply: str) -> None:
    assert house.say(sentence).text == reply
    assert house.live == []


def test_what_the_requests_refuse_is_told_and_changes_nothing(house: TalkingHouse) -> None:
    house.say(KETTLE)
    (task,) = house.live
    fired = replace(task, state=TaskState.FIRED, fired_count=1, last_fired_at=house.now)
    house.store.transact(lambda tx: tx.tasks.save(fired))

    reply = house.say("pause the kettle")
    assert not reply.is_done
    assert reply.text.startswith("That can't be done: ")
    assert house.live == [fired]


def test_a_whole_conversation_in_chinese(house: TalkingHouse) -> None:
    assert house.say("杯子满了告诉我").text.startswith("好，杯子满了就告诉你。不过我现在还看不出来。")
    assert house.say("每次都要告诉我").text.startswith("好，改成了：每次杯子满了都告诉你。")
    assert house.say("每次狗叫都告诉我").text == "好，每次狗叫都告诉你。我会听声音。"
    assert house.say("别看它了").text == "你说的是哪一个：杯子满了，还是狗叫？"
    assert house.say("第二个").text == "好，不再留意：狗叫。"
    assert house.say("十分钟后提醒我关火").text == "好，10点40分提醒你：关火"
    assert house.say("你在看什么").text == "我在留意：杯子满了。提醒有：10点40分关火。"
    assert house.say("安静到八点").text == "好，我安静到20点，紧急的事除外。"
    assert house.say("取消所有提醒").text == "好，全部取消了。"
    assert house.live == []
