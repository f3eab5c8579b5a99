"""A second opinion on a candidate alert: two short questions about the last seconds, asked in turn-based mode.

The duplex stream decides when to speak, and is easily early. In turn-based mode the same weights are asked about what
they perceived last: "has this just happened?" and "has it not happened yet?". Both answers must agree. No text is
sampled: the answer is read from the logits of one position, as the weight of the words for yes against that of the
words for no. It runs beside the stream, in a memory of its own, and nothing of it enters the stream.

Layout, as the public reference builds it for video with sound (`MiniCPMO.chat` and `streaming_prefill` with
`omni_mode`, and the tokenizer's chat template); no spaces or line breaks between the parts of the content:

    <|im_start|>user\\n
    (<image> 64 vectors </image>  (<slice> 64 vectors </slice>)*  <|audio_start|> 10 vectors <|audio_end|>)*
    question<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n[<|tts_bos|>]

`<|tts_bos|>` ends it whenever there is sound, also where no speech is wanted: that is how answers to sound begin.
Pictures have no `<image_id>` here (only lists of still pictures do), and no `<unit>`, which belongs to the duplex mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError
from omni_watch.domain.rules import Language as Tongue
from omni_watch.duplex.minicpmo.prompts import plain, words_for
from omni_watch.duplex.minicpmo.work import Fed, Feed, Work

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.cache import KeyValueCache
    from omni_watch.duplex.minicpmo.language import Language
    from omni_watch.duplex.minicpmo.senses import Perceived
    from omni_watch.duplex.minicpmo.tokens import Tokens

LONGEST_CONDITION: Final = 200  # characters
OPENING: Final = "<|im_start|>user\n"
CLOSING: Final = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
SPEECH: Final = "<|tts_bos|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpinionSettings:
    """How a second opinion is asked. Not yet seen on the published weights: off unless somebody turns it on."""

    is_on: bool = False
    seconds: int = 4  # how far back it looks
    margin: float = 0.0  # log-odds by which each answer must lean to its side

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise ValueError(f"a second opinion about {self.seconds} seconds; expected at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the two questions were answered; margins are log-odds of yes over no."""

    yes_margin: float  # "has it just happened?"
    opposite_margin: float  # "has it not happened yet?"
    agrees: bool  # yes to the first and no to the second


@dataclass(frozen=True, slots=True)
class Answers:
    """Token ids with which an answer begins."""

    yes: tuple[int, ...]
    no: tuple[int, ...]


class Examiner:
    """Asks for second opinions. Holds no memory of any feed; model thread only."""

    def __init__(self, tokens: Tokens, language: Language, settings: OpinionSettings | None = None) -> None:
        self.settings = settings or OpinionSettings()
        self._tokens = tokens
        self._language = language

    def ask(self, seconds: Sequence[Perceived], condition: str, tongue: Tongue) -> Work[Opinion]:
        """The opinion on whether `condition`, a completed state, has just come true.

        `seconds` are what the feed perceived, oldest first; no more than needed is looked at. Two forwards; the works
        of several candidates share them.

        Raises:
            ModelError: nothing was perceived, or the vocabulary cannot tell yes from no in this tongue.
        """
        answers = answers_of(self._tokens, tongue)
        evidence = recent(seconds, self.settings.seconds)
        has_sound = any(second.sound is not None for second in evidence)
        seen_and_heard = torch.cat(list(self._evidence(evidence)))
        happened, opposite = (
            self._language.embed(self._tokens.encode(text)) for text in _questions(condition, tongue, has_sound)
        )
        length = len(seen_and_heard)
        cache = self._language.new_cache(capacity=length + max(len(happened), len(opposite)))
        first = yield from _margin(torch.cat([seen_and_heard, happened]), cache, answers)
        cache.truncate(length)
        second = yield from _margin(opposite, cache, answers)
        yes_margin, opposite_margin = torch.stack([first, second]).tolist()
        needed = self.settings.margin
        return Opinion(
            yes_margin=yes_margin,
            opposite_margin=opposite_margin,
            agrees=yes_margin > needed and opposite_margin < -needed,
        )

    def _evidence(self, seconds: Sequence[Perceived]) -> Iterator[Tensor]:
        """[L, H] each, from the beginning of the turn to the question."""
        tokens = self._tokens
        yield self._language.embed(tokens.encode(OPENING))
        for second in seconds:
            for overview, *tiles in second.frames:
                yield from self._between(tokens.image_start, overview, tokens.image_end)
                for tile in tiles:
                    yield from self._between(tokens.slice_start, tile, tokens.slice_end)
            if second.sound is not None:
                yield from self._between(tokens.audio_start, second.sound, tokens.audio_end)

    def _between(self, start: int, vectors: Tensor, end: int) -> Iterator[Tensor]:
        yield self._language.embed([start])
        yield vectors
        yield self._language.embed([end])


def recent(seconds: Sequence[Perceived], count: int) -> list[Perceived]:
    """The last `count` seconds in which anything was perceived.

    A picture that did not change is not perceived again: when these seconds have none, the last one before them, by
    itself, comes first.

    Raises:
        ModelError: nothing was perceived at all.
    """
    perceived = [second for second in seconds if not second.is_nothing]
    if not perceived:
        raise ModelError("a second opinion needs something seen or heard; got none")
    last, before = perceived[-count:], perceived[:-count]
    if not any(second.frames for second in last):
        sights = [second for second in before if second.frames]
        return [type(second)(frames=second.frames[-1:]) for second in sights[-1:]] + last
    return last


def answers_of(tokens: Tokens, tongue: Tongue) -> Answers:
    """The tokens with which the tongue's words for yes and no begin; those with which both begin tell nothing.

    Raises:
        ModelError: none are left for one of them.
    """
    table = words_for(tongue)["question"]
    yes, no = ({tokens.encode(word)[0] for word in table[answer]} for answer in ("yes", "no"))
    if not yes - no or not no - yes:
        raise ModelError(
            f"the vocabulary cannot tell {table['yes'][0]} from {table['no'][0]} by their first token, so a second "
            "opinion cannot be read in this language; turn it off"
        )
    return Answers(tuple(sorted(yes - no)), tuple(sorted(no - yes)))


def _questions(condition: str, tongue: Tongue, has_sound: bool) -> tuple[str, str]:
    """The rest of the turn, up to where the answer begins: of the question, and of its opposite."""
    table = words_for(tongue)["question"]
    asked = plain(condition, LONGEST_CONDITION)
    closing = CLOSING + (SPEECH if has_sound else "")
    return table["happened"].format(condition=asked) + closing, table["opposite"].format(condition=asked) + closing


def _margin(embeddings: Tensor, cache: KeyValueCache, answers: Answers) -> Work[Tensor]:
    """Scalar: log P(yes) - log P(no) after [L, H]. Stays on the device."""
    fed: Fed = yield Feed(embeddings=embeddings, cache=cache)
    if fed.logits is None:
        raise RuntimeError("a feed that asked for logits was answered without them")
    yes, no = (fed.logits[list(ids)].logsumexp(0) for ids in (answers.yes, answers.no))
    return yes - no
