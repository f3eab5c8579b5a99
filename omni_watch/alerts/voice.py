"""Alerts said aloud. One voice at a time; too late is not said at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from omni_watch.alerts.floor import Floor, Rank, Words
from omni_watch.alerts.quiet import Quiet
from omni_watch.alerts.speakers import Speaker
from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.errors import AlertRejected, ChannelUnavailable, Interrupted
from omni_watch.domain.rules import Priority
from omni_watch.watch.ports import Clock, Observer, Voice

REMEMBERED: Final = 256  # alerts said, so that one that is sent again is not said twice


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSettings:
    """How long after its decision an alert is still worth saying."""

    expiry_s: float = 60.0
    urgent_expiry_s: float = 300.0


class VoiceChannel:
    """Implements `Channel`. Loop thread only."""

    name = "voice"

    def __init__(
        self,
        voice: Voice,
        speaker: Speaker,
        *,
        clock: Clock,
        observer: Observer,
        settings: VoiceSettings | None = None,
        floor: Floor | None = None,
        quiet: Quiet | None = None,
        said_live: Callable[[Alert], Awaitable[bool]] | None = None,
    ) -> None:
        """`said_live`: whether an engine's own voice has told it already; may wait until that voice has ended."""
        self._voice = voice
        self._speaker = speaker
        self._clock = clock
        self._observer = observer
        self._settings = settings or VoiceSettings()
        self._floor = floor or Floor()
        self._said_live = said_live
        self._said: OrderedDict[tuple[str, int], Receipt] = OrderedDict()
        self._quiet = quiet or Quiet()
        self._is_closed = False

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        """Say what has happened; return when the last word was heard. What was said before is not said again, and what
        became of an alert is not said at all.

        Raises:
            Interrupted: a person spoke over it; it was not said.
            ChannelUnavailable: no voice or speaker works now, or it grew too old while others spoke.
            AlertRejected: the house is to be quiet, or muted, since before or while it was said; other channels tell
                it.
        """
        if self._is_closed:
            raise ChannelUnavailable(f"{self.name} is closed")
        if not delivery.transition.is_telling:
            return Receipt(channel=self.name, at=self._clock.now(), detail="not said aloud")
        if (alert.id, delivery.number) in self._said:
            return self._said[alert.id, delivery.number]
        self._require_speaking(alert)
        if self._said_live is not None and await self._said_live(alert):
            return self._remember(delivery, "said by the model itself")
        wav = await self._voice.synthesize(alert.text, alert.language)
        try:
            detail = await self._floor.speak(
                Rank.of(alert.priority),
                lambda: self._say(alert, delivery, wav),
                words=Words(alert.text, alert.language),
                on_cut=lambda: self._observer.on("voice.cut", alert_id=alert.id),
            )
        except Interrupted:
            self._require_speaking(alert)
            self._observer.on("voice.interrupted", alert_id=alert.id)
            raise
        return self._remember(delivery, detail)

    def expiry_s(self, priority: Priority) -> float:
        return self._settings.urgent_expiry_s if priority is Priority.URGENT else self._settings.expiry_s

    async def close(self) -> None:
        """Nothing more is said. What is being said ends with the `send` that says it."""
        self._is_closed = True
        await self._speaker.close()

    async def _say(self, alert: Alert, delivery: Delivery, wav: bytes) -> str:
        if self._clock.now() >= delivery.expires_at:  # while another was speaking
            raise ChannelUnavailable("its turn to speak came too late")
        self._require_speaking(alert)
        self._observer.on("voice.speaking", alert_id=alert.id, speaker=self._speaker.name)
        label = alert.id if delivery.number == 0 else f"{alert.id}-repeat{delivery.number}"
        detail = await self._speaker.play(wav, label, loudness=delivery.loudness)
        self._observer.on("voice.silent", alert_id=alert.id)
        return detail

    def _require_speaking(self, alert: Alert) -> None:
        why = self._quiet.why_not(alert.priority, self._clock.now())
        if why is not None:
            raise AlertRejected(why)

    def _remember(self, delivery: Delivery, detail: str) -> Receipt:
        receipt = Receipt(channel=self.name, at=self._clock.now(), detail=detail)
        self._said[delivery.alert_id, delivery.number] = receipt
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return receipt
