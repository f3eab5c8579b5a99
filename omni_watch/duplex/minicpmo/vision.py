"""Sight: SigLIP2 over a picture's patches at their own aspect, then a resampler that sums it up in 64 vectors.

Pictures of any sizes are served together: their patches are rows of one matrix for every linear layer, and attention
is taken picture by picture. Nothing is padded and nothing masked, so what is packed together cannot change a picture.

Attribute names are those of the published checkpoint (`vpm.` and `resampler.`). Tables that depend on a grid alone
(which trained position each patch takes, the resampler's sines) are kept for the last few grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import VisionConfig
from omni_watch.duplex.minicpmo.linear import Linear, LinearGelu, attention, linear

RESAMPLER_HEAD_DIM: Final = 128  # its number of heads is the width divided by this
RESAMPLER_EPS: Final = 1e-6
LONGEST_PERIOD: Final = 10_000.0  # of the resampler's sines, in patches
TABLES_KEPT: Final = 32  # grids or sides; a feed has one or two


class VisionTower(nn.Module):
    """`vpm`: patches to features. Any number of pictures in one forward."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """[3, h, w] float each, sides multiples of the patch -> [L, hidden] each, L patches row by row.

        Raises:
            ModelError: a picture of another shape.
        """
        if not pictures:
            return []
        embedded = [self.embeddings(picture) for picture in pictures]
        lengths = [len(rows) for rows in embedded]
        features = self.post_layernorm(self.encoder(torch.cat(embedded), lengths))
        return list(features.split(lengths))


class PatchEmbeddings(nn.Module):
    """What is in each patch, plus where it is."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.positions_per_side = config.positions_per_side
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(config.positions_per_side**2, config.hidden_size)

    def forward(self, picture: Tensor) -> Tensor:
        """[3, h, w] -> [h // patch * w // patch, hidden]."""
        rows, columns = grid_of(picture, self.patch_size)
        weight = self.patch_embedding.weight
        patches = self._patches(picture.to(weight.device, weight.dtype), rows, columns)
        content = linear(patches, weight.flatten(1), self.patch_embedding.bias)
        positions = position_ids(rows, columns, self.positions_per_side, weight.device)
        return content + F.embedding(positions, self.position_embedding.weight)

    def _patches(self, picture: Tensor, rows: int, columns: int) -> Tensor:
        """[3, h, w] -> [rows * columns, 3 * patch * patch]: the convolution's windows do not overlap."""
        size = self.patch_size
        return picture.view(3, rows, size, columns, size).permute(1, 3, 0, 2, 4).reshape(rows * columns, -1)


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """[sum of lengths, hidden] -> the same shape."""
        for layer in self.layers:
            x = layer(x, lengths)
        return x


class EncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward, both with residuals."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        x = x + self.self_attn.forward(self.layer_norm1(x), lengths)
        return x + self.mlp.forward(self.layer_norm2(x))


class SelfAttention(nn.Module):
    """Every patch looks at every patch of its own picture."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """[sum of lengths, hidden] -> the same shape."""
        q, k, v = (_heads(projection(x), self.num_heads) for projection in (self.q_proj, self.k_proj, self.v_proj))
        pieces = zip(*(torch.split(x, lengths, 1) for x in (q, k, v)), strict=True)
        return self.out_proj.forward(torch.cat([attention(*piece) for piece in pieces]))


class FeedForward(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = LinearGelu(config.hidden_size, config.intermediate_size, tanh=True)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2.forward(self.fc1.forward(x))


class Resampler(nn.Module):
    """`resampler`: learned questions asked of a picture's features. Any number of pictures in one forward.

    Args:
        config: the vision tower's sizes.
        width: of the language model, H.
    """

    def __init__(self, config: VisionConfig, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(config.num_queries, width))
        self.kv_proj = Linear(config.hidden_size, width, bias=False)
        self.attn = Questions(width)
        self.ln_q = nn.LayerNorm(width, eps=RESAMPLER_EPS)
        self.ln_kv = nn.LayerNorm(width, eps=RESAMPLER_EPS)
        self.ln_post = nn.LayerNorm(width, eps=RESAMPLER_EPS)
        self.proj = nn.Parameter(torch.randn(width, width) * width**-0.5)

    def forward(self, features: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> list[Tensor]:
        """[L, hidden] each with its (rows, columns) of patches -> [num_queries, H] each.

        Raises:
            ModelError: a grid that does not hold its picture's number of patches.
        """
        if not features:
            return []
        lengths = [len(rows) for rows in features]
        for length, (rows, columns) in zip(lengths, grids, strict=True):
            if length != rows * columns:
                raise ModelError(f"{length} patches for a grid of {rows} x {columns}; expected {rows * columns}")
        values = self.ln_kv(self.kv_proj(torch.cat(list(features))))
        keys = torch.cat([_placed(x, *grid) for x, grid in zip(torch.split(values, lengths), grids, strict=True)])
        answers = self.ln_post(self.attn(self.ln_q(self.query), keys, values, lengths))
        return list(torch.split(linear(answers, self.proj.t()), len(self.query)))


class Questions(nn.Module):
    """Attention of the same queries over each picture; the layout of `nn.MultiheadAttention`'s weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = width // RESAMPLER_HEAD_DIM
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)  # queries, keys, values
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, lengths: list[int]) -> Tensor:
        """[Q, H] over n pictures' [sum of lengths, H] -> [n * Q, H]."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            _heads(linear(x, weight, bias), self.num_heads)
            for x, weight, bias in zip((queries, keys, values), weights, biases, strict=True)
        )
        pieces = zip(torch.split(k, lengths, 1), torch.split(v, lengths, 1), strict=True)
        return self.out_proj.forward(torch.cat([attention(q, key, value) for key, value in pieces]))


def grid_of(picture: Tensor, patch_size: int) -> tuple[int, int]:
    """The (rows, columns) of patches in a picture [3, h, w].

    Raises:
        ModelError: another shape, or a side that is no whole number of patches.
    """
    if (
        picture.dim() != 3
        or picture.shape[0] != 3
        or not all(side and side % patch_size == 0 for side in picture.shape[1:])
    ):
        raise ModelError(f"a picture of {list(picture.shape)}; expected [3, h, w] with sides multiples of {patch_size}")
    return picture.shape[1] // patch_size, picture.shape[2] // patch_size


@lru_cache(maxsize=TABLES_KEPT)
@torch.inference_mode(mode=False)  # the table outlives the forward that asked first
def position_ids(rows: int, columns: int, per_side: int, device: torch.device) -> Tensor:
    """[rows * columns] int64: the entry of the trained per_side x per_side table that each patch takes.

    Patch i of n stands at the fraction i / n of its side. The published code compares float32 fractions with float32
    boundaries; exact integers would differ where a fraction falls on a boundary, so it is done its way.
    """
    boundaries = torch.arange(1 / per_side, 1.0, 1 / per_side)
    row, column = (
        torch.bucketize(torch.arange(0, 1 - 1e-6, float(np.float32(1) / np.float32(n))), boundaries, right=True)
        for n in (rows, columns)
    )
    return (row[:, None] * per_side + column).flatten().to(device)


@lru_cache(maxsize=TABLES_KEPT)
@torch.inference_mode(mode=False)
def side_waves(length: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[length, width]: sines, then cosines, of the positions along one side; computed in float32."""
    half = width // 2
    frequencies = np.float32(1.0) / np.float32(LONGEST_PERIOD) ** (np.arange(half, dtype=np.float32) / np.float32(half))
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).to(device, dtype)


def _placed(x: Tensor, rows: int, columns: int) -> Tensor:
    """[rows * columns, H] plus its positions: the first half of H tells the column, the second the row."""
    half = x.shape[1] // 2
    grid = x.view(rows, columns, 2, half)
    across = side_waves(columns, half, x.device, x.dtype)
    down = side_waves(rows, half, x.device, x.dtype)
    return torch.stack([grid[:, :, 0] + across, grid[:, :, 1] + down[:, None]], dim=2).view_as(x)


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """[L, hidden] -> [num_heads, L, head_dim], without a copy."""
    return x.view(len(x), num_heads, -1).transpose(0, 1)
