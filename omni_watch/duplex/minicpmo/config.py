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
    voice_block: int = 50  # positions of a whole sound that see each other: a second of them


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
    _refuse_other_arithmetic(root, has_speech=bool(raw.get("init_tts", True) and raw.get("tts_config")))
    return ModelConfig(
        language=_language(root),
        vision=_vision(root),
        audio=_audio(root),
        speech=_speech(root.section("tts_config")) if raw.get("init_tts", True) and raw.get("tts_config") else None,
    )


def _refuse_other_arithmetic(root: _Section, *, has_speech: bool) -> None:
    """What this package always computes, and a file could ask to be otherwise; wrong numbers would be the answer."""
    root.require("hidden_act", "silu")
    root.require("attention_bias", False)
    root.require("rope_scaling", None)
    root.section("vision_config").require("hidden_act", "gelu_pytorch_tanh")
    root.section("audio_config").require("activation_function", "gelu")
    if has_speech:
        root.section("tts_config").require("hidden_act", "silu")


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

    def require(self, key: str, expected: str | bool | None) -> None:
        """ModelError when the key is there with another value."""
        found = self._raw.get(key, expected)
        if found != expected:
            raise ModelError(
                f"config.json: {self._name}{key} is {found!r}; expected {expected!r}: nothing else is computed here, "
                "and no published checkpoint asks for it"
            )

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
        voice_block=max(int(root.number("audio_chunk_length", 1.0) * 50), 1),
    )


def _speech(speech: _Section) -> SpeechConfig:
    num_heads = speech.size("num_attention_heads")
    return SpeechConfig(
        hidden_size=speech.size("hidden_size"),
        intermediate_size=speech.size("intermediate_size"),
        num_layers=speech.size("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=speech.size("num_key_value_heads", num_heads),
        rope_theta=1e4,  # Llama's defaults: the published code builds the decoder with them, whatever the file says
        rms_norm_eps=1e-6,
        max_positions=speech.size("max_position_embeddings", 4096),
        num_audio_tokens=speech.size("num_audio_tokens"),
        num_text_tokens=speech.size("num_text_tokens"),
        audio_bos_token_id=speech.size("audio_bos_token_id"),
        temperature=0.8,  # the duplex loop's own; the file's top_p, top_k and repetition_penalty belong to other modes
        repetition_penalty=1.05,
    )
