"""What is asked over MQTT: understood, done once, answered; whatever else comes changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from omni_watch.domain.alerts import AlertState, DeliveryState, Transition
from omni_watch.domain.errors import StoreError
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.home_assistant.asked import Args, Asked
from omni_watch.home_assistant.carrying_out import _wish_id
from omni_watch.home_assistant.desk import WAITING_MAX
from omni_watch.store.thread import SqlStore
from omni_watch.watch.modes import NO_END, Mode, Modes, modes, quiet_until
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_line import TOPICS, AskedHouse
from tests.fakes.fake_store import FakeStore
from tests.fakes.hearing import NOW
from tests.fakes.values import a_delivery, a_task, an_alert

KETTLE = a_task("kettle01", text="tell me when the kettle is full", rule="kettle_full", set_at=NOW)
CUP = a_task("cup00001", text="tell me when the cup is full", set_at=NOW)
BOWL = a_task("bowl0001", text="tell me when the bowl is full", set_at=NOW)


@pytest.fixture
async def house() -> AsyncIterator[AskedHouse]:
    store = await SqlStore.open(None)
    yield AskedHouse(store, FakeClock(NOW))
    await store.close()


async def keep(house: AskedHouse, *tasks: Task) -> None:
    for task in tasks:
        await house.store.transact(lambda tx, t=task: tx.tasks.add(t))  # type: ignore[misc]


async def tasks_of(house: AskedHouse) -> list[Task]:
    return await house.store.transact(lambda tx: tx.tasks.all())


async def task_of(house: AskedHouse, task_id: str) -> Task:
    found = await house.store.transact(lambda tx: tx.tasks.get(task_id))
    assert found is not None
    return found


async def fire(house: AskedHouse, task: Task, occurrence: int = 1) -> None:
    alert = an_alert(task.id, occurrence, decided_at=house.clock.now())
    delivery = a_delivery(alert.id, expires_at=house.clock.now() + timedelta(hours=1))
    fired = replace(task, state=TaskState.FIRED, fired_count=occurrence)
    await house.store.transact(lambda tx: tx.tasks.save(fired))
    await house.store.transact(lambda tx: tx.alerts.add(alert, [delivery]))


# --- tasks ---


async def test_a_task_is_added_with_all_that_was_said_of_it(house: AskedHouse) -> None:
    reply = await house.ask(
        "task.add", "r1", text="tell me when the pasta boils", feeds=["kitchen"], once=False, cooldown_s=90,
        expires_in_s=3600, priority="urgent", message="Dinner!",
    )  # fmt: skip
    assert reply["ok"], reply
    assert (reply["v"], reply["id"]) == (1, "r1")
    (task,) = await tasks_of(house)
    assert reply["result"]["task"]["task_id"] == task.id
    assert reply["result"]["message"].startswith("Okay"), "an answer that can be read out"
    assert (task.feeds, task.repeat, task.cooldown_s) == (("kitchen",), Repeat.EACH, 90.0)
    assert (task.priority, task.message, task.set_by) == (Priority.URGENT, "Dinner!", "mqtt")
    assert task.expires_at == house.clock.now() + timedelta(hours=1)
    assert house.changes == 1


async def test_a_chinese_task_is_answered_in_chinese(house: AskedHouse) -> None:
    reply = await house.send(TOPICS.command("new_task"), "水壶满了告诉我一声".encode())
    assert reply["ok"], reply
    assert reply["command"] == "set/new_task"
    assert "水壶" in reply["result"]["message"]


async def test_an_edit_changes_what_was_named_and_nothing_else(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    reply = await house.ask("task.edit", task_id="kettle01", priority="urgent", once=True)
    assert reply["ok"], reply
    assert await task_of(house, "kettle01") == replace(KETTLE, priority=Priority.URGENT, repeat=Repeat.ONCE)


async def test_tasks_are_switched_off_and_on_and_deleted(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    assert (await house.send(TOPICS.task_command("kettle01", "enabled"), b"OFF"))["ok"]
    assert (await task_of(house, "kettle01")).state is TaskState.PAUSED
    assert (await house.send(TOPICS.task_command("kettle01", "enabled"), b"ON"))["ok"]
    assert (await task_of(house, "kettle01")).state is TaskState.ARMED
    assert (await house.send(TOPICS.task_command("kettle01", "delete"), b"PRESS"))["ok"]
    assert (await task_of(house, "kettle01")).state is TaskState.CANCELLED


async def test_words_that_may_mean_two_tasks_are_never_guessed_at(house: AskedHouse) -> None:
    await keep(house, KETTLE, CUP, BOWL)
    reply = await house.ask("task.cancel", match="full")
    assert not reply["ok"]
    assert reply["error"]["code"] == "ambiguous"
    assert [one["task_id"] for one in reply["error"]["details"]["candidates"]] == ["kettle01", "cup00001", "bowl0001"]
    assert all(task.state is TaskState.ARMED for task in await tasks_of(house))
    assert (await house.ask("task.cancel", match="the cup"))["ok"]
    assert (await task_of(house, "cup00001")).state is TaskState.CANCELLED


async def test_a_task_may_be_meant_by_the_words_of_another_language(house: AskedHouse) -> None:
    await keep(house, KETTLE, CUP)
    reply = await house.ask("task.disable", match="水壶")
    assert reply["ok"], reply
    assert (await task_of(house, "kettle01")).state is TaskState.PAUSED


async def test_what_is_not_there_is_not_found(house: AskedHouse) -> None:
    for args in ({"task_id": "nothing1"}, {"match": "the dragon"}):
        assert (await house.ask("task.get", **args))["error"]["code"] == "not_found"
    assert (await house.ask("alert.ack"))["error"]["code"] == "not_found"
    reply = await house.ask("task.add", text="tell me when it boils", feeds=["cellar"])
    assert (reply["error"]["code"], reply["error"]["field"]) == ("not_found", "args.feeds")


async def test_what_cannot_be_done_is_a_conflict_and_says_why(house: AskedHouse) -> None:
    await keep(house, replace(KETTLE, state=TaskState.CANCELLED))
    reply = await house.ask("task.enable", task_id="kettle01")
    assert reply["error"]["code"] == "conflict"
    assert "add it again" in reply["error"]["message"]


async def test_lists_tell_what_there_is(house: AskedHouse) -> None:
    await keep(house, KETTLE, replace(CUP, state=TaskState.CANCELLED))
    await fire(house, KETTLE)
    assert [one["task_id"] for one in (await house.ask("task.list"))["result"]["tasks"]] == ["kettle01"]
    (alert,) = (await house.ask("alert.list"))["result"]["alerts"]
    assert (alert["alert_id"], alert["feed"]) == ("kettle01-1", "kitchen")
    assert (await house.ask("ping"))["result"]["message"] == "here"
    assert house.changes == 0


# --- alerts ---


async def test_an_alert_is_acknowledged_by_its_tasks_button(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    await fire(house, KETTLE)
    reply = await house.send(TOPICS.task_command("kettle01", "ack"), b"PRESS")
    assert reply["result"]["alert_id"] == "kettle01-1"
    first, *others = await house.store.transact(lambda tx: tx.alerts.deliveries("kettle01-1"))
    assert first.state is DeliveryState.EXPIRED, "nobody need tell it any more"
    assert {each.transition for each in others} <= {Transition.ACKNOWLEDGED}
    course = await house.store.transact(lambda tx: tx.alerts.course("kettle01-1"))
    assert course is not None
    assert (course.state, course.closed_by) == (AlertState.ACKNOWLEDGED, "mqtt")
    assert (await task_of(house, "kettle01")).state is TaskState.COOLING


async def test_a_snooze_tells_the_alert_again_later(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    await fire(house, KETTLE)
    reply = await house.send(TOPICS.task_command("kettle01", "snooze"), b"10")
    assert reply["ok"], reply
    again = await task_of(house, reply["result"]["again_task_id"])
    assert again.reminder is not None
    assert again.reminder.at == house.clock.now() + timedelta(minutes=10)
    course = await house.store.transact(lambda tx: tx.alerts.course("kettle01-1"))
    assert course is not None
    assert course.state is AlertState.SNOOZED


async def test_a_task_that_has_not_happened_can_be_snoozed_too(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    assert (await house.ask("alert.snooze", task_id="kettle01", minutes=30))["ok"]
    assert (await task_of(house, "kettle01")).snoozed_until == house.clock.now() + timedelta(minutes=30)


# --- sentences ---


async def test_a_sentence_does_what_it_would_do_aloud(house: AskedHouse) -> None:
    await keep(house, KETTLE, a_task("dog00001", text="tell me when the dog barks", message="Woof.", set_at=NOW))
    reply = await house.send(TOPICS.command("say"), b"stop watching for the kettle")
    assert reply["ok"], reply
    assert reply["result"]["deed"] == "cancel"
    assert (await task_of(house, "kettle01")).state is TaskState.CANCELLED


async def test_a_question_of_ours_can_be_answered_with_the_next_sentence(house: AskedHouse) -> None:
    await keep(house, CUP, a_task("cup00002", text="tell me when the blue cup is empty", set_at=NOW))
    asked = await house.send(TOPICS.command("say"), b"stop watching for the cup")
    assert asked["result"]["is_question"], asked
    house.clock.advance(3)
    answered = await house.send(TOPICS.command("say"), b"the blue one")
    assert answered["ok"], answered
    assert (await task_of(house, "cup00002")).state is TaskState.CANCELLED
    assert (await task_of(house, "cup00001")).state is TaskState.ARMED


async def test_what_only_mentions_something_changes_nothing_and_says_so(house: AskedHouse) -> None:
    reply = await house.send(TOPICS.command("say"), b"the kettle was full yesterday")
    assert not reply["ok"]
    assert reply["error"]["message"]
    assert await tasks_of(house) == []


async def test_ask_answers_and_changes_nothing(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    assert "kettle" in (await house.ask("ask", text="what are you watching for"))["result"]["message"]
    reply = await house.ask("ask", text="stop watching for the kettle")
    assert (reply["ok"], reply["error"]["code"]) == (False, "bad_request")
    assert (await task_of(house, "kettle01")).state is TaskState.ARMED


# --- the house ---


async def test_a_feed_is_listened_to_or_not_and_what_can_then_not_be_watched_is_named(house: AskedHouse) -> None:
    heard = a_task("dog00001", text="tell me when the dog barks", rule="dog_barking", feeds=("kitchen",), set_at=NOW)
    await keep(house, heard)
    off = await house.send(TOPICS.feed_command("kitchen", "listen"), b"OFF")
    assert off["result"]["listen"] is False
    assert (await house.store.transact(modes)).deaf == {"kitchen"}
    assert house.changes == 1
    assert (await house.ask("mode", mode="quiet"))["ok"]
    assert (await house.store.transact(modes)).deaf == {"kitchen"}, "the modes are kept beside each other"

    on = await house.ask("listen", feed="kitchen", on=True)
    assert on["result"]["message"] == "kitchen is listened to"
    assert (await house.store.transact(modes)).deaf == frozenset()
    unknown = await house.ask("listen", feed="attic", on=False)
    assert unknown["error"]["code"] == "not_found"
    assert (await house.send(TOPICS.feed_command("kitchen", "listen"), b"off"))["error"]["code"] == "bad_request"
    assert (await house.send(f"{TOPICS.base}/feed/kitchen/set/mute", b"ON"))["error"]["code"] == "bad_request"


async def test_mute_and_mode_are_kept(house: AskedHouse) -> None:
    assert (await house.send(TOPICS.command("mute"), b"ON"))["result"]["mute"] is True
    assert house.hushes == 1, "what is being said ends"
    assert (await house.send(TOPICS.command("mode"), b"quiet"))["result"]["mode"] == "quiet"
    chosen = await house.store.transact(modes)
    assert chosen == Modes(Mode.QUIET, is_muted=True)
    assert chosen.is_silent, "a muted house says nothing, not even what is urgent"
    assert await house.store.transact(lambda tx: quiet_until(tx, NOW)) == NO_END
    assert (await house.ask("mute", on=False))["ok"]
    assert not (await house.store.transact(modes)).is_silent, "quiet lets what is urgent be heard"
    assert Modes(Mode.AWAY).is_silent


async def test_a_picture_of_now_can_be_asked_for(house: AskedHouse) -> None:
    async def picture(feed: str) -> bytes | None:
        return b"jpeg" if feed == "kitchen" else None

    seeing = AskedHouse(house.store, house.clock, picture=picture)
    assert (await seeing.ask("snapshot", feed="kitchen"))["ok"]
    assert (TOPICS.snapshot, b"jpeg", None) in seeing.line.published
    assert (await seeing.ask("snapshot", feed="cellar"))["error"]["code"] == "not_found"


# --- once ---


async def test_the_same_id_is_done_once_and_answered_twice(house: AskedHouse) -> None:
    first = await house.ask("task.add", "same", text="tell me when the pasta boils")
    again = await house.ask("task.add", "same", text="tell me when the pasta boils")
    assert again == first
    assert len(await tasks_of(house)) == 1


async def test_an_answer_outlives_a_restart(house: AskedHouse) -> None:
    first = await house.ask("task.add", "same", text="tell me when the pasta boils")
    restarted = AskedHouse(house.store, house.clock)
    assert await restarted.ask("task.add", "same", text="tell me when the pasta boils") == first
    assert len(await tasks_of(house)) == 1


async def test_a_refusal_is_given_again_too(house: AskedHouse) -> None:
    first = await house.ask("task.cancel", "same", task_id="kettle01")
    await keep(house, KETTLE)
    assert await house.ask("task.cancel", "same", task_id="kettle01") == first
    assert (await task_of(house, "kettle01")).state is TaskState.ARMED


async def test_an_id_cannot_be_used_for_something_else(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    assert (await house.ask("task.disable", "same", task_id="kettle01"))["ok"]
    reply = await house.ask("task.enable", "same", task_id="kettle01")
    assert (reply["error"]["code"], reply["error"]["field"]) == ("conflict", "id")
    assert (await task_of(house, "kettle01")).state is TaskState.PAUSED


async def test_ids_are_forgotten_after_ten_minutes_and_do_not_pile_up(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    for number in range(70):  # twelve minutes
        assert (await house.ask("task.disable", f"id{number}", task_id="kettle01"))["ok"]
        house.clock.advance(1)
    assert (await house.ask("task.enable", "id0", task_id="kettle01"))["ok"], "an id may be used again by then"
    kept = await house.store.transact(lambda tx: sum(tx.wishes.get(_wish(f"id{n}")) is not None for n in range(70)))
    assert kept <= 60


async def test_a_clock_that_jumps_back_repeats_nothing(house: AskedHouse) -> None:
    first = await house.ask("task.add", "same", text="tell me when the pasta boils")
    house.clock.jump(-3600)
    assert await house.ask("task.add", "same", text="tell me when the pasta boils") == first
    house.clock.jump(86_400)
    assert (await house.ask("mute", "later", on=True))["ok"]


def _wish(request_id: str) -> str:
    return _wish_id(Asked(op="ping", args=Args(), id=request_id))


# --- what is refused ---

BAD: list[tuple[bytes, str, str | None]] = [
    (b"", "bad_request", None),
    (b"\xff\xfe\x00", "bad_request", None),
    (b"[]", "bad_request", None),
    (b"null", "bad_request", None),
    (b'{"v":1}', "bad_request", "op"),
    (b'{"v":1.0,"op":"ping"}', "bad_request", None),
    (b'{"v":true,"op":"ping"}', "bad_request", "v"),
    (b'{"v":2,"op":"ping"}', "bad_request", "v"),
    (b'{"v":1,"op":"ping","op":"ping"}', "bad_request", None),
    (b'{"v":1,"op":"task.delete"}', "bad_request", "op"),
    (b'{"v":1,"op":["ping"]}', "bad_request", "op"),
    (b'{"v":1,"op":"ping","id":"a/b"}', "bad_request", "id"),
    (b'{"v":1,"op":"ping","id":""}', "bad_request", "id"),
    (b'{"v":1,"op":"ping","id":17}', "bad_request", "id"),
    (b'{"v":1,"op":"ping","args":[]}', "bad_request", "args"),
    (b'{"v":1,"op":"ping","args":{"x":1}}', "bad_request", "args.'x'"),
    (b'{"v":1,"op":"ping","more":1}', "bad_request", "'more'"),
    (b'{"v":1,"op":"ping","\\ud800":1}', "bad_request", "'\\ud800'"),
    (b'{"v":1,"op":"ping","lang":"klingon!"}', "bad_request", "lang"),
    (b'{"v":1,"op":"mute","args":{}}', "bad_request", "args.on"),
    (b'{"v":1,"op":"mute","args":{"on":"ON"}}', "bad_request", "args.on"),
    (b'{"v":1,"op":"mode","args":{"mode":"party"}}', "bad_request", "args.mode"),
    (b'{"v":1,"op":"task.get","args":{}}', "bad_request", "args"),
    (b'{"v":1,"op":"task.get","args":{"task_id":"a","match":"b"}}', "bad_request", "args"),
    (b'{"v":1,"op":"task.get","args":{"task_id":"../x"}}', "bad_request", "args.task_id"),
    (b'{"v":1,"op":"task.add","args":{"text":"  "}}', "bad_request", "args.text"),
    (b'{"v":1,"op":"task.add","args":{"text":"a\\u0000b"}}', "bad_request", "args.text"),
    (b'{"v":1,"op":"task.add","args":{"text":"a\\u202eb"}}', "bad_request", "args.text"),
    (b'{"v":1,"op":"task.add","args":{"text":"a\\ud800b"}}', "bad_request", "args.text"),
    (b'{"v":1,"op":"task.add","args":{"text":"x","cooldown_s":-1}}', "bad_request", "args.cooldown_s"),
    (b'{"v":1,"op":"task.add","args":{"text":"x","cooldown_s":1e999}}', "bad_request", None),
    (b'{"v":1,"op":"task.add","args":{"text":"x","cooldown_s":NaN}}', "bad_request", None),
    (b'{"v":1,"op":"task.add","args":{"text":"x","feeds":["a/#"]}}', "bad_request", "args.feeds"),
    (b'{"v":1,"op":"task.add","args":{"text":"' + b"x" * 501 + b'"}}', "bad_request", "args.text"),
    (b'{"v":1,"op":"ping","x":' + b"9" * 10_000 + b"}", "bad_request", None),
    (b"[" * 16_000, "bad_request", None),
    (b'{"v":1,"op":"ping","x":"' + b" " * 20_000 + b'"}', "too_large", None),
]


@pytest.mark.parametrize(("payload", "code", "field"), BAD, ids=lambda one: str(one)[:40])
async def test_a_bad_request_is_refused_with_the_place_and_changes_nothing(
    payload: bytes, code: str, field: str | None
) -> None:
    house = AskedHouse(FakeStore(), FakeClock(NOW))
    reply = await house.send(TOPICS.request, payload)
    assert reply["ok"] is False
    assert (reply["error"]["code"], reply["error"].get("field")) == (code, field)
    assert len(reply["error"]["message"]) < 400
    assert isinstance(house.store, FakeStore)
    assert house.store.commits == 0


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("set/mute", b"on"),
        ("set/mute", b"x" * 3000),
        ("set/mode", b"\xff"),
        ("set/nothing", b"ON"),
        ("set/new_task", b""),
        ("set/say", b"a\x00b"),
        ("task/kettle01/set/enabled", b"TOGGLE"),
        ("task/kettle01/set/ack", b""),
        ("task/kettle01/set/snooze", b"0"),
        ("task/kettle01/set/snooze", b"1e3"),
        ("task/kettle01/set/snooze", "١٠".encode()),
        ("task/kettle01/set/delete", b"yes"),
        ("task/Kettle 01/set/enabled", b"ON"),
        ("task//set/enabled", b"ON"),
        ("task/nothing1/set/enabled", b"ON"),
    ],
)
async def test_a_bad_command_is_refused_and_changes_nothing(topic: str, payload: bytes) -> None:
    house = AskedHouse(FakeStore(), FakeClock(NOW))
    await keep(house, KETTLE)
    reply = await house.send(f"omni_watch/home/{topic}", payload)
    assert reply["ok"] is False
    assert await tasks_of(house) == [KETTLE]
    assert house.changes == 0


async def test_retained_commands_are_never_done_and_told_once(house: AskedHouse) -> None:
    await keep(house, KETTLE)
    for _ in range(2):
        house.line.arrive(TOPICS.task_command("kettle01", "enabled"), b"OFF", is_retained=True)
        house.line.arrive(TOPICS.request, b'{"v":1,"op":"mute","args":{"on":true}}', is_retained=True)
    await house.serve()
    assert house.line.published == []
    assert (await task_of(house, "kettle01")).state is TaskState.ARMED
    assert len(house.observer.named("mqtt.retained_command")) == 2


# --- where answers go ---


async def test_mqtt_5_may_choose_the_place_of_the_answer_below_ours(house: AskedHouse) -> None:
    await house.send(
        TOPICS.request, b'{"v":1,"op":"ping"}', response_topic="omni_watch/home/reply/panel", correlation=b"\x00\x01"
    )
    assert house.line.published[-1][0] == "omni_watch/home/reply/panel"
    assert house.line.published[-1][2] == b"\x00\x01"


@pytest.mark.parametrize(
    "place",
    ["homeassistant/device/x/config", "omni_watch/home/reply/", "omni_watch/home/reply/a/b", "omni_watch/home/state",
     "omni_watch/home/reply/+", "omni_watch/home2/reply/x", ""],
)  # fmt: skip
async def test_nobody_can_make_us_publish_elsewhere(house: AskedHouse, place: str) -> None:
    request = b'{"v":1,"op":"mute","id":"r1","args":{"on":true}}'
    reply = await house.send(TOPICS.request, request, response_topic=place)
    assert house.line.published[-1][0] == "omni_watch/home/reply/r1"
    assert (reply["id"], reply["error"]["field"]) == ("r1", "response topic")
    assert not (await house.store.transact(modes)).is_muted


async def test_without_an_id_the_answer_goes_where_those_of_commands_go(house: AskedHouse) -> None:
    await house.send(TOPICS.request, b'{"v":1,"op":"ping"}')
    assert house.line.published[-1][0] == "omni_watch/home/reply/command"


async def test_an_answer_that_nobody_takes_is_dropped_and_told(house: AskedHouse) -> None:
    house.line.is_away = True
    house.line.arrive(TOPICS.request, b'{"v":1,"op":"mute","args":{"on":true}}')
    await house.serve()
    assert (await house.store.transact(modes)).is_muted
    assert len(house.observer.named("mqtt.reply_dropped")) == 1


# --- too much ---


async def test_more_than_ten_in_a_second_are_refused(house: AskedHouse) -> None:
    for _ in range(12):
        house.line.arrive(TOPICS.request, b'{"v":1,"op":"ping"}')
    await house.serve()
    assert [reply["ok"] for reply in house.line.replies] == [True] * 10 + [False] * 2
    assert house.line.replies[-1]["error"]["code"] == "rate_limited"
    house.clock.advance(1)
    assert (await house.send(TOPICS.request, b'{"v":1,"op":"ping"}'))["ok"]


async def test_a_fourth_task_in_ten_seconds_is_refused(house: AskedHouse) -> None:
    for number in range(4):
        house.line.arrive(TOPICS.command("new_task"), f"tell me when machine {number} beeps".encode())
    await house.serve()
    assert [reply["ok"] for reply in house.line.replies] == [True, True, True, False]
    assert len(await tasks_of(house)) == 3


async def test_a_flood_costs_a_bounded_amount_of_everything(house: AskedHouse) -> None:
    for _ in range(50_000):
        house.line.arrive(TOPICS.request, b"{" * 1000)
    assert house.desk._waiting.qsize() <= WAITING_MAX
    await house.serve()
    assert len(house.line.replies) <= 20
    dropped = house.observer.named("mqtt.request_dropped")
    assert len(dropped) == 1, "told once a second"


async def test_a_store_that_fails_is_said_to_be_unavailable_and_asked_again() -> None:
    store = FakeStore()
    house = AskedHouse(store, FakeClock(NOW))
    store.failures = [StoreError("disk full")]
    reply = await house.ask("mute", "r1", on=True)
    assert reply["error"]["code"] == "unavailable"
    assert (await house.ask("mute", "r1", on=True))["ok"], "the same id is tried again: nothing was done"


async def test_the_worker_serves_what_waits_and_ends_when_it_is_told_to(house: AskedHouse) -> None:
    worker = asyncio.create_task(house.desk.run())
    house.line.arrive(TOPICS.request, json.dumps({"v": 1, "op": "ping", "id": "x"}).encode())
    async with asyncio.timeout(5):
        while not house.line.published:  # noqa: ASYNC110 - the line rings no bell
            await asyncio.sleep(0.005)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    reply: dict[str, Any] = house.line.replies[0]
    assert reply["ok"]
