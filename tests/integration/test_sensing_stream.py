"""A network camera with sound: a real RTSP server, watched, killed, frozen and asked for a password."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tenacity.wait import wait_fixed

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import SAMPLE_RATE_HZ, GapCause, Sense, Unit
from omni_watch.sensing.addresses import UrlAddress
from omni_watch.sensing.live import LiveFeed
from omni_watch.sensing.opening import devices_of, open_feed
from omni_watch.sensing.pictures import encode_jpeg
from omni_watch.sensing.probing import probe
from omni_watch.sensing.stream import READ_S, StreamDevice
from omni_watch.telemetry.clock import SystemClock
from tests.fakes.clips import write_clip
from tests.fakes.fake_observer import FakeObserver
from tests.fixtures_rtsp import RtspCamera

CLOCK = SystemClock()
LIMIT_S = 40.0
MakeCamera = Callable[..., RtspCamera]


def quick_feed(url: str, observer: FakeObserver, **options: int) -> LiveFeed:
    """A feed that does not pause long before it tries again."""
    devices = devices_of(url, "stream", clock=CLOCK)
    return LiveFeed("porch", devices, clock=CLOCK, observer=observer, pauses=wait_fixed(0.3), **options)  # type: ignore[arg-type]


async def taken(feed: LiveFeed, enough: Callable[[list[Unit]], bool]) -> list[Unit]:
    """Units until there are enough; the feed stays open."""
    units: list[Unit] = []
    async with asyncio.timeout(LIMIT_S):
        async for unit in feed.units():
            units.append(unit)
            if enough(units):
                break
    return units


def is_whole(unit: Unit) -> bool:
    return unit.gaps == ()


def states(observer: FakeObserver, sense: Sense) -> list[str]:
    return [each["state"] for each in observer.named("feed.state") if each["sense"] == sense.value]


def beeps_s(units: list[Unit]) -> np.ndarray:
    """Feed time of each beep's begin."""
    loud = np.flatnonzero(np.abs(np.concatenate([unit.audio for unit in units])) > 0.25)
    begins = loud[np.diff(loud, prepend=-SAMPLE_RATE_HZ) > SAMPLE_RATE_HZ // 2]
    return units[0].start_s + begins / SAMPLE_RATE_HZ


def flashes_s(units: list[Unit]) -> np.ndarray:
    """Feed time of each first white frame."""
    frames = [(frame.at_s, frame.rgb.mean() > 150) for unit in units for frame in unit.frames]
    return np.array([at_s for (_, before), (at_s, now) in itertools.pairwise(frames) if now and not before])


async def test_units_of_a_camera_are_prompt_and_flash_and_beep_lie_together(rtsp_camera: MakeCamera) -> None:
    observer = FakeObserver()
    feed = quick_feed(rtsp_camera("--fps", "30", "--size", "320x240").url, observer, frames_per_unit=30)
    units: list[Unit] = []
    lags_s: list[float] = []
    async with asyncio.timeout(LIMIT_S):
        async for unit in feed.units():
            if is_whole(unit):
                units.append(unit)
                lags_s.append(CLOCK.monotonic() - unit.end_s)
            if len(units) == 5:
                break
    await feed.close()
    assert np.median(lags_s) < 0.55  # the longest that a unit waits for what is late
    assert all(unit.frame is not None and abs(unit.frame.at_s - unit.end_s) < 0.11 for unit in units)
    flashes, beeps = flashes_s(units), beeps_s(units)
    pairs = [(flash, beep) for flash in flashes for beep in beeps if abs(flash - beep) < 0.5]
    assert len(pairs) >= 3
    assert all(abs(flash - beep) < 0.04 for flash, beep in pairs), pairs
    np.testing.assert_allclose(np.diff(beeps), 1.0, atol=0.01)
    assert states(observer, Sense.SIGHT) == states(observer, Sense.HEARING) == ["opening", "live", "ended"]


async def test_a_camera_that_is_killed_and_restarted_comes_back_while_units_go_on(rtsp_camera: MakeCamera) -> None:
    camera, observer = rtsp_camera("--size", "320x240"), FakeObserver()
    feed = quick_feed(camera.url, observer)
    units: list[Unit] = []
    async with asyncio.timeout(LIMIT_S):
        async for unit in feed.units():
            units.append(unit)
            lost = [each for each in units if not each.frames]
            if is_whole(unit) and "waiting" not in states(observer, Sense.SIGHT):
                camera.kill()
            elif "waiting" in states(observer, Sense.SIGHT) and not unit.frames and len(lost) > 2 and not camera.is_on:
                camera.start()
            elif is_whole(unit) and "waiting" in states(observer, Sense.SIGHT) and camera.is_on:
                break
    await feed.close()
    assert [unit.index for unit in units] == list(range(units[0].index, units[0].index + len(units)))
    told = states(observer, Sense.SIGHT)
    assert told[:3] == ["opening", "live", "waiting"]
    assert told[-3:] == ["opening", "live", "ended"]


async def test_a_camera_that_stalls_mid_frame_is_noticed_and_comes_back(rtsp_camera: MakeCamera) -> None:
    camera, observer = rtsp_camera("--size", "320x240"), FakeObserver()
    feed = quick_feed(camera.url, observer)
    stream = feed.units()
    async with asyncio.timeout(LIMIT_S):
        async for unit in stream:
            if is_whole(unit):
                break
        with camera.frozen():
            frozen_s = CLOCK.monotonic()
            async for frozen in stream:
                if "waiting" in states(observer, Sense.SIGHT):
                    assert frozen.gaps[0].cause is GapCause.LOST
                    break
                assert CLOCK.monotonic() - frozen_s < 10
        async for unit in stream:
            if is_whole(unit):
                break
    await feed.close()


async def test_a_camera_that_shows_the_same_picture_for_long_is_stale(rtsp_camera: MakeCamera) -> None:
    camera, observer = rtsp_camera("--still", "--size", "320x240"), FakeObserver()
    feed = quick_feed(camera.url, observer)
    units = await taken(feed, lambda units: any(gap.cause is GapCause.STALE for gap in units[-1].gaps))
    await feed.close()
    assert units[-1].frames == ()
    assert states(observer, Sense.SIGHT)[-2:] == ["stale", "ended"]


async def test_a_stream_without_sound_has_its_sound_absent(rtsp_camera: MakeCamera) -> None:
    feed = quick_feed(rtsp_camera("--sound", "none", "--size", "320x240").url, FakeObserver())
    units = await taken(feed, lambda units: bool(units[-1].frames))
    await feed.close()
    assert [gap.cause for gap in units[-1].gaps] == [GapCause.ABSENT]


def test_a_wrong_password_is_told_without_being_shown(rtsp_camera: MakeCamera) -> None:
    camera = rtsp_camera("--user", "porch", "--password", "open sesame", "--size", "320x240")
    right, wrong = (camera.url.replace("//", f"//porch:{word}@") for word in ("open%20sesame", "wr0ng"))
    (refused,) = probe(wrong, "stream", clock=CLOCK)
    assert not refused.works
    assert "password" in refused.what
    assert "wr0ng" not in str(refused)
    device = StreamDevice(UrlAddress(wrong, is_paced=False), senses=frozenset(Sense), clock=CLOCK)
    with pytest.raises(FeedError) as error:
        device.open()
    assert "wr0ng" not in f"{error.value} {error.value.__cause__!r} {error.value.__cause__}"
    (works,) = probe(right, "stream", clock=CLOCK)
    assert works.works, works
    assert works.what == "320x240 at 15 fps, sound 48 kHz"


def test_the_doctor_is_told_when_nobody_answers() -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        (refused,) = probe(f"rtsp://127.0.0.1:{line.getsockname()[1]}/camera", "stream", clock=CLOCK)
        assert "connection refused" in refused.what
        line.listen()
        began_s = time.monotonic()
        (silent,) = probe(f"rtsp://127.0.0.1:{line.getsockname()[1]}/camera", "stream", clock=CLOCK)
    assert not silent.works
    assert "no answer" in silent.what
    assert time.monotonic() - began_s < 2 * READ_S


async def test_closing_takes_no_two_seconds_even_while_a_camera_does_not_answer() -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen()
        feed = quick_feed(f"rtsp://127.0.0.1:{line.getsockname()[1]}/camera", FakeObserver())
        units = await taken(feed, bool)
        began_s = time.monotonic()
        await feed.close()
        await feed.close()
        assert time.monotonic() - began_s < 2
    assert {gap.cause for gap in units[0].gaps} == {GapCause.LOST}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL under which a web server shows it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(LIMIT_S)


async def test_a_clip_on_a_web_server_is_watched_at_its_own_pace(web: tuple[Path, str]) -> None:
    folder, url = web
    write_clip(folder / "clip.ts", seconds=6)
    feed = quick_feed(f"{url}/clip.ts", FakeObserver())
    units = await taken(feed, lambda units: sum(map(is_whole, units)) >= 3)
    await feed.close()
    assert len(units) <= 5
    np.testing.assert_allclose(np.diff(beeps_s([unit for unit in units if is_whole(unit)])), 1.0, atol=0.02)


async def test_a_playlist_of_segments_is_watched_at_its_own_pace(web: tuple[Path, str]) -> None:
    folder, url = web
    write_clip(folder / "live.m3u8", seconds=8, video_codec="libx264")
    feed = quick_feed(f"{url}/live.m3u8", FakeObserver())
    units = await taken(feed, lambda units: sum(map(is_whole, units)) >= 3)
    await feed.close()
    assert len(units) <= 5


class Multipart(http.server.BaseHTTPRequestHandler):
    """What many cheap cameras send: one JPEG after another, without stamps."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):  # until the feed has seen enough
            for tone in itertools.cycle(range(0, 250, 10)):
                data = encode_jpeg(np.full((48, 64, 3), tone, np.uint8))
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


async def test_pictures_without_stamps_are_taken_when_they_arrive() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Multipart) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        feed = quick_feed(f"http://127.0.0.1:{server.server_port}/video", FakeObserver())
        units = await taken(feed, lambda units: sum(bool(unit.frames) for unit in units) >= 3)
        await feed.close()
        server.shutdown()
        thread.join(LIMIT_S)
    seen = [unit for unit in units if unit.frames]
    assert all(unit.frame is not None and abs(unit.frame.at_s - unit.end_s) < 0.3 for unit in seen)
    assert all([gap.cause for gap in unit.gaps] == [GapCause.ABSENT] for unit in seen)


async def test_a_clip_of_this_machine_is_played_once_in_real_time(tmp_path: Path) -> None:
    clip, observer = write_clip(tmp_path / "clip.mp4", seconds=3.2), FakeObserver()
    began_s = time.monotonic()
    feed = open_feed("film", str(clip), "stream", clock=CLOCK, observer=observer)
    units = [unit async for unit in feed.units()]
    assert 2.5 < time.monotonic() - began_s < 6
    assert sum(map(is_whole, units)) >= 2
    assert states(observer, Sense.SIGHT) == ["opening", "live", "ended"]


async def test_a_clip_that_vanishes_before_it_is_opened_ends_the_feed_in_words(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=1)
    feed = open_feed("film", str(clip), "stream", clock=CLOCK, observer=FakeObserver())
    clip.unlink()
    with pytest.raises(FeedError, match="no such file") as gone:
        await taken(feed, lambda _: False)
    assert not gone.value.can_retry
