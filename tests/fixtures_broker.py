"""A real Mosquitto on a free loopback port, a proxy that can be bad to it, and a subscriber that collects messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

START_LIMIT_S = 10.0
USER, PASSWORD = "watcher", "quite secret"


def find_mosquitto() -> str:
    """Debian keeps it in /usr/sbin, which is not on everybody's path."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.fail("mosquitto is not installed; `make setup` says how")
    return found


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@dataclass
class Certificates:
    """An authority, and a certificate of it for `localhost`, made by openssl for one test run."""

    folder: Path

    def __post_init__(self) -> None:
        self._openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority"
                      " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
                      " -keyout ca.key -out ca.pem")  # fmt: skip
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        for name in ("server", "client"):
            self._openssl("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
                          f" -keyout {name}.key -out {name}.csr")  # fmt: skip
            self._openssl(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
                          f" -extfile names -out {name}.pem")  # fmt: skip

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True)

    def path(self, name: str) -> Path:
        return self.folder / name


@dataclass
class Broker:
    """One Mosquitto process; `stop` and `start` keep its port, not its memory."""

    folder: Path
    extra: str = ""  # further lines of its configuration
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", "log_dest stderr"]
        if "allow_anonymous" not in self.extra:
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # else it would give up its rights to our temporary folder
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join([*lines, self.extra, ""]))
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([find_mosquitto(), "-c", str(config)], stdout=log, stderr=log)
        self._until_it_listens()

    def _until_it_listens(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process is not None
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"mosquitto did not start:\n{(self.folder / 'mosquitto.log').read_text()}")

    def kill(self) -> None:
        """As by a power cut."""
        self._signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """It still accepts connections (the kernel does), and says nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the broker is not running"
        self._process.send_signal(number)

    def with_password(self) -> Broker:
        """Only `USER` with `PASSWORD` gets in."""
        passwords = self.folder / "passwords"
        tool = shutil.which("mosquitto_passwd", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
        assert tool is not None
        subprocess.run([tool, "-b", "-c", str(passwords), USER, PASSWORD], check=True, capture_output=True)
        self.extra += f"\nallow_anonymous false\npassword_file {passwords}"
        return self

    def with_access_list(self, text: str) -> Broker:
        rights = self.folder / "rights"
        rights.write_text(text)
        rights.chmod(0o600)
        self.extra += f"\nacl_file {rights}"
        return self

    def with_tls(self, certificates: Certificates, *, asks_for_client: bool = False) -> Broker:
        self.extra += (
            f"\ncafile {certificates.path('ca.pem')}\ncertfile {certificates.path('server.pem')}"
            f"\nkeyfile {certificates.path('server.key')}\nrequire_certificate {str(asks_for_client).lower()}"
        )
        return self


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    is_retained: bool
    properties: dict[str, Any]

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.payload)
        return decoded


class Subscriber:
    """Collects what arrives below a topic; any test thread. Reconnects by itself when the broker comes back."""

    def __init__(self, port: int, topic: str, *, user: str | None = None, password: str | None = None) -> None:
        self.messages: list[Message] = []
        self._topic = topic
        self._changed = threading.Condition()
        self._is_ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic, qos=1)
        self._client.on_subscribe = lambda *_: self._is_ready.set()
        self._client.on_disconnect = lambda *_: self._is_ready.clear()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.until_ready()

    def until_ready(self, deadline_s: float = 10.0) -> None:
        assert self._is_ready.wait(deadline_s), "the subscriber did not get through to the broker"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        properties = message.properties.json() if message.properties is not None else {}  # type: ignore[no-untyped-call]
        with self._changed:
            self.messages.append(Message(message.topic, bytes(message.payload), message.retain, properties))
            self._changed.notify_all()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def on(self, topic: str) -> list[Message]:
        return [message for message in self.messages if message.topic == topic]

    async def until(self, fact: Callable[[], bool], deadline_s: float = 10.0) -> None:
        """Wait until a fact about `messages` holds."""
        met = await asyncio.to_thread(self._wait_for, fact, deadline_s)
        assert met, f"not within {deadline_s} s; arrived: {[(each.topic, each.payload[:80]) for each in self.messages]}"

    def _wait_for(self, fact: Callable[[], bool], deadline_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(fact, deadline_s)

    async def first_on(self, topic: str, deadline_s: float = 10.0) -> Message:
        await self.until(lambda: bool(self.on(topic)), deadline_s)
        return self.on(topic)[0]


class BadLine:
    """A TCP proxy in front of a broker: `swallow` drops all bytes from now on; `hang_up` cuts every connection.

    `is_cut` makes it hang up on whoever dials; `is_old` makes it refuse MQTT 5 as a broker of 2014 does.
    """

    def __init__(self, broker_port: int, *, is_old: bool = False) -> None:
        self.port = free_port()
        self.dials = 0
        self.swallows = False
        self.is_cut = False
        self._is_old = is_old
        self._broker_port = broker_port
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        self._pipes.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dials += 1
        self._pipes.add(asyncio.create_task(self._connect(reader, writer)))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            if self.is_cut:
                return
            first = await reader.read(1024)
            if self._is_old and first[8:9] == b"\x05":  # protocol level of CONNECT, behind the name "MQTT"
                writer.write(b"\x20\x02\x00\x01")  # CONNACK of 3.1.1: unacceptable protocol version
                await writer.drain()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
            with contextlib.closing(far_writer):
                far_writer.write(first)
                both = self._copy(reader, far_writer), self._copy(far_reader, writer)
                await _first_of(*both)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not self.swallows:
                    writer.write(data)
                    await writer.drain()


async def _first_of(*works: Awaitable[None]) -> None:
    workers = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for every test that does it no harm."""
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of its own, not started, for tests that kill, freeze or configure it."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    yield broker
    broker.stop()


@pytest.fixture
def instance() -> str:
    """A device name of its own, and so a topic prefix of its own, for each test."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def listen() -> Iterator[Callable[..., Subscriber]]:
    """Makes subscribers and closes them."""
    with contextlib.ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Subscriber:
            subscriber = Subscriber(*arguments, **options)
            stack.callback(subscriber.close)
            return subscriber

        yield make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
