"""Alerts said aloud. One voice at a time; too late is not said at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from typing import Final

from omni_watch.alerts.floor import Floor, Rank
from omni_watch.alerts.speakers import Speaker
from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.errors import AlertRejected, ChannelUnavailable
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
        self._said: OrderedDict[str, Receipt] = OrderedDict()
        self._is_closed = False
        self.quiet_until: datetime | None = None  # aware; nothing is said before, but for what is urgent
        self.is_silent = False  # nothing at all is said

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        """Say the alert; return when the last word was heard. One that was said before is not said again.

        Raises:
            ChannelUnavailable: no voice or speaker works now, or it grew too old while others spoke.
            AlertRejected: a person asked the house to be quiet, muted it, or said that nobody is at home.
        """
        if self._is_closed:
            raise ChannelUnavailable(f"{self.name} is closed")
        if alert.id in self._said:
            return self._said[alert.id]
        if self.is_silent:
            raise AlertRejected("the house is muted, or nobody is at home")
        if self.quiet_until is not None and alert.priority is not Priority.URGENT:
            if self._clock.now() < self.quiet_until:
                is_endless = self.quiet_until.year == MAXYEAR
                until = "" if is_endless else f" until {self.quiet_until:%Y-%m-%d %H:%M} UTC"
                raise AlertRejected(f"the house was asked to be quiet{until}")
            self.quiet_until = None
        if self._said_live is not None and await self._said_live(alert):
            return self._remember(alert, "said by the model itself")
        wav = await self._voice.synthesize(alert.text, alert.language)
        detail = await self._floor.speak(
            Rank.of(alert.priority),
            lambda: self._say(alert, delivery, wav),
            on_cut=lambda: self._observer.on("voice.cut", alert_id=alert.id),
        )
        return self._remember(alert, detail)

    def expiry_s(self, priority: Priority) -> float:
        return self._settings.urgent_expiry_s if priority is Priority.URGENT else self._settings.expiry_s

    async def close(self) -> None:
        """Nothing more is said. What is being said ends with the `send` that says it."""
        self._is_closed = True
        await self._speaker.close()

    async def _say(self, alert: Alert, delivery: Delivery, wav: bytes) -> str:
        if self._clock.now() >= delivery.expires_at:  # while another was speaking
            raise ChannelUnavailable("its turn to speak came too late")
        self._observer.on("voice.speaking", alert_id=alert.id, speaker=self._speaker.name)
        detail = await self._speaker.play(wav, alert.id)
        self._observer.on("voice.silent", alert_id=alert.id)
        return detail

    def _remember(self, alert: Alert, detail: str) -> Receipt:
        receipt = Receipt(channel=self.name, at=self._clock.now(), detail=detail)
        self._said[alert.id] = receipt
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return receipt
