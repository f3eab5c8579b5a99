"""Means of a task that listen: a household sound, or a row of beeps. Both go by what the ears made of the second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omni_watch.domain.decisions import Means
from omni_watch.domain.units import Unit
from omni_watch.duplex.embedded.watcher import Evidence, Heard
from omni_watch.watch.deciding import GateSettings

# That a sound lasts is settled in its score, that beeps repeat in their row: one second is enough to confirm.
LISTENING_GATE: Final = GateSettings(on=0.5, off=0.3, confirm_of=1, confirm_in=1, prime_s=3.0, rearm_s=10.0)

SOUND_LAG_S: Final = 0.3  # median from a sound's beginning to that of the second which reports it; 9 of 10 within 1.4


class SoundWatcher:
    """Any of some household sounds."""

    means = Means.SOUND
    gate = LISTENING_GATE

    def __init__(self, groups: Sequence[str]) -> None:
        """`groups` are names in sounds.toml; one that the ears do not know is never heard."""
        if not groups:
            raise ValueError("a sound watcher needs at least one household sound")
        self._groups = tuple(groups)
        self._since_s: float | None = None

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        if heard is None:
            return Evidence(score=None)
        loudest = max(self._groups, key=lambda name: heard.sounds.get(name, 0.0))
        score = heard.sounds.get(loudest, 0.0)
        self._since_s = self._since(score, unit.start_s)
        return Evidence(score=score, condition_at_s=self._since_s, detail=f"{loudest} {score:.2f}")

    def _since(self, score: float, start_s: float) -> float | None:
        """When the sound that goes on began; None while there is none."""
        if score < self.gate.off:
            return None
        if self._since_s is None and score >= self.gate.on:
            return start_s - SOUND_LAG_S
        return self._since_s


class BeepWatcher:
    """A row of at least so many like beeps."""

    means = Means.BEEPS
    gate = LISTENING_GATE

    def __init__(self, beeps: int = 3) -> None:
        if beeps < 1:
            raise ValueError(f"a row has at least one beep, found {beeps}")
        self._beeps = beeps

    def step(self, unit: Unit, heard: Heard | None) -> Evidence:
        if heard is None:
            return Evidence(score=None)
        if heard.row is None:
            return Evidence(score=0.0)
        detail = f"{heard.row.count} beeps at {heard.row.pitch_hz:.0f} Hz"
        return Evidence(score=self._score(heard.row.count), condition_at_s=heard.row.first_at_s, detail=detail)

    def _score(self, count: int) -> float:
        """Below 0.5 until the row is long enough; then every further beep halves the doubt."""
        if count < self._beeps:
            return 0.5 * count / self._beeps
        return 1.0 - 0.25 * 0.5 ** (count - self._beeps)
