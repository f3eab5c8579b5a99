"""The ways to reach people that the settings ask for: a voice in the room, an MQTT broker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from omni_watch.alerts import broker, voice
from omni_watch.alerts.answers import Answers
from omni_watch.alerts.floor import Floor
from omni_watch.alerts.live_voice import LiveVoice
from omni_watch.alerts.mqtt import MqttChannel
from omni_watch.alerts.remarks import Remarks
from omni_watch.alerts.speakers import FileSpeaker, PortAudioSpeaker, Speaker
from omni_watch.alerts.speech import Speech, SpeechSettings, make_speech
from omni_watch.alerts.terminal import TerminalChannel
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import MqttSettings, Settings, VoiceSettings
from omni_watch.domain.rules import Priority
from omni_watch.watch.modes import NO_END
from omni_watch.watch.ports import Channel, Clock, Observer, Snapshots, Store


@dataclass(slots=True)
class Channels:
    """The open channels of one house. Loop thread only."""

    mqtt: MqttChannel | None = None
    voice: VoiceChannel | None = None
    terminal: TerminalChannel | None = None  # only while somebody looks on
    speech: Speech | None = None
    remarks: Remarks | None = None  # what a companion says, aloud
    answers: Answers | None = None  # to what people ask of us, aloud
    live_voice: LiveVoice | None = None  # where the engine says that with a voice of its own
    on_back: Callable[[str], None] = field(default=lambda _channel: None)  # a channel that was away is there

    @classmethod
    def open(
        cls,
        settings: Settings,
        cabinet: Cabinet,
        snapshots: Snapshots,
        store: Store,
        *,
        clock: Clock,
        observer: Observer,
        hush: Callable[[str], None] = lambda _feed: None,
    ) -> Self:
        """What the settings ask for; nothing is connected yet, so nothing can fail. `hush`: the engine's."""
        opened = cls()
        if speaker := speaker_for(settings.voice):
            opened.speech = speech_for(settings.voice, cabinet, observer, settings.state_dir / "voice")
            floor = Floor()
            opened.remarks = Remarks(
                opened.speech, speaker, floor, language=settings.language, clock=clock, observer=observer
            )
            opened.answers = Answers(opened.speech, speaker, floor, clock=clock, observer=observer)
            opened.live_voice = LiveVoice(speaker, floor, hush=hush, clock=clock, observer=observer)
            opened.voice = VoiceChannel(
                opened.speech,
                speaker,
                clock=clock,
                observer=observer,
                floor=floor,
                said_live=opened.live_voice.has_said,
                settings=voice.VoiceSettings(
                    expiry_s=settings.voice.expiry_s, urgent_expiry_s=settings.voice.urgent_expiry_s
                ),
            )
        if settings.mqtt.enabled:
            opened.mqtt = MqttChannel(
                mqtt_settings(settings.mqtt, settings.instance, spoken=opened.voice is not None),
                clock=clock,
                observer=observer,
                snapshots=snapshots,
                store=store,
                on_ready=lambda: opened.on_back(MqttChannel.name),
            )
        return opened

    @property
    def all(self) -> Sequence[Channel]:
        return [channel for channel in (self.terminal, self.mqtt, self.voice) if channel is not None]

    @property
    def workers(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """What has to run beside the relay for the channels to work."""
        workers = (part.run for part in (self.mqtt, self.remarks, self.live_voice) if part is not None)
        return list(workers)

    def expiries_s(self, priority: Priority) -> Mapping[str, float]:
        """How long an alert of this priority is worth telling, by channel."""
        return {channel.name: channel.expiry_s(priority) for channel in self.all}

    def keep_quiet(self, until: datetime | None, *, is_silent: bool = False) -> None:
        """Say nothing aloud until then but what is urgent; None: speak. `is_silent`: say nothing at all."""
        for talker in (self.voice, self.answers):
            if talker is not None:
                talker.is_silent = is_silent
        for part in (self.voice, self.remarks, self.live_voice):
            if part is not None:
                part.quiet_until = NO_END if is_silent else until

    def quiet(self) -> None:
        """End what companions are saying, and let go of what they still want to say."""
        for part in (self.remarks, self.live_voice):
            if part is not None:
                part.quiet()

    async def close(self) -> None:
        """Silence the voice and end its programs, say `offline`."""
        for channel in (self.voice, self.mqtt):
            if channel is not None:
                await channel.close()
        if self.speech is not None:
            await self.speech.close()


def speaker_for(settings: VoiceSettings) -> Speaker | None:
    """Where alerts are heard; None when they are not."""
    if not settings.enabled or settings.output == "off":
        return None
    if settings.output == "file":
        return FileSpeaker(settings.folder)
    return PortAudioSpeaker(settings.device, settings.volume)


def speech_for(settings: VoiceSettings, cabinet: Cabinet, observer: Observer, shelf: Path | None = None) -> Speech:
    """The voices whose programs and model files are there; what they say is kept on the shelf for the next start."""
    has_english = cabinet.find("voice-en") is not None and cabinet.find("voice-en-config") is not None
    return make_speech(
        SpeechSettings(
            piper=settings.piper,
            piper_model=cabinet.path("voice-en") if has_english else None,
            piper_digest=cabinet.table.files["voice-en"].sha256,
            shelf=shelf,
        ),
        observer,
    )


def mqtt_settings(settings: MqttSettings, instance: str, *, spoken: bool = False) -> broker.MqttSettings:
    """The channel's own values."""
    return broker.MqttSettings(
        host=settings.host,
        port=settings.port,
        instance=instance,
        user=settings.user,
        password=settings.password.reveal() if settings.password else None,
        tls=settings.tls,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        message_expiry_s=round(settings.alert_expiry_s),
        retain_snapshot=settings.retain_snapshot,
        spoken=spoken,
    )
