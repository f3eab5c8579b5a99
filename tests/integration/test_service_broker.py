"""The broker's example files, used as they are but for their paths and ports."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests.fixtures_broker import Broker, Certificates, free_port

EXAMPLES = Path(__file__).parents[2] / "deploy" / "mosquitto"
PASSWORDS = {"omni_watch": "one", "homeassistant": "two", "stranger": "three"}
LIMIT_S = 10.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def broker(tmp_path: Path, certificates: Certificates) -> Iterator[Broker]:
    """A Mosquitto with the example as its configuration; `port` speaks TLS."""
    passwords = tmp_path / "passwords"
    passwords.touch()
    passwords.chmod(0o600)
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None
    for user, password in PASSWORDS.items():
        subprocess.run([tool, "-b", str(passwords), user, password], check=True, capture_output=True)
    rights = tmp_path / "omni-watch.acl"
    shutil.copy(EXAMPLES / "omni-watch.acl", rights)
    rights.chmod(0o600)
    text = (EXAMPLES / "omni-watch.conf").read_text()
    for there, here in {
        "/etc/mosquitto/passwords": str(passwords),
        "/etc/mosquitto/omni-watch.acl": str(rights),
        "/etc/mosquitto/certs": str(certificates.folder),
        "listener 1883 127.0.0.1": f"listener {free_port()} 127.0.0.1",
        "listener 8883\n": f"listener {(port := free_port())} 127.0.0.1\n",
    }.items():
        assert there in text
        text = text.replace(there, here)
    # the class writes a listener of its own first, on a third port
    broker = Broker(tmp_path, extra=text)
    broker.start()
    yield Broker(tmp_path, port=port)
    broker.stop()


class Guest:
    """Somebody at the broker, over TLS."""

    def __init__(self, broker: Broker, certificates: Certificates, user: str) -> None:
        self._answers: Queue[ReasonCode] = Queue()
        self.heard: Queue[MQTTMessage] = Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(user, PASSWORDS.get(user, "wrong"))
        self._client.tls_set_context(ssl.create_default_context(cafile=str(certificates.path("ca.pem"))))
        self._client.on_connect = lambda *given: self._answers.put(given[3])
        self._client.on_publish = lambda *given: self._answers.put(given[3])
        self._client.on_subscribe = lambda *given: self._answers.put(given[3][0])
        self._client.on_message = lambda *given: self.heard.put(given[2])
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        self.welcome = self._answers.get(timeout=LIMIT_S)

    def may_publish(self, topic: str) -> bool:
        self._client.publish(topic, "x", qos=1)
        return self._answers.get(timeout=LIMIT_S) != ReasonCode(PacketTypes.PUBACK, "Not authorized")

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)
        self._answers.get(timeout=LIMIT_S)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def come(broker: Broker, certificates: Certificates) -> Iterator[Callable[[str], Guest]]:
    """Lets somebody in; everybody leaves after the test."""
    guests: list[Guest] = []

    def let_in(user: str) -> Guest:
        guests.append(Guest(broker, certificates, user))
        return guests[-1]

    yield let_in
    for guest in guests:
        guest.leave()


def test_each_may_what_it_needs_and_no_more(come: Callable[[str], Guest]) -> None:
    house, assistant, stranger = (come(user) for user in PASSWORDS)

    assert house.may_publish("omni_watch/home/alert")
    assert house.may_publish("homeassistant/device/omni_watch_home/config")
    assert not house.may_publish("omni_watch/neighbours/alert")
    assert not house.may_publish("homeassistant/status")
    assert not house.may_publish("zigbee2mqtt/lamp/set")
    assert assistant.may_publish("omni_watch/home/request")
    assert assistant.may_publish("homeassistant/status")
    assert not assistant.may_publish("zigbee2mqtt/lamp/set")
    assert not stranger.may_publish("omni_watch/home/request")


def test_what_is_said_reaches_those_who_may_hear_it(come: Callable[[str], Guest]) -> None:
    house, assistant, stranger = (come(user) for user in PASSWORDS)
    for guest in (assistant, stranger):
        guest.subscribe("omni_watch/#")

    assert house.may_publish("omni_watch/home/alert")

    assert assistant.heard.get(timeout=LIMIT_S).payload == b"x"
    assert assistant.may_publish("omni_watch/home/request"), "and by now the stranger would have heard the alert"
    with pytest.raises(Empty):
        stranger.heard.get_nowait()


def test_nobody_comes_in_without_a_password(come: Callable[[str], Guest]) -> None:
    assert come("burglar").welcome.is_failure
