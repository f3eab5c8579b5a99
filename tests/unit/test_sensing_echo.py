"""Our own voice is taken out of a microphone, a person's is left in, and while we are silent nothing is touched."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ, Sense
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block
from omni_watch.sensing.echo import CleanedDevice, EchoCleaner, open_canceller
from omni_watch.watch.barge_in import Level
from omni_watch.watch.played import Played
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_device import FakeDevice
from tests.fakes.fake_picture import FakePicture
from tests.fakes.rooms import echo_of, level_db, speech_like
from tests.fakes.spoken import recorded

START_S = 1000.0  # of the fake clock
CANCELLER_LATE = 128  # samples

Floats = NDArray[np.float32]


def cleaned(cleaner: EchoCleaner, sound: Floats, cuts: Sequence[int] = ()) -> tuple[Floats, list[Block]]:
    given_blocks, at = list[Block](), 0
    for piece in np.split(sound, list(cuts)):
        given_blocks += cleaner.clean(Block(START_S + at / SAMPLE_RATE_HZ, piece))
        at += len(piece)
    return np.concatenate([block.samples for block in given_blocks]), given_blocks


def playing(far: Floats, at_s: float = START_S) -> Played:
    played = Played(FakeClock())
    played.begin(far).heard(0.0, at_s)
    return played


def by_blocks(sound: Floats) -> list[int]:
    return list(range(800, len(sound), 800))


@given(cuts=st.lists(st.integers(1, 15_999), unique=True, max_size=12).map(sorted))
def test_while_we_are_silent_sound_passes_bit_for_bit(cuts: list[int]) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    out, blocks = cleaned(EchoCleaner(Played(FakeClock()), open_canceller()), sound, cuts)
    np.testing.assert_array_equal(out, sound)
    assert [len(block.samples) for block in blocks] == np.diff([0, *cuts, 16_000]).tolist()


@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(1, 47_999), unique=True, max_size=12).map(sorted))
def test_where_the_sound_is_cut_never_changes_what_is_left_of_it(cuts: list[int]) -> None:
    far = speech_like(3.0, seed=1)
    near = echo_of(far, delay_s=0.05)
    whole, _ = cleaned(EchoCleaner(playing(far), open_canceller()), near)
    out, blocks = cleaned(EchoCleaner(playing(far), open_canceller()), near, cuts)
    together = min(len(out), len(whole))
    assert together >= len(near) - 160
    np.testing.assert_array_equal(out[:together], whole[:together])
    at_s = START_S
    for block in blocks:  # without a hole
        assert block.at_s == pytest.approx(at_s, abs=1e-6)
        at_s += len(block.samples) / SAMPLE_RATE_HZ


@pytest.mark.parametrize("delay_s", [-0.05, 0.0, 0.05, 0.15, 0.3])
def test_our_own_voice_is_taken_out_wherever_it_comes_from(delay_s: float) -> None:
    """Also where it is heard before the second that the loudspeaker told."""
    far = speech_like(8.0, seed=2)
    near = echo_of(far, delay_s=delay_s)
    out, _ = cleaned(EchoCleaner(playing(far), open_canceller()), near, by_blocks(near))
    second_half = slice(4 * SAMPLE_RATE_HZ, None)
    assert level_db(near[second_half]) - level_db(out[second_half]) > 20


@pytest.mark.parametrize("person_level", [0.1, 0.03, 0.015], ids=["as loud as we", "10 dB less", "16 dB less"])
def test_a_person_who_talks_over_us_stays_as_loud_and_is_noticed_at_once(person_level: float) -> None:
    far = speech_like(8.0, seed=3)
    near, person = echo_of(far, delay_s=0.05), np.zeros(8 * SAMPLE_RATE_HZ, np.float32)
    said = slice(5 * SAMPLE_RATE_HZ, 7 * SAMPLE_RATE_HZ)
    person[said] = speech_like(2.0, seed=4, level=person_level)
    both, levels = (near + person).astype(np.float32), list[Level]()
    out, _ = cleaned(EchoCleaner(playing(far), open_canceller(), levels.append), both, by_blocks(both))
    assert level_db(out[said]) == pytest.approx(level_db(person[said]), abs=3)
    started_s = START_S + 5 + np.flatnonzero(np.abs(person[said]) > person_level / 3)[0] / SAMPLE_RATE_HZ
    noticed_s = [
        level.at_s for level in levels if level.is_sure and level.foreign > 0.5 and level.at_s > started_s - 0.1
    ]
    assert noticed_s[0] < started_s + 0.15
    before = [level.foreign for level in levels if START_S + 3 < level.at_s < START_S + 4.9]
    assert np.mean(before) < 0.1


@pytest.mark.parametrize("later_s", [0.00003, 0.0004, 0.002, 0.04, -0.06])
def test_a_sound_whose_time_was_told_a_little_wrong_is_recognised_as_ours_all_the_same(later_s: float) -> None:
    """Each sound of a loudspeaker is told a time of its own, and that is never exact."""
    far, levels = speech_like(6.0, seed=8), list[Level]()
    played = Played(FakeClock())
    cleaner = EchoCleaner(played, open_canceller(), levels.append)
    silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
    near = np.concatenate([silence, echo_of(far, delay_s=0.06), silence, echo_of(far, delay_s=0.06 + later_s)])
    for number in range(2):
        played.begin(far).heard(0.0, START_S + 1 + 7 * number)
    out, _ = cleaned(cleaner, near, by_blocks(near))
    again = [level for level in levels if level.at_s > START_S + 8]
    assert np.mean([level.foreign for level in again]) < 0.1
    assert level_db(out[9 * SAMPLE_RATE_HZ :]) < level_db(near[9 * SAMPLE_RATE_HZ :]) - 20


@pytest.mark.parametrize(
    ("seed", "later_s", "first_word_s"), [(2, 0.05, 0.3), (2, -0.04, 0.6), (2, 0.008, 0.3), (0, 0.0, 0.45)]
)
def test_a_person_who_asked_is_forgotten_when_we_begin_to_answer(
    seed: int, later_s: float, first_word_s: float
) -> None:
    """An answer begins with a short word and a pause, before it is known again when our echo comes."""
    levels, played, rng = list[Level](), Played(FakeClock()), np.random.default_rng(seed)
    alert, question = speech_like(5.0, seed=seed), speech_like(1.8, seed=seed + 300)
    word = speech_like(6.0, seed=seed + 100)[: round(first_word_s * SAMPLE_RATE_HZ)]
    pause = np.zeros(round(0.3 * SAMPLE_RATE_HZ), np.float32)
    answer = np.concatenate([word, pause, speech_like(4.0, seed=seed + 200)])
    near = rng.normal(0, 1e-6, 18 * SAMPLE_RATE_HZ).astype(np.float32)
    for at_s, heard in (
        (1.0, echo_of(alert, delay_s=0.06, noise=0)),
        (float(rng.uniform(6.3, 7.9)), question),
        (12.0, echo_of(answer, delay_s=0.06 + later_s, noise=0)),
    ):
        at = round(at_s * SAMPLE_RATE_HZ)
        near[at : at + len(heard)] += heard
    played.begin(alert).heard(0.0, START_S + 1)
    played.begin(answer).heard(0.0, START_S + 12)
    cleaned(EchoCleaner(played, open_canceller(), levels.append), near, by_blocks(near))
    assert max(level.foreign for level in levels if START_S + 6.2 < level.at_s < START_S + 8) > 0.8
    assert np.mean([level.foreign for level in levels if START_S + 11.9 < level.at_s < START_S + 13]) < 0.1


@pytest.mark.parametrize("seed", [2, 3])
def test_after_a_person_talked_over_us_our_next_sentence_is_not_taken_for_a_person(seed: int) -> None:
    """We fell silent in the middle of it, and no sound's time is told to the sample."""
    rng, levels, played = np.random.default_rng(seed), list[Level](), Played(FakeClock())
    cleaner = EchoCleaner(played, open_canceller(), levels.append)
    near = list[Floats]()
    for turn in range(7):
        far = sentence(turn, begins_at=int(rng.integers(800)))
        if is_talked_over := turn % 2 == 1:
            far = far[: round(1.5 * SAMPLE_RATE_HZ)]
        played.begin(far).heard(0.0, START_S + 6 * turn)
        room = np.pad(far, (0, 6 * SAMPLE_RATE_HZ - len(far)))
        near.append(echo_of(room, delay_s=0.05 + rng.uniform(-0.003, 0.003), seed=seed))
        if is_talked_over:
            person = speech_like(2.0, seed=turn, level=rng.choice([0.03, 0.1, 0.3]))
            near[-1][SAMPLE_RATE_HZ : 3 * SAMPLE_RATE_HZ] += person
    sound = np.concatenate(near)
    cleaned(cleaner, sound, by_blocks(sound))
    for turn in (2, 4, 6):
        alone = [level for level in levels if 0 <= level.at_s - START_S - 6 * turn < 3]
        lately = np.convolve([level.foreign for level in alone], np.full(6, 1 / 6), "valid")
        assert lately.max() < 0.2
        assert np.mean([level.is_sure for level in alone]) > 0.6


def sentence(number: int, begins_at: int) -> Floats:
    """One of ours."""
    names = ("kettle", "elevator", "dog", "microwave", "baby")
    silence = np.zeros(begins_at, np.float32)
    spoken = np.concatenate([silence, recorded(names[number % 5]), recorded(names[(number + 2) % 5])])
    return np.asarray(spoken * (0.1 / np.sqrt(np.mean(spoken**2))), np.float32)


def test_where_the_loudspeaker_was_moved_it_is_learnt_anew_and_nobody_is_taken_for_a_person_meanwhile() -> None:
    levels, played = list[Level](), Played(FakeClock())
    cleaner = EchoCleaner(played, open_canceller(), levels.append)
    silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
    far = speech_like(7.0, seed=11)
    near = np.concatenate([silence, echo_of(far, delay_s=0.06), silence, echo_of(far, delay_s=0.1, seed=5)])
    for number in range(2):
        played.begin(far).heard(0.0, START_S + 1 + 8 * number)
    cleaned(cleaner, near, by_blocks(near))
    again = [level for level in levels if level.at_s > START_S + 9]
    assert np.mean([level.foreign for level in again]) < 0.1
    assert np.mean([level.is_sure for level in again[-20:]]) > 0.8


def test_a_canceller_that_never_learnt_anything_calls_nobody_a_person() -> None:
    """Our voice comes from somewhere else than from where we think."""
    levels, near = list[Level](), speech_like(8.0, seed=9)
    cleaned(EchoCleaner(playing(speech_like(8.0, seed=10)), open_canceller(), levels.append), near, by_blocks(near))
    assert not any(level.is_sure for level in levels)


def test_a_fan_that_ran_before_we_began_is_nobody() -> None:
    """It was switched on in a silent room, some seconds after we had spoken."""
    levels, played, fan_s = list[Level](), Played(FakeClock()), 10
    far, silence = speech_like(6.0, seed=13), np.zeros(3 * SAMPLE_RATE_HZ, np.float32)
    fan = np.random.default_rng(14).normal(0, 0.03, (fan_s + 6) * SAMPLE_RATE_HZ).astype(np.float32)
    fan[fan_s * SAMPLE_RATE_HZ :] += echo_of(far, delay_s=0.06)
    near = np.concatenate([echo_of(far, delay_s=0.06), silence, fan])
    again_s = START_S + 9 + fan_s
    played.begin(far).heard(0.0, START_S)
    played.begin(far).heard(0.0, again_s)
    cleaned(EchoCleaner(played, open_canceller(), levels.append), near, by_blocks(near))
    assert np.mean([level.foreign for level in levels if level.at_s > again_s]) < 0.05


def test_a_microphone_that_is_muted_while_we_speak_hears_nobody() -> None:
    far, levels = speech_like(4.0, seed=12), list[Level]()
    near = echo_of(far, delay_s=0.05)
    near[2 * SAMPLE_RATE_HZ :] = 0
    cleaned(EchoCleaner(playing(far), open_canceller(), levels.append), near, by_blocks(near))
    muted = [level for level in levels if level.at_s > START_S + 2.1]
    assert not any(level.foreign for level in muted)


def test_sound_is_left_alone_again_some_seconds_after_we_fell_silent_and_none_is_lost() -> None:
    far = speech_like(1.0, seed=5)
    sound = np.random.default_rng(6).normal(0, 0.01, 6 * SAMPLE_RATE_HZ).astype(np.float32)
    out, _ = cleaned(EchoCleaner(playing(far), open_canceller()), sound, [*range(1_000, len(sound), 777)])
    assert len(out) == len(sound)
    later = slice(4 * SAMPLE_RATE_HZ, None)
    np.testing.assert_array_equal(out[later], sound[later])
    assert not np.array_equal(out[:SAMPLE_RATE_HZ], sound[:SAMPLE_RATE_HZ])


def test_how_loud_it_was_and_is_is_told_only_while_we_are_heard() -> None:
    levels = list[Level]()
    far = speech_like(4.0, seed=7)
    cleaner = EchoCleaner(playing(far, START_S + 1), open_canceller(), levels.append)
    near = np.concatenate([np.zeros(SAMPLE_RATE_HZ, np.float32), echo_of(far, delay_s=0.02)])
    cleaned(cleaner, near, by_blocks(near))
    assert levels[0].at_s == pytest.approx(START_S + 0.9, abs=0.06)
    ours = [level for level in levels[len(levels) // 2 :] if level.heard_db > -30]
    assert np.median([level.cleaned_db - level.heard_db for level in ours]) < -15


def test_pictures_pass_and_the_device_stays_the_one_it_is() -> None:
    device = FakeDevice(Sense.HEARING, Sense.SIGHT)
    wrapped = CleanedDevice(device, EchoCleaner(Played(FakeClock()), open_canceller()))
    picture, block = Picture(START_S, FakePicture()), Block(START_S, np.zeros(800, np.float32))
    device.script.put([picture, block])
    device.script.put(None)
    assert (wrapped.label, wrapped.senses, wrapped.open().detail) == ("fake", device.senses, "a fake device")
    assert wrapped.read() == [picture, block]
    wrapped.close()
    assert (device.opened, device.closed) == (1, 1)


def test_without_the_library_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pywebrtc_audio":
            raise ImportError("No module named 'pywebrtc_audio'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FeedError, match="No module named 'pywebrtc_audio'") as missing:
        open_canceller()
    assert not missing.value.can_retry
