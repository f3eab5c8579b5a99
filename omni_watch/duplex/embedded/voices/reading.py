"""How a text is read aloud: numbers, times and signs as Chinese words, and which runs are English. Pure."""

from __future__ import annotations

import re
from typing import Final

HAN: Final = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
LATIN: Final = r"A-Za-z\u00c0-\u024f"
DIGITS: Final = "零一二三四五六七八九"
TENS: Final = ("", "十", "百", "千")
MYRIADS: Final = ("", "万", "亿")
LONGEST: Final = 8  # digits that are read as a number; more are read one by one
# before these 2 is 两, not 二
COUNTED: Final = "点个件次分秒天周年位只条台层楼杯小时钟头度项种遍声"
_HAN_RUN: Final = re.compile(rf"[{HAN}](?:[{HAN}0-9，。、！？；：,%％:. ]*[{HAN}，。、！？；])?")
_LATIN_RUN: Final = re.compile(rf"[{LATIN}][{LATIN}'’]*(?:[ -]+[{LATIN}][{LATIN}'’]*)*")
_READABLE: Final = re.compile(r"[^\W_]")
_CLOCK: Final = re.compile(r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])")
_MINUTES: Final = re.compile(r"(?<=点)0?(\d{1,2})分")
_YEAR: Final = re.compile(r"(?<!\d)(\d{4})(?=年)")
_DEGREES: Final = re.compile(r"([-−]?)(\d+(?:\.\d+)?)\s*(?:℃|°C|°|度)")
_PERCENT: Final = re.compile(r"([-−]?\d+(?:\.\d+)?)\s*[%％]")
_SPAN: Final = re.compile(r"(?<=\d)\s*[-–~～]\s*(?=\d)")
_NUMBER: Final = re.compile(rf"(?<![\d.])([-−]?)(\d+)(?:\.(\d+))?(?=([{HAN}])?)")
_PLURAL: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # 1,000


def runs(text: str, language: str) -> list[tuple[str, str]]:
    """(language, text) of each run, in order, with punctuation; `language` is that of the text as a whole.

    In a Chinese text words of Latin letters are English and all else, as numbers, is Chinese; in any other text only
    Chinese characters, with what stands between them, are Chinese.
    """
    foreign, pattern = ("en", _LATIN_RUN) if language == "zh" else ("zh", _HAN_RUN)
    found: list[tuple[str, str]] = []
    position = 0
    for run in pattern.finditer(text):
        found += [(language, text[position : run.start()]), (foreign, run.group())]
        position = run.end()
    found.append((language, text[position:]))
    return [(each, part) for each, part in found if part.strip()]


def is_readable(text: str) -> bool:
    """Whether there is a letter or digit in it."""
    return _READABLE.search(text) is not None


def in_words(text: str) -> str:
    """Chinese text with its numbers as they are said.

    7:05 -> 七点零五分; 2点 -> 两点; 90% -> 百分之九十; -3.5℃ -> 零下三点五度; 2026年 -> 二零二六年.
    """
    text = _PLURAL.sub("", text)
    text = _CLOCK.sub(_clock, text)
    text = _MINUTES.sub(lambda found: _minutes(found[1]), text)
    text = _YEAR.sub(lambda found: "".join(DIGITS[int(digit)] for digit in found[1]), text)
    text = _PERCENT.sub(r"百分之\1", text)
    text = _DEGREES.sub(lambda found: ("零下" if found[1] else "") + found[2] + "度", text)
    text = _SPAN.sub("到", text)
    return _NUMBER.sub(_number, text)


def _clock(found: re.Match[str]) -> str:
    hour = "两" if int(found[1]) == 2 else cardinal(str(int(found[1])))
    minutes = "" if found[2] == "00" and not found[3] else _minutes(found[2])
    seconds = cardinal(str(int(found[3]))) + "秒" if found[3] else ""
    return f"{hour}点{minutes}{seconds}"


def _minutes(minute: str) -> str:
    value = int(minute)
    return ("零" if 0 < value < 10 else "") + cardinal(str(value)) + "分"


def _number(found: re.Match[str]) -> str:
    sign, whole, part, behind = found[1], found[2], found[3], found[4]
    if len(whole) > LONGEST or (len(whole) > 1 and whole.startswith("0")):
        said = "".join(DIGITS[int(digit)] for digit in whole)
    elif whole == "2" and part is None and behind is not None and behind in COUNTED and not _is_ordinal(found):
        said = "两"
    else:
        said = cardinal(whole)
    if part is not None:
        said += "点" + "".join(DIGITS[int(digit)] for digit in part)
    return ("负" if sign else "") + said


def _is_ordinal(number: re.Match[str]) -> bool:
    return number.string[: number.start()].endswith("第")


def cardinal(digits: str) -> str:
    """A whole number below a billion: 105 -> 一百零五; 12 -> 十二; 20000 -> 二万."""
    value = str(int(digits))
    if value == "0":
        return DIGITS[0]
    groups = [value[max(0, end - 4) : end] for end in range(len(value), 0, -4)]  # the last four digits first
    said = ""
    for place in reversed(range(len(groups))):
        group = groups[place]
        if int(group) == 0:
            continue
        if said and group.startswith("0"):
            said += DIGITS[0]
        said += _below_myriad(group) + MYRIADS[place]
    return said.removeprefix("一") if said.startswith("一十") else said


def _below_myriad(group: str) -> str:
    said = ""
    for place, digit in zip(reversed(range(len(group))), group, strict=True):
        if digit != "0":
            said += DIGITS[int(digit)] + TENS[place]
        elif said and not said.endswith(DIGITS[0]) and int(group[len(group) - place :] or "0"):
            said += DIGITS[0]
    return said
