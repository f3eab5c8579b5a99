"""Which voice reads which part of a text, and Chinese characters as pinyin. Pure.

espeak-ng knows Mandarin from pinyin with tone numbers much better than from characters, and it reads each script well
only with the voice made for it.
"""

from __future__ import annotations

import re
from typing import Final

HAN: Final = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
LATIN: Final = r"A-Za-z\u00c0-\u024f"
_HAN: Final = re.compile(rf"[{HAN}]")
_LATIN_RUN: Final = re.compile(rf"[{LATIN}]+(?:[ '’-]+[{LATIN}]+)*")
_HAN_RUN: Final = re.compile(rf"[{HAN}](?:[{HAN}0-9，。、！？；：%％]*[{HAN}，。、！？；：])?")
_READABLE: Final = re.compile(r"[^\W_]")  # a letter or digit: something to say
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*[%％]")
_DEGREES: Final = re.compile(r"\s*(?:℃|°C)")
_STOPS: Final = str.maketrans({"。": ". ", "！": "! ", "？": "? ", "；": "; ", "：": ", ", "，": ", ", "、": ", "})


def has_han(text: str) -> bool:
    """Whether the text has Chinese characters."""
    return _HAN.search(text) is not None


def parts(text: str, language: str) -> list[tuple[str, str]]:
    """(language, text) of each run to be read by one voice, in order; `language` is that of the text as a whole.

    In a Chinese text only words of Latin letters are English; digits and signs are read in Chinese. In any other text
    only Chinese characters, with what stands between them, are Chinese.
    """
    foreign, runs = ("en", _LATIN_RUN) if language == "zh" else ("zh", _HAN_RUN)
    found: list[tuple[str, str]] = []
    position = 0
    for run in runs.finditer(text):
        found += [(language, text[position : run.start()]), (foreign, run.group())]
        position = run.end()
    found.append((language, text[position:]))
    return [(each, part.strip()) for each, part in found if _READABLE.search(part)]


def as_pinyin(text: str) -> str:
    """Characters as syllables with tone numbers (5: neutral), digits as they are: 水壶满了。 -> shui3 hu2 man3 le5."""
    from pypinyin import Style, lazy_pinyin  # loads its dictionaries: a third of a second, so only when needed

    spoken = _DEGREES.sub("度", _PERCENT.sub(r"百分之\1", text)).translate(_STOPS)
    syllables = lazy_pinyin(spoken, style=Style.TONE3, neutral_tone_with_five=True)
    return re.sub(r"\s+([,.;!?])", r"\1", " ".join(" ".join(syllables).split()))
