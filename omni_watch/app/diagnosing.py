"""The doctor's hands: the real probes behind `omni_watch.app.doctor`."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from http.client import HTTPConnection
from typing import Final

from omni_watch.alerts.mqtt_check import check_broker
from omni_watch.alerts.speakers import PortAudioSpeaker
from omni_watch.app import doctor
from omni_watch.app.channels import mqtt_settings, speaker_for, speech_for
from omni_watch.app.engines import Choice, choose_engine, needed_files, open_cabinet
from omni_watch.app.errands import is_daemon_running
from omni_watch.app.house import database_path
from omni_watch.app.service import find_services
from omni_watch.cabinet import Standing
from omni_watch.config.settings import FeedSettings, MetricsSettings, MqttSettings, Settings, VoiceSettings
from omni_watch.domain.errors import ConfigError, ModelError
from omni_watch.domain.rules import Language
from omni_watch.sensing.probing import Probe, probe
from omni_watch.store.care import check, note
from omni_watch.telemetry.clock import SystemClock, is_synchronised
from omni_watch.telemetry.fanout import Observers
from omni_watch.watch.modes import NOTE, deaf_in

METRICS_LIMIT_S: Final = 3.0


def diagnose(settings: Settings, *, is_quick: bool = False) -> list[doctor.Finding]:
    """What works, what does not, and what to do about it."""
    clock = SystemClock()

    def devices(feed: FeedSettings) -> Sequence[Probe]:
        return probe(feed.video_address, feed.audio, clock=clock)

    def broker(mqtt: MqttSettings) -> str:
        return asyncio.run(check_broker(mqtt_settings(mqtt, settings.instance), is_running=running))

    def models() -> Sequence[Standing]:
        try:
            choice: Choice | None = choose()
        except (ConfigError, ModelError):  # told by the engine's own finding
            choice = None
        return needed_files(open_cabinet(settings), choice)

    def voices() -> Mapping[Language, Sequence[str]]:
        speech = speech_for(settings.voice, open_cabinet(settings), Observers())
        has_espeak = shutil.which(doctor.ESPEAK) is not None
        return {
            each: [name for name in speech.voices(each) if name != doctor.ESPEAK or has_espeak] for each in doctor.NAMES
        }

    running = is_daemon_running(settings.state_dir) if settings.state_dir.is_dir() else False
    choose = cache(lambda: choose_engine(settings))
    probes = doctor.Probes(
        devices=devices,
        speaker=_speaker,
        voices=voices,
        broker=broker,
        models=models,
        engine=choose,
        database=check,
        deaf=lambda path: deaf_in(note(path, NOTE)),
        free_bytes=doctor.free_bytes,
        services=find_services,
        metrics=_metrics,
        is_clock_kept=is_synchronised,
        now=clock.now,
    )
    return doctor.diagnose(settings, probes, database=database_path(settings), is_quick=is_quick, is_running=running)


def _metrics(metrics: MetricsSettings, is_running: bool) -> str:
    """Whether a running daemon shows its numbers, or could. OSError: not there, or the port is another's."""
    where = f"http://{metrics.host}:{metrics.port}/metrics"
    if is_running:
        with closing(HTTPConnection(metrics.host, metrics.port, timeout=METRICS_LIMIT_S)) as line:
            line.request("GET", "/metrics")
            if b"omni_watch_ready" not in line.getresponse().read():
                raise OSError(errno.EADDRINUSE, "somebody else answers there")
        return f"shown at {where}"
    with socket.create_server((metrics.host, metrics.port)):
        return f"will be shown at {where}"


def _speaker(voice: VoiceSettings) -> str:
    """ChannelUnavailable when the loudspeaker cannot be used."""
    speaker = speaker_for(voice)
    if isinstance(speaker, PortAudioSpeaker):
        return asyncio.run(speaker.probe())
    return f"spoken alerts are written into {voice.folder}"
