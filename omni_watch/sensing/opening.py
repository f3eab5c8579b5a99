"""The door: what a person wrote about a feed -> a live `Feed`."""

from __future__ import annotations

from collections.abc import Callable

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.addresses import (
    STREAM_SOUND,
    FileAddress,
    WebcamAddress,
    existing_clip,
    microphone_address,
    video_address,
)
from omni_watch.sensing.assembly import OnSound
from omni_watch.sensing.capture import Device
from omni_watch.sensing.live import LiveFeed
from omni_watch.sensing.microphone import MicrophoneDevice
from omni_watch.sensing.stream import StreamDevice
from omni_watch.sensing.switch import SoundSwitch, SwitchedDevice
from omni_watch.sensing.webcam import WebcamDevice
from omni_watch.watch.ports import Clock, FeedObserver


def open_feed(
    name: str,
    video: str | None,
    audio: str | None,
    *,
    clock: Clock,
    observer: FeedObserver,
    frames_per_unit: int = 1,
    on_sound: OnSound | None = None,
    cleaned: Callable[[Device], Device] = lambda microphone: microphone,
    switch: SoundSwitch | None = None,
) -> LiveFeed:
    """A feed of these devices; opens none of them yet.

    `video`: a clip's path, an rtsp://, rtsps://, http:// or https:// URL, /dev/videoN, v4l2:N, or None. `audio`:
    "stream" (the sound of `video`), "mic", "mic:<PortAudio name or number>", or None. A clip is played at its own
    pace, and the feed ends with it. `on_sound` is given every block of sound as it comes. `cleaned`: makes a microphone
    of this machine one that does not hear us. `switch`: whether we listen at all.

    Raises:
        FeedError: (not retryable) such a feed can never work.
    """
    devices = devices_of(video, audio, clock=clock, cleaned=cleaned, switch=switch)
    is_clip = video is not None and isinstance(video_address(video), FileAddress)
    return LiveFeed(
        name,
        devices,
        clock=clock,
        observer=observer,
        frames_per_unit=frames_per_unit,
        may_repeat=is_clip,
        on_sound=on_sound,
        switch=switch,
    )


def devices_of(
    video: str | None,
    audio: str | None,
    *,
    clock: Clock,
    cleaned: Callable[[Device], Device] = lambda microphone: microphone,
    switch: SoundSwitch | None = None,
) -> list[Device]:
    """The devices behind `video` and `audio`, none of them opened.

    Raises:
        FeedError: (not retryable) such a feed can never work.
    """
    if video is None and audio is None:
        raise FeedError("a feed needs `video`, `audio` or both", can_retry=False)
    if audio == STREAM_SOUND and video is None:
        raise FeedError("audio: 'stream' is the sound of `video`, and there is no `video`", can_retry=False)
    switch, devices = switch or SoundSwitch(), list[Device]()
    if video is not None:
        devices.append(SwitchedDevice(_camera(video, with_sound=audio == STREAM_SOUND, clock=clock), switch))
    if audio is not None and audio != STREAM_SOUND:
        microphone = MicrophoneDevice(microphone_address(audio), clock=clock)
        devices.append(cleaned(SwitchedDevice(microphone, switch)))
    return devices


def _camera(video: str, *, with_sound: bool, clock: Clock) -> Device:
    address = video_address(video)
    if isinstance(address, WebcamAddress):
        if with_sound:
            raise FeedError(
                f"audio: a camera such as {video} gives no sound; expected 'mic' or 'mic:NAME'", can_retry=False
            )
        return WebcamDevice(address.number, clock=clock)
    if isinstance(address, FileAddress):
        existing_clip(address.path)
    senses = frozenset(Sense) if with_sound else frozenset({Sense.SIGHT})
    return StreamDevice(address, senses=senses, clock=clock)
