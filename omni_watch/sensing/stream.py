"""A network camera (RTSP, HTTP, HLS) or a clip played at its own pace: one demuxer for picture and sound."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from av.packet import Packet

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.addresses import FileAddress, UrlAddress, existing_clip, without_secrets
from omni_watch.sensing.aligner import Picture
from omni_watch.sensing.capture import Block, Opened
from omni_watch.sensing.decoding import Decoded, DecodedPicture, MediaReader
from omni_watch.sensing.timeline import StreamTimeline
from omni_watch.watch.ports import Clock

OPEN_S: Final = 6.0
READ_S: Final = 5.0  # a camera that stops in the middle of a frame is noticed after this
BLIND_S: Final = 10.0  # sound goes on but no picture can be decoded for so long: the stream is broken
SETTLE_S: Final = 0.25  # what waited in the camera while it was opened comes first, late; it only sets the clock
PATIENCE_S: Final = 0.4  # the longest `read` waits for the pace
JUMP_S: Final = 10.0  # stamps this far apart belong to different recordings: the pace begins anew
LIVE_OPTIONS: Final = {
    "rtsp_transport": "tcp",  # over UDP a single lost packet smears the picture until the next key frame
    "flags": "low_delay",  # not fflags=nobuffer: it would throw the first key frame away
    "probesize": "1000000",
    "analyzeduration": "2000000",  # at most 2 s; most cameras say all in their first answer, but for
    "fpsprobesize": "0",  # the frame rate, which is not worth waiting for
}


class StreamDevice:
    """Picture and sound of one URL or clip, on the monotonic timeline. Implements `Device`.

    Streams that do not come at the camera's pace (HTTP and HLS send in bursts, a file comes at once) are held to the
    pace of their stamps, as a player would.
    """

    def __init__(self, address: UrlAddress | FileAddress, *, senses: frozenset[Sense], clock: Clock) -> None:
        self.senses = senses
        self._is_clip = isinstance(address, FileAddress)
        self._is_paced = self._is_clip or (isinstance(address, UrlAddress) and address.is_paced)
        self._where = str(address.path) if isinstance(address, FileAddress) else address.url
        self._address = address
        self.label = without_secrets(self._where)
        self._clock = clock
        self._reader: MediaReader | None = None
        self._packets: Iterator[Packet[Any]] = iter(())
        self._timeline = StreamTimeline(is_live=True)
        self._pace: _Pace | None = None
        self._early: deque[tuple[Decoded, float]] = deque()  # decoded before its time, with its stamp
        self._seen_s = 0.0
        self._settled_s: float | None = None  # when what comes is as prompt as it will be

    def open(self) -> Opened:
        if isinstance(self._address, FileAddress):
            existing_clip(self._address.path)
        self._reader = MediaReader(
            self._where,
            senses=self.senses,
            options=None if self._is_clip else LIVE_OPTIONS,
            open_s=None if self._is_clip else OPEN_S,
            read_s=None if self._is_clip else READ_S,
        )
        found = self._reader.senses
        if not found:
            raise FeedError(
                f"{self.label}: holds neither picture nor sound that can be decoded", can_retry=not self._is_clip
            )
        self._packets = self._reader.packets()
        self._timeline = StreamTimeline(is_live=True)
        self._pace = _Pace(self._clock) if self._is_paced and self._reader.is_stamped else None
        self._early.clear()
        self._settled_s = None
        self._seen_s = self._clock.monotonic()
        return Opened(self.senses, self.senses - found, self._reader.description())

    def read(self) -> Sequence[Picture | Block] | None:
        if self._early:
            return self._on_time()
        reader = self._opened()
        packet = next(self._packets, None)
        if packet is None:
            if self._is_clip:
                return None
            raise FeedError(f"{self.label}: the stream ended; is the camera on?")
        arrived_s = self._clock.monotonic()
        decoded = reader.decoded(packet)
        self._notice_blindness(reader, decoded, arrived_s)
        if self._pace is None:
            placed = [self._placed(each, self._stamp(each, arrived_s), arrived_s) for each in decoded]
            return placed if self._is_settled(arrived_s) else ()
        self._early.extend((each, self._stamp(each, arrived_s)) for each in decoded)
        return self._on_time() if self._early else ()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._early.clear()

    def _opened(self) -> MediaReader:
        if self._reader is None:
            raise FeedError(f"{self.label}: read before it was opened")
        return self._reader

    def _is_settled(self, arrived_s: float) -> bool:
        if self._settled_s is None:
            self._settled_s = arrived_s + SETTLE_S
        return arrived_s >= self._settled_s

    def _stamp(self, item: Decoded, arrived_s: float) -> float:
        if item.stamp_s is None or not self._opened().is_stamped:
            return arrived_s - (0.0 if isinstance(item, DecodedPicture) else item.lasts_s)
        return item.stamp_s

    def _on_time(self) -> Sequence[Picture | Block]:
        """The oldest early item, once its time has come."""
        item, stamp_s = self._early[0]
        if self._pace is not None and not self._pace.has_come(stamp_s + _lead_s(item)):
            return ()
        self._early.popleft()
        return [self._placed(item, stamp_s, self._clock.monotonic())]

    def _placed(self, item: Decoded, stamp_s: float, arrived_s: float) -> Picture | Block:
        if isinstance(item, DecodedPicture):
            at_s = self._timeline.place(Sense.SIGHT, stamp_s, lasts_s=0.0, arrived_s=arrived_s)
            return Picture(at_s, item)
        at_s = self._timeline.place(Sense.HEARING, stamp_s, lasts_s=item.lasts_s, arrived_s=arrived_s)
        return Block(at_s, item.samples)

    def _notice_blindness(self, reader: MediaReader, decoded: Sequence[Decoded], now_s: float) -> None:
        if any(isinstance(each, DecodedPicture) for each in decoded):
            self._seen_s = now_s
        elif not self._is_clip and Sense.SIGHT in reader.senses and now_s - self._seen_s > BLIND_S:
            raise FeedError(f"{self.label}: no picture for {BLIND_S:.0f} s ({reader.damaged_packets} damaged packets)")


class _Pace:
    """Tells when the time of a stamp has come, by the first stamp's arrival; begins anew when stamps jump."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s: float | None = None
        self._newest_s = 0.0

    def has_come(self, stamp_s: float) -> bool:
        """Wait a little for it; whether it has come."""
        now_s = self._clock.monotonic()
        if self._offset_s is None or not -JUMP_S < stamp_s - self._newest_s < JUMP_S:
            self._offset_s = now_s - stamp_s
        self._newest_s = stamp_s
        early_s = stamp_s + self._offset_s - now_s
        if early_s > 0:
            threading.Event().wait(min(early_s, PATIENCE_S))
        return early_s <= PATIENCE_S


def _lead_s(item: Decoded) -> float:
    """Sound is here when it was heard, a picture when it was taken."""
    return 0.0 if isinstance(item, DecodedPicture) else item.lasts_s
