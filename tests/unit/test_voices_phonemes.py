"""Mandarin and English as Kokoro reads them: syllables, tones, numbers, mixed and overlong sentences."""

from __future__ import annotations

import pytest

from omni_watch.duplex.embedded.voices import phonemes, reading
from omni_watch.duplex.embedded.voices.kokoro import phonemes_of, pieces_of


@pytest.mark.parametrize(
    ("syllable", "letters"),
    [
        ("ma1", "ma→"), ("shui3", "ʂwei↓"), ("hu2", "xu↗"), ("man3", "ma↓n"), ("le5", "lɤ"), ("zhong1", "ꭧʊ→ŋ"),
        ("zhi1", "ꭧɨ→"), ("ci4", "ʦʰɨ↘"), ("ri4", "ɻɨ↘"), ("ji1", "ʨi→"), ("qu4", "ʨʰy↘"), ("xue2", "ɕɥe↗"),
        ("juan3", "ʨɥɛ↓n"), ("xun4", "ɕy↘n"), ("lü4", "ly↘"), ("lv4", "ly↘"), ("nüe4", "nɥe↘"), ("yi1", "i→"),
        ("yan2", "jɛ↗n"), ("yong4", "jʊ↘ŋ"), ("you3", "jou↓"), ("yuan2", "ɥɛ↗n"), ("yue4", "ɥe↘"), ("wu3", "u↓"),
        ("wen2", "wə↗n"), ("wo3", "wo↓"), ("weng1", "wə→ŋ"), ("er4", "ɚ↘"), ("liu4", "ljou↘"), ("gui4", "kwei↘"),
        ("dun4", "twə↘n"), ("bo1", "pwo→"), ("n2", "n↗"), ("xyz1", ""), ("1", ""),
    ],
)  # fmt: skip
def test_a_syllable_is_spelled_by_its_sounds_with_the_tone_behind_the_vowels(syllable: str, letters: str) -> None:
    assert phonemes.of_pinyin(syllable) == letters


def test_every_character_that_pypinyin_can_read_has_phonemes() -> None:
    from pypinyin import pinyin_dict
    from pypinyin.contrib.tone_convert import to_tone3

    spelled = {each for readings in pinyin_dict.pinyin_dict.values() for each in readings.split(",")}
    syllables = {to_tone3(each, neutral_tone_with_five=True) for each in spelled}
    assert len(syllables) > 1500
    assert {each for each in syllables if not phonemes.of_pinyin(each)} <= {"wong4"}, "which is Cantonese"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("现在7:05", "现在七点零五分"), ("2:00", "两点"), ("14:30:10", "十四点三十分十秒"), ("2点30分", "两点三十分"),
        ("7点05分", "七点零五分"), ("23.5℃", "二十三点五度"), ("-5度", "零下五度"), ("90%", "百分之九十"),
        ("2026年11月2日", "二零二六年十一月二日"), ("13800138000", "一三八零零一三八零零零"), ("10000", "一万"),
        ("20005", "二万零五"), ("105", "一百零五"), ("110", "一百一十"), ("1,234个", "一千二百三十四个"), ("0", "零"),
        ("2个小时12秒", "两个小时十二秒"), ("第2层", "第二层"), ("12层", "十二层"), ("3-5分钟", "三到五分钟"),
        ("零件02", "零件零二"), ("10分钟", "十分钟"), ("0.5", "零点五"),
    ],
)  # fmt: skip
def test_numbers_times_and_degrees_are_said_as_people_say_them(written: str, said: str) -> None:
    assert reading.in_words(written) == said


def test_words_of_each_language_are_read_in_it() -> None:
    assert reading.runs("请看 kettle 一下，90%了", "zh") == [("zh", "请看 "), ("en", "kettle"), ("zh", " 一下，90%了")]
    assert reading.runs("I'll tell you when 水壶满了 at 7:30.", "en") == [
        ("en", "I'll tell you when "), ("zh", "水壶满了"), ("en", " at 7:30."),
    ]  # fmt: skip


def test_a_mixed_sentence_has_the_sounds_of_both_languages() -> None:
    spelled = phonemes_of("Omni 听到 kettle 了。", "zh")
    assert "tʰi→ŋ tau↘" in spelled
    assert "mni" in spelled
    assert "kˈɛ" in spelled
    assert spelled.endswith("lɤ.")


def test_tones_change_beside_others() -> None:
    assert phonemes_of("你好", "zh") == "ni↗xau↓"
    assert phonemes_of("不是", "zh") == "pu↗ʂɨ↘"


def test_stops_are_kept_in_both_languages() -> None:
    assert phonemes_of("好，水满了！", "zh") == "xau↓, ʂwei↓ ma↓n lɤ!"
    assert phonemes_of("Yes, now.", "en").count(",") == 1


def test_a_long_sentence_is_cut_where_one_breathes() -> None:
    assert pieces_of("aa bb, cc dd. ee", 100) == ["aa bb, cc dd. ee"]
    assert pieces_of("aa bb, cc dd. ee", 9) == ["aa bb,", "cc dd. ee"]
    assert pieces_of("aaaa bbbb cccc", 9) == ["aaaa bbbb", "cccc"]
    assert pieces_of("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]
