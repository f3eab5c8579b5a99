"""A checkpoint's vocabulary: text to token ids and back, and the ids of the tokens that steer a dialogue.

Steering tokens are found by name, never by number: checkpoints of other sizes number them differently. The published
`tokenizer_config.json` leaves `<|turn_bos|>` and `<|turn_eos|>` out of one of its two lists of special tokens; here
they are special everywhere, since no person should ever read them.

Texts of people must pass `without_specials` before they become a part of a prompt: `encode` turns `<|im_end|>` within a
text into the token of that name, which is what prompt layouts need and what a task's wording must not be able to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer

from omni_watch.domain.errors import ModelError

TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"

# attribute -> the token's name; specification, section 3
NAMES: Final[Mapping[str, str]] = {
    "unit_start": "<unit>",
    "unit_end": "</unit>",
    "image_start": "<image>",
    "image_end": "</image>",
    "slice_start": "<slice>",
    "slice_end": "</slice>",
    "audio_start": "<|audio_start|>",
    "audio_end": "<|audio_end|>",
    "listen": "<|listen|>",
    "speak": "<|speak|>",
    "chunk_eos": "<|chunk_eos|>",
    "chunk_tts_eos": "<|chunk_tts_eos|>",
    "turn_eos": "<|turn_eos|>",
    "tts_bos": "<|tts_bos|>",
    "tts_pad": "<|tts_pad|>",
    "im_start": "<|im_start|>",
    "im_end": "<|im_end|>",
}
_ALWAYS_SPECIAL: Final = ("<|turn_bos|>", "<|turn_eos|>")
_MOST_SPARE_ROWS: Final = 512  # embedding tables are rounded up to such multiples; more is another model's tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A vocabulary. Immutable; any thread."""

    unit_start: int
    unit_end: int
    image_start: int
    image_end: int
    slice_start: int
    slice_end: int
    audio_start: int
    audio_end: int
    listen: int
    speak: int
    chunk_eos: int
    chunk_tts_eos: int
    turn_eos: int
    tts_bos: int
    tts_pad: int
    im_start: int
    im_end: int  # also the tokenizer's end of sequence
    bad_ids: tuple[int, ...] = field(repr=False)  # never to be generated
    special_ids: frozenset[int] = field(repr=False)
    listed_ids: frozenset[int] = field(repr=False)  # those of them that the published code never carries
    size: int  # the highest id + 1
    _tokenizer: Tokenizer = field(repr=False, compare=False)
    _special_names: tuple[str, ...] = field(repr=False, compare=False)

    @classmethod
    def read(cls, folder: Path) -> Tokens:
        """The vocabulary of a checkpoint folder: `tokenizer.json` and `tokenizer_config.json`.

        Raises:
            ModelError: a file is missing or damaged, or a token the dialogue needs has no id; the message names it.
        """
        settings = _read_settings(folder / TOKENIZER_CONFIG)
        tokenizer = _read_tokenizer(folder / TOKENIZER)
        _add_missing(tokenizer, settings, folder)
        names = _special_names(tokenizer, settings)
        tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
        size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        return cls(
            **_steering_ids(tokenizer, folder),
            bad_ids=_bad_ids(settings, size, folder),
            special_ids=frozenset(token_id for name in names if (token_id := tokenizer.token_to_id(name)) is not None),
            listed_ids=_listed_ids(tokenizer, settings),
            size=size,
            _tokenizer=tokenizer,
            _special_names=tuple(names),
        )

    def encode(self, text: str) -> list[int]:
        """Token ids; names of special tokens within the text become these tokens. Nothing is added at either end."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text, special tokens left out; a character whose bytes are not all there yet becomes U+FFFD."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def id_of(self, name: str) -> int | None:
        """The id of a token by its name, such as `<think>`; None when there is none."""
        found: int | None = self._tokenizer.token_to_id(name)
        return found

    def without_specials(self, text: str) -> str:
        """The text without any names of special tokens, also none that appear when others are taken out."""
        while True:
            kept = text
            for name in self._special_names:
                kept = kept.replace(name, "")
            if kept == text:
                return kept
            text = kept

    def check_tables(self, language_rows: int, speech_rows: int | None, folder: Path) -> None:
        """Refuse a tokenizer that belongs to other weights.

        Args:
            language_rows: of `llm.model.embed_tokens`.
            speech_rows: of `tts.emb_text`, which is indexed with the same ids; None without a speech decoder.
            folder: for the message.
        """
        if not self.size <= language_rows < self.size + _MOST_SPARE_ROWS:
            raise ModelError(
                f"{folder / TOKENIZER}: {self.size} tokens, but llm.model.embed_tokens.weight has {language_rows} "
                "rows; expected as many or a few more; take tokenizer and weights from one checkpoint"
            )
        if speech_rows is not None and speech_rows < self.size:
            raise ModelError(
                f"{folder / TOKENIZER}: {self.size} tokens, but tts.emb_text.weight has {speech_rows} rows; "
                "expected at least as many; take tokenizer and weights from one checkpoint"
            )


def _read_settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; a checkpoint has it beside config.json: download it again") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}; download it again") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path} holds {type(settings).__name__}; expected a table; download it again")
    return settings


def _read_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelError(f"{path} is missing; a checkpoint has it beside config.json: download it again")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise ModelError(f"{path} cannot be read as a tokenizer: {error}; download it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _add_missing(tokenizer: Tokenizer, settings: Mapping[str, Any], folder: Path) -> None:
    """Tokens that only `tokenizer_config.json` lists, under the ids it gives them."""
    listed = settings.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict):
        raise ModelError(f"{folder / TOKENIZER_CONFIG}: added_tokens_decoder is no table; download it again")
    for key in sorted(listed, key=int):
        entry = listed[key]
        name = entry.get("content", "")
        if tokenizer.token_to_id(name) is None:
            tokenizer.add_tokens([AddedToken(name, normalized=False, special=bool(entry.get("special")))])
        if tokenizer.token_to_id(name) != int(key):
            raise ModelError(
                f"{folder / TOKENIZER_CONFIG}: {name} is token {key}, but {TOKENIZER} makes it "
                f"{tokenizer.token_to_id(name)}; the two files belong to different checkpoints"
            )


def _special_names(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> list[str]:
    """Longest first, so that taking one out never leaves a piece of a longer one."""
    flagged = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    listed = settings.get("additional_special_tokens") or []
    contents = [entry if isinstance(entry, str) else entry.get("content", "") for entry in listed]
    known = {name for name in (*flagged, *contents, *_ALWAYS_SPECIAL) if tokenizer.token_to_id(name) is not None}
    return sorted(known, key=lambda name: (-len(name), name))


def _listed_ids(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> frozenset[int]:
    """Special by the lists of `tokenizer_config.json`, and those that the published loop adds by name; flags aside."""
    roles = [settings.get(f"{role}_token") for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")]
    entries = [*(settings.get("additional_special_tokens") or []), *(role for role in roles if role)]
    names = {entry if isinstance(entry, str) else entry.get("content", "") for entry in entries}
    names |= set(NAMES.values()) - {"<|tts_pad|>", "<|im_start|>", "<|im_end|>"} | {"<|tts_eos|>"}
    return frozenset(found for name in names if (found := tokenizer.token_to_id(name)) is not None)


def _steering_ids(tokenizer: Tokenizer, folder: Path) -> dict[str, int]:
    ids = ((attribute, tokenizer.token_to_id(name)) for attribute, name in NAMES.items())
    found = {attribute: token_id for attribute, token_id in ids if token_id is not None}
    if missing := [name for attribute, name in NAMES.items() if attribute not in found]:
        raise ModelError(
            f"{folder / TOKENIZER}: no token {', '.join(missing)}; MiniCPM-o 4.5 has "
            f"{'it' if len(missing) == 1 else 'them'}; the tokenizer is another model's or another version's"
        )
    return found


def _bad_ids(settings: Mapping[str, Any], size: int, folder: Path) -> tuple[int, ...]:
    found = settings.get("bad_token_ids") or []
    if not isinstance(found, list) or not all(isinstance(token, int) and 0 <= token < size for token in found):
        raise ModelError(f"{folder / TOKENIZER_CONFIG}: bad_token_ids must be ids below {size}; download it again")
    return tuple(found)
