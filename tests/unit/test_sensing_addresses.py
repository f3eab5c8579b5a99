"""What may stand behind `video` and `audio`."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni_watch.domain.errors import FeedError
from omni_watch.domain.units import Sense
from omni_watch.sensing.addresses import (
    FileAddress,
    MicrophoneAddress,
    UrlAddress,
    VideoAddress,
    WebcamAddress,
    microphone_address,
    video_address,
    without_secrets,
)
from omni_watch.sensing.opening import devices_of
from tests.fakes.clips import write_clip
from tests.fakes.fake_clock import FakeClock


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rtsp://cam/1", UrlAddress("rtsp://cam/1", is_paced=False)),
        ("RTSPS://cam/1", UrlAddress("RTSPS://cam/1", is_paced=False)),
        ("http://cam/live.m3u8", UrlAddress("http://cam/live.m3u8", is_paced=True)),
        ("/dev/video2", WebcamAddress(2)),
        ("v4l2:0", WebcamAddress(0)),
        ("clips/a.mp4", FileAddress(Path("clips/a.mp4"))),
        ("file:///clips/a.mp4", FileAddress(Path("/clips/a.mp4"))),
    ],
)
def test_a_video_setting_is_understood(text: str, meant: VideoAddress) -> None:
    assert video_address(text) == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rstp://porch:pw@cam/1", "did you mean rtsp?"),
        ("htp://cam", "did you mean http?"),
        ("gopher://cam", "expected rtsp, rtsps, http, https, a file or /dev/videoN"),
        ("rtsp:///path", "names no host"),
    ],
)
def test_a_wrong_video_setting_is_refused_with_the_nearest_right_one(text: str, says: str) -> None:
    with pytest.raises(FeedError) as refused:
        video_address(text)
    assert says in str(refused.value)
    assert "pw" not in str(refused.value)
    assert not refused.value.can_retry


def test_an_audio_setting_is_understood_or_refused() -> None:
    assert microphone_address("mic") == MicrophoneAddress(None)
    assert microphone_address("mic:3") == MicrophoneAddress(3)
    assert microphone_address("mic: USB Audio") == MicrophoneAddress("USB Audio")
    for wrong in ("microphone", "mic:", "rtsp://cam"):
        with pytest.raises(FeedError, match="expected 'stream'"):
            microphone_address(wrong)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.2:554/ch1", "rtsp://10.0.0.2:554/ch1"),
        ("rtsp://admin:sec/ret@10.0.0.2/ch1", "rtsp://10.0.0.2/ch1"),
        ("http://cam/video?user=admin&pwd=secret", "http://cam/video?..."),
        ("http://admin:se?cret@cam/video", "http://..."),
        ("/clips/a@b.mp4", "/clips/a@b.mp4"),
    ],
)
def test_credentials_are_left_out_of_messages(url: str, shown: str) -> None:
    assert "secret" not in without_secrets(url)
    assert "cret" not in without_secrets(url) or "@" not in url
    if shown != "http://...":
        assert without_secrets(url) == shown
    assert "secret" not in repr(UrlAddress(url, is_paced=False))


def test_a_feed_is_made_of_the_devices_that_its_settings_name(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4", seconds=1))
    clock = FakeClock()
    (stream,) = devices_of("rtsp://u:p@cam/1", "stream", clock=clock)
    assert stream.senses == frozenset(Sense)
    assert stream.label == "rtsp://cam/1"
    camera, microphone = devices_of("/dev/video0", "mic", clock=clock)
    assert camera.senses | microphone.senses == frozenset(Sense)
    (film,) = devices_of(clip, None, clock=clock)
    assert film.senses == {Sense.SIGHT}


@pytest.mark.parametrize(
    ("video", "audio", "says"),
    [
        (None, None, "needs `video`, `audio` or both"),
        (None, "stream", "there is no `video`"),
        ("/dev/video0", "stream", "gives no sound"),
        ("nowhere.mp4", None, "no such file"),
        ("rtsp://cam/1", "speaker", "expected 'stream'"),
    ],
)
def test_a_feed_that_can_never_work_is_refused_at_once(video: str | None, audio: str | None, says: str) -> None:
    with pytest.raises(FeedError, match=says) as refused:
        devices_of(video, audio, clock=FakeClock())
    assert not refused.value.can_retry
