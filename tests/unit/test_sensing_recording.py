"""A clip on stream time; and everything a clip can be that it should not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Gap, GapCause, Sense, Unit
from omni_watch.sensing.recording import Recording, frame_at
from tests.fakes.clips import ramp, write_clip

NO_SOUND, NO_PICTURE = Gap(Sense.HEARING, GapCause.ABSENT), Gap(Sense.SIGHT, GapCause.ABSENT)


def units(path: Path, **options: int) -> list[Unit]:
    return list(Recording(path, "clip", **options).read())


def loud_s(unit: Unit) -> tuple[float, float]:
    """When the first beep of a unit begins and ends, in seconds from its start."""
    loud = np.flatnonzero(np.abs(unit.audio) > 0.1) / 16_000
    return float(loud[0]), float(loud[loud < 0.5][-1])


def tone(unit: Unit) -> float:
    assert unit.frame is not None
    return float(unit.frame.rgb.mean())


def test_a_clip_gives_one_unit_a_second_with_the_frame_at_its_end(tmp_path: Path) -> None:
    found = units(write_clip(tmp_path / "clip.mp4", seconds=3))
    assert [unit.index for unit in found] == [0, 1, 2]
    assert [unit.start_s for unit in found] == [0.0, 1.0, 2.0]
    assert all(unit.gaps == () for unit in found)
    for unit in found:
        assert tone(unit) == pytest.approx(ramp(unit.end_s), abs=2)
        begins_s, ends_s = loud_s(unit)
        assert begins_s == pytest.approx(0.0, abs=0.005)
        assert ends_s == pytest.approx(0.1, abs=0.01)


async def test_taken_one_by_one_the_units_are_the_same_each_time(tmp_path: Path) -> None:
    recording = Recording(write_clip(tmp_path / "clip.mp4", seconds=3), "clip")
    assert recording.duration_s == pytest.approx(3.0, abs=0.1)
    first, second = [unit async for unit in recording.units()], [unit async for unit in recording.units()]
    assert len(first) == 3
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.audio, b.audio)
        assert a.frame is not None
        assert b.frame is not None
        np.testing.assert_array_equal(a.frame.rgb, b.frame.rgb)


async def test_a_closed_recording_gives_no_more_units(tmp_path: Path) -> None:
    recording = Recording(write_clip(tmp_path / "clip.mp4", seconds=5), "clip")
    found = []
    async for unit in recording.units():
        found.append(unit)
        await recording.close()
    assert len(found) == 1


@pytest.mark.parametrize(
    ("rate_hz", "layout", "codec", "suffix"),
    [
        (8_000, "mono", "pcm_mulaw", ".mov"),
        (8_000, "mono", "aac", ".mp4"),
        (48_000, "stereo", "aac", ".mp4"),
        (44_100, "5.1", "aac", ".mkv"),
        (32_000, "mono", "mp2", ".ts"),
    ],
)
def test_sound_of_any_rate_and_layout_becomes_16_khz_mono_no_louder(
    tmp_path: Path, rate_hz: int, layout: str, codec: str, suffix: str
) -> None:
    clip = write_clip(tmp_path / f"clip{suffix}", rate_hz=rate_hz, layout=layout, audio_codec=codec)
    for unit in units(clip)[:3]:
        begins_s, ends_s = loud_s(unit)
        assert begins_s == pytest.approx(0.0, abs=0.02)  # MP2's encoder delays by 15 ms and does not say so
        assert ends_s == pytest.approx(0.1, abs=0.03)
        assert 0.3 < np.abs(unit.audio).max() < 0.7
        assert unit.audio.shape == (16_000,)


def test_a_clip_without_sound_or_without_picture_says_so_in_its_gaps(tmp_path: Path) -> None:
    mute = units(write_clip(tmp_path / "mute.mp4", tone=None))
    assert [unit.gaps for unit in mute] == [(NO_SOUND,)] * 3
    blind = units(write_clip(tmp_path / "blind.wav", paint=None, audio_codec="pcm_s16le"))
    assert [unit.gaps for unit in blind] == [(NO_PICTURE,)] * 3


def test_a_silent_clip_is_heard_as_silence(tmp_path: Path) -> None:
    silent = units(write_clip(tmp_path / "silent.mp4", tone=lambda at: np.zeros_like(at)))
    assert all(unit.is_heard and np.abs(unit.audio).max() < 1e-3 for unit in silent)


def test_variable_frame_rate_shows_the_picture_that_was_on_screen(tmp_path: Path) -> None:
    times = [0.0, 0.03, 0.06, 0.9, 3.4, 3.5, 5.02, 5.9]
    found = units(write_clip(tmp_path / "vfr.mkv", seconds=6, picture_times=times))
    shown = [unit.frame.at_s if unit.frame else None for unit in found]
    assert shown == pytest.approx([0.9, 0.9, 0.9, 3.5, 5.02, 5.9], abs=0.002)


@pytest.mark.parametrize(("seconds", "count"), [(2.6, 3), (2.4, 2), (0.7, 1)])
def test_a_last_part_of_a_second_is_a_unit_from_half_a_second_on(tmp_path: Path, seconds: float, count: int) -> None:
    found = units(write_clip(tmp_path / "clip.mkv", seconds=seconds, audio_codec="pcm_s16le"))
    assert len(found) == count
    assert all(unit.gaps == () for unit in found)
    if count == 3:
        assert not found[-1].audio[round(0.65 * 16_000) :].any()


def test_a_picture_that_ends_early_is_lost_from_then_on(tmp_path: Path) -> None:
    found = units(write_clip(tmp_path / "clip.mkv", seconds=5, video_seconds=2))
    assert [bool(unit.frames) for unit in found] == [True, True, False, False, False]
    found = units(write_clip(tmp_path / "clip2.mkv", seconds=5, audio_seconds=2))
    assert [unit.is_heard for unit in found] == [True, True, False, False, False]
    assert all(unit.frames for unit in found)


def test_a_truncated_clip_gives_the_units_it_has(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "clip.mkv", seconds=6, size=(320, 240), paint=lambda at_s: int(at_s * 1e4) % 255)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    found = units(whole)
    assert 2 <= len(found) <= 5
    assert found[0].gaps == ()


def test_damage_in_the_middle_costs_no_more_than_the_damage(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.ts", seconds=6)
    data = bytearray(clip.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = b"\x00" * 2000
    clip.write_bytes(data)
    found = units(clip)
    assert len(found) == 6
    assert found[-1].gaps == ()


def make_truncated_mp4(folder: Path) -> Path:
    clip = write_clip(folder / "headless.mp4")
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])  # the index of an MP4 lies at its end
    return clip


def make_text(folder: Path) -> Path:
    path = folder / "notes.mp4"
    path.write_text("this is a shopping list: milk, eggs, bread\n" * 50)
    return path


def make_empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_truncated_mp4, "no picture or sound that can be read"),
        (make_text, "can be"),
        (make_empty, "is empty"),
        (lambda folder: folder, "is a directory"),
        (lambda folder: folder / "nowhere.mp4", "no such file"),
        (lambda folder: folder / "nowhere.mp4" / "deeper", "no such file"),
    ],
)
def test_what_is_no_clip_is_refused_in_words(tmp_path: Path, make: object, says: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(FeedError, match=says) as refused:
        Recording(path, "clip")
    assert not refused.value.can_retry
    assert str(path) in str(refused.value)


def test_a_frame_for_teaching_is_the_one_on_screen_then(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    for seconds in (0.0, 0.5, 2.34, 7.9):
        frame = frame_at(clip, seconds)
        assert frame.at_s <= seconds + 0.001
        assert float(frame.rgb.mean()) == pytest.approx(ramp(seconds), abs=2)
    assert not frame.rgb.flags.writeable


@pytest.mark.parametrize("seconds", [-0.1, 8.5, float("nan")])
def test_a_second_outside_the_clip_is_refused_in_words(tmp_path: Path, seconds: float) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=8)
    with pytest.raises(FeedError, match="it lasts 8"):
        frame_at(clip, seconds)


def test_no_frame_can_be_taken_from_sound(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "blind.wav", paint=None, audio_codec="pcm_s16le")
    with pytest.raises(FeedError, match="holds no picture"):
        frame_at(clip, 1.0)
