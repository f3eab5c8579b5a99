"""The language model: a Qwen3 decoder that serves several feeds with one pass over its weights.

The rows of all feeds are laid one after another, `[sum L, H]`: every weight is read once, whoever asks. Attention runs
for each feed over its own cache, so there is no padding, and no mask but the causal one of a feed's own new rows.
Modules carry the names of the checkpoint (`llm.model.layers.0.self_attn.q_proj.weight`, …) and no memory.

Not here: sampling, the vocabulary's special tokens, and when to compute logits (a matrix of 151748 rows; only the
positions asked for are multiplied).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.cache import KeyValueCache, rotate, rotation
from omni_watch.duplex.minicpmo.config import LanguageConfig
from omni_watch.duplex.minicpmo.linear import Linear


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What the layers share in one pass: whose rows are where, and what each may see."""

    caches: Sequence[KeyValueCache]
    lengths: list[int]  # rows of each cache in this pass
    cos: Tensor  # [sum L, 1, head_dim / 2] float32
    sin: Tensor
    masks: Sequence[Tensor | None]  # [groups * L, cached + L] each, added to the scores; None where all is visible

    def last_rows(self, x: Tensor) -> Tensor:
        """[sum L, ...] -> [pieces, ...]: the last row of each piece."""
        return torch.stack([piece[-1] for piece in x.split_with_sizes(self.lengths)])


class RMSNorm(nn.Module):
    """Scales rows to a root mean square of one, then by a weight; computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention with RMSNorm on each head's query and key, and rotary positions."""

    def __init__(self, config: LanguageConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.q_proj = Linear(config.hidden_size, config.num_heads * config.head_dim, bias=False)
        self.k_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.v_proj = Linear(config.hidden_size, config.num_kv_heads * config.head_dim, bias=False)
        self.o_proj = Linear(config.num_heads * config.head_dim, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.qkv_proj: nn.Module | None = None

    def fuse_(self) -> None:
        self.qkv_proj = _stacked(self.q_proj, self.k_proj, self.v_proj)
        del self.q_proj, self.k_proj, self.v_proj

    def forward(self, x: Tensor, pieces: Pieces, *, only_last: bool = False) -> Tensor:
        """[sum L, H] -> [sum L, H], or with `only_last` [pieces, H]; appends all rows to the caches."""
        projected = (
            self.qkv_proj(x) if self.qkv_proj else torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], 1)
        )
        heads = projected.view(len(x), -1, self.head_dim)
        queries, keys, values = heads.split_with_sizes([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        queries = rotate(self.q_norm(queries), pieces.cos, pieces.sin)
        keys = rotate(self.k_norm(keys), pieces.cos, pieces.sin)
        attended = [
            self._attend(
                q[-1:] if only_last else q,
                *cache.append(self.layer, k.transpose(0, 1), v.transpose(0, 1)),
                None if only_last else mask,
            )
            for q, k, v, cache, mask in zip(
                queries.split_with_sizes(pieces.lengths),
                keys.split_with_sizes(pieces.lengths),
                values.split_with_sizes(pieces.lengths),
                pieces.caches,
                pieces.masks,
                strict=True,
            )
        ]
        mixed: Tensor = self.o_proj(attended[0] if len(attended) == 1 else torch.cat(attended))
        return mixed

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[L, heads, D] over [kv_heads, S, D] -> [L, heads * D].

        The heads that share a key become further query rows of it: keys are read once for the group, and any fused
        kernel serves (on the CPU in bfloat16 eight times faster for one row than enable_gqa; measured, torch 2.13).
        """
        length, groups = len(queries), self.num_heads // self.num_kv_heads
        grouped = queries.view(length, self.num_kv_heads, groups, self.head_dim).permute(1, 2, 0, 3)
        rows = grouped.reshape(1, self.num_kv_heads, groups * length, self.head_dim)
        seen = F.scaled_dot_product_attention(rows, keys[None], values[None], attn_mask=mask)
        return seen.view(self.num_kv_heads, groups, length, self.head_dim).permute(2, 0, 1, 3).reshape(length, -1)


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.gate_up_proj: nn.Module | None = None

    def fuse_(self) -> None:
        self.gate_up_proj = _stacked(self.gate_proj, self.up_proj)
        del self.gate_proj, self.up_proj

    def forward(self, x: Tensor) -> Tensor:
        """[sum L, H] -> [sum L, H]."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=1) if self.gate_up_proj else (self.gate_proj(x), self.up_proj(x))
        down: Tensor = self.down_proj(F.silu(gate) * up)
        return down


class Layer(nn.Module):
    """One decoder layer: attention, then feed-forward, each on a normalised copy and added back."""

    def __init__(self, config: LanguageConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def fuse_(self) -> None:
        """Multiply queries, keys and values by one matrix, and gate and up by another; for loaded weights.

        The names of the checkpoint are gone afterwards. At no time is more than one matrix held twice.
        """
        self.self_attn.fuse_()
        self.mlp.fuse_()

    def forward(self, x: Tensor, pieces: Pieces, *, only_last: bool = False) -> Tensor:
        """[sum L, H] -> [sum L, H], or with `only_last` [pieces, H]: the caches learn of all rows all the same."""
        mixed = self.self_attn(self.input_layernorm(x), pieces, only_last=only_last)
        attended: Tensor = (pieces.last_rows(x) if only_last else x) + mixed
        out: Tensor = attended + self.mlp(self.post_attention_layernorm(attended))
        return out


class Body(nn.Module):
    """Everything below the head; the checkpoint's `llm.model`."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, pieces: Pieces, *, only_last: bool = False) -> Tensor:
        """[sum L, H] -> [sum L, H], or with `only_last` [pieces, H], after the final norm."""
        *lower, top = self.layers
        for layer in lower:
            x = layer(x, pieces)
        normed: Tensor = self.norm(top(x, pieces, only_last=only_last))
        return normed


class Language(nn.Module):
    """Embeddings in, hidden states out, logits where asked; the checkpoint's `llm`. For the model thread."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Body(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.requires_grad_(False)

    @property
    def layers(self) -> list[Layer]:
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.model.norm.weight.device

    def fuse_(self) -> None:
        """Every layer's `fuse_`: fewer and larger products. Call once, after loading and before quantizing."""
        for layer in self.layers:
            layer.fuse_()

    def new_cache(self, capacity: int = 512, maximum: int | None = None) -> KeyValueCache:
        """An empty memory for one feed, of this model's sizes, type and device; `maximum` defaults to the trained."""
        maximum = maximum or self.config.max_positions
        return KeyValueCache(
            num_layers=self.config.num_layers,
            num_kv_heads=self.config.num_kv_heads,
            head_dim=self.config.head_dim,
            rope_theta=self.config.rope_theta,
            capacity=min(capacity, maximum),
            maximum=maximum,
            dtype=self.dtype,
            device=self.device,
        )

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token ids -> [L, H].

        Raises:
            ModelError: an id that the vocabulary does not have.
        """
        if ids and not 0 <= min(ids) <= max(ids) < self.config.vocab_size:
            raise ModelError(
                f"token {min(ids) if min(ids) < 0 else max(ids)} is not in the vocabulary of {self.config.vocab_size}; "
                "do the tokenizer and the weights belong together?"
            )
        embedded: Tensor = self.model.embed_tokens(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embedded

    def forward(
        self, embeddings: Sequence[Tensor], caches: Sequence[KeyValueCache], *, only_last: bool = False
    ) -> list[Tensor]:
        """One `[L, H]` (L >= 1) for each cache -> the hidden states after the final norm, `[L, H]` each.

        With `only_last` those of the last position alone, `[1, H]` each: the uppermost layer is spared the others.

        Each row sees its cache and the rows of its own piece up to itself; the caches grow by what was fed. No cache
        may come twice. If it fails, no cache has changed.

        Raises:
            ModelError: a cache is full, or a piece has the wrong shape.
        """
        lengths = [self._checked_length(piece) for piece in embeddings]
        if len({id(cache) for cache in caches}) != len(embeddings):
            raise ModelError(
                f"{len(embeddings)} pieces were fed to {len(set(map(id, caches)))} caches; one each, please"
            )
        starts = [cache.reserve(length) for cache, length in zip(caches, lengths, strict=True)]
        x = embeddings[0] if len(embeddings) == 1 else torch.cat(list(embeddings))
        hidden: Tensor = self.model(x, self._pieces(caches, starts, lengths, x), only_last=only_last)
        for cache, length in zip(caches, lengths, strict=True):
            cache.advance(length)
        return list(hidden.split_with_sizes([1] * len(lengths) if only_last else lengths))

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, H] -> [n, vocabulary], float32."""
        scores: Tensor = self.lm_head(hidden)
        return scores.float()

    def _checked_length(self, piece: Tensor) -> int:
        if piece.dim() != 2 or len(piece) < 1 or piece.shape[1] != self.config.hidden_size:
            raise ModelError(
                f"the language model was fed {list(piece.shape)}; expected [L, {self.config.hidden_size}] with L >= 1"
            )
        return len(piece)

    def _pieces(self, caches: Sequence[KeyValueCache], starts: list[int], lengths: list[int], like: Tensor) -> Pieces:
        turns = [
            rotation(start, length, self.config.head_dim, self.config.rope_theta, like.device)
            for start, length in zip(starts, lengths, strict=True)
        ]
        groups = self.config.num_heads // self.config.num_kv_heads
        return Pieces(
            caches=caches,
            lengths=lengths,
            cos=torch.cat([cos for cos, _ in turns])[:, None],
            sin=torch.cat([sin for _, sin in turns])[:, None],
            masks=[causal_mask(n, cache.length, groups, like) for n, cache in zip(lengths, caches, strict=True)],
        )


def _stacked(*layers: nn.Linear) -> Linear:
    """One linear layer that gives the outputs of all, one after another."""
    fused = Linear(layers[0].in_features, sum(layer.out_features for layer in layers), bias=False, device="meta")
    fused.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]), requires_grad=False)
    return fused


def causal_mask(length: int, past: int, groups: int, like: Tensor) -> Tensor | None:
    """[groups * length, past + length]: -inf where a new row would see a later one; None for a single row.

    Rows are padded in memory to a multiple of 16 columns: CUDA's kernels would else copy the mask in every layer.
    """
    if length == 1:
        return None
    seen = past + length
    mask = like.new_zeros(groups, length, -(-seen // 16) * 16)
    later = like.new_full((length, length), float("-inf")).triu_(1)
    mask[:, :, past:seen] = later
    return mask.view(groups * length, -1)[:, :seen]
