"""The MQTT channel against a real Mosquitto: what arrives, and what happens when the broker is unkind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from omni_watch.alerts import mqtt
from omni_watch.alerts.messages import Speaking
from omni_watch.alerts.mqtt import MqttChannel, MqttSettings
from omni_watch.alerts.mqtt_check import check_broker
from omni_watch.alerts.relay import Relay, RelaySettings
from omni_watch.domain.alerts import Alert, Delivery, DeliveryState, Transition
from omni_watch.domain.errors import AlertRejected, ChannelUnavailable, ConfigError
from omni_watch.domain.rules import Repeat
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.domain.units import Frame
from omni_watch.store.thread import SqlStore
from omni_watch.telemetry.clock import SystemClock
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_store import FakeStore
from tests.fixtures_broker import PASSWORD, USER, BadLine, Broker, Certificates, Subscriber

Listen = Callable[..., Subscriber]


class OnePicture:
    """Snapshots that have the same picture for every alert."""

    def __init__(self, jpeg: bytes) -> None:
        self._jpeg = jpeg

    async def keep(self, alert_id: str, frames: Mapping[str, Frame]) -> None: ...
    async def load(self, alert_id: str, name: str = "now") -> bytes | None:
        return self._jpeg

    async def forget(self, alert_ids: Sequence[str]) -> None: ...


def settings(port: int, instance: str, **options: Any) -> MqttSettings:
    return MqttSettings(
        **{
            "host": "127.0.0.1",
            "port": port,
            "instance": instance,
            "connect_limit_s": 2.0,
            "answer_limit_s": 1.0,
            **options,
        }
    )


@asynccontextmanager
async def connected(
    made: MqttSettings, *, is_online: bool = True, observer: FakeObserver | None = None, **options: Any
) -> AsyncIterator[MqttChannel]:
    ready = asyncio.Event()
    channel = MqttChannel(made, clock=SystemClock(), observer=observer or FakeObserver(), on_ready=ready.set, **options)
    worker = asyncio.create_task(channel.run())
    try:
        if is_online:
            async with asyncio.timeout(10):
                await ready.wait()
        yield channel
    finally:
        await channel.close()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def until(fact: Callable[[], bool], deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not fact():  # noqa: ASYNC110  the fact rings no bell
            await asyncio.sleep(0.01)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def a_task(task_id: str = "kettle") -> Task:
    return Task(id=task_id, text="Tell me", language="en", message="Full.", set_by="cli", set_at=NOON)


def waiting(told: Alert) -> Delivery:
    """Its delivery, as the heartbeat commits it."""
    expires_at = told.decided_at + timedelta(hours=1)
    return Delivery(alert_id=told.id, channel="mqtt", due_at=told.decided_at, expires_at=expires_at)


@pytest.fixture(autouse=True)
def _quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect without the second that a home can wait and a test need not."""
    monkeypatch.setattr(mqtt, "FIRST_PAUSE_S", 0.05)


# --- what arrives ---


async def test_an_alert_arrives_on_both_topics_with_its_properties(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
    async with connected(settings(shared_broker.port, instance)) as channel:
        told = alert()
        receipt = await channel.send(told, delivery(told, "mqtt"))
        general = await subscriber.first_on(channel.topics.alert)
        own = await subscriber.first_on(channel.topics.task_alert("kettle"))
        last = await subscriber.first_on(channel.topics.last_alert)
    assert receipt.detail.startswith("PUBACK ")
    assert general.json["alert_id"] == "kettle-1"
    assert general.payload == own.payload == last.payload
    assert not general.is_retained
    assert general.properties["ContentType"] == "application/json"
    assert general.properties["PayloadFormatIndicator"] == 1
    assert 290 <= general.properties["MessageExpiryInterval"] <= 300


async def test_chinese_words_arrive_readable_and_late_ones_say_how_late(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/alert")
    told = alert(text="水壶满了。", language="zh", decided_at=datetime.now(UTC) - timedelta(seconds=90))
    async with connected(settings(shared_broker.port, instance)) as channel:
        await channel.send(told, delivery(told, "mqtt"))
        message = await subscriber.first_on(channel.topics.alert)
    assert "水壶满了。".encode() in message.payload
    assert 90 <= message.json["late_s"] <= 95


async def test_a_message_says_who_speaks_at_that_moment(shared_broker: Broker, instance: str, listen: Listen) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/alert")
    told = alert()
    over = replace(delivery(told, "mqtt"), number=1, transition=Transition.ACKNOWLEDGED)
    moments = iter([Speaking(is_spoken=True), Speaking(is_hushed=True), Speaking(is_spoken=True)])
    async with connected(settings(shared_broker.port, instance), speaking=lambda _priority: next(moments)) as channel:
        for one in (delivery(told, "mqtt"), delivery(told, "mqtt"), over):
            await channel.send(told, one)
        await subscriber.until(lambda: len(subscriber.messages) == 3)
    said = [(message.json["spoken"], message.json["hushed"]) for message in subscriber.messages]
    assert said == [(True, False), (False, True), (False, False)]


async def test_the_picture_goes_out_and_is_not_kept_by_the_broker(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    jpeg = b"\xff\xd8" + bytes(200_000) + b"\xff\xd9"
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
    async with connected(settings(shared_broker.port, instance), snapshots=OnePicture(jpeg)) as channel:
        told = alert()
        await channel.send(told, delivery(told, "mqtt"))
        assert (await subscriber.first_on(channel.topics.snapshot)).payload == jpeg
        assert (await subscriber.first_on(channel.topics.alert)).json["snapshot"] is True
        later = listen(shared_broker.port, f"omni_watch/{instance}/#")
        await later.first_on(channel.topics.last_alert)
        assert later.on(channel.topics.snapshot) == []


async def test_the_picture_is_kept_by_the_broker_when_that_is_wanted(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    made = settings(shared_broker.port, instance, retain_snapshot=True)
    async with connected(made, snapshots=OnePicture(b"picture")) as channel:
        told = alert()
        await channel.send(told, delivery(told, "mqtt"))
        later = listen(shared_broker.port, channel.topics.snapshot)
        assert (await later.first_on(channel.topics.snapshot)).is_retained
    later.close()


async def test_two_alerts_are_never_nearer_than_a_quarter_second(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/alert")
    async with connected(settings(shared_broker.port, instance)) as channel:
        both = [alert(occurrence=number) for number in (1, 2, 3)]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(channel.send(each, delivery(each, "mqtt")) for each in both))
        assert asyncio.get_running_loop().time() - began >= 0.5
        await subscriber.until(lambda: len(subscriber.messages) == 3)


async def test_states_come_before_online_and_a_clean_stop_says_offline(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
    channel = MqttChannel(settings(shared_broker.port, instance), clock=SystemClock(), observer=FakeObserver())
    channel.publish_hub_state({"model": "ready"})
    channel.publish_task_state(a_task())
    channel.publish_feed_state("kitchen", {"online": True})
    worker = asyncio.create_task(channel.run())
    topics = channel.topics
    await subscriber.until(lambda: bool(subscriber.on(topics.availability)))
    await channel.close()
    await worker
    await subscriber.until(lambda: len(subscriber.on(topics.availability)) == 2)
    assert [message.topic for message in subscriber.messages if message.topic != topics.claim] == [
        topics.hub_state,
        topics.task_state("kettle"),
        topics.feed_state("kitchen"),
        topics.availability,
        topics.availability,
    ]
    assert [message.payload for message in subscriber.on(topics.availability)] == [b"online", b"offline"]


async def test_diagnostics_are_throttled_and_task_states_are_not(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
    async with connected(settings(shared_broker.port, instance)) as channel:
        for number in range(5):
            channel.publish_hub_state({"queue": number})
            channel.publish_task_state(replace(a_task(), fired_count=number))
            await subscriber.until(
                lambda n=number: any(
                    m.json["fired_count"] == n for m in subscriber.on(channel.topics.task_state("kettle"))
                )  # type: ignore[misc]
            )
        assert [message.json["queue"] for message in subscriber.on(channel.topics.hub_state)] == [0]


async def test_a_deleted_tasks_topic_is_emptied(shared_broker: Broker, instance: str, listen: Listen) -> None:
    store = FakeStore()
    async with connected(settings(shared_broker.port, instance), store=store) as channel:
        topic = channel.topics.task_state("kettle")
        subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
        channel.publish_task_state(a_task())
        await subscriber.first_on(topic)
        assert store.shelves.topics == {topic: "kettle", channel.topics.availability: "@house"}
        channel.clear_task("kettle")
        await subscriber.until(lambda: len(subscriber.on(topic)) == 2)
        await until(lambda: topic not in store.shelves.topics)
        later = listen(shared_broker.port, f"omni_watch/{instance}/#")
        await later.first_on(channel.topics.availability)
        assert later.on(topic) == []


async def test_a_task_deleted_while_we_were_not_running_is_emptied_at_the_next_start(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    store = FakeStore()
    made = settings(shared_broker.port, instance)
    async with connected(made, store=store) as channel:
        topic = channel.topics.task_state("kettle")
        channel.publish_task_state(a_task())
        subscriber = listen(shared_broker.port, topic)
        await subscriber.first_on(topic)
    async with connected(made, store=store):
        await subscriber.until(lambda: [m.payload for m in subscriber.on(topic)][-1:] == [b""])
        await until(lambda: topic not in store.shelves.topics)


# --- availability ---


async def test_a_killed_daemon_is_announced_by_the_broker(shared_broker: Broker, instance: str, listen: Listen) -> None:
    async with BadLine(shared_broker.port) as line:
        subscriber = listen(shared_broker.port, f"omni_watch/{instance}/availability")
        async with connected(settings(line.port, instance)):
            line.is_cut = True
            await line.hang_up()
            await subscriber.until(lambda: [m.payload for m in subscriber.messages] == [b"online", b"offline"])


async def test_an_offline_of_somebody_else_under_our_name_is_contradicted(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/availability")
    async with connected(settings(shared_broker.port, instance)) as channel:
        await subscriber.first_on(channel.topics.availability)
        subscriber.publish(channel.topics.availability, b"offline", retain=True)
        await subscriber.until(lambda: [m.payload for m in subscriber.messages] == [b"online", b"offline", b"online"])


async def test_two_devices_on_one_broker_do_not_disturb_each_other(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
    async with (
        connected(settings(shared_broker.port, instance)) as ours,
        connected(settings(shared_broker.port, f"{instance}x")) as theirs,
    ):
        told = alert()
        await theirs.send(told, delivery(told, "mqtt"))
        await ours.send(told, delivery(told, "mqtt"))
        await subscriber.first_on(ours.topics.alert)
    assert len(subscriber.on(ours.topics.alert)) == 1
    assert {message.topic.split("/")[1] for message in subscriber.messages} == {instance}


async def test_a_second_house_of_our_name_is_refused_and_told_who_has_it(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/availability")
    async with connected(settings(shared_broker.port, instance)) as ours:
        theirs = MqttChannel(settings(shared_broker.port, instance), clock=SystemClock(), observer=FakeObserver())
        async with asyncio.timeout(10):
            with pytest.raises(ConfigError, match=f"named '{instance}' is on broker .* give this one another house"):
                await theirs.run()
        told = alert()
        await ours.send(told, delivery(told, "mqtt"))
        assert [message.payload for message in subscriber.messages] == [b"online"], "the first one did not notice"


async def test_of_two_houses_of_one_name_that_start_together_one_stays(shared_broker: Broker, instance: str) -> None:
    both = [
        MqttChannel(settings(shared_broker.port, instance), clock=SystemClock(), observer=FakeObserver())
        for _ in range(2)
    ]
    workers = [asyncio.create_task(channel.run()) for channel in both]
    async with asyncio.timeout(10):
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        assert [type(worker.exception()) for worker in done] == [ConfigError]
    await until(lambda: sum(channel.status.is_online for channel in both) == 1)
    for channel in both:
        await channel.close()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_a_house_that_finds_its_name_taken_later_stays_away_and_says_why(
    shared_broker: Broker, instance: str
) -> None:
    async with BadLine(shared_broker.port) as line, connected(settings(line.port, instance)) as ours:
        line.is_cut = True
        await line.hang_up()
        async with connected(settings(shared_broker.port, instance)) as theirs:
            line.is_cut = False
            await until(lambda: "another house.instance" in ours.status.problem)
            assert theirs.status.is_online
        await until(lambda: ours.status.is_online)


# --- brokers that are unkind ---


async def test_a_broker_that_is_not_there_is_unavailable_and_says_what_to_do(instance: str, own_broker: Broker) -> None:
    async with connected(settings(own_broker.port, instance), is_online=False) as channel:
        told = alert()
        with pytest.raises(ChannelUnavailable, match=r"nothing listens there; is the broker running\?"):
            await channel.send(told, delivery(told, "mqtt"))
        assert not channel.status.is_online


async def test_a_host_that_does_not_exist_is_named(instance: str) -> None:
    made = settings(1883, instance, host="no-such-host.invalid")
    async with connected(made, is_online=False) as channel:
        told = alert()
        with pytest.raises(ChannelUnavailable, match=r"no such host; check mqtt.host|did not answer"):
            await channel.send(told, delivery(told, "mqtt"))


async def test_a_wrong_password_is_refused_and_told_once(own_broker: Broker, instance: str) -> None:
    own_broker.with_password().start()
    observer = FakeObserver()
    made = settings(own_broker.port, instance, user=USER, password="wrong")  # noqa: S106
    async with connected(made, is_online=False, observer=observer) as channel:
        told = alert()
        for _ in range(3):
            with pytest.raises(ChannelUnavailable, match=r"check mqtt.user and the password file"):
                await channel.send(told, delivery(told, "mqtt"))
    assert len(observer.named("mqtt.unreachable")) == 1
    assert "wrong" not in str(observer.events).replace("wrong user", "")


async def test_the_right_password_gets_in(own_broker: Broker, instance: str) -> None:
    own_broker.with_password().start()
    async with connected(settings(own_broker.port, instance, user=USER, password=PASSWORD)) as channel:
        assert channel.status.is_online
        assert PASSWORD not in repr(channel._settings)


async def test_a_broker_that_forbids_our_topics_is_not_for_good_and_is_shown(own_broker: Broker, instance: str) -> None:
    own_broker.with_access_list(f"topic read omni_watch/{instance}/#\ntopic write omni_watch/{instance}/availability\n")
    own_broker.start()
    async with connected(settings(own_broker.port, instance)) as channel:
        told = alert()
        with pytest.raises(ChannelUnavailable, match="allow our user to write to omni_watch/# there"):
            await channel.send(told, delivery(told, "mqtt"))
        assert any(channel.topics.alert in refusal for refusal in channel.status.refused)
        assert channel.status.is_online, "the connection itself is good"


async def test_a_message_that_the_broker_can_never_take_is_rejected(own_broker: Broker, instance: str) -> None:
    own_broker.extra = "max_packet_size 900"
    own_broker.start()
    async with connected(settings(own_broker.port, instance), snapshots=OnePicture(bytes(2000))) as channel:
        short, long = alert(), alert(occurrence=2, text="word " * 200)
        await channel.send(short, delivery(short, "mqtt"))
        assert any(channel.topics.snapshot in refusal for refusal in channel.status.refused), "too large, and told"
        with pytest.raises(AlertRejected, match=r"more than broker .* accepts"):
            await channel.send(long, delivery(long, "mqtt"))


async def test_a_broker_that_falls_silent_is_unavailable_until_it_speaks_again(
    own_broker: Broker, instance: str, listen: Listen
) -> None:
    own_broker.start()
    subscriber = listen(own_broker.port, f"omni_watch/{instance}/alert")
    async with connected(settings(own_broker.port, instance)) as channel:
        told = alert()
        own_broker.freeze()
        with pytest.raises(ChannelUnavailable, match="did not acknowledge"):
            await channel.send(told, delivery(told, "mqtt"))
        with pytest.raises(ChannelUnavailable, match="did not answer"):
            await channel.send(told, delivery(told, "mqtt"))
        own_broker.thaw()
        await until(lambda: channel.status.is_online)
        await channel.send(told, delivery(told, "mqtt"))
        await subscriber.first_on(channel.topics.alert)
    assert {message.json["alert_id"] for message in subscriber.messages} == {"kettle-1"}


async def test_a_line_that_swallows_everything_is_noticed_and_left(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    async with BadLine(shared_broker.port) as line, connected(settings(line.port, instance)) as channel:
        told = alert()
        line.swallows = True
        with pytest.raises(ChannelUnavailable, match="did not acknowledge"):
            await channel.send(told, delivery(told, "mqtt"))
        line.swallows = False
        await until(lambda: channel.status.is_online and line.dials >= 2)
        assert (await channel.send(told, delivery(told, "mqtt"))).detail.startswith("PUBACK")


async def test_an_old_broker_is_spoken_to_in_the_older_protocol(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/alert")
    async with (
        BadLine(shared_broker.port, is_old=True) as line,
        connected(settings(line.port, instance)) as channel,
    ):
        assert channel.status.protocol == "3.1.1"
        told = alert()
        await channel.send(told, delivery(told, "mqtt"))
        assert (await subscriber.first_on(channel.topics.alert)).json["alert_id"] == "kettle-1"


async def test_states_are_told_again_to_a_broker_that_forgot_them(
    own_broker: Broker, instance: str, listen: Listen
) -> None:
    own_broker.start()
    async with connected(settings(own_broker.port, instance)) as channel:
        channel.publish_task_state(a_task())
        own_broker.kill()
        await until(lambda: not channel.status.is_online)
        own_broker.start()
        await until(lambda: channel.status.is_online)
        subscriber = listen(own_broker.port, f"omni_watch/{instance}/#")
        assert (await subscriber.first_on(channel.topics.task_state("kettle"))).is_retained
        assert (await subscriber.first_on(channel.topics.availability)).payload == b"online"
        subscriber.close()


async def test_connections_that_come_and_go_leave_no_open_sockets_and_no_threads(
    shared_broker: Broker, instance: str
) -> None:
    async with BadLine(shared_broker.port) as line, connected(settings(line.port, instance)) as channel:
        gc.disable()  # or it would tidy up what we forgot
        try:
            counts = []
            for dials in range(2, 9):
                await line.hang_up()
                await until(lambda n=dials: line.dials == n and channel.status.is_online)  # type: ignore[misc]
                counts.append((open_files(), threading.active_count()))
        finally:
            gc.enable()
    assert counts[-1][0] <= counts[0][0] + 4, counts
    assert counts[-1][1] <= counts[0][1] + 1, counts


# --- TLS ---

# paho leaves the socket of a failed handshake to the garbage collector
handshake_fails = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


async def test_a_broker_with_a_certificate_of_our_authority_is_trusted(
    own_broker: Broker, instance: str, certificates: Certificates
) -> None:
    own_broker.with_tls(certificates, asks_for_client=True)
    own_broker.start()
    made = settings(
        own_broker.port,
        instance,
        host="localhost",
        tls=True,
        ca_file=certificates.path("ca.pem"),
        cert_file=certificates.path("client.pem"),
        key_file=certificates.path("client.key"),
    )
    async with connected(made) as channel:
        told = alert()
        assert (await channel.send(told, delivery(told, "mqtt"))).detail.startswith("PUBACK")


@handshake_fails
@pytest.mark.parametrize(
    ("ca", "what"),
    [(None, "its certificate is not trusted"), ("no-such.pem", "No such file")],
    ids=["the system does not know the authority", "the authority's file is missing"],
)
async def test_a_certificate_that_cannot_be_checked_is_never_trusted(
    own_broker: Broker, instance: str, certificates: Certificates, ca: str | None, what: str
) -> None:
    own_broker.with_tls(certificates)
    own_broker.start()
    ca_file: Path | None = certificates.path(ca) if ca else None
    made = settings(own_broker.port, instance, host="localhost", tls=True, ca_file=ca_file)
    async with connected(made, is_online=False) as channel:
        told = alert()
        with pytest.raises(ChannelUnavailable, match=what):
            await channel.send(told, delivery(told, "mqtt"))


@handshake_fails
async def test_tls_towards_a_port_that_speaks_none_is_explained(shared_broker: Broker, instance: str) -> None:
    made = settings(shared_broker.port, instance, host="localhost", tls=True)
    async with connected(made, is_online=False) as channel:
        told = alert()
        with pytest.raises(ChannelUnavailable, match=r"TLS failed|ended at once|cannot be reached"):
            await channel.send(told, delivery(told, "mqtt"))


# --- the doctor's look ---


async def test_the_doctor_says_what_works_and_leaves_nothing_behind(
    shared_broker: Broker, instance: str, listen: Listen
) -> None:
    said = await check_broker(settings(shared_broker.port, instance))
    assert "answers in MQTT 5" in said
    subscriber = listen(shared_broker.port, f"omni_watch/{instance}/#")
    subscriber.publish(f"omni_watch/{instance}/end", b"")
    await subscriber.first_on(f"omni_watch/{instance}/end")
    assert len(subscriber.messages) == 1


async def test_the_doctor_speaks_to_an_old_broker_too(shared_broker: Broker, instance: str) -> None:
    async with BadLine(shared_broker.port, is_old=True) as line:
        assert "answers in MQTT 3.1.1" in await check_broker(settings(line.port, instance))


@pytest.mark.parametrize("is_old", [False, True], ids=["MQTT 5", "MQTT 3.1.1, which does not tell"])
async def test_the_doctor_sees_that_we_may_not_publish(own_broker: Broker, instance: str, is_old: bool) -> None:
    own_broker.with_access_list("topic read omni_watch/#\n").start()
    async with BadLine(own_broker.port, is_old=is_old) as line:
        with pytest.raises(ChannelUnavailable, match="allow our user to"):
            await check_broker(settings(line.port, instance))


async def test_the_doctor_says_that_our_name_is_taken(shared_broker: Broker, instance: str) -> None:
    async with connected(settings(shared_broker.port, instance)) as channel:
        with pytest.raises(ChannelUnavailable, match=f"another Omni Watch named '{instance}' is on broker"):
            await check_broker(settings(shared_broker.port, instance))
        assert "answers" in await check_broker(settings(shared_broker.port, instance), is_running=True), "that is us"
        assert channel.status.is_online


# --- with the relay: nothing is lost ---


@pytest.fixture
async def sql_store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(tmp_path / "omni-watch.db")
    yield store
    await store.close()


async def test_an_alert_decided_while_the_broker_is_down_arrives_once_after_it_returns(
    own_broker: Broker, instance: str, listen: Listen, sql_store: SqlStore
) -> None:
    own_broker.start()
    subscriber = listen(own_broker.port, f"omni_watch/{instance}/alert")
    observer = FakeObserver()
    await sql_store.transact(lambda tx: tx.tasks.add(replace(a_task(), repeat=Repeat.EACH, state=TaskState.FIRED)))
    async with BadLine(own_broker.port) as line, connected(settings(line.port, instance)) as channel:
        relay = Relay(sql_store, [channel], SystemClock(), observer, settings=RelaySettings(first_pause_s=0.05))
        channel._on_ready = lambda: relay.retry_now("mqtt")
        worker = asyncio.create_task(relay.run())
        line.is_cut = True
        own_broker.kill()
        for number in (1, 2, 3):
            told = alert(occurrence=number, decided_at=datetime.now(UTC))
            await sql_store.transact(lambda tx, a=told: tx.alerts.add(a, [waiting(a)]))  # type: ignore[misc]
            relay.wake()
        await until(lambda: bool(observer.named("channel.away")))
        own_broker.start()
        await asyncio.to_thread(subscriber.until_ready)
        line.is_cut = False
        await subscriber.until(lambda: len(subscriber.messages) >= 3)
        await until(lambda: len(observer.named("delivery.sent")) == 3)
        assert await relay.drain(5) == 0
        await worker
    assert [message.json["alert_id"] for message in subscriber.messages] == ["kettle-1", "kettle-2", "kettle-3"]
    task = await sql_store.transact(lambda tx: tx.tasks.get("kettle"))
    assert task is not None
    assert task.state is TaskState.COOLING, "the cooldown began when it was told"


async def test_a_broker_killed_in_the_middle_of_a_delivery_costs_no_alert(
    own_broker: Broker, instance: str, listen: Listen
) -> None:
    own_broker.start()
    subscriber = listen(own_broker.port, f"omni_watch/{instance}/alert")
    store, observer = FakeStore(), FakeObserver()
    async with BadLine(own_broker.port) as line, connected(settings(line.port, instance)) as channel:
        relay = Relay(store, [channel], SystemClock(), observer, settings=RelaySettings(first_pause_s=0.05))
        worker = asyncio.create_task(relay.run())
        line.swallows = True  # the message is on its way, and its acknowledgement never comes
        told = alert(decided_at=datetime.now(UTC))
        await store.transact(lambda tx: tx.alerts.add(told, [waiting(told)]))
        relay.wake()
        await until(lambda: store.shelves.deliveries["kettle-1", "mqtt", 0].state is DeliveryState.SENDING)
        line.is_cut = True
        own_broker.kill()
        await until(lambda: store.shelves.deliveries["kettle-1", "mqtt", 0].state is DeliveryState.PENDING)
        own_broker.start()
        await asyncio.to_thread(subscriber.until_ready)
        line.swallows = line.is_cut = False
        await until(lambda: store.shelves.deliveries["kettle-1", "mqtt", 0].state is DeliveryState.SENT, 15)
        await subscriber.first_on(channel.topics.alert)
        assert await relay.drain(5) == 0
        await worker
    assert {message.json["alert_id"] for message in subscriber.messages} == {"kettle-1"}
