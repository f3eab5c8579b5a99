"""Whisper's encoder as MiniCPM-o hears with it: one second at a time, remembering up to 29 s.

The encoder was published for whole sounds of 30 s. MiniCPM-o gives it a memory: each second's 50 positions attend to
themselves and to all positions before, in both directions within the second, so there is no causal mask anywhere. A
whole sound (a reference voice) is the same thing with all its seconds at hand: second i attends to seconds 0..i.
So both are one computation, rows of `Span`s, and several feeds are just more rows.

There are 1500 positions. When the next second would reach the last one, the memory is emptied and positions begin at 0
again: with the published sizes at the 29th unit and every 29 units after it. 29 s of acoustic context vanish at once
there. That is kept: the weights have been used with this rule only, and a memory that slid instead would show them
positions in combinations they never met.

Parameters carry the names of the official checkpoint below `apm.` and `audio_projection_layer.`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.config import AudioConfig
from omni_watch.duplex.minicpmo.linear import Linear, LinearGelu, linear_gelu

POSITIONS_PER_UNIT = 50
FIRST_UNIT_FRAMES = 102  # a stream's first unit: 2 frames of the next second come with its own 100
UNIT_FRAMES = 104  # any other one: 2 of the second before, too


class HearingMemory:
    """Keys and values of what one stream has heard: all memory is taken at once and belongs to the caller.

    With the official sizes 147 MB in a 16-bit type; `HearingEncoder.start` makes one.
    """

    __slots__ = ("keys", "length", "values")

    def __init__(self, config: AudioConfig, capacity: int, *, dtype: torch.dtype, device: torch.device) -> None:
        shape = (config.num_layers, config.num_heads, capacity, config.hidden_size // config.num_heads)
        self.keys = torch.empty(shape, dtype=dtype, device=device)  # [layers, heads, capacity, head_dim]
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0  # positions held

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[2]

    def forget(self) -> None:
        """Begin anew, at position 0."""
        self.length = 0


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Consecutive rows of a packed forward: positions [start, end) of one memory, which attend to [0, end) of it."""

    memory: HearingMemory
    start: int
    end: int


class HearingEncoder(nn.Module):
    """The official `apm`: two convolutions, learned positions, pre-norm transformer layers, a final norm.

    Holds weights only. Calls that share a memory must not overlap in time.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_positions, width)
        self.layers = nn.ModuleList(HearingLayer(config) for _ in range(config.num_layers))
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def start(self) -> HearingMemory:
        """The memory of a stream that has heard nothing yet, where and as precise as the weights are."""
        return self._memory(self.config.max_positions)

    def step(self, mels: Sequence[Tensor], memories: Sequence[HearingMemory]) -> list[Tensor]:
        """Hear one second of each of several streams, in one forward.

        Args:
            mels: [bins, 102] each for the first unit of a stream, [bins, 104] for any other one; any float type, any
                device.
            memories: of these streams, all different; each grows by 50 positions, after it was emptied if need be.

        Returns:
            [50, Da] for each stream, after the final norm.

        Raises:
            ModelError: a mel of another shape, or a memory given twice. Nothing was heard then.
        """
        for index, mel in enumerate(mels):
            self._check(mel, index)
        if len({id(memory) for memory in memories}) != len(mels):
            raise ModelError(
                f"{len(mels)} mels and {len(memories)} memories; expected a memory of its own for each mel"
            )
        rows, spans = [], []
        for mel, memory in zip(mels, memories, strict=True):
            self._make_room(memory, frames=mel.shape[1])
            rows.append(self._unit_rows(mel))
            spans.append(Span(memory, memory.length, memory.length + POSITIONS_PER_UNIT))
        heard = self._encode(torch.cat(rows), spans)
        for span in spans:
            span.memory.length = span.end
        return list(torch.split(heard, POSITIONS_PER_UNIT))

    def offline(self, mel: Tensor) -> Tensor:
        """Hear a whole sound: [bins, T] -> [(T - 1) // 2 + 1, Da].

        Raises:
            ModelError: no frames, more than there are positions for (30 s), or another number of bins.
        """
        bins, most = self.config.num_mel_bins, 2 * self.config.max_positions
        if mel.ndim != 2 or mel.shape[0] != bins or not 1 <= mel.shape[1] <= most:
            raise ModelError(
                f"a sound's mel has shape {list(mel.shape)}; expected [{bins}, 1 to {most}]; cut it into pieces"
            )
        rows = self._convolved(mel)
        memory = self._memory(len(rows))
        bounds = [*range(0, len(rows), self.config.voice_block), len(rows)]
        return self._encode(rows, [Span(memory, start, end) for start, end in pairwise(bounds)])

    def _memory(self, capacity: int) -> HearingMemory:
        weight = self.conv1.weight
        return HearingMemory(self.config, capacity, dtype=weight.dtype, device=weight.device)

    def _check(self, mel: Tensor, index: int) -> None:
        bins = self.config.num_mel_bins
        if mel.shape not in ((bins, FIRST_UNIT_FRAMES), (bins, UNIT_FRAMES)):
            raise ModelError(
                f"mel {index} has shape {list(mel.shape)}; expected [{bins}, {FIRST_UNIT_FRAMES}] for the first unit "
                f"of a stream or [{bins}, {UNIT_FRAMES}] for another one"
            )

    def _make_room(self, memory: HearingMemory, frames: int) -> None:
        """Empty a memory that the next unit would fill; the rule counts positions before any are dropped."""
        if memory.length + (frames - 1) // 2 + 1 >= self.config.max_positions:
            memory.forget()

    def _unit_rows(self, mel: Tensor) -> Tensor:
        """[bins, 102 or 104] -> [50, Da]: positions that lean on what lies outside the frames are dropped."""
        first = 0 if mel.shape[1] == FIRST_UNIT_FRAMES else 1
        return self._convolved(mel)[first : first + POSITIONS_PER_UNIT]

    def _convolved(self, mel: Tensor) -> Tensor:
        """[bins, T] -> [(T - 1) // 2 + 1, Da], without positions."""
        mel = mel.to(self.conv1.weight.device, self.conv1.weight.dtype)
        return _convolve_gelu(_convolve_gelu(mel.T, self.conv1, stride=1), self.conv2, stride=2)

    def _encode(self, rows: Tensor, spans: Sequence[Span]) -> Tensor:
        """[sum of the spans, Da] -> the same; the spans' memories are written, their lengths are not."""
        x = rows + torch.cat([self.embed_positions.weight[span.start : span.end] for span in spans])
        for index, layer in enumerate(self.layers):
            x = layer(x, spans, index)
        heard: Tensor = self.layer_norm(x)
        return heard


def _convolve_gelu(x: Tensor, conv: nn.Conv1d, stride: int) -> Tensor:
    """[T, channels] -> [(T - 1) // stride + 1, width]: convolution in time and GELU.

    As one matrix product: for a second's hundred frames the convolution kernels spend longer on arranging weights.
    """
    windows = functional.pad(x, (0, 0, 1, 1)).unfold(0, 3, stride)  # [T', channels, 3]
    return linear_gelu(windows.flatten(1), conv.weight.flatten(1), conv.bias, tanh=False)


class HearingLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_attn = HearingAttention(width, config.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.fc1 = LinearGelu(width, config.intermediate_size, tanh=False)
        self.fc2 = Linear(config.intermediate_size, width)
        self.final_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, spans: Sequence[Span], index: int) -> Tensor:
        """[rows, Da] -> the same; `index` is this layer's place in the spans' memories."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), spans, index)
        x = x + self.fc2(self.fc1(self.final_layer_norm(x)))
        if x.dtype == torch.float16:  # Whisper's activations can leave its range
            most = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-most, most)
        return x


class HearingAttention(nn.Module):
    """Attention of each span over its own memory and itself; `k_proj` has no bias, as in Whisper."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self._num_heads = num_heads
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, spans: Sequence[Span], index: int) -> Tensor:
        """[rows, Da] -> the same; writes keys and values of the rows into layer `index` of the memories.

        Spans of one memory must come in order: each is written before it and those after it are read.
        """
        lengths = [span.end - span.start for span in spans]
        queries, keys, values = (
            torch.split(projected.view(len(x), self._num_heads, -1).transpose(0, 1), lengths, dim=1)
            for projected in (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        )  # of each span [heads, length, head_dim]
        attended = []
        for span, query, key, value in zip(spans, queries, keys, values, strict=True):
            all_keys, all_values = span.memory.keys[index, :, : span.end], span.memory.values[index, :, : span.end]
            all_keys[:, span.start :] = key
            all_values[:, span.start :] = value
            attended.append(_attend(query, all_keys, all_values))
        out: Tensor = self.out_proj(torch.cat(attended))
        return out


def _attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[heads, n, head_dim] over [heads, m, head_dim] without a mask -> [n, heads * head_dim]."""
    out = functional.scaled_dot_product_attention(query.unsqueeze(0), keys.unsqueeze(0), values.unsqueeze(0))
    return out.squeeze(0).transpose(0, 1).flatten(1)


class AudioProjection(nn.Module):
    """The official `audio_projection_layer` and the pooling after it: what was heard, in the language model's width."""

    def __init__(self, audio: AudioConfig, width: int) -> None:
        super().__init__()
        self._pool_step = audio.pool_step
        self.linear1 = Linear(audio.hidden_size, width)
        self.linear2 = Linear(width, width)

    def pooled(self, x: Tensor) -> Tensor:
        """[n, Da] -> [n // 5, H]: the mean of each five positions; [50, Da] of a unit gives [10, H].

        Units of several feeds may be given one after the other. What is left over at the end gives nothing.

        The published code projects twice and takes the mean then. The second projection is affine, so it may as well
        follow the mean, at a fifth of the work.
        """
        whole = x[: len(x) // self._pool_step * self._pool_step]
        inner = functional.relu(self.linear1(whole))
        projected: Tensor = self.linear2(inner.view(-1, self._pool_step, inner.shape[-1]).mean(dim=1))
        return projected
