"""Alert: something a person must be told, decided once. Delivery: one alert on its way to one channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from omni_watch.domain.decisions import Means
from omni_watch.domain.rules import Language, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Immutable. Times are aware UTC; `stream_s` is on the feed's timeline."""

    id: str  # "<task id>-<occurrence>": the same occurrence always has the same id
    task_id: str
    task_text: str
    feed: str
    text: str
    language: Language
    priority: Priority
    occurrence: int  # 1 for the first time this task fired
    confidence: float  # 0..1
    means: tuple[Means, ...]
    stream_s: float  # end of the unit that decided it
    condition_at: datetime
    decided_at: datetime


class DeliveryState(Enum):
    PENDING = "pending"
    SENDING = "sending"  # found at start-up it means that we crashed, and becomes pending again
    SENT = "sent"
    EXPIRED = "expired"  # too old to be worth telling on this channel
    DEAD = "dead"  # the far side refused it for good


DELIVERY_MOVES: Final[dict[DeliveryState, frozenset[DeliveryState]]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENDING, DeliveryState.EXPIRED}),
    DeliveryState.SENDING: frozenset(
        {DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.EXPIRED, DeliveryState.DEAD}
    ),
    DeliveryState.SENT: frozenset(),
    DeliveryState.EXPIRED: frozenset(),
    DeliveryState.DEAD: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The far side's proof that it accepted."""

    channel: str
    at: datetime  # aware UTC
    detail: str = ""  # "PUBACK 12", "played 1.4 s", a file name


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One alert going to one channel."""

    alert_id: str
    channel: str
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    due_at: datetime  # not before this
    expires_at: datetime
    detail: str = ""  # the receipt's detail, or the last error

    def to(self, state: DeliveryState, **changes: object) -> Delivery:
        """The same delivery in another state; ValueError when the table does not allow the move."""
        if state not in DELIVERY_MOVES[self.state]:
            raise ValueError(
                f"delivery of {self.alert_id} by {self.channel} is {self.state.value} and cannot become {state.value}"
            )
        return replace(self, state=state, **changes)  # type: ignore[arg-type]
