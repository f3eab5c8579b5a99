"""The switch by which a person keeps us from listening: sound is dropped as the device gives it.

Nothing behind it (echo canceller, ears, model) is given a sample while it is off; what was heard before stays heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block, Device, Opened


@dataclass(slots=True)
class SoundSwitch:
    """Of one feed. Moved on the loop, looked at on the device's thread too."""

    is_on: bool = True


class SwitchedDevice:
    """A `Device` without its sound while the switch is off; its pictures pass."""

    def __init__(self, device: Device, switch: SoundSwitch) -> None:
        self._device = device
        self._switch = switch
        self.label = device.label
        self.senses = device.senses

    def open(self) -> Opened:
        return self._device.open()

    def read(self) -> Sequence[Picture | Block] | None:
        was_on = self._switch.is_on
        items = self._device.read()
        if items is None or (was_on and self._switch.is_on):  # a block may reach back to before it was switched on
            return items
        return [item for item in items if not isinstance(item, Block)]

    def close(self) -> None:
        self._device.close()
