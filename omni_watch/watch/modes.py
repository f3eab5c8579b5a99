"""How loud the house may be, and where it listens: switches and a mode, which last until somebody changes them.

`mute` is the switch of a loudspeaker: nothing at all is heard, not even what is urgent. `quiet` lets only what is
urgent be heard, as "be quiet until ten" does. `away` is for a house with nobody in it: nothing is said aloud, so that
no alert counts as told because an empty room heard it. Other channels (MQTT) always go on.

A feed that is `deaf` gives no sound to anybody: not to the model, not to the ears, not to the echo canceller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from omni_watch.watch import being_quiet
from omni_watch.watch.ports import Transaction

NOTE: Final = "modes"
NO_END: Final = datetime.max.replace(tzinfo=UTC)


class Mode(Enum):
    NORMAL = "normal"
    QUIET = "quiet"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Modes:
    """What was chosen."""

    mode: Mode = Mode.NORMAL
    is_muted: bool = False
    deaf: frozenset[str] = frozenset()  # feeds to which nobody wants us to listen

    @property
    def is_silent(self) -> bool:
        """Whether nothing at all may be said aloud."""
        return self.is_muted or self.mode is Mode.AWAY


def modes(tx: Transaction) -> Modes:
    note = tx.notes.get(NOTE) or {}
    known = {mode.value: mode for mode in Mode}
    return Modes(known.get(str(note.get("mode")), Mode.NORMAL), note.get("mute") is True, deaf_in(note))


def deaf_in(note: Mapping[str, Any]) -> frozenset[str]:
    """The feeds that are deaf by this note of modes."""
    return frozenset(str(feed) for feed in note.get("deaf", ()))


def set_mode(tx: Transaction, mode: Mode) -> Modes:
    return _keep(tx, replace(modes(tx), mode=mode))


def set_mute(tx: Transaction, *, is_muted: bool) -> Modes:
    return _keep(tx, replace(modes(tx), is_muted=is_muted))


def set_listening(tx: Transaction, feed: str, *, is_listening: bool) -> Modes:
    chosen = modes(tx)
    return _keep(tx, replace(chosen, deaf=chosen.deaf - {feed} if is_listening else chosen.deaf | {feed}))


def quiet_until(tx: Transaction, now: datetime) -> datetime | None:
    """Until when only what is urgent is said aloud, by the mode or because somebody asked; None: all is."""
    return NO_END if modes(tx).mode is not Mode.NORMAL else being_quiet.quiet_until(tx, now)


def _keep(tx: Transaction, chosen: Modes) -> Modes:
    tx.notes.keep(NOTE, {"mode": chosen.mode.value, "mute": chosen.is_muted, "deaf": sorted(chosen.deaf)})
    return chosen
