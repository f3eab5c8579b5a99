"""A clip on stream time: as fast as the caller takes units, nothing dropped, the same units every time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ, UNIT_S, Frame, Sense, Unit
from omni_watch.sensing.addresses import existing_clip
from omni_watch.sensing.aligner import AlignerState, Alignment, GridBlock, Picture, settled_s, take, units_until
from omni_watch.sensing.decoding import Decoded, DecodedPicture, MediaReader
from omni_watch.sensing.timeline import SoundTrack, StreamTimeline

INTERLEAVED_S: Final = 10.0  # a sense that is behind by more has ended, or is not there for a while
DECODING_THREADS: Final = 2
FRAME_S: Final = 1 / 15  # how long a picture lasts when the clip does not say


class Recording:
    """Implements `Feed` over a file. Decodes one unit ahead, on a thread of its own."""

    def __init__(self, path: Path, name: str, *, frames_per_unit: int = 1) -> None:
        """Looks at the file's header.

        Raises:
            FeedError: (not retryable) missing, empty, a directory, or nothing in it can be decoded.
        """
        self.name = name
        self.path = existing_clip(path)
        self._frames_per_unit = frames_per_unit
        with _reader(self.path) as reader:
            self.duration_s = _duration_s(reader)  # a truncated clip may hold less
            self.senses = reader.senses
            self.description = reader.description()
        self._is_closed = False

    async def units(self) -> AsyncGenerator[Unit, None]:
        """Every unit of the clip; each call begins anew.

        Raises:
            FeedError: (not retryable) nothing can be decoded.
        """
        loop = asyncio.get_running_loop()
        units = self.read()
        executor = ThreadPoolExecutor(1, thread_name_prefix=f"decode {self.name}")
        try:
            coming = loop.run_in_executor(executor, _next, units)
            while not self._is_closed and (unit := await coming) is not None:
                coming = loop.run_in_executor(executor, _next, units)
                yield unit
        finally:
            executor.submit(units.close)
            executor.shutdown(wait=False)

    async def close(self) -> None:
        self._is_closed = True

    def read(self) -> Generator[Unit, None, None]:
        """Every unit of the clip, on the caller's thread.

        Raises:
            FeedError: (not retryable) nothing can be decoded.
        """
        with _reader(self.path) as reader:
            yield from _units(reader, self.name, self._frames_per_unit)


def _next(units: Iterator[Unit]) -> Unit | None:
    return next(units, None)


def frame_at(path: Path, seconds: float) -> Frame:
    """The frame on screen at this stream time.

    Raises:
        FeedError: (not retryable) no such clip, no picture in it, or the clip is shorter.
    """
    with _reader(existing_clip(path), frozenset({Sense.SIGHT})) as reader:
        duration_s = _duration_s(reader)
        if not 0 <= seconds <= duration_s:
            raise FeedError(f"{path}: has no second {seconds:g}; it lasts {duration_s:.1f} s", can_retry=False)
        begins_s = reader.begins_s
        if seconds > UNIT_S:
            reader.seek(begins_s + seconds)
        picture = _on_screen(reader, begins_s + seconds)
        if picture is None:
            raise FeedError(f"{path}: no picture can be decoded at {seconds:g} s", can_retry=False)
        return Frame(at_s=(picture.stamp_s or 0.0) - begins_s, rgb=picture.rgb())


@contextmanager
def _reader(path: Path, senses: frozenset[Sense] = frozenset(Sense)) -> Iterator[MediaReader]:
    """The open clip. FeedErrors are for good: trying again does not mend a file."""
    try:
        reader = MediaReader(str(path), senses=senses, threads=DECODING_THREADS)
    except FeedError as error:
        raise FeedError(str(error), can_retry=False) from error
    try:
        if not reader.senses:
            what = "picture" if senses == {Sense.SIGHT} else "picture or sound"
            raise FeedError(f"{path}: holds no {what} that can be decoded", can_retry=False)
        yield reader
    finally:
        reader.close()


def _units(reader: MediaReader, feed: str, frames_per_unit: int) -> Iterator[Unit]:
    how = Alignment(
        feed=feed, frames_per_unit=frames_per_unit, holds_frames=True, absent=frozenset(Sense) - reader.senses
    )
    timeline = StreamTimeline(is_live=False, origin_s=reader.begins_s)
    track = SoundTrack(how.origin_s)
    state = AlignerState()
    for item in _everything(reader):
        state = take(state, how, _placed(item, timeline, track))
        state, units = units_until(state, how, _known_s(state, how, reader.senses))
        yield from units
    end_s = max(state.seen_until_s, state.heard_until / SAMPLE_RATE_HZ)
    if end_s <= 0:
        raise FeedError(f"{reader.where}: nothing in it could be decoded; is it damaged?", can_retry=False)
    _, units = units_until(state, how, math.floor(end_s + UNIT_S / 2 + 1e-6))  # half a second makes a last unit
    yield from units


def _everything(reader: MediaReader) -> Iterator[Decoded]:
    """All that can be decoded; a clip that breaks off ends there."""
    packets = reader.packets()
    while True:
        try:
            packet = next(packets, None)
        except FeedError:
            return
        if packet is None:
            return
        yield from reader.decoded(packet)


def _placed(item: Decoded, timeline: StreamTimeline, track: SoundTrack) -> list[Picture | GridBlock]:
    if item.stamp_s is None:
        return []
    if isinstance(item, DecodedPicture):
        lasts_s = item.lasts_s or FRAME_S
        return [Picture(timeline.place(Sense.SIGHT, item.stamp_s, lasts_s=lasts_s), item, lasts_s)]
    block = track.place(timeline.place(Sense.HEARING, item.stamp_s, lasts_s=item.lasts_s), item.samples)
    return [] if block is None else [block]


def _known_s(state: AlignerState, how: Alignment, senses: frozenset[Sense]) -> float:
    """Up to where the clip has been read; a sense that is far behind the other is not waited for."""
    return max(settled_s(state, how, senses), max(settled_s(state, how, [sense]) for sense in senses) - INTERLEAVED_S)


def _duration_s(reader: MediaReader) -> float:
    """As the header says; without one (raw streams, a broken-off recording), the last stamp."""
    if reader.duration_s is not None:
        return reader.duration_s
    with _reader(Path(reader.where), reader.senses) as whole:
        ends = [
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in whole.packets()
            if packet.pts is not None
        ]
    return max(ends, default=0.0) - reader.begins_s


def _on_screen(reader: MediaReader, stamp_s: float) -> DecodedPicture | None:
    """The last picture that begins at or before a stamp (half a millisecond is rounding), else the first one."""
    found: DecodedPicture | None = None
    for item in _everything(reader):
        if not isinstance(item, DecodedPicture) or item.stamp_s is None:
            continue
        if item.stamp_s > stamp_s + 5e-4 and found is not None:
            break
        found = item
    return found
