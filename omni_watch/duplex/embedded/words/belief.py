"""Whether what a speech recogniser wrote down was said at all. Pure.

Whisper was trained on subtitles. Given a noise that passes for a voice it writes what subtitles say when nobody speaks,
repeats itself, or says back the words it was given as a hint.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

SURE_SILENCE: Final = 0.6  # probability of "no speech" above which doubtful words are not believed; Whisper's default
DOUBTFUL: Final = -1.0  # mean log probability below which they are doubtful; Whisper's default
NONSENSE: Final = -1.25  # below it nothing is believed: hints put into noise end here, heard sentences do not
REPEATING: Final = 2.4  # bytes per compressed byte; Whisper's default
MOST_IN_A_ROW: Final = 3  # "no, no, no"
FASTEST: Final = 30.0  # characters a second that nobody speaks
_WORDS: Final = re.compile(r"[^\W_]+")
# what Whisper writes over music, hiss and silence; compared without case and marks
EMPTY_TALK: Final = frozenset(
    {
        "you",
        "thank you for watching",
        "thanks for watching",
        "please subscribe",
        "bye",
        "music",
        "applause",
        "silence",
        "請不吝點贊訂閱轉發打賞支持明鏡與點點欄目",
        "请不吝点赞订阅转发打赏支持明镜与点点栏目",
        "字幕by索兰娅",
        "字幕志愿者李宗盛",
        "谢谢观看",
        "謝謝觀看",
        "多謝觀看",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What the recogniser wrote, and what it says about it."""

    text: str
    mean_log_probability: float  # of a token
    no_speech: float  # 0..1
    is_endless: bool  # it had to be stopped
    length_s: float  # of the sound


def is_believed(decoded: Decoded, hot_words: Sequence[str] = ()) -> bool:
    """Whether somebody said this."""
    words = _words(decoded.text)
    if not words or decoded.is_endless or decoded.mean_log_probability < NONSENSE:
        return False
    if decoded.no_speech > SURE_SILENCE and decoded.mean_log_probability < DOUBTFUL:
        return False
    if "".join(words) in _EMPTY_KEYS or is_stuttered(words) or repetition(decoded.text) > REPEATING:
        return False
    if len("".join(words)) > FASTEST * max(decoded.length_s, 0.3):
        return False
    return not is_parroted(words, hot_words)


def repetition(text: str) -> float:
    """How much shorter the text gets by compression: 2.4 and more is the same again and again."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def is_stuttered(words: Sequence[str]) -> bool:
    """Whether one word comes more often in a row than anybody says it."""
    return any(len(set(words[at : at + MOST_IN_A_ROW + 1])) == 1 for at in range(len(words) - MOST_IN_A_ROW))


def is_parroted(words: Sequence[str], hot_words: Sequence[str]) -> bool:
    """Whether these are three hints or more, and nothing else: nobody says only names."""
    hints = {word for hint in hot_words for word in _words(hint)}
    return len(words) >= 3 and all(_is_of(hints, word) for word in words)


def _is_of(hints: Collection[str], word: str) -> bool:
    """Whether the word is a hint; in Chinese, whose words are not apart, also a piece of one."""
    return word in hints or (not word.isascii() and any(word in hint for hint in hints))


def wording_of(text: str) -> str:
    """The words alone, to see whether two texts have the same."""
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


_EMPTY_KEYS: Final = frozenset("".join(_words(talk)) for talk in EMPTY_TALK)
