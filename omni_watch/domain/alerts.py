"""Alert: something a person must be told, decided once. Course: what became of it. Delivery: one message about it on
its way to one channel."""

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


class AlertState(Enum):
    """What became of an alert; `ALERT_MOVES` lists the allowed moves."""

    OPEN = "open"  # nobody has taken note of it yet
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"  # a person wants to hear of it later
    EXPIRED = "expired"  # nobody took note of it in its time
    CANCELLED = "cancelled"  # with its task


ALERT_MOVES: Final[dict[AlertState, frozenset[AlertState]]] = {
    AlertState.OPEN: frozenset({AlertState.ACKNOWLEDGED, AlertState.SNOOZED, AlertState.EXPIRED, AlertState.CANCELLED}),
    AlertState.ACKNOWLEDGED: frozenset(),
    AlertState.SNOOZED: frozenset(),
    AlertState.EXPIRED: frozenset(),
    AlertState.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What has become of one alert since it was decided. Times are aware UTC."""

    alert_id: str
    state: AlertState = AlertState.OPEN
    repeats: int = 0  # how often it was told again
    last_at: datetime | None = None  # last told, told again, or found still being told; None: not yet
    closed_at: datetime | None = None
    closed_by: str = ""  # "cli", "voice", "mqtt", ...; "time" when nobody did

    @property
    def is_open(self) -> bool:
        return self.state is AlertState.OPEN

    def to(self, state: AlertState, *, at: datetime, by: str) -> Course:
        """The same alert in another state; ValueError when the table does not allow the move."""
        if state not in ALERT_MOVES[self.state]:
            raise ValueError(f"alert {self.alert_id} is {self.state.value} and cannot become {state.value}")
        return replace(self, state=state, closed_at=at, closed_by=by)


class Transition(Enum):
    """What is told of an alert: that it is there, again, or what became of it."""

    ALERT = "alert"
    REPEAT = "repeat"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_telling(self) -> bool:
        """Whether it tells a person what has happened; the others say that nobody need be told any more."""
        return self in (Transition.ALERT, Transition.REPEAT)


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
    """One message about an alert, going to one channel."""

    alert_id: str
    channel: str
    number: int = 0  # counts what is told of the alert: 0 itself, 1 its first repeat, ..., last what became of it
    transition: Transition = Transition.ALERT
    loudness: float = 0.0  # 0: as loud as the house speaks, 1: as loud as it can
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    due_at: datetime  # not before this
    expires_at: datetime
    detail: str = ""  # the receipt's detail, or the last error

    @property
    def repeats(self) -> int:
        """How often the alert had been told again by then, this time included."""
        return self.number if self.transition.is_telling else self.number - 1

    def to(self, state: DeliveryState, **changes: object) -> Delivery:
        """The same delivery in another state; ValueError when the table does not allow the move."""
        if state not in DELIVERY_MOVES[self.state]:
            raise ValueError(
                f"delivery of {self.alert_id} by {self.channel} is {self.state.value} and cannot become {state.value}"
            )
        return replace(self, state=state, **changes)  # type: ignore[arg-type]
