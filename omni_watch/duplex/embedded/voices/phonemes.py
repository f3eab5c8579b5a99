"""Pinyin and English IPA in the letters that Kokoro was trained on. Pure.

They are those of misaki, its authors' own converter (Apache-2.0): broad IPA with one letter for each affricate, and an
arrow for each tone, behind the vowels and before n and ŋ. Compared with it over all syllables that pypinyin knows. It
is not a dependency, since it brings a second dictionary, a segmenter and a number reader of its own.
"""

from __future__ import annotations

import re
from typing import Final

TONES: Final = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
INITIALS: Final = {
    "b": "p",
    "p": "pʰ",
    "m": "m",
    "f": "f",
    "d": "t",
    "t": "tʰ",
    "n": "n",
    "l": "l",
    "g": "k",
    "k": "kʰ",
    "h": "x",
    "j": "ʨ",
    "q": "ʨʰ",
    "x": "ɕ",
    "zh": "ꭧ",
    "ch": "ꭧʰ",
    "sh": "ʂ",
    "r": "ɻ",
    "z": "ʦ",
    "c": "ʦʰ",
    "s": "s",
}
FINALS: Final = {
    "a": "a",
    "ai": "ai",
    "an": "an",
    "ang": "aŋ",
    "ao": "au",
    "e": "ɤ",
    "ei": "ei",
    "en": "ən",
    "eng": "əŋ",
    "i": "i",
    "ia": "ja",
    "ian": "jɛn",
    "iang": "jaŋ",
    "iao": "jau",
    "ie": "je",
    "in": "in",
    "ing": "iŋ",
    "iong": "jʊŋ",
    "iu": "jou",
    "o": "wo",
    "ong": "ʊŋ",
    "ou": "ou",
    "u": "u",
    "ua": "wa",
    "uai": "wai",
    "uan": "wan",
    "uang": "waŋ",
    "ueng": "wəŋ",
    "ui": "wei",
    "un": "wən",
    "uo": "wo",
    "ü": "y",
    "üan": "ɥɛn",
    "üe": "ɥe",
    "ün": "yn",
}
WHOLE: Final = {  # without an initial, and not spelled as a final is after one
    "er": "ɚ",
    "o": "ɔ",
    "ê": "ɛ",
    "yo": "jɔ",
    "m": "m",
    "n": "n",
    "ng": "ŋ",
    "hm": "hm",
    "hng": "hŋ",
    "yi": "i",
    "yin": "in",
    "ying": "iŋ",
    "you": "jou",
    "yu": "y",
    "yuan": "ɥɛn",
    "yue": "ɥe",
    "yun": "yn",
    "wu": "u",
    "wei": "wei",
    "wen": "wən",
    "weng": "wəŋ",
}
BUZZED: Final = "ɨ"  # the vowel of zhi and zi
_SYLLABLE: Final = re.compile(r"([a-zêü]+?)([1-5]?)")
_INITIAL: Final = re.compile(r"[zcs]h|[bpmfdtnlgkhjqxrzcs]")
_CODA: Final = re.compile(r"(?<=.)[nŋ]$")
_BUZZING: Final = frozenset({"zh", "ch", "sh", "r", "z", "c", "s"})
_ROUNDING: Final = frozenset({"j", "q", "x"})  # u after these is ü

ENGLISH: Final = {  # what espeak-ng writes with two letters, or with others
    "eɪ": "A",
    "aɪ": "I",
    "oʊ": "O",
    "əʊ": "O",
    "aʊ": "W",
    "ɔɪ": "Y",
    "dʒ": "ʤ",
    "tʃ": "ʧ",
    "ɐ": "ə",
    "r": "ɹ",
    "g": "ɡ",
    "ɚ": "əɹ",
    "ɝ": "ɜɹ",
    "əl": "ᵊl",
    "ɾ": "T",
    "n̩": "ᵊn",
    "l̩": "ᵊl",
}
_ENGLISH: Final = re.compile("|".join(sorted(ENGLISH, key=len, reverse=True)))
_UNHEARD: Final = re.compile(r"[ː\u0361\u0303\u032f]|\([a-z-]+\)")  # length, ties, and espeak-ng's changes of language


def of_pinyin(syllable: str) -> str:
    """A syllable with its tone number behind it, as pypinyin's TONE3 writes it; empty for what is none.

    shui3 -> ʂwei↓; zhong1 -> ꭧʊ→ŋ; le5 -> lɤ.
    """
    parts = _SYLLABLE.fullmatch(syllable.replace("v", "ü"))
    if parts is None:
        return ""
    sound, tone = _sound(parts[1]), TONES.get(parts[2], "")
    return _CODA.sub(lambda coda: tone + coda[0], sound) if _CODA.search(sound) else sound and sound + tone


def _sound(spelled: str) -> str:
    """Without its tone."""
    if spelled in WHOLE:
        return WHOLE[spelled]
    if spelled[0] in "yw":  # yan is ian, wan is uan
        return FINALS.get({"y": "i", "w": "u"}[spelled[0]] + spelled[1:], "")
    found = _INITIAL.match(spelled)
    initial = found[0] if found else ""
    final = spelled[len(initial) :]
    if initial in _BUZZING and final == "i":
        return INITIALS[initial] + BUZZED
    if initial in _ROUNDING and final.startswith("u"):
        final = "ü" + final[1:]
    if final not in FINALS:
        return ""
    return INITIALS.get(initial, "") + FINALS[final]


def of_english(ipa: str) -> str:
    """What `espeak-ng --ipa` writes for American English."""
    plain = " ".join(_UNHEARD.sub("", ipa.replace("_", "")).split())
    return _ENGLISH.sub(lambda found: ENGLISH[found[0]], plain)
