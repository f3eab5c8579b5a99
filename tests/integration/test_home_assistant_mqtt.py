"""Discovery and requests over a real Mosquitto: what is there, what goes, what others may do to it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from omni_watch.alerts import mqtt
from omni_watch.domain.tasks import TaskState
from omni_watch.home_assistant import discovery as discovering
from omni_watch.home_assistant.limits import Bucket
from omni_watch.store.thread import SqlStore
from omni_watch.watch.modes import modes
from tests.fakes.mqtt_house import MqttHouse, running
from tests.fakes.values import a_task, an_alert
from tests.fixtures_broker import PASSWORD, USER, BadLine, Broker, Message, Subscriber
from tests.unit.test_home_assistant_fuzz import a_payload

Listen = Callable[..., Subscriber]
KETTLE = a_task("kettle01")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(tmp_path / "omni-watch.db")
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "FIRST_PAUSE_S", 0.05)


async def held(listen: Listen, port: int, topics: str, house: MqttHouse) -> dict[str, Message]:
    """What the broker retains below `topics` now."""
    watcher = listen(port, topics)
    probe = listen(port, f"{house.channel.topics.base}/probe")
    probe.publish(f"{house.channel.topics.base}/probe", b"")
    await probe.until(lambda: bool(probe.messages))
    await asyncio.sleep(0.1)  # the broker sends retained messages before it answers to anything later
    return {message.topic: message for message in watcher.messages if message.is_retained and message.payload}


# --- discovery ---


async def test_hub_feeds_and_tasks_are_told_before_anything_else(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    everything = listen(shared_broker.port, "#")
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, instance, store) as house:
        await everything.first_on(house.channel.topics.availability)
        ours = [m for m in everything.messages if instance in m.topic and not m.topic.endswith(("/claim", "/check"))]
        nodes = [m.topic.split("/")[2] for m in ours if m.topic.startswith("ha-")]
        node = f"omni_watch_{instance}"
        assert nodes == [node, f"{node}_f_kitchen", f"{node}_t_kettle01"]
        assert [m.topic.split("/")[-1] for m in ours] == ["config"] * 3 + ["state", "availability"]
        assert all(m.is_retained is False and m.properties.get("ContentType") for m in ours[:4])


async def test_a_task_comes_changes_and_goes_with_all_of_its_topics(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    everything = listen(shared_broker.port, "#")
    topic = f"ha-{instance}/device/omni_watch_{instance}_t_kettle01/config"
    async with running(shared_broker.port, instance, store) as house:
        await house.save(KETTLE)
        assert (await everything.first_on(topic)).json["device"]["name"] == KETTLE.text
        await house.save(replace(KETTLE, text="水壶满了告诉我"))
        await everything.until(lambda: len(everything.on(topic)) == 2)
        assert everything.on(topic)[1].json["device"]["name"] == "水壶满了告诉我"
        await house.save(replace(KETTLE, state=TaskState.CANCELLED))
        await everything.until(lambda: everything.on(topic)[-1].payload == b"")
        state = house.channel.topics.task_state("kettle01")
        await everything.until(lambda: everything.on(state)[-1].payload == b"")
        async with asyncio.timeout(10):
            while [  # noqa: ASYNC110 - the store rings no bell
                t for t in await store.transact(lambda tx: tx.topics.all()) if "kettle01" in t
            ]:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["deleted", "cancelled"])
async def test_a_task_that_went_while_we_were_not_running_leaves_nothing(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore, how: str
) -> None:
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, instance, store):
        pass
    if how == "deleted":
        await store.transact(lambda tx: tx.tasks.delete("kettle01"))
    else:
        await store.transact(lambda tx: tx.tasks.save(replace(KETTLE, state=TaskState.CANCELLED)))
    async with running(shared_broker.port, instance, store) as house:
        await house.until(lambda: not house.channel._states.due(1e9) or True)
        for topics in (f"ha-{instance}/#", f"omni_watch/{instance}/#"):
            assert not [t for t in await held(listen, shared_broker.port, topics, house) if "kettle01" in t]


async def test_a_house_that_is_renamed_leaves_nothing_of_its_old_name(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    prefix = f"ha-{instance}"
    async with running(shared_broker.port, instance, store, prefix=prefix):
        pass
    async with running(shared_broker.port, f"{instance}-new", store, prefix=prefix) as house:
        nodes = {t.split("/")[2] for t in await held(listen, shared_broker.port, f"{prefix}/#", house)}
        node = f"omni_watch_{instance}-new"
        assert nodes == {node, f"{node}_f_kitchen", f"{node}_t_kettle01"}
        assert await held(listen, shared_broker.port, f"omni_watch/{instance}/#", house) == {}


async def test_what_is_on_the_broker_of_a_lost_database_is_cleared_and_what_is_of_others_is_not(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore, tmp_path: Path
) -> None:
    prefix = f"ha-{instance}"
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, instance, store, prefix=prefix):
        pass
    other = await SqlStore.open(tmp_path / "other.db")
    await other.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, f"{instance}_t_x", other, prefix=prefix):
        pass
    await other.close()
    empty = await SqlStore.open(tmp_path / "empty.db")
    async with running(shared_broker.port, instance, empty, prefix=prefix) as house:
        gone = f"{prefix}/device/omni_watch_{instance}_t_kettle01/config"
        watcher = listen(shared_broker.port, gone)
        await watcher.until(lambda: not watcher.messages or watcher.messages[-1].payload == b"")
        await house.until(lambda: house.channel._states.wanted(gone) is None)
        nodes = {t.split("/")[2] for t in await held(listen, shared_broker.port, f"{prefix}/#", house)}
        assert f"omni_watch_{instance}_t_kettle01" not in nodes
        assert f"omni_watch_{instance}_t_x_t_kettle01" in nodes, "of a house whose name begins as ours does"
    await empty.close()


async def test_another_form_moves_the_entities_instead_of_making_new_ones(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    prefix, old = f"ha-{instance}", f"ha-{instance}/switch/omni_watch_{instance}_t_kettle01/enabled/config"
    async with running(shared_broker.port, instance, store, form="component"):
        pass
    watcher = listen(shared_broker.port, f"{prefix}/#")
    await watcher.first_on(old)
    async with running(shared_broker.port, instance, store, form="device"):
        new = f"{prefix}/device/omni_watch_{instance}_t_kettle01/config"
        await watcher.until(lambda: bool(watcher.on(new)) and watcher.on(old)[-1].payload == b"")
    order = [(m.topic, m.payload[:10]) for m in watcher.messages if m.topic in (old, new)][1:]
    assert [topic for topic, _ in order] == [old, new, old]
    assert watcher.on(old)[1].json == {"migrate_discovery": True}


async def test_off_takes_everything_away(shared_broker: Broker, instance: str, listen: Listen, store: SqlStore) -> None:
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, instance, store):
        pass
    async with running(shared_broker.port, instance, store, form="off") as house:
        assert await held(listen, shared_broker.port, f"ha-{instance}/#", house) == {}
        assert house.channel.topics.task_state("kettle01") in await held(
            listen, shared_broker.port, f"omni_watch/{instance}/#", house
        )


async def test_a_device_that_is_deleted_in_home_assistant_stays_away_until_it_is_asked_for_or_changed(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    topic = f"ha-{instance}/device/omni_watch_{instance}_t_kettle01/config"
    person = listen(shared_broker.port, topic)
    async with running(shared_broker.port, instance, store) as house:
        await house.save(KETTLE)
        await person.first_on(topic)
        person.publish(topic, b"", retain=True)
        await house.until(lambda: bool(house.observer.named("home_assistant.hidden")))
        await house.publisher.publish_tasks()
    count = len([m for m in person.on(topic) if m.payload])
    async with running(shared_broker.port, instance, store) as house:
        assert len([m for m in person.on(topic) if m.payload]) == count, "also after a restart"
        assert (await store.transact(lambda tx: tx.tasks.live())) == [KETTLE], "the task itself goes on"
        await house.save(replace(KETTLE, message="Full!"))
        await person.until(lambda: len([m for m in person.on(topic) if m.payload]) == count + 1)
        person.publish(topic, b"", retain=True)
        await house.until(lambda: bool(house.observer.named("home_assistant.hidden")))
        await house.publisher.publish_tasks()
        assert await house.discovery.show() == 1
        await person.until(lambda: len([m for m in person.on(topic) if m.payload]) == count + 2)


async def test_a_device_that_is_deleted_while_we_are_not_running_stays_away_too(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    topic = f"ha-{instance}/device/omni_watch_{instance}_t_kettle01/config"
    person = listen(shared_broker.port, topic)
    async with running(shared_broker.port, instance, store) as house:
        await house.save(KETTLE, a_task("lamp0001", text="Tell me when the lamp is on"))
        await person.first_on(topic)
        state = listen(shared_broker.port, house.channel.topics.task_state("kettle01"))
        await state.until(lambda: bool(state.messages))
    person.publish(topic, b"", retain=True)
    await person.until(lambda: person.on(topic)[-1].payload == b"")
    count = len([m for m in person.on(topic) if m.payload])
    for _ in range(2):
        async with running(shared_broker.port, instance, store) as house:
            nodes = {t.split("/")[2] for t in await held(listen, shared_broker.port, f"ha-{instance}/#", house)}
            node = f"omni_watch_{instance}"
            assert nodes == {node, f"{node}_f_kitchen", f"{node}_t_lamp0001"}
            assert (await house.task("kettle01")).is_live
    assert len([m for m in person.on(topic) if m.payload]) == count, "it never came back"
    async with running(shared_broker.port, instance, store) as house:
        assert await house.discovery.show() == 1
        await person.until(lambda: len([m for m in person.on(topic) if m.payload]) == count + 1)


async def test_a_broker_that_lets_us_write_discovery_and_not_read_it_hides_nothing(
    own_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    rights = f"user {USER}\ntopic readwrite omni_watch/{instance}/#\ntopic write ha-{instance}/device/#\n"
    own_broker.with_password().with_access_list(rights).start()
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    for _ in range(2):
        async with running(own_broker.port, instance, store, user=USER, password=PASSWORD) as house:
            await house.until(lambda: house.channel.status.is_online)
            assert not house.observer.named("home_assistant.hidden")


async def test_a_broker_that_has_lost_its_memory_is_told_everything_again(
    own_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    own_broker.start()
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(own_broker.port, instance, store):
        pass
    own_broker.kill()  # it keeps nothing on disk
    own_broker.start()
    async with running(own_broker.port, instance, store) as house:
        assert len(await held(listen, own_broker.port, f"ha-{instance}/#", house)) == 3


async def test_home_assistant_that_has_started_is_told_everything_again(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, instance, store) as house:
        watcher = listen(shared_broker.port, "#")
        availability = house.channel.topics.availability
        await watcher.first_on(availability)
        watcher.messages.clear()
        watcher.publish(f"ha-{instance}/status", b"online")
        await watcher.until(lambda: any(m.payload == b"online" for m in watcher.on(availability)))
        again = {m.topic for m in watcher.messages if not m.is_retained}
        assert f"ha-{instance}/device/omni_watch_{instance}_t_kettle01/config" in again
        assert house.channel.topics.task_state("kettle01") in again
    assert discovering.BIRTH_PAUSE_S == 3.0, "not all devices of a house at once"


async def test_a_hundred_tasks_are_told_in_less_than_two_seconds(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    def add(tx: Any) -> None:
        for number in range(100):
            tx.tasks.add(a_task(f"task{number:04}"))

    await store.transact(add)
    watcher = listen(shared_broker.port, f"ha-{instance}/#")
    async with running(shared_broker.port, instance, store, is_online=False):
        began_s = time.monotonic()
        await watcher.until(lambda: len(watcher.messages) >= 102)
        took_s = time.monotonic() - began_s
    print(f"100 tasks were told in {took_s:.2f} s")
    assert took_s < 2.0


async def test_a_task_is_active_until_somebody_takes_note(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    async with running(shared_broker.port, instance, store) as house:
        state = house.channel.topics.task_state("kettle01")
        watcher = listen(shared_broker.port, f"{house.channel.topics.base}/#")
        await house.save(KETTLE)
        await store.transact(lambda tx: tx.alerts.add(an_alert(), []))
        await house.publisher.publish_tasks()
        await watcher.until(lambda: bool(watcher.on(state)) and watcher.on(state)[-1].json["active"])
        watcher.publish(house.channel.topics.task_command("kettle01", "ack"), b"PRESS")
        await watcher.until(lambda: not watcher.on(state)[-1].json["active"])


# --- requests ---


async def test_a_request_is_answered_where_it_says(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    async with running(shared_broker.port, instance, store) as house:
        topics = house.channel.topics
        person = listen(shared_broker.port, f"{topics.base}/reply/#")
        request = {"v": 1, "id": "r1", "op": "task.add", "args": {"text": "tell me when the pasta boils"}}
        for _ in range(2):  # at least once, says MQTT
            person.publish(topics.request, json.dumps(request).encode())
        await person.until(lambda: len(person.on(topics.reply("r1"))) == 2)
        first, second = person.on(topics.reply("r1"))
        assert first.json["ok"]
        assert first.payload == second.payload
        assert first.properties["MessageExpiryInterval"] <= 60
        assert len(await store.transact(lambda tx: tx.tasks.live())) == 1


async def test_mqtt_5_is_answered_with_its_correlation(
    shared_broker: Broker, instance: str, store: SqlStore, listen: Listen
) -> None:
    async with running(shared_broker.port, instance, store) as house:
        topics = house.channel.topics
        answers: list[MQTTMessage] = []
        person = listen(shared_broker.port, f"{topics.base}/reply/panel")
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.on_message = lambda _client, _data, message: answers.append(message)
        client.connect("127.0.0.1", shared_broker.port)
        client.loop_start()
        asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        asked.ResponseTopic, asked.CorrelationData = f"{topics.base}/reply/panel", b"\x00\xff"
        client.publish(topics.request, b'{"v":1,"op":"ping"}', qos=1, properties=asked).wait_for_publish(5)
        reply = await person.first_on(f"{topics.base}/reply/panel")
        assert reply.json["ok"]
        assert reply.properties["CorrelationData"] == "00ff"
        client.disconnect()
        client.loop_stop()


async def test_a_retained_command_is_not_done_at_the_next_start(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    person = listen(shared_broker.port, f"omni_watch/{instance}/reply/#")
    person.publish(f"omni_watch/{instance}/set/mute", b"ON", retain=True)
    async with running(shared_broker.port, instance, store) as house:
        await house.until(lambda: bool(house.observer.named("mqtt.retained_command")))
        assert not (await store.transact(modes)).is_muted
    person.publish(f"omni_watch/{instance}/set/mute", b"", retain=True)


async def test_a_command_that_was_sent_while_we_were_away_is_not_done_later(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    async with BadLine(shared_broker.port) as line, running(line.port, instance, store) as house:
        person = listen(shared_broker.port, f"omni_watch/{instance}/#")
        line.is_cut = True
        await line.hang_up()
        await house.until(lambda: not house.channel.status.is_online)
        person.publish(house.channel.topics.command("mute"), b"ON")
        line.is_cut = False
        await house.until(lambda: house.channel.status.is_online)
        person.publish(house.channel.topics.request, b'{"v":1,"id":"end","op":"ping"}')
        await person.first_on(house.channel.topics.reply("end"))
        assert not (await store.transact(modes)).is_muted


async def test_a_broker_that_forbids_a_topic_is_shown_with_its_name(
    own_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    own_broker.with_password().with_access_list(f"user {USER}\ntopic readwrite omni_watch/{instance}/#\n").start()
    async with running(own_broker.port, instance, store, user=USER, password=PASSWORD) as house:
        hub = f"ha-{instance}/device/omni_watch_{instance}/config"
        await house.until(lambda: any(hub in refusal for refusal in house.channel.status.refused))
        assert house.channel.status.is_online
        person = listen(own_broker.port, house.channel.topics.reply("r1"), user=USER, password=PASSWORD)
        person.publish(house.channel.topics.request, b'{"v":1,"id":"r1","op":"ping"}')
        assert (await person.first_on(house.channel.topics.reply("r1"))).json["ok"]


async def test_requests_and_discovery_go_on_after_the_broker_was_restarted(
    own_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    own_broker.start()
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(own_broker.port, instance, store) as house:
        own_broker.kill()
        await house.until(lambda: not house.channel.status.is_online)
        own_broker.start()
        await house.until(lambda: house.channel.status.is_online)
        assert len(await held(listen, own_broker.port, f"ha-{instance}/#", house)) == 3
        person = listen(own_broker.port, house.channel.topics.reply("r1"))
        person.publish(house.channel.topics.request, b'{"v":1,"id":"r1","op":"task.list"}')
        assert len((await person.first_on(house.channel.topics.reply("r1"))).json["result"]["tasks"]) == 1
        person.close()


async def test_a_message_larger_than_we_take_never_reaches_us(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    async with running(shared_broker.port, instance, store) as house:
        person = listen(shared_broker.port, f"omni_watch/{instance}/reply/#")
        person.publish(house.channel.topics.request, b"x" * 3_000_000)
        person.publish(house.channel.topics.request, b"x" * 100_000)
        too_large = await person.first_on(house.channel.topics.reply("command"))
        assert too_large.json["error"]["code"] == "too_large"
        assert len(person.messages) == 1
        assert house.channel.status.is_online


async def test_hundreds_of_wild_messages_through_the_broker_do_no_harm(
    shared_broker: Broker, instance: str, listen: Listen, store: SqlStore
) -> None:
    dice = Random(20261128)
    await store.transact(lambda tx: tx.tasks.add(KETTLE))
    async with running(shared_broker.port, instance, store) as house:
        house.desk._all = Bucket(1e9, 1e9)
        person = listen(shared_broker.port, f"omni_watch/{instance}/reply/#")
        topics = [
            house.channel.topics.request,
            *(house.channel.topics.command(name) for name in ("mute", "mode", "new_task", "say", "nothing")),
            *(house.channel.topics.task_command("kettle01", name) for name in ("enabled", "ack", "snooze")),
        ]
        for number in range(1, 401):
            person.publish(dice.choice(topics), a_payload(dice))
            await person.until(lambda n=number: len(person.messages) >= n)  # type: ignore[misc]
        assert all(set(message.json) >= {"v", "ok"} for message in person.messages)
        assert len(person.messages) == 400
        assert house.channel.status.is_online
