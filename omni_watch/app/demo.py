"""`make demo`: a kettle fills in a shipped clip, and its alert arrives as words, as an MQTT message and as speech.

Everything is the product's own: the pipeline of `replay`, the relay, the channels. Only the broker is started here, a
real Mosquitto on a free loopback port, and a second client listens to it as any subscriber would.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from rich.markup import escape

from omni_watch.alerts.broker import MqttSettings
from omni_watch.alerts.messages import Speaking
from omni_watch.alerts.mqtt import MqttChannel
from omni_watch.alerts.snapshots import SnapshotFolder
from omni_watch.alerts.speakers import FileSpeaker
from omni_watch.alerts.terminal import TerminalChannel
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.app.channels import speech_for
from omni_watch.app.engines import SENSES_OF_EMBEDDED, lacks, open_cabinet
from omni_watch.app.lessons import read_teach_file
from omni_watch.app.replaying import ReplayPlan, run_replay
from omni_watch.config.settings import Settings, read_settings
from omni_watch.domain.errors import ChannelUnavailable, ModelError
from omni_watch.replay.report import Replayed
from omni_watch.telemetry.clock import StreamClock, SystemClock
from omni_watch.telemetry.fanout import Observers
from omni_watch.watch.ports import Channel

DEMO: Final = Path(__file__).resolve().parents[1] / "data" / "demo"
CLIP: Final = DEMO / "kettle_filling.mp4"
TEACHING: Final = DEMO / "teach.json"
TASK: Final = "tell me when the kettle is full"
INSTANCE: Final = "demo"
BROKER_START_S: Final = 10.0
SAY_EVERY_S: Final = 5.0  # stream seconds between two lines of progress
LOOPBACK: Final = "127.0.0.1"


def run_demo(console: Console, folder: Path | None = None) -> Mapping[str, Any]:
    """Play the demo; what happened, for scripts.

    Raises:
        ModelError: the model files are not there. ChannelUnavailable: there is no Mosquitto.
    """
    settings = read_settings(None, environment=os.environ)
    settings = replace(settings, engine=replace(settings.engine, kind="embedded"))  # the one that was taught this clip
    kept_in = folder or Path(tempfile.mkdtemp(prefix="omni-watch-demo-"))
    return asyncio.run(_play(console, settings, kept_in))


async def _play(console: Console, settings: Settings, folder: Path) -> Mapping[str, Any]:
    cabinet = open_cabinet(settings)
    lacking = [lack for lack in lacks(cabinet) if lack.ability in SENSES_OF_EMBEDDED]
    if lacking:
        raise ModelError(f"the demo cannot {lacking[0].ability}: run `{lacking[0].mend}` first")
    console.print(f"A clip of a kettle plays as if it were a camera. The task: [bold]{escape(TASK)}[/]")
    async with _broker(folder) as port, _subscriber(port) as heard:
        console.print(
            f"[dim]a Mosquitto listens on {LOOPBACK}:{port}; a subscriber waits for omni_watch/{INSTANCE}/alert[/]"
        )
        observer = Observers()
        speech = speech_for(settings.voice, cabinet, observer)
        clock_now = SystemClock().now()

        def channels(clock: StreamClock) -> Sequence[Channel]:
            mqtt = MqttChannel(
                MqttSettings(host=LOOPBACK, port=port, instance=INSTANCE),
                clock=clock,
                observer=observer,
                snapshots=snapshots,
                speaking=lambda _priority: Speaking(is_spoken=True),
            )
            background.append(asyncio.create_task(mqtt.run(), name="mqtt"))
            voice = VoiceChannel(speech, FileSpeaker(folder), clock=clock, observer=observer)
            return [TerminalChannel(console, clock=clock), mqtt, voice]

        background: list[asyncio.Task[None]] = []
        snapshots = SnapshotFolder(folder, observer=observer)
        plan = ReplayPlan(clip=CLIP, tasks=[TASK], takes=read_teach_file(TEACHING))
        try:
            done = await run_replay(
                settings, plan, channels=channels, snapshots=snapshots, on_progress=_Teller(console), began_at=clock_now
            )
        finally:
            await speech.close()
        await asyncio.gather(*background)
        message = await heard.first_alert()
    return _told(console, done, message, folder)


class _Teller:
    """Says now and then how far the clip is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said_s = 0.0

    def __call__(self, done_s: float, all_s: float) -> None:
        if done_s - self._said_s >= SAY_EVERY_S:
            self._said_s = done_s
            self._console.print(f"[dim]{done_s:5.0f} s of {all_s:.0f} s  watching[/]")


def _told(console: Console, done: Replayed, message: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    wavs = sorted(folder.glob("*.wav"))
    console.print(f"[bold]MQTT[/]   omni_watch/{INSTANCE}/alert: {escape(json.dumps(message, ensure_ascii=False))}")
    console.print(f"[bold]Voice[/]  {escape(', '.join(map(str, wavs)))}")
    console.print(f"[bold]Picture[/] {escape(', '.join(map(str, sorted(folder.glob('*.jpg')))))}")
    step = done.tally.step_ms()
    console.print(
        f"[dim]{done.tally.units} units, step {step['p50']} ms p50 and {step['p95']} ms p95, "
        f"{done.duration_s / done.wall_s:.0f} times as fast as life, {done.rss_mb_peak:.0f} MB[/]"
    )
    return {**done.as_json(), "mqtt": message, "wav": [str(path) for path in wavs]}


@dataclass(slots=True)
class _Heard:
    """The alert messages that a subscriber got."""

    messages: asyncio.Queue[bytes | bytearray] = field(default_factory=asyncio.Queue)

    async def first_alert(self) -> Mapping[str, Any]:
        """ChannelUnavailable when none came."""
        try:
            async with asyncio.timeout(BROKER_START_S):
                alert: Mapping[str, Any] = json.loads(await self.messages.get())
        except TimeoutError as error:
            raise ChannelUnavailable(
                "the subscriber got no alert; the clip or its teaching is not as shipped"
            ) from error
        return alert


@asynccontextmanager
async def _subscriber(port: int) -> AsyncIterator[_Heard]:
    """A client of its own that listens to the alert topic."""
    loop, heard, ready = asyncio.get_running_loop(), _Heard(), asyncio.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id="omni_watch-demo-subscriber")

    def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
        loop.call_soon_threadsafe(heard.messages.put_nowait, message.payload)

    def on_connect(one: Client, *_rest: Any) -> None:
        one.subscribe(f"omni_watch/{INSTANCE}/alert", qos=1)

    def on_subscribe(*_rest: Any) -> None:
        loop.call_soon_threadsafe(ready.set)

    client.on_message = on_message
    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.connect(LOOPBACK, port)
    client.loop_start()
    try:
        async with asyncio.timeout(BROKER_START_S):
            await ready.wait()
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@asynccontextmanager
async def _broker(folder: Path) -> AsyncIterator[int]:
    """A Mosquitto of our own on a free loopback port; yields the port.

    Raises:
        ChannelUnavailable: it is not installed, or does not start.
    """
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ChannelUnavailable("mosquitto is not installed; run `sudo apt-get install mosquitto`")
    port = _free_port()
    config = folder / "mosquitto.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\n", "utf-8")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _listening(port)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listening(port: int) -> None:
    try:
        async with asyncio.timeout(BROKER_START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection(LOOPBACK, port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return
    except TimeoutError as error:
        raise ChannelUnavailable(f"mosquitto did not start within {BROKER_START_S:g} s on port {port}") from error


def _free_port() -> int:
    with socket.socket() as line:
        line.bind((LOOPBACK, 0))
        return int(line.getsockname()[1])
