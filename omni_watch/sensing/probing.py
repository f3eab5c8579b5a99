"""Does this camera or microphone work? For `omni-watch doctor`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block, Device
from omni_watch.sensing.opening import devices_of
from omni_watch.watch.ports import Clock

DEADLINE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What a device turned out to be."""

    label: str  # no credentials
    works: bool
    what: str  # "1280x720 at 15 fps, sound 48 kHz", or what went wrong
    advice: str = ""  # what to do; empty when nothing


def probe(video: str | None, audio: str | None, *, clock: Clock, deadline_s: float = DEADLINE_S) -> list[Probe]:
    """Open each device of a feed, wait for a picture and sound, and close it. Blocks for `deadline_s` a device."""
    try:
        devices = devices_of(video, audio, clock=clock)
    except FeedError as error:
        return [Probe("feed", works=False, what=str(error), advice="correct the configuration")]
    return [_within(device, clock, deadline_s) for device in devices]


def _within(device: Device, clock: Clock, deadline_s: float) -> Probe:
    """Probe on a thread of its own: a device may hang."""
    answers: list[Probe] = []
    thread = threading.Thread(
        target=lambda: answers.append(_probed(device, clock, deadline_s)), name=f"probe {device.label}", daemon=True
    )
    thread.start()
    thread.join(deadline_s)
    if answers:
        return answers[0]
    advice = "look whether it is on and connected"
    return Probe(device.label, works=False, what=f"no answer within {deadline_s:.0f} s", advice=advice)


def _probed(device: Device, clock: Clock, deadline_s: float) -> Probe:
    until_s = clock.monotonic() + deadline_s
    try:
        opened = device.open()
        missing = set(opened.senses - opened.absent)
        while missing and clock.monotonic() < until_s:
            items = device.read()
            if items is None:
                break
            missing -= {_sense(item) for item in items}
    except FeedError as error:
        return Probe(device.label, works=False, what=str(error), advice=_advice(error))
    finally:
        device.close()
    if missing:
        names = " and ".join(sorted(sense.value for sense in missing))
        return Probe(
            device.label, works=False, what=f"{opened.detail}, but gives no {names}", advice="check the device"
        )
    if opened.absent:
        return Probe(device.label, works=True, what=opened.detail, advice=_without(opened.absent))
    return Probe(device.label, works=True, what=opened.detail)


def _sense(item: Picture | Block) -> Sense:
    return Sense.SIGHT if isinstance(item, Picture) else Sense.HEARING


def _advice(error: FeedError) -> str:
    return "it is tried again by itself while the daemon runs" if error.can_retry else "correct the configuration"


def _without(absent: frozenset[Sense]) -> str:
    if Sense.HEARING in absent:
        return "it has no sound: switch sound on in the camera, or set audio to a microphone"
    return "it has no picture: set video to a camera"
