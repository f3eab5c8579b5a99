"""The ears of the embedded engine: one second of sound in, household sounds and beep rows out.

`Ears` holds models and tables and no memory, so all feeds share one; what a feed has heard is an `EarsState` that goes
in and comes out. Seconds that do not follow one another begin a new state: nothing is heard across a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from omni_watch.domain.units import SAMPLES_PER_UNIT, UNIT_S
from omni_watch.duplex.embedded import beeps, mel
from omni_watch.duplex.embedded.beeps import BeepState, Row
from omni_watch.duplex.embedded.mel import MelState
from omni_watch.duplex.embedded.sounds import SoundTable, group_score
from omni_watch.duplex.embedded.watcher import BeepRow, Heard
from omni_watch.duplex.embedded.yamnet import CLASSES, Yamnet

KEPT_PATCHES: Final = 10  # 4.8 s of the past: what a sustained sound and a row of beeps look back on
LARGEST_DRIFT_S: Final = 0.1  # between a second's end and the next one's beginning; more is a gap

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EarsState:
    """What one feed has heard lately."""

    mel: MelState = field(default_factory=MelState.start)
    beeps: BeepState = field(default_factory=BeepState.start)
    probabilities: Floats = field(default_factory=lambda: np.zeros((0, CLASSES), np.float32))  # of the last patches
    heard_s: float = 0.0  # length of the sound since this state was fresh
    next_s: float | None = None  # feed timeline: where the next second should begin


class Ears:
    """Hears all household sounds at once. Any thread."""

    def __init__(self, yamnet: Path, class_map: Path) -> None:
        """Files as the cabinet prepared them. Raises ModelError when one is missing or of another kind."""
        self._yamnet = Yamnet(yamnet, class_map)
        self._table = SoundTable.load(self._yamnet.classes)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the household sounds that can be told apart."""
        return tuple(self._table.groups)

    def start(self) -> EarsState:
        return EarsState()

    def hear(self, audio: Floats, start_s: float, state: EarsState) -> tuple[Heard, EarsState]:
        """One second [16000] that begins at `start_s` of the feed's timeline -> what it held, and the next state.

        Raises:
            ModelError: (retryable) the net could not run.
        """
        if audio.shape != (SAMPLES_PER_UNIT,):
            raise ValueError(f"expected a second of {SAMPLES_PER_UNIT} samples, found {audio.shape}")
        past = state if _follows(state, start_s) else self.start()
        patches, mel_state = mel.step(audio, past.mel)
        fresh, _ = self._yamnet.tag(patches)
        probabilities = np.concatenate([past.probabilities, fresh])[-(KEPT_PATCHES + len(fresh)) :]
        rows, beep_state = beeps.step(audio, past.beeps)
        heard = Heard(
            sounds={name: group_score(group, probabilities, len(fresh)) for name, group in self._table.groups.items()},
            row=self._row(rows, probabilities, start_s - past.heard_s),
        )
        return heard, EarsState(
            mel=mel_state,
            beeps=beep_state,
            probabilities=probabilities[-KEPT_PATCHES:],
            heard_s=past.heard_s + UNIT_S,
            next_s=start_s + UNIT_S,
        )

    def _row(self, rows: tuple[Row, ...], probabilities: Floats, began_s: float) -> BeepRow | None:
        """The longest believable row, on the feed's timeline, unless cries, crows or music explain it."""
        doubt = self._table.beeps
        believed = [row for row in rows if row.is_believable and not doubt.explains(row.last.length_s, probabilities)]
        if not believed:
            return None
        longest = max(believed, key=lambda row: row.count)
        return BeepRow(
            count=longest.count,
            pitch_hz=longest.last.pitch_hz,
            first_at_s=began_s + longest.first.start_s,
            last_at_s=began_s + longest.last.start_s,
        )


def _follows(state: EarsState, start_s: float) -> bool:
    return state.next_s is None or abs(start_s - state.next_s) <= LARGEST_DRIFT_S
