"""What voices are given to read, and sound as bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_watch.alerts.mandarin import as_pinyin, parts
from omni_watch.alerts.speakers import raised
from omni_watch.alerts.wav import Sound, joined


@pytest.mark.parametrize(
    ("text", "pinyin"),
    [
        ("水壶满了。", "shui3 hu2 man3 le5."),
        ("银行行长到了！", "yin2 hang2 hang2 zhang3 dao4 le5!"),
        ("25度", "25 du4"),
        ("电量90%", "dian4 liang4 bai3 fen1 zhi1 90"),
        ("烤箱 200℃，好了", "kao3 xiang1 200 du4, hao3 le5"),
    ],
)
def test_chinese_is_read_from_pinyin(text: str, pinyin: str) -> None:
    assert as_pinyin(text) == pinyin


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("水壶满了。", "zh", [("zh", "水壶满了。")]),
        ("The kettle is full.", "en", [("en", "The kettle is full.")]),
        ("请看 kettle full 一下", "zh", [("zh", "请看"), ("en", "kettle full"), ("zh", "一下")]),
        ("到了3楼", "zh", [("zh", "到了3楼")]),
        ("The task 水壶满了 is done", "en", [("en", "The task"), ("zh", "水壶满了"), ("en", "is done")]),
        ("Floor 3，水壶2满了。", "en", [("en", "Floor 3，"), ("zh", "水壶2满了。")]),
        ("Das Wasser 水", "de", [("de", "Das Wasser"), ("zh", "水")]),
        ("…", "en", []),
        ("", "zh", []),
    ],
)
def test_each_script_goes_to_the_voice_made_for_it(text: str, language: str, expected: list[tuple[str, str]]) -> None:
    assert parts(text, language) == expected


@given(st.text(alphabet="水壶满了 abc12。,%!", max_size=40), st.sampled_from(["en", "zh"]))
def test_no_letter_digit_or_character_is_left_unsaid(text: str, language: str) -> None:
    said = "".join(part for _, part in parts(text, language))
    assert [letter for letter in said if letter.isalnum()] == [letter for letter in text if letter.isalnum()]


def tone(samples: int, rate_hz: int = 16_000, level: int = 1000) -> Sound:
    return Sound(struct.pack(f"<{samples}h", *[level] * samples), rate_hz)


def test_sound_survives_being_written_and_read() -> None:
    assert Sound.from_wav(tone(1600).to_wav()) == tone(1600)
    assert tone(1600).duration_s == 0.1


def test_a_wav_from_a_pipe_whose_header_lies_about_its_length_is_read_to_its_end() -> None:
    wav = bytearray(tone(1600).to_wav())
    wav[4:8] = struct.pack("<I", 0x7FFFF024)
    wav[40:44] = struct.pack("<I", 0x7FFFF000)
    assert Sound.from_wav(bytes(wav)) == tone(1600)


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"not a wav file at all, but long enough to be one", Sound(b"", 16_000).to_wav()]
)
def test_what_is_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="WAV"):
        Sound.from_wav(data)


@pytest.mark.parametrize(
    ("volume", "loudness", "expected"),
    [(0.4, 0.0, 0.4), (0.4, 0.5, 0.7), (0.4, 1.0, 1.0), (1.0, 0.3, 1.0), (0.0, 1.0, 0.0)],
)
def test_louder_goes_up_to_full_volume_but_what_is_set_to_silence_stays_silent(
    volume: float, loudness: float, expected: float
) -> None:
    assert raised(volume, loudness) == pytest.approx(expected)


def test_volume_is_scaled_and_clipped() -> None:
    assert tone(3, level=1000).at_volume(0.5) == tone(3, level=500)
    assert tone(3, level=-30_000).at_volume(2.0) == tone(3, level=-32_768)
    assert tone(3).at_volume(1.0) == tone(3)


def test_parts_of_a_sentence_are_joined_without_the_pauses_between() -> None:
    spoken = Sound(tone(1600).pcm + bytes(32_000), 16_000)
    assert spoken.without_tail().duration_s == pytest.approx(0.15)
    assert joined([tone(10), tone(20)]) == tone(30)
    with pytest.raises(ValueError, match="rates"):
        joined([tone(10), tone(10, rate_hz=8000)])
