"""A house that was asked to be quiet: since when, until when, and what it kept to itself meanwhile.

Every call works inside one transaction that its caller opened; times are aware.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from omni_watch.domain.alerts import Alert, AlertState, DeliveryState
from omni_watch.domain.errors import RequestError
from omni_watch.watch.ports import Transaction

NOTE: Final = "quiet"  # says since and until when
SPOKEN: Final = "voice"  # the channel by which alerts are said aloud
LATEST: Final = 50  # alerts, among which those are looked for that were not said aloud


def be_quiet(tx: Transaction, until: datetime, now: datetime) -> None:
    """Say nothing aloud until then, but for what is urgent. Other channels go on."""
    if until <= now:
        raise RequestError(f"quiet until {until:%Y-%m-%d %H:%M} would be over already: that is in the past")
    before = tx.notes.get(NOTE) if quiet_until(tx, now) is not None else None
    tx.notes.keep(NOTE, {"since": now.isoformat(), **(before or {}), "until": until.isoformat()})


def speak_again(tx: Transaction) -> None:
    """End the quiet. No error when there is none."""
    tx.notes.forget(NOTE)


def quiet_until(tx: Transaction, now: datetime) -> datetime | None:
    """Until when nothing is said aloud; None when it may be."""
    note = tx.notes.get(NOTE)
    until = datetime.fromisoformat(note["until"]) if note is not None else None
    return until if until is not None and until > now else None


def kept_quiet(tx: Transaction, now: datetime) -> list[Alert]:
    """What was not said aloud since somebody wanted quiet, and nobody took note of; oldest first. Empty when it is
    over."""
    note = tx.notes.get(NOTE) if quiet_until(tx, now) is not None else None
    if note is None:
        return []
    since = datetime.fromisoformat(note.get("since", note["until"]))  # a note of 0.1 does not say
    alerts = [alert for alert in tx.alerts.recent(LATEST) if alert.decided_at >= since]
    return [alert for alert in reversed(alerts) if not _is_known(tx, alert)]


def _is_known(tx: Transaction, alert: Alert) -> bool:
    """Whether it was said aloud, or somebody took note of it."""
    course = tx.alerts.course(alert.id)
    is_noted = course is not None and course.state is AlertState.ACKNOWLEDGED
    spoken = (each for each in tx.alerts.deliveries(alert.id) if each.channel == SPOKEN and each.transition.is_telling)
    return is_noted or any(each.state is DeliveryState.SENT for each in spoken)
