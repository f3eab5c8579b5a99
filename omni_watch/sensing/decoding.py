"""One container, picture and sound, through PyAV: packets in, raw pictures and 16 kHz mono sound with stamps out.

Used by live streams and by recordings alike; knows nothing of timelines, pace or reconnecting.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ, Sense
from omni_watch.sensing.addresses import without_secrets
from omni_watch.sensing.pictures import fitted_size, frozen

UNSTAMPED_FORMATS: Final = frozenset({"mpjpeg", "mjpeg", "image2", "image2pipe"})  # their stamps are made up


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """A decoded video frame, in the camera's own colours. Implements `RawPicture`; any thread."""

    stamp_s: float | None  # the container's stamp; None: it has none
    lasts_s: float
    frame: VideoFrame

    def fingerprint(self) -> int:
        """Of the first plane: brightness, or everything in packed formats."""
        return zlib.crc32(self.frame.planes[0])

    def rgb(self) -> NDArray[np.uint8]:
        try:
            width, height = fitted_size(self.frame.width, self.frame.height)
            rgb = self.frame.reformat(width=width, height=height, format="rgb24", threads=1).to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise FeedError(f"a picture of {self.frame.width}x{self.frame.height} cannot be converted") from error
        return frozen(np.rot90(rgb.astype(np.uint8, copy=False), round(self.frame.rotation / 90) % 4))


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSound:
    """A run of mono 16 kHz samples."""

    stamp_s: float | None
    samples: NDArray[np.float32]  # [n], -1..1

    @property
    def lasts_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


Decoded = DecodedPicture | DecodedSound


class MonoResampler:
    """Sound of any rate, layout and format -> mono 16 kHz float32. Starts anew when those change."""

    def __init__(self) -> None:
        self._shape: tuple[int, str, str] | None = None
        self._resampler = AudioResampler()

    def sound(self, frame: AudioFrame) -> list[DecodedSound]:
        shape = (frame.sample_rate, frame.layout.name, frame.format.name)
        if shape != self._shape:
            # without rematrix_maxval=1, two like channels would add up to 1.41 and clip
            options = {"rematrix_maxval": "1.0"}
            self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ, options=options)
            self._shape = shape
        return [_sound(each) for each in self._resampler.resample(frame)]

    def rest(self) -> list[DecodedSound]:
        """What the resampler still held; afterwards it starts anew."""
        if self._shape is None:
            return []
        self._shape = None
        return [_sound(each) for each in self._resampler.resample(None) if each.samples]


class MediaReader:
    """An open container. One thread at a time."""

    def __init__(
        self,
        where: str,
        *,
        senses: frozenset[Sense],
        options: Mapping[str, str] | None = None,
        open_s: float | None = None,
        read_s: float | None = None,
        threads: int = 1,
    ) -> None:
        """Open `where` (a path or URL) for the wanted `senses`. Gives up after `open_s`, and when nothing can be read
        for `read_s`; None: never.

        Raises:
            FeedError: it cannot be opened, or holds neither picture nor sound.
        """
        self.where = without_secrets(where)
        try:
            self._container: InputContainer = av.open(
                where, "r", options=dict(options or {}), timeout=(open_s, read_s), metadata_errors="replace"
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _translated(self.where, error, "cannot be opened") from _scrubbed(error, self.where)
        self._video = _video_of(self._container) if Sense.SIGHT in senses else None
        self._audio = _audio_of(self._container) if Sense.HEARING in senses else None
        if self._video is not None:
            self._video.codec_context.thread_count = threads
        self._resampler = MonoResampler()
        self.damaged_packets = 0

    @property
    def senses(self) -> frozenset[Sense]:
        """Those wanted that the container has."""
        has = {Sense.SIGHT: self._video, Sense.HEARING: self._audio}
        return frozenset(sense for sense, stream in has.items() if stream is not None)

    @property
    def is_stamped(self) -> bool:
        """Whether its stamps mean something."""
        return not UNSTAMPED_FORMATS & set(self._container.format.name.split(","))

    @property
    def begins_s(self) -> float:
        """The stamp of the first thing in it, as far as its header says; 0 otherwise."""
        starts = [
            float(each.start_time * each.time_base)
            for each in self._streams()
            if each.start_time is not None and each.time_base is not None
        ]
        return min(starts, default=0.0)

    @property
    def duration_s(self) -> float | None:
        """As its header says; a truncated clip may hold less. None: unknown."""
        if self._container.duration is None:
            return None
        return max(0.0, self._container.duration / av.time_base)

    def description(self) -> str:
        """For people: "1280x720 at 15 fps, sound 48 kHz"."""
        parts = []
        if self._video is not None:
            context, rate = self._video.codec_context, self._video.average_rate or self._video.guessed_rate
            parts.append(f"{context.width}x{context.height}" + (f" at {float(rate):.3g} fps" if rate else ""))
        if self._audio is not None:
            parts.append(f"sound {self._audio.codec_context.sample_rate / 1000:.3g} kHz")
        return ", ".join(parts) or "neither picture nor sound"

    def packets(self) -> Iterator[Packet[Any]]:
        """Packets in the order of the container, until it ends. The last ones are empty: they flush the decoders.

        Raises:
            FeedError: the far side went away, or nothing came for `read_s`.
        """
        streams = self._streams()
        if not streams:
            return
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                raise _translated(self.where, error, "stopped") from _scrubbed(error, self.where)
            if packet is None:
                return
            yield packet

    def decoded(self, packet: Packet[Any]) -> list[Decoded]:
        """What a packet holds. A damaged one holds nothing and is counted in `damaged_packets`."""
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return []  # flushed twice
        except (av.error.FFmpegError, ValueError):
            self.damaged_packets += 1
            return []
        decoded: list[Decoded] = []
        for frame in frames:
            decoded += self._understood(frame)
        if packet.size == 0 and isinstance(packet.stream, AudioStream):
            decoded += self._resampler.rest()
        return decoded

    def seek(self, stamp_s: float) -> None:
        """Go to the last key frame at or before a stamp.

        Raises:
            FeedError: the container cannot be searched.
        """
        try:
            self._container.seek(int(stamp_s * av.time_base), backward=True)
        except av.error.FFmpegError as error:
            raise _translated(self.where, error, "cannot be searched") from _scrubbed(error, self.where)

    def close(self) -> None:
        self._container.close()

    def _streams(self) -> list[VideoStream | AudioStream]:
        return [stream for stream in (self._video, self._audio) if stream is not None]

    def _understood(self, frame: Any) -> list[Decoded]:
        if isinstance(frame, VideoFrame):
            if not frame.width or not frame.height:
                return []
            lasts_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
            return [DecodedPicture(_stamp_s(frame), lasts_s, frame)]
        if isinstance(frame, AudioFrame) and frame.samples:
            return [*self._resampler.sound(frame)]
        return []


def _stamp_s(frame: VideoFrame | AudioFrame) -> float | None:
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _sound(frame: AudioFrame) -> DecodedSound:
    return DecodedSound(_stamp_s(frame), frame.to_ndarray()[0].astype(np.float32, copy=False))


def _video_of(container: InputContainer) -> VideoStream | None:
    """The best video stream that is no cover picture and can be decoded."""
    usable = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    chosen = best if best in usable else next(iter(usable), None)
    return chosen if isinstance(chosen, VideoStream) and chosen.codec_context is not None else None


def _audio_of(container: InputContainer) -> AudioStream | None:
    best = container.streams.best("audio")
    return best if isinstance(best, AudioStream) and best.codec_context is not None else None


def _translated(where: str, error: Exception, what: str) -> FeedError:
    """Our error for PyAV's, saying what to do."""
    if isinstance(error, av.error.FileNotFoundError):
        return FeedError(f"{where}: no such file; check the path", can_retry=False)
    if isinstance(error, av.error.InvalidDataError) and "://" in where:
        # FFmpeg says the same of a camera that falls silent in the middle of its first answer
        return FeedError(f"{where}: {what}: no answer in time, or none that is video; are the camera and URL right?")
    if isinstance(error, av.error.InvalidDataError):
        return FeedError(f"{where}: {what}: holds no picture or sound that can be read; is it video at all?")
    return FeedError(f"{where}: {what}: {_advice(error)}")


def _advice(error: Exception) -> str:
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return "user name or password refused; check them"
    if isinstance(error, av.error.HTTPNotFoundError):
        return "the camera is there but has no such path; check the path of the URL"
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return "no answer in time; is the camera on, and its address right?"
    if isinstance(error, av.error.ConnectionRefusedError):
        return "connection refused; is the camera on, and the port right?"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _scrubbed(error: Exception, where: str) -> Exception:
    """The same error without the URL in it: PyAV quotes it, with credentials."""
    if isinstance(error, av.error.FFmpegError):
        return av.error.FFmpegError(error.errno or 0, error.strerror or type(error).__name__, where)
    return error
