"""Our channel, discovery and desk with a real Mosquitto and a real Home Assistant: what a person would see and do."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from omni_watch.alerts import mqtt
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.home_assistant.devices import feed_device, hub, task_device
from omni_watch.home_assistant.discovery import DiscoveryForm
from omni_watch.home_assistant.entities import Device
from omni_watch.home_assistant.messages import is_for_old_ones
from omni_watch.store.thread import SqlStore
from omni_watch.watch.modes import Mode, modes
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.mqtt_house import MqttHouse, running
from tests.fakes.values import a_task
from tests.fixtures_broker import Broker
from tests.home_assistant.hass import ROOT, HomeAssistant
from tests.home_assistant.test_schemas import DEVICE_FORM_SINCE, version

pytestmark = pytest.mark.home_assistant


@pytest.fixture(scope="module")
def form() -> DiscoveryForm:
    return "device" if version() >= DEVICE_FORM_SINCE else "component"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def home(broker: Broker) -> Iterator[HomeAssistant]:
    place = Path(os.environ.get(ROOT, "/")) / "tmp"
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        home = HomeAssistant(Path(folder) / "config", has_package=version() >= DEVICE_FORM_SINCE)
        try:
            home.start()
            home.join(broker.port)
            yield home
        finally:
            home.stop()


def house_named(
    name: str, broker: Broker, store: SqlStore, form: DiscoveryForm
) -> AbstractAsyncContextManager[MqttHouse]:
    return running(broker.port, name, store, form=form, prefix="homeassistant", has_numbers=True)


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(None)
    yield store
    await store.close()


def entity_ids(devices: Sequence[Device], form: DiscoveryForm) -> set[str]:
    """What Home Assistant should show at first."""
    return {
        device.entity_id(entity)
        for device in devices
        for entity in device.entities
        if entity.enabled_by_default is not False and (form == "device" or is_for_old_ones(entity))
    }


async def test_everything_appears_follows_and_acts_and_all_of_it_recovers(
    broker: Broker, home: HomeAssistant, store: SqlStore, form: DiscoveryForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "FIRST_PAUSE_S", 0.3)
    kettle = a_task("kettle01", text="Tell me when the kettle is full", set_at=datetime.now(UTC))
    async with house_named("home", broker, store, form) as house:
        topics = house.channel.topics
        await house.save(kettle)

        # appears
        wanted = entity_ids((hub(topics), feed_device(topics, "kitchen"), task_device(topics, kettle)), form)
        await home.until_true(lambda: wanted <= home.states().keys(), f"entities {wanted - home.states().keys()}")
        await home.until_true(lambda: home.state("switch.omni_watch_kettle01_enabled") == "on", "the state follows")
        assert home.state("binary_sensor.omni_watch_home_kitchen_online") == "on"
        name = home.states()["switch.omni_watch_kettle01_enabled"]["attributes"]["friendly_name"]
        assert name == "Tell me when the kettle is full Enabled"

        # acts
        await asyncio.to_thread(home.call, "switch.turn_off", entity_id="switch.omni_watch_kettle01_enabled")
        await home.until_true(lambda: home.state("switch.omni_watch_kettle01_enabled") == "off", "the switch moves")
        assert (await house.task("kettle01")).state is TaskState.PAUSED
        await asyncio.to_thread(home.call, "switch.turn_on", entity_id="switch.omni_watch_kettle01_enabled")
        await home.until_true(lambda: home.state("switch.omni_watch_kettle01_enabled") == "on", "and back")
        await asyncio.to_thread(home.call, "switch.turn_on", entity_id="switch.omni_watch_home_mute")
        await home.until_true(lambda: home.state("switch.omni_watch_home_mute") == "on", "mute", 5)
        await asyncio.to_thread(
            home.call, "select.select_option", entity_id="select.omni_watch_home_mode", option="away"
        )
        await home.until_true(lambda: home.state("select.omni_watch_home_mode") == "away", "mode", 5)
        assert (await store.transact(modes)).mode is Mode.AWAY
        await asyncio.to_thread(
            home.call, "text.set_value", entity_id="text.omni_watch_home_new_task", value="水壶满了告诉我一声"
        )
        await home.until_true(lambda: "水壶" in str(home.state("sensor.omni_watch_home_reply")), "the reply")
        assert len(await store.transact(lambda tx: tx.tasks.live())) == 2
        assert home.state("text.omni_watch_home_new_task") == ""
        if form == "device":
            long = "tell me when " + "the dishwasher and then " * 10 + "the washing machine beeps"
            assert len(long) > 255
            await asyncio.to_thread(
                home.call, "notify.send_message", entity_id="notify.omni_watch_home_add_task", message=long
            )
            await home.until_true(lambda: "dishwasher" in str(home.state("sensor.omni_watch_home_reply")), "a long one")

        # tells
        told = replace(alert("kettle01", text="The kettle is full. " * 20, decided_at=datetime.now(UTC)))
        await house.channel.send(told, delivery(told, "mqtt"))
        event = "event.omni_watch_kettle01_alert"
        await home.until_true(lambda: home.state(event) not in (None, "unknown"), "the event")
        assert home.states()[event]["attributes"]["event_type"] == "alert"
        assert home.states()[event]["attributes"]["text"] == told.text
        last = "sensor.omni_watch_home_last_alert"
        await home.until_true(lambda: home.state(last) not in (None, "unknown"), "the last alert")
        assert len(str(home.state(last))) <= 250
        assert home.states()[last]["attributes"]["text"] == told.text

        # recovers: the daemon is killed, then Home Assistant starts again
        house.kill()
        switch = "switch.omni_watch_kettle01_enabled"
        await home.until_true(lambda: home.state(switch) == "unavailable", "gone at once", 5)
        await home.until_true(lambda: home.state(switch) == "on", "and back")
        await asyncio.to_thread(home.stop)
        await asyncio.to_thread(home.start)
        await home.until_true(lambda: home.state(switch) == "on", "after a restart of Home Assistant")

        # goes
        await store.transact(lambda tx: tx.tasks.save(replace(kettle, state=TaskState.CANCELLED)))
        await house.publisher.publish_tasks()
        await home.until_true(lambda: switch not in home.states(), "a cancelled task goes")
    assert home.log == [], "\n".join(home.log)


async def test_a_device_that_is_deleted_there_stays_away_until_it_is_asked_for(
    broker: Broker, home: HomeAssistant, store: SqlStore, form: DiscoveryForm
) -> None:
    if form != "device":
        pytest.skip("deleting is asked for in another way there")
    task = a_task("lamp0001", text="Tell me when the lamp is on", set_at=datetime.now(UTC))
    switch = "switch.omni_watch_lamp0001_enabled"

    def delete(home: HomeAssistant) -> None:
        devices = home.command(type="config/device_registry/list")
        device = next(one for one in devices if one["identifiers"] == [["mqtt", "omni_watch_den_t_lamp0001"]])
        home.command(
            type="config/device_registry/remove_config_entry",
            device_id=device["id"],
            config_entry_id=device["config_entries"][0],
        )

    async with house_named("den", broker, store, form) as house:
        await house.save(task)
        await home.until_true(lambda: switch in home.states(), "it appears")
        await asyncio.to_thread(delete, home)
        await home.until_true(lambda: switch not in home.states(), "it goes")
        await house.publisher.publish_tasks()
        house.channel.refresh()
        await asyncio.sleep(1)
        assert switch not in home.states(), "it stays away"
        assert (await house.task("lamp0001")).is_live
        await house.discovery.show()
        await home.until_true(lambda: switch in home.states(), "it is shown again")
    await asyncio.to_thread(delete, home)
    await home.until_true(lambda: switch not in home.states(), "it goes, though we do not run")
    async with house_named("den", broker, store, form) as house:
        other = a_task("lamp0002", text="Tell me when the lamp is off", set_at=datetime.now(UTC))
        await house.save(other)
        await home.until_true(lambda: "switch.omni_watch_lamp0002_enabled" in home.states(), "the others are there")
        assert switch not in home.states(), "it stays away, though it was deleted while we did not run"


async def test_a_hundred_tasks_appear_and_go_quickly(
    broker: Broker, home: HomeAssistant, store: SqlStore, form: DiscoveryForm
) -> None:
    tasks = [a_task(f"many{number:04}", set_at=datetime.now(UTC)) for number in range(100)]
    wanted = {f"switch.omni_watch_{task.id}_enabled" for task in tasks}
    async with house_named("many", broker, store, form) as house:
        for task in tasks:
            await store.transact(lambda tx, t=task: tx.tasks.add(t))  # type: ignore[misc]
        last = f"sensor.omni_watch_{tasks[-1].id}_last_fired" if form == "device" else max(wanted)
        cpu_s = home.cpu_s()
        appearing = asyncio.create_task(home.until_true(lambda: home.has(last), "a hundred tasks", 60))
        await house.publisher.publish_tasks()
        appeared_s, cpu_s = await appearing, home.cpu_s() - cpu_s
        await home.until_true(lambda: wanted <= home.states().keys(), "all of a hundred tasks", 60)
        for task in tasks:
            await store.transact(lambda tx, t=task: tx.tasks.delete(t.id))  # type: ignore[misc]
        await house.publisher.publish_tasks()
        went_s = await home.until_true(lambda: not wanted & home.states().keys(), "all gone", 60)
    print(f"\n100 tasks appeared in {appeared_s:.2f} s ({cpu_s:.2f} s of a processor) and went in {went_s:.2f} s")


async def test_assist_hands_over_what_is_said_and_speaks_the_answer_in_its_language(
    broker: Broker, home: HomeAssistant, store: SqlStore, form: DiscoveryForm
) -> None:
    if not home.has_package:
        pytest.skip("our package wants Home Assistant 2024.11")

    async def said(sentence: str, language: str) -> str:
        return await asyncio.to_thread(home.converse, sentence, language)

    async def live() -> list[Task]:
        return await store.transact(lambda tx: tx.tasks.live())

    async with house_named("home", broker, store, form):
        # asks for something
        assert "kettle" in (answer := await said("tell me when the kettle boils", "en")), answer
        (kettle,) = await live()
        assert kettle.language == "en"
        answer = await said("微波炉响了告诉我一声", "zh-CN")
        assert "微波炉" in answer, answer
        _, microwave = await live()
        assert microwave.language == "zh"

        # lists
        listed = await said("what are you watching for", "en")
        assert "kettle" in listed, listed
        assert "微波炉" in (listed := await said("你在看着什么", "zh-CN")), listed

        # takes note
        open_one = alert(kettle.id, text="The kettle boils.", decided_at=datetime.now(UTC))
        await store.transact(lambda tx: tx.alerts.add(open_one, (delivery(open_one, "mqtt"),)))
        assert await said("I saw it", "en") == "All right."
        assert not await store.transact(lambda tx: tx.alerts.open_ones())
        again = alert(microwave.id, text="微波炉响了。", decided_at=datetime.now(UTC))
        await store.transact(lambda tx: tx.alerts.add(again, (delivery(again, "mqtt"),)))
        assert await said("知道了", "zh-CN") == "好的。"
        assert not await store.transact(lambda tx: tx.alerts.open_ones())

        # stops
        assert await said("stop watching for the kettle", "en") == "All right, I no longer watch for the kettle."
        assert await said("别看着微波炉了", "zh-CN") == "好，不再看着微波炉了。"
        assert await live() == []
        assert await said("stop watching for the parrot", "en") == "I am not watching for the parrot."
        assert await said("别看着鹦鹉了", "zh-CN") == "我没有在看着鹦鹉。"

    # nobody is there
    assert await said("what are you watching for", "en") == "Omni Watch does not answer."
    assert await said("你在看着什么", "zh-CN") == "Omni Watch 没有回答。"
    assert home.log == [], "\n".join(home.log)
