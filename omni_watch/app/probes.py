"""The doctor's real hands. Each touches one part of the house and answers with plain values."""

from __future__ import annotations

from collections.abc import Callable

from omni_watch.app.doctor import Finding, Probes, examine, free_bytes
from omni_watch.app.engines import open_cabinet
from omni_watch.app.house import database_path
from omni_watch.app.showing import is_daemon_running
from omni_watch.config.settings import MqttSettings, Settings, VoiceSettings
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.sensing.probing import probe
from omni_watch.store import care
from omni_watch.telemetry.clock import SystemClock, is_synchronised

PLAYED_HZ = 48_000  # what every sound card of the last decades plays


def diagnose(settings: Settings, *, broker: Callable[[MqttSettings], str], is_quick: bool = False) -> list[Finding]:
    """Look at the whole house. `broker` connects and says what answered, or raises ChannelError."""
    clock = SystemClock()
    probes = Probes(
        devices=lambda feed: probe(feed.video_address, feed.audio, clock=clock),
        speaker=find_speaker,
        broker=broker,
        models=open_cabinet(settings).verify,
        database=care.check,
        free_bytes=free_bytes,
        is_clock_kept=is_synchronised,
        now=clock.now,
    )
    is_running = is_daemon_running(settings.state_dir)
    return examine(settings, probes, database=database_path(settings), is_quick=is_quick, is_running=is_running)


def find_speaker(voice: VoiceSettings) -> str:
    """The name of the device that would speak.

    Raises:
        ChannelUnavailable: there is none, or it cannot play what we speak.
    """
    if voice.output == "file":
        return f"spoken alerts are written to {voice.folder}"
    try:
        import sounddevice  # loads PortAudio, which a machine may lack
    except OSError as error:
        raise ChannelUnavailable("PortAudio is not installed; on Debian: apt install libportaudio2") from error
    device = int(voice.device) if voice.device and voice.device.isdecimal() else voice.device
    try:
        found = sounddevice.query_devices(device, kind="output")
        sounddevice.check_output_settings(device=device, channels=1, dtype="int16", samplerate=PLAYED_HZ)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ChannelUnavailable(f"no speaker {voice.device or ''}: {error}".replace(" :", ":")) from error
    return str(found["name"])
