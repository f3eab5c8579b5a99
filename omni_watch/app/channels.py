"""The ways to reach people that the settings ask for: a voice in the room, an MQTT broker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from omni_watch.alerts import broker, voice
from omni_watch.alerts.answers import Answers
from omni_watch.alerts.floor import Floor, Rank
from omni_watch.alerts.kokoro import KokoroFiles
from omni_watch.alerts.live_voice import LiveVoice
from omni_watch.alerts.messages import Speaking
from omni_watch.alerts.mqtt import MqttChannel
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.rehearsal import Rehearsal
from omni_watch.alerts.remarks import Remarks
from omni_watch.alerts.speakers import FileSpeaker, PortAudioSpeaker, Speaker
from omni_watch.alerts.speech import Speech, SpeechSettings, make_speech
from omni_watch.alerts.terminal import TerminalChannel
from omni_watch.alerts.voice import VoiceChannel
from omni_watch.app.giving_way import GivingWay
from omni_watch.cabinet import Cabinet
from omni_watch.config.settings import MqttSettings, Settings, VoiceSettings
from omni_watch.domain.rules import Priority
from omni_watch.watch.played import Played
from omni_watch.watch.ports import Channel, Clock, Observer, Snapshots, Store

UNASKED: Final = frozenset(Rank) - {Rank.URGENT, Rank.REPLY}  # what a house that is to be quiet keeps to itself


@dataclass(slots=True)
class Channels:
    """The open channels of one house. Loop thread only."""

    clock: Clock
    mqtt: MqttChannel | None = None
    voice: VoiceChannel | None = None
    terminal: TerminalChannel | None = None  # only while somebody looks on
    speech: Speech | None = None
    rehearsal: Rehearsal | None = None  # has ready what will be said
    remarks: Remarks | None = None  # what a companion says, aloud
    answers: Answers | None = None  # to what people ask of us, aloud
    live_voice: LiveVoice | None = None  # where the engine says that with a voice of its own
    floor: Floor | None = None  # where all of them speak
    silence: Quiet = field(default_factory=Quiet)
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
        giving_way: GivingWay | None = None,
    ) -> Self:
        """What the settings ask for; nothing is connected yet, so nothing can fail. `hush`: the engine's."""
        opened = cls(clock=clock, silence=Quiet(hours=settings.voice.quiet_hours))
        giving_way = giving_way or GivingWay(clock=clock, observer=observer)
        if speaker := speaker_for(settings.voice, giving_way.played):
            opened.speech = speech_for(settings.voice, cabinet, observer, settings.state_dir / "voice")
            opened.rehearsal = Rehearsal(opened.speech, settings.language)
            opened.floor = floor = giving_way.floor
            opened.remarks = Remarks(
                opened.speech,
                speaker,
                floor,
                language=settings.language,
                clock=clock,
                observer=observer,
                quiet=opened.silence,
            )
            opened.live_voice = LiveVoice(
                speaker, floor, hush=hush, clock=clock, observer=observer, quiet=opened.silence
            )
            opened.answers = Answers(
                opened.speech, speaker, floor, clock=clock, observer=observer, quiet=opened.silence
            )
            opened.voice = VoiceChannel(
                opened.speech,
                speaker,
                clock=clock,
                observer=observer,
                floor=floor,
                quiet=opened.silence,
                said_live=opened.live_voice.has_said,
                settings=voice.VoiceSettings(
                    expiry_s=settings.voice.expiry_s, urgent_expiry_s=settings.voice.urgent_expiry_s
                ),
            )
        if settings.mqtt.enabled:
            opened.mqtt = MqttChannel(
                mqtt_settings(settings.mqtt, settings.instance),
                clock=clock,
                observer=observer,
                snapshots=snapshots,
                store=store,
                speaking=opened.speaking,
                on_ready=lambda: opened.on_back(MqttChannel.name),
            )
        return opened

    @property
    def all(self) -> Sequence[Channel]:
        return [channel for channel in (self.terminal, self.mqtt, self.voice) if channel is not None]

    @property
    def workers(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """What has to run beside the relay for the channels to work."""
        workers = (part.run for part in (self.mqtt, self.rehearsal, self.remarks, self.live_voice) if part is not None)
        return list(workers)

    def expiries_s(self, priority: Priority) -> Mapping[str, float]:
        """How long an alert of this priority is worth telling, by channel."""
        return {channel.name: channel.expiry_s(priority) for channel in self.all}

    def speaking(self, priority: Priority) -> Speaking:
        """Who says an alert of this priority aloud, if it is told now."""
        is_hushed = self.silence.why_not(priority, self.clock.now()) is not None
        return Speaking(is_spoken=self.voice is not None and not is_hushed, is_hushed=is_hushed)

    def keep_quiet(self, until: datetime | None, *, is_silent: bool = False) -> None:
        """Say nothing aloud until then but what is urgent; None: speak, but for the quiet hours. `is_silent`: nothing
        at all is said. What is being said all the same ends in the middle of its sentence."""
        self.silence.until = until
        self.silence.is_total = is_silent
        if self.floor is not None:
            self.floor.hush(frozenset(Rank) if is_silent else UNASKED if until is not None else ())

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


def speaker_for(settings: VoiceSettings, played: Played | None = None) -> Speaker | None:
    """Where alerts are heard; None when they are not. `played` is told what is."""
    if not settings.enabled or settings.output == "off":
        return None
    if settings.output == "file":
        return FileSpeaker(settings.folder)
    return PortAudioSpeaker(settings.device, settings.volume, played=played)


def speech_for(settings: VoiceSettings, cabinet: Cabinet, observer: Observer, shelf: Path | None = None) -> Speech:
    """The voices whose programs and model files are there; what they say is kept on the shelf for the next start."""
    english = _all_of(cabinet, "voice-en", "voice-en-config")
    chinese = _all_of(cabinet, "kokoro", "kokoro-vocabulary", "kokoro-voices")
    return make_speech(
        SpeechSettings(
            piper=settings.piper,
            piper_model=english[0] if english else None,
            piper_digest=cabinet.table.files["voice-en"].sha256,
            kokoro=_kokoro_files(*chinese) if chinese else None,
            shelf=shelf,
        ),
        observer,
    )


def _all_of(cabinet: Cabinet, *ids: str) -> list[Path]:
    """The paths of these files; none when one is missing. ModelError: one has other bytes than expected."""
    found = [path for path in map(cabinet.find, ids) if path is not None]
    return found if len(found) == len(ids) else []


def _kokoro_files(model: Path, vocabulary: Path, voices: Path) -> KokoroFiles:
    # the folder of a derived file is named after the digests of all it is made from
    return KokoroFiles(model=model, vocabulary=vocabulary, voices=voices, digest=model.parent.name)


def mqtt_settings(settings: MqttSettings, instance: str) -> broker.MqttSettings:
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
    )
