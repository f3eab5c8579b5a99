"""The speech decoder: what the language model said in one unit becomes up to a second of speech codes.

A Llama of its own reads, turn after turn, one sequence in which text and codes alternate:

    text of unit 1, <audio_bos>, up to 25 codes, text of unit 2, <audio_bos>, up to 25 codes, …

Each text position is the token's embedding plus the language model's normalised hidden state there. Nothing here waits
for words to be complete: how far the codes lag behind the text is learned. The decoder runs only for a `Say` request,
so a dialogue that wants no speech never pays for it. Several feeds speak in step: every weight is read once per code,
whoever asks. Codes become sound in `vocoder`.

The 26th code of a full second is drawn and thrown away in the published loop. Here it is drawn only to be compared with
published numbers (`keeps_scores`), and the 25th is fed together with the text that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.cache import KeyValueCache, rotation
from omni_watch.duplex.minicpmo.config import LanguageConfig, SpeechConfig
from omni_watch.duplex.minicpmo.decoding import Draw, SeededDraw
from omni_watch.duplex.minicpmo.language import Layer, Pieces, RMSNorm, causal_mask
from omni_watch.duplex.minicpmo.linear import Linear, linear
from omni_watch.duplex.minicpmo.work import Say

MAX_NEW_CODES: Final = 26  # of which the last is never kept: 25 are a second
REPETITION_WINDOW: Final = 16  # codes, within the unit
CACHE_CAPACITY: Final = 512  # about ten units; it grows with a longer turn


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Said:
    """One unit's speech. D is the speech decoder's width."""

    codes: list[int]  # 25 a second, at most 25; possibly none
    start: int  # the position of the condition's first row
    condition: Tensor  # [said tokens + 1, D]
    min_new: int  # codes before which the second could not end
    length: int  # positions of the turn after this unit
    has_restarted: bool  # the turn had become too long for the trained positions: it went on as a new one
    scores: Tensor | None  # [steps, num_audio_tokens] probabilities, where the memory keeps them


class SpeechMemory:
    """What one feed's speech remembers of the turn under way. Owned by the feed; model thread only."""

    def __init__(self, cache: KeyValueCache, *, draw: Draw | None = None, keeps_scores: bool = False) -> None:
        self.cache = cache
        self.draw = draw or SeededDraw()
        self.keeps_scores = keeps_scores
        self.unfed: Tensor | None = None  # the unit's last code, fed before the next text; [] int64

    @property
    def start(self) -> int:
        """The position that the next text begins at; 0 where a turn begins."""
        return self.cache.length + (self.unfed is not None)

    def reset(self) -> None:
        """The turn is over, or was interrupted: the next one begins anew. (The published loop forgets to do this after
        an interruption, so that the next turn goes on where the interrupted one stopped.)"""
        self.cache.truncate(0)
        self.unfed = None


class Projector(nn.Module):
    """The language model's hidden states at the speech decoder's width."""

    def __init__(self, llm_width: int, width: int) -> None:
        super().__init__()
        self.linear1 = Linear(llm_width, width)
        self.linear2 = Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[n, H] -> [n, D]."""
        projected: Tensor = self.linear2(F.relu(self.linear1(hidden)))
        return projected


class _WeightNorm(nn.Module):
    """A matrix as the length and the direction of each row (arXiv 1602.07868), named as torch names them."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.original0 = nn.Parameter(torch.ones(rows, 1))
        self.original1 = nn.Parameter(torch.randn(rows, columns))

    def forward(self) -> Tensor:
        """[rows, columns]: the matrix multiplied out."""
        directions = F.normalize(self.original1.float(), dim=1, eps=0.0)
        return (self.original0.float() * directions).to(self.original1.dtype)


class CodeHead(nn.Module):
    """Scores of the speech codes. The matrix is multiplied out once, at the first use after loading."""

    def __init__(self, width: int, num_codes: int) -> None:
        super().__init__()
        self.parametrizations = nn.ModuleDict({"weight": _WeightNorm(num_codes, width)})  # torch's name for it
        self._folded: Tensor | None
        self.register_buffer("_folded", None, persistent=False)  # moves along, is never saved

    def forward(self, hidden: Tensor) -> Tensor:
        """[n, D] -> [n, num_audio_tokens]."""
        if self._folded is None:
            self._folded = self.parametrizations["weight"]().detach()
        return linear(hidden, self._folded)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Also takes the matrix multiplied out, as converted checkpoints have it: `head_code.0.weight`."""
        self._folded = None
        weight = state.pop(f"{prefix}weight", None)
        if weight is not None:
            state[f"{prefix}parametrizations.weight.original0"] = weight.norm(dim=1, keepdim=True)
            state[f"{prefix}parametrizations.weight.original1"] = weight
        super()._load_from_state_dict(state, prefix, *args)


class Body(nn.Module):
    """The Llama; the checkpoint's `tts.model`, without its table of text embeddings, which nothing reads."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_llama_layer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, pieces: Pieces) -> Tensor:
        """[sum L, D] -> [sum L, D], after the final norm."""
        for layer in self.layers:
            x = layer(x, pieces)
        normed: Tensor = self.norm(x)
        return normed


@dataclass(slots=True, eq=False, kw_only=True)
class _Second:
    """One feed's unit of speech in the making."""

    request: Say
    condition: Tensor  # [n + 1, D]
    start: int
    min_new: int
    has_restarted: bool
    codes: list[Tensor] = field(default_factory=list)  # [] int64 each, still on the device
    scores: list[Tensor] = field(default_factory=list)  # [num_audio_tokens] each
    has_ended: bool = False
    are_finite: list[Tensor] = field(default_factory=list)  # [] bool each

    @property
    def memory(self) -> SpeechMemory:
        return self.request.memory

    def goes_on(self, step: int) -> bool:
        return not self.has_ended and step < MAX_NEW_CODES - (not self.memory.keeps_scores)


class SpeechDecoder(nn.Module):
    """Text and hidden states in, speech codes out; the checkpoint's `tts`. For the model thread."""

    def __init__(self, config: SpeechConfig, llm_width: int) -> None:
        super().__init__()
        self.config = config
        self._shape = _as_llama(config)
        self.emb_text = nn.Embedding(config.num_text_tokens, config.hidden_size)
        self.emb_code = nn.ModuleList([nn.Embedding(config.num_audio_tokens, config.hidden_size)])
        self.model = Body(self._shape)
        self.projector_semantic = Projector(llm_width, config.hidden_size)
        self.head_code = nn.ModuleList([CodeHead(config.hidden_size, config.num_audio_tokens)])

    @property
    def end_code(self) -> int:
        """Ends a unit early; never spoken."""
        return self.config.num_audio_tokens - 1

    def start(self, *, draw: Draw | None = None, keeps_scores: bool = False) -> SpeechMemory:
        """A feed's memory before it ever spoke. Without `draw`, chance chooses the codes, as trained; the most likely
        ones (`decoding.most_likely`) are reproducible and sound flat."""
        weight = self.model.norm.weight
        cache = KeyValueCache(
            num_layers=self._shape.num_layers,
            num_kv_heads=self._shape.num_kv_heads,
            head_dim=self._shape.head_dim,
            rope_theta=self._shape.rope_theta,
            capacity=min(CACHE_CAPACITY, self._shape.max_positions),
            maximum=self._shape.max_positions,
            dtype=weight.dtype,
            device=weight.device,
        )
        return SpeechMemory(cache, draw=draw, keeps_scores=keeps_scores)

    def say(self, token_ids: Sequence[int], hidden: Sequence[Tensor], ends_turn: bool, memory: SpeechMemory) -> Said:
        """One feed alone; see `say_together`.

        Raises:
            ModelError: as it would return it.
        """
        said = self.say_together([Say(token_ids=token_ids, hidden=hidden, ends_turn=ends_turn, memory=memory)])[0]
        if isinstance(said, ModelError):
            raise said
        return said

    @torch.inference_mode()
    def say_together(self, requests: Sequence[Say]) -> list[Said | ModelError]:
        """Speech codes for one unit of each feed; a request that fails fails alone, and its memory is reset."""
        seconds = [self._begun(request) for request in requests]
        running = [each for each in seconds if isinstance(each, _Second)]
        for step in range(MAX_NEW_CODES):
            running = [each for each in running if each.goes_on(step)]
            if not running:
                break
            self._step(running, step)
        return [self._said(each) if isinstance(each, _Second) else each for each in seconds]

    def condition(self, token_ids: Sequence[int], hidden: Sequence[Tensor]) -> Tensor:
        """What was said, then <audio_bos>: n tokens and n states [H] -> [n + 1, D]; n may be 0."""
        ids = torch.tensor([*token_ids, self.config.audio_bos_token_id], device=self.emb_text.weight.device)
        condition: Tensor = self.emb_text(ids)
        if token_ids:
            condition[:-1] += F.normalize(self.projector_semantic(torch.stack(list(hidden))), dim=-1)
        return condition

    def _begun(self, request: Say) -> _Second | ModelError:
        ids, memory = request.token_ids, request.memory
        if len(ids) != len(request.hidden) or not all(0 <= each < self.config.num_text_tokens for each in ids):
            return ModelError(
                f"the speech decoder was given {len(ids)} tokens up to {max(ids, default=0)} with "
                f"{len(request.hidden)} hidden states; expected as many states as tokens, and tokens below "
                f"{self.config.num_text_tokens}"
            )
        needed = len(ids) + 1 + MAX_NEW_CODES
        has_restarted = memory.start + needed > self.config.max_positions
        if has_restarted:
            memory.reset()
        is_short_allowed = memory.start == 0 or request.ends_turn
        return _Second(
            request=request,
            condition=self.condition(ids, request.hidden),
            start=memory.start,
            min_new=0 if is_short_allowed else MAX_NEW_CODES,
            has_restarted=has_restarted,
        )

    def _step(self, running: Sequence[_Second], step: int) -> None:
        """Draw one code for each, all at the same step of their second."""
        logits = self._logits(running, step)
        is_finite = logits.amax(dim=-1).isfinite()
        if step > 0:
            recent = torch.stack([torch.stack(each.codes[-REPETITION_WINDOW:]) for each in running])
            logits = discouraged(logits, recent, self.config.repetition_penalty)
        for row, each in enumerate(running):
            if step < each.min_new:
                logits[row, self.end_code] = -torch.inf
        scores = logits.softmax(dim=-1)
        for row, each in enumerate(running):
            each.codes.append(each.memory.draw(scores[row]))
            each.are_finite.append(is_finite[row])
            if each.memory.keeps_scores:
                each.scores.append(scores[row])
            if step >= each.min_new:  # the one place of the loop that waits for the device
                each.has_ended = int(each.codes[-1]) == self.end_code

    def _logits(self, running: Sequence[_Second], step: int) -> Tensor:
        """[n, num_audio_tokens] float32, divided by the temperature."""
        if step == 0:
            rows = [self._with_unfed(each) for each in running]
        else:
            rows = list(self.emb_code[0](torch.stack([each.codes[-1] for each in running])).split(1))
        last = torch.stack([hidden[-1] for hidden in self._forward(rows, [each.memory.cache for each in running])])
        logits: Tensor = self.head_code[0](last)
        return logits.float() / self.config.temperature

    def _with_unfed(self, second: _Second) -> Tensor:
        unfed = second.memory.unfed
        if unfed is None:
            return second.condition
        second.memory.unfed = None
        return torch.cat([self.emb_code[0](unfed[None]), second.condition])

    def _forward(self, rows: Sequence[Tensor], caches: Sequence[KeyValueCache]) -> list[Tensor]:
        """[L, D] for each cache -> the same after the final norm; each appended to its cache."""
        lengths = [len(each) for each in rows]
        starts = [cache.reserve(length) for cache, length in zip(caches, lengths, strict=True)]
        x = torch.cat(list(rows))
        turns = [
            rotation(start, length, self._shape.head_dim, self._shape.rope_theta, x.device)
            for start, length in zip(starts, lengths, strict=True)
        ]
        groups = self._shape.num_heads // self._shape.num_kv_heads
        pieces = Pieces(
            caches=caches,
            lengths=lengths,
            cos=torch.cat([cos for cos, _ in turns])[:, None],
            sin=torch.cat([sin for _, sin in turns])[:, None],
            masks=[causal_mask(n, cache.length, groups, x) for n, cache in zip(lengths, caches, strict=True)],
        )
        hidden: Tensor = self.model(x, pieces)
        for cache, length in zip(caches, lengths, strict=True):
            cache.advance(length)
        return list(hidden.split_with_sizes(lengths))

    def _said(self, second: _Second) -> Said | ModelError:
        """Read the codes: one transfer for the second."""
        memory = second.memory
        is_finite = second.are_finite[-1].long()  # a NaN stays in the memory, so the last step tells
        *codes, all_finite = torch.stack([*second.codes, is_finite]).tolist()
        if not all_finite:
            memory.reset()
            return ModelError("the speech decoder's scores are not finite; its turn begins anew", can_retry=True)
        if second.has_ended or len(codes) == MAX_NEW_CODES:
            codes.pop()
        else:
            memory.unfed = second.codes[-1]
        length = memory.start
        if second.request.ends_turn:
            memory.reset()
        return Said(
            codes=codes,
            start=second.start,
            condition=second.condition,
            min_new=second.min_new,
            length=length,
            has_restarted=second.has_restarted,
            scores=torch.stack(second.scores) if memory.keeps_scores else None,
        )


def discouraged(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """Logits [n, V] made smaller by `penalty` each time a code stands in `recent` [n, w], whatever their sign."""
    counts = torch.zeros_like(logits).scatter_add_(1, recent, torch.ones_like(recent, dtype=logits.dtype))
    factor = penalty**counts
    return torch.where(logits < 0, logits * factor, logits / factor)


def _as_llama(config: SpeechConfig) -> LanguageConfig:
    """The sizes in the words of the language model, whose layers are used."""
    return LanguageConfig(
        vocab_size=config.num_text_tokens,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.hidden_size // config.num_heads,
        rope_theta=config.rope_theta,
        rms_norm_eps=config.rms_norm_eps,
        max_positions=config.max_positions,
    )


def _llama_layer(config: LanguageConfig, index: int) -> Layer:
    """A layer of the language model without its norms on queries and keys, which Llama does not have."""
    layer = Layer(config, index)
    for name in ("q_norm", "k_norm"):
        layer.self_attn.add_module(name, nn.Identity())
    return layer
