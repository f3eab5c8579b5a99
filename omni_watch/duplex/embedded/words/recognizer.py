"""What does this voice say? Whisper through faster-whisper, for one short utterance at a time.

faster-whisper's `transcribe` is made for long recordings: it cuts them, encodes 30 s for the language and again for the
words, and samples anew at rising temperatures when unsure. For an utterance that a person waits for we use its parts:
encode once, no more than needed, then language and words from the same encoding, and one decoding that is believed or
not. Nothing here asks a network for anything: the model is a folder of files.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from numpy.typing import NDArray

from omni_watch.domain.errors import ModelError
from omni_watch.domain.hearing import Transcript
from omni_watch.domain.rules import Language
from omni_watch.domain.units import SAMPLE_RATE_HZ
from omni_watch.duplex.embedded.words.belief import Decoded, is_believed, wording_of
from omni_watch.duplex.embedded.words.models import WhisperFiles

SHORTEST_WINDOW_S: Final = 10.0  # encoded at least; 6 s hear worse, and 30 s take five times as long and hear no better
LONGEST_WINDOW_S: Final = 30.0  # what Whisper was made for
ROOM_S: Final = 1.0  # silence after the voice, without which the decoder goes on and on
HOP: Final = 160  # samples between two frames
TOKENS_PER_S: Final = 16  # English has about 5 when spoken fast, Mandarin twice as many
TOKENS_AT_LEAST: Final = 24
HOT_WORD_TOKENS: Final = 60  # a longer hint takes time and is more often parroted
BEAM: Final = 5  # a third fewer wrong words than 1, for 0.07 s more; see bench_words
HYPOTHESES: Final = 3  # of each language
HINT_TRUST: Final = 0.1  # confidence by which words heard without a hint must be ahead of those heard with it
UNSURE_LANGUAGE: Final = 0.7  # below it the other language is tried as well
LIBRARY_ERRORS: Final = (RuntimeError, ValueError, OSError, KeyError, IndexError)

Floats = NDArray[np.float32]
HotWords = Mapping[Language, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One way to write down what was said, and how it stands against the others."""

    transcript: Transcript
    rank: float


class Recognizer:
    """One Whisper model. One thread at a time; the library lets go of the interpreter while it computes."""

    def __init__(self, files: WhisperFiles, languages: Sequence[Language], *, threads: int = 1) -> None:
        """About a second. `languages`: those that are spoken here, the usual one first.

        Raises:
            ModelError: a file is missing or no such model.
        """
        self._whisper = _opened(files, threads)
        self._is_multilingual = bool(self._whisper.model.is_multilingual)
        self.languages = tuple(languages) if self._is_multilingual else ("en",)
        self._tokenizers = {language: self._tokenizer(language) for language in self.languages}
        self._takes_hints = self._is_multilingual  # told of a kettle, tiny.en hears it everywhere; see bench_words
        self._suppressed = list(get_suppressed_tokens(self._tokenizers[self.languages[0]], [-1]))

    def recognize(self, samples: Floats, hot_words: HotWords | None = None) -> list[Transcript]:
        """What one utterance may say, the likeliest first; none when it has no words.

        Raises:
            ModelError: (retryable) the library refused.
        """
        try:
            encoded = self._whisper.encode(self._features(samples))
            found = [
                candidate
                for language in self._languages_of(encoded)
                for hints in self._hints_for(language, hot_words or {})
                for candidate in self._candidates(encoded, language, len(samples) / SAMPLE_RATE_HZ, hints)
            ]
        except LIBRARY_ERRORS as error:
            raise ModelError(
                f"recognising {len(samples) / SAMPLE_RATE_HZ:.1f} s of speech failed: {error}", can_retry=True
            ) from error
        found.sort(key=lambda candidate: -candidate.rank)
        once: dict[tuple[Language, str], Transcript] = {}
        for candidate in found:
            transcript = candidate.transcript
            once.setdefault((transcript.language, wording_of(transcript.text)), transcript)
        return list(once.values())

    def _features(self, samples: Floats) -> Floats:
        """[80, frames]: the utterance and silence, as many seconds as are encoded."""
        length_s = min(max(len(samples) / SAMPLE_RATE_HZ + ROOM_S, SHORTEST_WINDOW_S), LONGEST_WINDOW_S)
        wanted = math.ceil(length_s) * SAMPLE_RATE_HZ
        padded = np.zeros(wanted, np.float32)
        padded[: min(len(samples), wanted)] = samples[:wanted]
        features: Floats = self._whisper.feature_extractor(padded, padding=0)
        return np.ascontiguousarray(features[:, : wanted // HOP], np.float32)

    def _languages_of(self, encoded: Any) -> list[Language]:
        """The language it is in; two when one is hardly likelier than the other."""
        if len(self.languages) == 1:
            return list(self.languages)
        told = {token.strip("<|>"): share for token, share in self._whisper.model.detect_language(encoded)[0]}
        shares = {language: told.get(language, 0.0) for language in self.languages}
        ranked = sorted(shares, key=lambda language: -shares[language])
        is_sure = shares[ranked[0]] >= UNSURE_LANGUAGE * (sum(shares.values()) or 1.0)
        return ranked[:1] if is_sure else ranked[:2]

    def _hints_for(self, language: Language, hot_words: HotWords) -> list[Sequence[str]]:
        """What to decode with: the words that are likely here, and nothing, to see whether these were only parroted."""
        likely = hot_words.get(language, ()) if self._takes_hints else ()
        return [likely, ()] if likely else [()]

    def _candidates(
        self, encoded: Any, language: Language, length_s: float, hints: Sequence[str]
    ) -> Iterator[_Candidate]:
        """What can be believed."""
        for decoded in self._decoded(encoded, self._tokenizers[language], length_s, hints):
            if is_believed(decoded, hints):
                confidence = min(math.exp(decoded.mean_log_probability), 1.0)
                transcript = Transcript(text=decoded.text, language=language, confidence=confidence)
                yield _Candidate(transcript, confidence + (HINT_TRUST if hints else 0.0))

    def _decoded(self, encoded: Any, tokenizer: Tokenizer, length_s: float, hints: Sequence[str]) -> list[Decoded]:
        """What the decoder writes, the likeliest first."""
        hint = self._hint(tokenizer, hints)
        prompt = self._whisper.get_prompt(tokenizer, [], without_timestamps=True, hotwords=hint)
        most = max(round(length_s * TOKENS_PER_S), TOKENS_AT_LEAST)
        result = self._whisper.model.generate(
            encoded,
            [prompt],
            beam_size=BEAM,
            num_hypotheses=HYPOTHESES,
            max_length=len(prompt) + most,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
        )[0]
        return [
            Decoded(
                text=tokenizer.decode(tokens).strip(),
                mean_log_probability=score * len(tokens) / (len(tokens) + 1),  # the end counts as a token
                no_speech=result.no_speech_prob,
                is_endless=len(tokens) >= most,
                length_s=length_s,
            )
            for tokens, score in zip(result.sequences_ids, result.scores, strict=True)
        ]

    def _tokenizer(self, language: Language) -> Tokenizer:
        return Tokenizer(self._whisper.hf_tokenizer, self._is_multilingual, task="transcribe", language=language)

    @staticmethod
    def _hint(tokenizer: Tokenizer, hot_words: Sequence[str]) -> str | None:
        """As many of the words as there is room for, in order."""
        taken: list[str] = []
        room = HOT_WORD_TOKENS
        for word in hot_words:
            room -= len(tokenizer.encode(f" {word},"))
            if room < 0:
                break
            taken.append(word)
        return ", ".join(taken) or None


def _opened(files: WhisperFiles, threads: int) -> WhisperModel:
    """The library wants one folder with names of its own; the cabinet has another order."""
    missing = [str(path) for path in files.named.values() if not path.is_file()]
    if missing:
        raise ModelError(f"{', '.join(missing)} missing; run `omni-watch models pull`")
    with tempfile.TemporaryDirectory(prefix="omni-watch-") as folder:
        for name, path in files.named.items():
            (Path(folder) / name).symlink_to(path.resolve())
        try:
            return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True)
        except LIBRARY_ERRORS as error:
            raise ModelError(f"{files.weights}: faster-whisper cannot open it ({error})") from error
