"""The sizes of a MiniCPM-o checkpoint, read from its `config.json`.

Only what changes the arithmetic is kept. Layer counts are those of the file; `checkpoint` corrects them to what the
weights hold, since the published configuration class and the published weights disagree about the vision tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omni_watch.domain.errors import ModelError

MODEL_TYPE = "minicpmo"


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConfig:
    """Qwen3: grouped-query attention with per-head RMSNorm on queries and keys, SwiGLU, rotary positions."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float
    rms_norm_eps: float
    max_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """SigLIP2 with a table of positions that any grid of patches is bucketed into, and the resampler after it."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    patch_size: int
    positions_per_side: int  # image_size // patch_size: 70
    layer_norm_eps: float
    num_queries: int  # of the resampler: vectors for one picture
    scale_resolution: int  # a picture is scaled to about the area of a square with this side


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioConfig:
    """Whisper's encoder, and the pooling after it."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_mel_bins: int
    max_positions: int
    layer_norm_eps: float
    pool_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfig:
    """The speech decoder: a Llama that turns text and the language model's states into speech codes, 25 a second."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    rope_theta: float
    rms_norm_eps: float
    max_positions: int
    num_audio_tokens: int  # the last one ends a chunk
    num_text_tokens: int
    audio_bos_token_id: int
    temperature: float
    repetition_penalty: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A whole checkpoint; `speech` is None when it carries no speech decoder."""

    language: LanguageConfig
    vision: VisionConfig
    audio: AudioConfig
    speech: SpeechConfig | None


def read_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The sizes in a parsed `config.json`; settings it leaves out have the official values.

    Raises:
        ModelError: another model family, or a size that is missing or no number; the message names the key.
    """
    if raw.get("model_type") != MODEL_TYPE:
        raise ModelError(
            f"config.json: model_type is {raw.get('model_type')!r}; expected {MODEL_TYPE!r} (MiniCPM-o 4.5); "
            "point model.path at the folder of that checkpoint"
        )
    root = _Section(raw, "")
    return ModelConfig(
        language=_language(root),
        vision=_vision(root),
        audio=_audio(root),
        speech=_speech(root.section("tts_config")) if raw.get("init_tts", True) and raw.get("tts_config") else None,
    )


class _Section:
    """One table of the file; asks with the key's whole name in the message."""

    def __init__(self, raw: Mapping[str, Any], name: str) -> None:
        self._raw = raw
        self._name = name

    def section(self, key: str) -> _Section:
        found = self._raw.get(key)
        if not isinstance(found, Mapping):
            raise ModelError(f"config.json: {self._name}{key} is {found!r}; expected a table of sizes")
        return _Section(found, f"{self._name}{key}.")

    def size(self, key: str, default: int | None = None) -> int:
        found = self._raw.get(key, default)
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise ModelError(f"config.json: {self._name}{key} is {found!r}; expected a whole number above 0")
        return found

    def number(self, key: str, default: float) -> float:
        found = self._raw.get(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or found <= 0:
            raise ModelError(f"config.json: {self._name}{key} is {found!r}; expected a number above 0")
        return float(found)


def _language(root: _Section) -> LanguageConfig:
    hidden_size, num_heads = root.size("hidden_size"), root.size("num_attention_heads")
    return LanguageConfig(
        vocab_size=root.size("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=root.size("intermediate_size"),
        num_layers=root.size("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=root.size("num_key_value_heads"),
        head_dim=root.size("head_dim", max(hidden_size // num_heads, 1)),
        rope_theta=root.number("rope_theta", 1e6),
        rms_norm_eps=root.number("rms_norm_eps", 1e-6),
        max_positions=root.size("max_position_embeddings", 40960),
    )


def _vision(root: _Section) -> VisionConfig:
    vision, slices = root.section("vision_config"), root.section("slice_config")
    patch_size = vision.size("patch_size", 14)
    return VisionConfig(
        hidden_size=vision.size("hidden_size"),
        intermediate_size=vision.size("intermediate_size"),
        num_layers=vision.size("num_hidden_layers"),
        num_heads=vision.size("num_attention_heads"),
        patch_size=patch_size,
        positions_per_side=vision.size("image_size", 980) // patch_size,
        layer_norm_eps=vision.number("layer_norm_eps", 1e-6),
        num_queries=root.size("query_num", 64),
        scale_resolution=slices.size("scale_resolution", 448),
    )


def _audio(root: _Section) -> AudioConfig:
    audio = root.section("audio_config")
    return AudioConfig(
        hidden_size=audio.size("d_model"),
        intermediate_size=audio.size("encoder_ffn_dim"),
        num_layers=audio.size("encoder_layers"),
        num_heads=audio.size("encoder_attention_heads"),
        num_mel_bins=audio.size("num_mel_bins", 80),
        max_positions=audio.size("max_source_positions", 1500),
        layer_norm_eps=1e-5,  # Whisper's; its configuration has no key for it
        pool_step=root.size("audio_pool_step", 5),
    )


def _speech(speech: _Section) -> SpeechConfig:
    num_heads = speech.size("num_attention_heads")
    return SpeechConfig(
        hidden_size=speech.size("hidden_size"),
        intermediate_size=speech.size("intermediate_size"),
        num_layers=speech.size("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=speech.size("num_key_value_heads", num_heads),
        rope_theta=speech.number("rope_theta", 1e4),  # Llama's default: the published file does not set it
        rms_norm_eps=speech.number("rms_norm_eps", 1e-6),
        max_positions=speech.size("max_position_embeddings", 4096),
        num_audio_tokens=speech.size("num_audio_tokens"),
        num_text_tokens=speech.size("num_text_tokens"),
        audio_bos_token_id=speech.size("audio_bos_token_id"),
        temperature=0.8,  # the duplex loop's own; the file's top_p and top_k belong to other modes
        repetition_penalty=speech.number("repetition_penalty", 1.05),
    )
