"""Devices come and go; units do not stop. In virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import FEED_MOVES, SAMPLE_RATE_HZ, FeedState, Gap, GapCause, Sense, Unit
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.assembly import Assembly, moved
from omni_watch.sensing.capture import Block, Finished, Item, Lost, Opened, Opening
from omni_watch.sensing.timeline import DeviceClock
from tests.fakes.fake_observer import FakeObserver
from tests.fakes.fake_picture import FakePicture

SIGHT, HEARING = frozenset({Sense.SIGHT}), frozenset({Sense.HEARING})
BOTH = SIGHT | HEARING


class House:
    """One assembly and a clock that the test moves."""

    def __init__(self, senses: frozenset[Sense] = BOTH, *, may_repeat: bool = False) -> None:
        self.observer = FakeObserver()
        self.assembly = Assembly("kitchen", senses, origin_s=100.0, observer=self.observer, may_repeat=may_repeat)
        self.units: list[Unit] = []
        self._tone = 0

    def happens(self, now_s: float, *items: Item) -> tuple[Unit, ...]:
        units = self.assembly.units(items, now_s)
        self.units += units
        return units

    def begins(self, now_s: float = 100.0, absent: frozenset[Sense] = frozenset()) -> None:
        self.happens(now_s, Opening(BOTH), Opened(BOTH, absent, ""))

    def runs(self, begin_s: float, end_s: float, *, sight: str = "moves", hearing: bool = True) -> None:
        """Ten pictures and blocks a second. `sight`: "moves", "repeats" or "none"."""
        for tick in range(round(begin_s * 10), round(end_s * 10)):
            at_s = tick / 10
            items: list[Item] = []
            self._tone += sight == "moves"
            if sight != "none":
                items.append(Picture(at_s, FakePicture(self._tone)))
            if hearing:
                items.append(Block(at_s, np.full(1600, 0.1, np.float32)))
            self.happens(at_s + 0.1, *items)

    def states(self, sense: Sense) -> list[str]:
        return [each["state"] for each in self.observer.named("feed.state") if each["sense"] == sense.value]


def test_the_move_function_allows_exactly_what_the_table_allows() -> None:
    for state in FeedState:
        for to in FeedState:
            if to in FEED_MOVES[state]:
                assert moved(state, to) is to
            else:
                with pytest.raises(ValueError, match="cannot go"):
                    moved(state, to)
    assert moved(None, FeedState.OPENING) is FeedState.OPENING
    with pytest.raises(ValueError, match="cannot go"):
        moved(None, FeedState.LIVE)


def test_units_flow_soon_after_each_second_while_everything_works() -> None:
    house = House()
    house.begins()
    house.runs(100, 104.5)
    assert [unit.index for unit in house.units] == [0, 1, 2, 3]
    assert all(unit.gaps == () for unit in house.units)
    assert house.states(Sense.SIGHT) == house.states(Sense.HEARING) == ["opening", "live"]


def test_units_flow_with_gaps_while_nothing_opens() -> None:
    house = House()
    house.happens(100.0, Opening(BOTH))
    assert house.happens(101.4) == ()
    (unit,) = house.happens(101.5)
    assert {gap.cause for gap in unit.gaps} == {GapCause.LOST}
    assert len(house.happens(105.5)) == 4


def test_a_camera_that_goes_away_leaves_gaps_and_comes_back() -> None:
    house = House()
    house.begins()
    house.runs(100, 103)
    house.happens(103.05, Lost(SIGHT, FeedError("camera: unplugged"), 1.2))
    house.runs(103.1, 106, sight="none")
    house.happens(106.0, Opening(SIGHT), Opened(SIGHT, frozenset(), ""))
    house.runs(106, 109.5)
    lost = [unit.index for unit in house.units if Gap(Sense.SIGHT, GapCause.LOST) in unit.gaps]
    assert lost == [4, 5]  # the third second still has a picture near its end
    assert all(unit.is_heard for unit in house.units)
    assert house.states(Sense.SIGHT) == ["opening", "live", "waiting", "opening", "live"]
    assert house.states(Sense.HEARING) == ["opening", "live"]
    assert "unplugged; trying again in 1 s" in house.observer.named("feed.state")[-3]["detail"]


def test_a_camera_that_repeats_goes_stale_and_its_picture_is_a_gap() -> None:
    house = House()
    house.begins()
    house.runs(100, 102)
    house.runs(102, 110, sight="repeats")
    house.runs(110, 112.5)
    stale = [unit.index for unit in house.units if Gap(Sense.SIGHT, GapCause.STALE) in unit.gaps]
    assert stale == [7, 8, 9]  # a stale camera is not waited for
    assert house.states(Sense.SIGHT) == ["opening", "live", "stale", "live"]
    assert not any(unit.frames for unit in house.units if unit.index in stale)


def test_a_clip_may_stand_still() -> None:
    house = House(may_repeat=True)
    house.begins()
    house.runs(100, 115, sight="repeats")
    assert all(unit.frames for unit in house.units)
    assert house.states(Sense.SIGHT) == ["opening", "live"]


def test_a_sense_that_gives_nothing_for_long_goes_stale() -> None:
    house = House()
    house.begins()
    house.runs(100, 102)
    house.runs(102, 109, hearing=False)
    assert house.states(Sense.HEARING) == ["opening", "live", "stale"]
    assert [unit.is_heard for unit in house.units] == [True, True] + [False] * (len(house.units) - 2)
    house.runs(109, 111.5)
    assert house.states(Sense.HEARING) == ["opening", "live", "stale", "live"]


def test_a_stream_without_sound_says_so_and_its_gap_is_absence() -> None:
    house = House()
    house.begins(absent=HEARING)
    house.runs(100, 102.5, hearing=False)
    assert all(unit.gaps == (Gap(Sense.HEARING, GapCause.ABSENT),) for unit in house.units)
    assert house.states(Sense.HEARING) == ["opening", "waiting"]


def test_sound_that_comes_after_its_unit_was_given_is_reported_as_dropped() -> None:
    house = House()
    house.begins()
    house.runs(100, 103, hearing=False)
    house.happens(103.6, Block(101.0, np.zeros(1600, np.float32)))
    assert house.observer.named("block.dropped") == [{"feed": "kitchen", "count": 1}]


def test_a_device_that_can_never_work_ends_the_feed_with_its_error() -> None:
    house = House()
    house.begins()
    with pytest.raises(FeedError, match="no such file"):
        house.happens(100.1, Lost(SIGHT, FeedError("clip: no such file", can_retry=False), None))


def test_a_bug_in_a_capture_thread_is_not_swallowed() -> None:
    house = House()
    with pytest.raises(ZeroDivisionError):
        house.happens(100.1, Finished(SIGHT, ZeroDivisionError()))


def test_the_feed_is_over_when_its_last_device_has_ended() -> None:
    house = House()
    house.begins()
    house.happens(100.1, Finished(SIGHT, None))
    assert not house.assembly.is_over
    house.happens(100.2, Finished(HEARING, None))
    assert house.assembly.is_over


def events(seconds: float) -> Iterator[float]:
    """True times of a flash with a beep, at odd places in their seconds."""
    return (1.37 + 2.711 * k for k in range(int(seconds / 2.711)))


@pytest.mark.parametrize("begin_s", [0.0, 24 * 3600.0 - 60.0], ids=["first minute", "last minute of a day"])
@pytest.mark.parametrize("drift", [-100e-6, 100e-6])
def test_picture_and_sound_of_one_event_stay_within_40_ms_in_the_units(begin_s: float, drift: float) -> None:
    """A camera whose crystal is off by 100 millionths and a microphone off the other way, both jittering by 80 ms."""
    random = np.random.default_rng(11)
    camera, microphone = DeviceClock(), DeviceClock()
    assembly = Assembly("kitchen", BOTH, origin_s=begin_s, observer=FakeObserver(), frames_per_unit=30, may_repeat=True)
    assembly.units([Opening(BOTH), Opened(BOTH, frozenset(), "")], begin_s)
    seconds, fps, block = 60.0, 30, 800
    happened = np.array(list(events(seconds))) + begin_s
    arrivals: list[tuple[float, float, str]] = [
        (true_s + random.uniform(0, 0.08), true_s, "sight") for true_s in begin_s + np.arange(0, seconds, 1 / fps)
    ]
    microphone_s = block / SAMPLE_RATE_HZ / (1 - drift)
    arrivals += [
        (true_s + microphone_s + random.uniform(0, 0.08), true_s, "hearing")
        for true_s in begin_s + np.arange(0, seconds, microphone_s)
    ]
    # a queue keeps order: what jitters past its successor holds it up
    sound: list[Unit] = []
    latest = {"sight": 0.0, "hearing": 0.0}
    for arrived_s, true_s, sense in sorted(arrivals, key=lambda each: (each[1], each[0])):
        latest[sense] = arrived_s = max(arrived_s, latest[sense])
        now_s = max(arrived_s, *latest.values())
        if sense == "sight":
            device_s = true_s * (1 + drift)
            camera.observe(device_s, arrived_s)
            is_bright = bool(np.any((true_s >= happened) & (true_s < happened + 0.2)))
            raw = FakePicture(255 if is_bright else 10)
            sound += assembly.units([Picture(camera.at(device_s), raw)], now_s)
        else:
            device_s = true_s * (1 - drift)
            at = true_s + np.arange(block) / SAMPLE_RATE_HZ / (1 - drift)
            is_loud = np.any([(at >= each) & (at < each + 0.2) for each in happened], axis=0)
            microphone.observe(device_s + block / SAMPLE_RATE_HZ, arrived_s)
            item = Block(microphone.at(device_s), np.where(is_loud, 0.5, 0.0).astype(np.float32))
            sound += assembly.units([item], now_s)

    seen = [frame.at_s for unit in sound for frame in unit.frames if frame.rgb[0, 0, 0] == 255]
    heard = np.concatenate([unit.audio for unit in sound])
    loud = begin_s + np.flatnonzero(heard > 0.25) / SAMPLE_RATE_HZ
    for true_s in happened[(happened > begin_s + 5) & (happened < begin_s + seconds - 2)]:
        flash_s = min(each for each in seen if true_s - 0.1 < each < true_s + 0.4)
        beep_s = min(each for each in loud if true_s - 0.1 < each < true_s + 0.4)
        assert -0.04 < flash_s - beep_s < 0.04 + 1 / fps  # the first bright frame is up to a frame late by itself
