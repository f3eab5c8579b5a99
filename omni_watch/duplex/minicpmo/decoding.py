"""From the logits of one position to the next token: forbidden tokens, repetition, the wish to end, and the draw.

The published loop decides in two stages. First the raw logits say whether this second's words are over
(`<|chunk_eos|>`); only if they are not does a second, filtered choice say what comes next. `Decoder` keeps these stages
and, unless `DecodingQuirks` asks for them, none of their accidents.

Nothing here walks over the vocabulary in Python or grows with time: the indices of forbidden tokens and of the recent
ones live beside the logits, and one transfer for each token brings the choice back. Whether to listen or to speak at
all is not decided here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from omni_watch.domain.errors import ModelError

if TYPE_CHECKING:
    from omni_watch.duplex.minicpmo.tokens import Tokens

Draw: TypeAlias = Callable[[Tensor], Tensor]
"""Probabilities [n] -> the index of one of them, int64 without dimensions, on the same device."""

HISTORY: Final = 4096  # tokens remembered, and the longest repetition window
PUBLISHED_WINDOW: Final = 512  # the published settings' own
SPARE_CANDIDATES: Final = 44  # beyond top_k: room for logits that tie with the k-th, frequent in bf16


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingConfig:
    """How the next token is chosen; the numbers are those of the published demonstration."""

    mode: Literal["greedy", "sampling"] = "greedy"
    temperature: float = 0.7
    top_k: int = 20  # 0: all
    top_p: float = 0.8  # 0: all
    repetition_penalty: float = 1.05  # above 1 discourages what was said lately, below 1 encourages it
    repetition_window: int = PUBLISHED_WINDOW
    length_penalty: float = 1.1  # above 1 makes the end of a turn less likely
    listen_prob_scale: float = 1.0  # 2.0 doubles the odds of listening against every other token
    listen_top_k: int | None = None  # listen whenever <|listen|> is among so many most likely ones

    def __post_init__(self) -> None:
        for name in ("temperature", "repetition_penalty", "length_penalty", "listen_prob_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")
        if self.top_k < 0 or not 0 <= self.top_p <= 1:
            raise ValueError(f"top_k {self.top_k}, top_p {self.top_p}; expected top_k >= 0 and 0 <= top_p <= 1")
        if not 1 <= self.repetition_window <= HISTORY:
            raise ValueError(f"repetition_window is {self.repetition_window}; expected 1 to {HISTORY} tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingQuirks:
    """What the published decoder does by accident; all off in the product, all on to reproduce its numbers."""

    listen_knobs_act_on_im_end: bool = False  # and the scale multiplies the logit, which raises a negative one below 1
    repetition_ignores_sign: bool = False  # a negative logit is divided too, which encourages what it should discourage
    repetition_hits_control_tokens: bool = False  # <|listen|>, <|speak|> and <|turn_eos|> wear out with use
    chunk_end_ignores_temperature: bool = False  # the first of the two draws is made at temperature 1

    @classmethod
    def reference(cls) -> DecodingQuirks:
        return cls(
            listen_knobs_act_on_im_end=True,
            repetition_ignores_sign=True,
            repetition_hits_control_tokens=True,
            chunk_end_ignores_temperature=True,
        )


class SeededDraw:
    """Draws by chance: the same seed and the same probabilities give the same choices, device by device.

    The largest of p / e, e exponentially distributed, falls on index i with probability p[i]. Unlike
    `torch.multinomial` this neither waits for the device nor ends the CUDA context when a probability is NaN.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._generator: torch.Generator | None = None

    def __call__(self, probabilities: Tensor) -> Tensor:
        noise = torch.empty_like(probabilities).exponential_(generator=self._generator_on(probabilities.device))
        return (probabilities / noise.clamp_min_(torch.finfo(noise.dtype).tiny)).argmax(dim=-1)

    def _generator_on(self, device: torch.device) -> torch.Generator:
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
            if self._seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(self._seed)
        return self._generator


def most_likely(probabilities: Tensor) -> Tensor:
    """The draw that leaves nothing to chance."""
    return probabilities.argmax(dim=-1)


class Shortlist(NamedTuple):
    """What is left to draw from after top-k and top-p."""

    token_ids: Tensor  # [n] int64, most likely first
    probabilities: Tensor  # [n] float32; 0 for what was filtered out


class Distributions(NamedTuple):
    """What the two draws of one token are made from; each [vocab_size] float32 and summing to 1."""

    chunk_end: Tensor
    token: Tensor


class Decoder:
    """Chooses one dialogue's tokens; remembers the last `HISTORY` of them. One thread at a time.

    Its indices are prepared at the first call and stay on the logits' device.
    """

    def __init__(
        self,
        tokens: Tokens,
        config: DecodingConfig | None = None,
        *,
        quirks: DecodingQuirks | None = None,
        draw: Draw | None = None,
    ) -> None:
        """`draw` makes the choices of mode "sampling"; without it chance does, unseeded."""
        self._tokens = tokens
        self.config = config or DecodingConfig()
        self._quirks = quirks or DecodingQuirks()
        self._draw = draw or SeededDraw()
        self._history: deque[int] = deque(maxlen=HISTORY)
        self._recent = _RecentTokens(self.config.repetition_window)
        self._forbidden: Tensor | None = None

    @property
    def history(self) -> list[int]:
        """The last chosen tokens, oldest first; without those that were forced or that ended a chunk."""
        return list(self._history)

    def reset(self) -> None:
        self._history.clear()
        self._recent.clear()

    def remember(self, token_id: int) -> None:
        """Count a token as said. `decode` does this for its own."""
        self._history.append(token_id)
        if self._quirks.repetition_hits_control_tokens or token_id not in self._tokens.special_ids:
            self._recent.append(token_id)

    def decode(self, logits: Tensor) -> int:
        """Choose the token after logits [vocab_size], which stay as they are.

        Raises:
            ModelError: the logits are not finite, or belong to another vocabulary.
        """
        ends_chunk = self._drawn_first(logits) == self._tokens.chunk_eos
        scores = self._adjusted(logits)
        listens = self._is_among_the_best(scores, self._listen_id)
        token = self._drawn_second(scores)
        answer = torch.stack((token, ends_chunk.long(), listens.long(), logits.amax().isfinite().long()))
        token_id, has_ended, must_listen, is_finite = answer.tolist()
        if not is_finite:
            raise ModelError("the language model's logits are not finite; the dialogue must start anew", can_retry=True)
        if has_ended:
            return self._tokens.chunk_eos
        if must_listen:
            return self._listen_id
        self.remember(token_id)
        return int(token_id)

    def distributions(self, logits: Tensor) -> Distributions:
        """What `decode` would draw from in mode "sampling"; nothing is drawn or remembered."""
        token_ids, probabilities = self._shortlist(self._adjusted(logits))
        whole = torch.zeros_like(logits, dtype=torch.float32).scatter_(0, token_ids, probabilities)
        return Distributions(self._chunk_end_probabilities(logits), whole)

    @property
    def _listen_id(self) -> int:
        return self._tokens.im_end if self._quirks.listen_knobs_act_on_im_end else self._tokens.listen

    def _drawn_first(self, logits: Tensor) -> Tensor:
        """The token of the first stage, of which only `<|chunk_eos|>` counts."""
        if self.config.mode == "greedy":
            return logits.argmax(dim=-1)
        return self._draw(self._chunk_end_probabilities(logits))

    def _chunk_end_probabilities(self, logits: Tensor) -> Tensor:
        temperature = 1.0 if self._quirks.chunk_end_ignores_temperature else self.config.temperature
        return (logits.float() if temperature == 1 else logits.float() / temperature).softmax(dim=-1)

    def _drawn_second(self, scores: Tensor) -> Tensor:
        if self.config.mode == "greedy":
            return scores.argmax(dim=-1)
        token_ids, probabilities = self._shortlist(scores)
        return token_ids[self._draw(probabilities)]

    def _shortlist(self, scores: Tensor) -> Shortlist:
        return shortlist(scores / self.config.temperature, top_k=self.config.top_k, top_p=self.config.top_p)

    def _adjusted(self, logits: Tensor) -> Tensor:
        """A copy of the logits with everything applied that changes their order. [vocab_size] float32."""
        config, quirks = self.config, self._quirks
        scores = logits.to(torch.float32, copy=True)
        scores.index_fill_(0, self._forbidden_for(scores), -torch.inf)
        if config.repetition_penalty != 1 and self._recent:
            recent = self._recent.on(scores.device)
            penalised = _penalised(scores[recent], config.repetition_penalty, quirks.repetition_ignores_sign)
            # one token may stand there several times: every write carries the same value
            scores.index_copy_(0, recent, penalised)
        if config.length_penalty != 1:
            end = scores[self._tokens.turn_eos]
            end.copy_(_penalised(end, config.length_penalty))
        if config.listen_prob_scale != 1:
            listen = scores[self._listen_id]
            if quirks.listen_knobs_act_on_im_end:
                listen.mul_(config.listen_prob_scale)
            else:  # odds are scaled by a shift, which the temperature will divide
                sharpness = config.temperature if config.mode == "sampling" else 1.0
                listen.add_(math.log(config.listen_prob_scale) * sharpness)
        return scores

    def _is_among_the_best(self, scores: Tensor, token_id: int) -> Tensor:
        if self.config.listen_top_k is None:
            return scores.new_zeros((), dtype=torch.bool)
        return (scores > scores[token_id]).sum() < self.config.listen_top_k

    def _forbidden_for(self, scores: Tensor) -> Tensor:
        if self._forbidden is None or self._forbidden.device != scores.device:
            forbidden = sorted({self._tokens.tts_pad, self._tokens.chunk_eos, *self._tokens.bad_ids})
            if forbidden[-1] >= scores.shape[-1]:
                raise ModelError(
                    f"the tokenizer forbids token {forbidden[-1]}, but the language model has {scores.shape[-1]} rows; "
                    "tokenizer.json and the weights belong to different checkpoints"
                )
            self._forbidden = torch.tensor(forbidden, device=scores.device)
        return self._forbidden


def shortlist(scores: Tensor, *, top_k: int, top_p: float) -> Shortlist:
    """The tokens to draw from: those not below the k-th largest score, of these the fewest that reach `top_p`.

    The token that crosses `top_p` stays, so there is always one. Ties with the k-th beyond `SPARE_CANDIDATES` are
    dropped. `scores` [n] are already divided by the temperature.
    """
    size = scores.shape[-1]
    values, token_ids = scores.topk(min(top_k + SPARE_CANDIDATES, size) if top_k else size)
    if top_k:
        values = values.masked_fill(values < values[min(top_k, size) - 1], -torch.inf)
    if top_p > 0:
        before = values.softmax(dim=-1).cumsum(dim=-1).roll(1)  # what the more likely ones sum up to
        before[0] = 0
        values = values.masked_fill(before > top_p, -torch.inf)
    return Shortlist(token_ids, values.softmax(dim=-1))


def _penalised(scores: Tensor, penalty: float, ignores_sign: bool = False) -> Tensor:
    """Scores made smaller by a penalty above 1, larger by one below 1."""
    if ignores_sign:
        return scores / penalty if penalty > 1 else scores * (1.0 / penalty)
    return torch.where(scores > 0, scores / penalty, scores * penalty)


class _RecentTokens:
    """The last `size` tokens as an index beside the logits: one number is written for each token."""

    def __init__(self, size: int) -> None:
        self._ids = torch.zeros(size, dtype=torch.int64)
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def append(self, token_id: int) -> None:
        self._ids[self._count % len(self._ids)] = token_id
        self._count += 1

    def clear(self) -> None:
        self._count = 0

    def on(self, device: torch.device) -> Tensor:
        """[n] int64, n <= size, in no particular order."""
        if self._ids.device != device:
            self._ids = self._ids.to(device)
        return self._ids[: min(self._count, len(self._ids))]
