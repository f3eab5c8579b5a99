"""Tiny clips, written by the test that needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

Paint = Callable[[float], int]  # stream time -> grey tone
Tone = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # seconds -> -1..1


def ramp(at_s: float) -> int:
    """A tone that tells the second: 10 a second, from 20."""
    return 20 + int(at_s * 10)


def beep_each_second(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 kHz during the first tenth of each second."""
    return np.where(at % 1.0 < 0.1, 0.5 * np.sin(2 * np.pi * 1000 * at), 0.0)


def write_clip(
    path: Path,
    *,
    seconds: float = 3.0,
    picture_times: Iterable[float] | None = None,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    paint: Paint | None = ramp,
    tone: Tone | None = beep_each_second,
    rate_hz: int = 16_000,
    layout: str = "mono",
    audio_codec: str = "aac",
    video_codec: str = "mpeg4",
    video_seconds: float | None = None,
    audio_seconds: float | None = None,
) -> Path:
    """A clip at `path` (the suffix chooses the container); no `paint`: no picture, no `tone`: no sound."""
    with av.open(str(path), "w") as container:
        video = cast("VideoStream", container.add_stream(video_codec, rate=fps)) if paint else None
        audio = cast("AudioStream", container.add_stream(audio_codec, rate=rate_hz, layout=layout)) if tone else None
        packets: list[Packet[Any]] = []
        if video is not None and paint is not None:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            video.gop_size = 5
            video.codec_context.options = {"qmin": "1", "qmax": "1"}  # flat pictures keep their tone
            times = picture_times or np.arange(0, video_seconds or seconds, 1 / fps)
            for at_s in times:
                frame = VideoFrame.from_ndarray(np.full((size[1], size[0]), paint(at_s), np.uint8), format="gray")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = round(at_s * 1000), Fraction(1, 1000)
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio is not None and tone is not None:
            at = np.arange(round((audio_seconds or seconds) * rate_hz)) / rate_hz
            channels = audio.layout.nb_channels
            for begin in range(0, len(at), 1024):
                samples = np.repeat(tone(at[begin : begin + 1024])[None, :], channels, axis=0).astype(np.float32)
                sound = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
                sound.sample_rate, sound.pts, sound.time_base = rate_hz, begin, Fraction(1, rate_hz)
                packets += audio.encode(sound)
            packets += audio.encode(None)
        for packet in sorted(packets, key=_at_s):  # as a camera sends it
            container.mux(packet)
    return path


def _at_s(packet: Packet[Any]) -> float:
    return float(packet.dts or 0) * float(packet.time_base or 0)


def write_quiet_clip(path: Path) -> Path:
    """A clip in which nothing happens, for longer than any delivery may take."""
    return write_clip(path, seconds=300.0, fps=2, paint=lambda at_s: 60 + int(at_s) % 100, tone=np.zeros_like)
