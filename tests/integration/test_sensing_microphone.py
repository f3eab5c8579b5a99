"""A microphone in a room, through PortAudio."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ, Sense
from omni_watch.sensing import microphone
from omni_watch.sensing.addresses import MicrophoneAddress
from omni_watch.sensing.capture import Block
from omni_watch.sensing.microphone import MicrophoneDevice, found_input, input_names
from omni_watch.sensing.opening import open_feed
from omni_watch.sensing.probing import probe
from omni_watch.telemetry.clock import SystemClock
from tests.fakes.fake_observer import FakeObserver
from tests.fixtures_pulse import Room

CLOCK = SystemClock()
LIMIT_S = 15.0


def beep(pitch_hz: float = 880.0, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * 16_000)) / 16_000)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * SAMPLE_RATE_HZ / len(samples))


def blocks(device: MicrophoneDevice) -> Iterator[Block]:
    """What the microphone gives, until the test has waited long enough."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        yield from device.read()
    pytest.fail("the microphone did not hear it")


def heard_pitch(room: Room, device: MicrophoneDevice) -> float:
    """The pitch of a beep played now, as the microphone hears it."""
    device.open()
    player: threading.Thread | None = None
    loud: list[np.ndarray] = []
    try:
        for block in blocks(device):
            if player is None:  # it listens
                player = threading.Thread(target=room.play_samples, args=(beep(),))
                player.start()
            if np.abs(block.samples).max() > 0.2:
                loud.append(block.samples)
            if sum(map(len, loud)) > SAMPLE_RATE_HZ * 0.4:
                return pitch(np.concatenate(loud)[: round(SAMPLE_RATE_HZ * 0.4)])
    finally:
        device.close()
        if player is not None:
            player.join(LIMIT_S)
    return 0.0


@pytest.mark.parametrize("wanted", [None, "default"])
def test_what_sounds_in_the_room_is_heard_at_its_pitch(room: Room, wanted: str | None) -> None:
    assert heard_pitch(room, MicrophoneDevice(MicrophoneAddress(wanted), clock=CLOCK)) == pytest.approx(880, abs=5)


def test_a_device_that_refuses_16_khz_is_resampled(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    library = microphone.portaudio()

    class Fussy(library.InputStream):  # type: ignore[name-defined,misc]
        def __init__(self, *, samplerate: float, **rest: object) -> None:
            if samplerate == SAMPLE_RATE_HZ:
                raise library.PortAudioError("Invalid sample rate")
            super().__init__(samplerate=samplerate, **rest)

    monkeypatch.setattr(library, "InputStream", Fussy)
    device = MicrophoneDevice(MicrophoneAddress(None), clock=CLOCK)
    assert heard_pitch(room, device) == pytest.approx(880, abs=5)


def test_a_microphone_that_is_not_there_is_named_with_those_that_are(room: Room) -> None:
    assert any("default" in name for name in input_names())
    with pytest.raises(FeedError, match=r"'Blue Whale' was not found; inputs known to PortAudio: .*default") as missing:
        found_input("Blue Whale")
    assert missing.value.can_retry
    with pytest.raises(FeedError, match="microphone 99 was not found"):
        found_input(99)


def test_a_microphone_can_be_opened_again(room: Room) -> None:
    device = MicrophoneDevice(MicrophoneAddress(None), clock=CLOCK)
    for _ in range(2):
        device.open()
        assert len(next(blocks(device)).samples) > 0
        device.close()
        device.close()


async def test_a_feed_of_a_microphone_alone_gives_a_heard_unit_each_second(room: Room) -> None:
    observer = FakeObserver()
    feed = open_feed("hall", None, "mic", clock=CLOCK, observer=observer)
    heard = []
    async for unit in feed.units():
        heard.append(unit.is_heard)
        if heard[-2:] == [True, True] or len(heard) > LIMIT_S:
            break
    await feed.close()
    assert heard[-2:] == [True, True]
    states = [each["state"] for each in observer.named("feed.state") if each["sense"] == Sense.HEARING.value]
    assert states == ["opening", "live", "ended"]


def test_the_doctor_learns_whether_the_microphone_works(room: Room) -> None:
    (works,) = probe(None, "mic", clock=CLOCK)
    assert works.works
    assert "sound 16 kHz" in works.what
    (missing,) = probe(None, "mic:Blue Whale", clock=CLOCK)
    assert not missing.works
    assert "was not found" in missing.what
