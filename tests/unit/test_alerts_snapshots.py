"""Pictures of the moment: small enough to send, private, gone when told, and never a reason to stop."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from omni_watch.alerts import snapshots
from omni_watch.alerts.snapshots import BYTES_MAX, SnapshotFolder, as_jpeg
from omni_watch.domain.units import Frame
from tests.fakes.fake_observer import FakeObserver


def frame(height: int = 48, width: int = 64, colour: tuple[int, int, int] = (200, 30, 10)) -> Frame:
    return Frame(at_s=1.0, rgb=np.full((height, width, 3), colour, np.uint8))


def decoded(jpeg: bytes) -> np.ndarray:
    """[H, W, 3], blue first."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


async def test_both_pictures_are_kept_for_us_alone_and_come_back_in_the_right_colours(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "snapshots", observer=FakeObserver())
    await folder.keep("k3-1", {"now": frame(), "before": frame(colour=(0, 200, 0))})
    files = sorted((tmp_path / "snapshots").iterdir())
    assert [path.name for path in files] == ["k3-1-before.jpg", "k3-1-now.jpg"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "snapshots").stat().st_mode) == 0o700
    jpeg = await folder.load("k3-1")
    assert jpeg is not None
    blue, green, red = decoded(jpeg).reshape(-1, 3).mean(axis=0)
    assert red > 180 > 60 > max(green, blue)
    assert await folder.load("k3-1", "before") != jpeg
    assert await folder.load("k3-2") is None


@pytest.mark.parametrize("shape", [(1080, 1920), (1920, 1080), (3, 4000), (1, 1)])
def test_a_picture_is_scaled_to_a_long_side_of_1280_and_never_enlarged(shape: tuple[int, int]) -> None:
    assert max(decoded(as_jpeg(frame(*shape).rgb)).shape[:2]) == min(1280, max(shape))


@pytest.mark.parametrize("shape", [(720, 1280), (1280, 1280)])
def test_even_noise_fits_into_half_a_megabyte(shape: tuple[int, int]) -> None:
    assert len(as_jpeg(noise(*shape))) <= BYTES_MAX


def test_when_low_quality_is_not_enough_the_picture_becomes_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "BYTES_MAX", 20_000)
    jpeg = as_jpeg(noise(720, 1280))
    assert len(jpeg) <= 20_000
    assert max(decoded(jpeg).shape[:2]) < 1280


async def test_pictures_are_forgotten_by_alert_and_those_of_like_names_stay(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path, observer=FakeObserver())
    for alert_id in ("k3-1", "k3-11", "k3-1-1", "other-1"):
        await folder.keep(alert_id, {"now": frame(), "before": frame()})
    await folder.forget(["k3-1", "never-was"])
    assert set(names(tmp_path)) == {
        f"{alert_id}-{name}.jpg" for alert_id in ("k3-11", "k3-1-1", "other-1") for name in ("now", "before")
    }


async def test_old_pictures_are_forgotten_by_age(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path, observer=FakeObserver())
    await folder.keep("old-1", {"now": frame()})
    await folder.keep("new-1", {"now": frame()})
    os.utime(tmp_path / "old-1-now.jpg", (1_000_000, 1_000_000))
    await folder.forget_before(datetime.now(UTC) - timedelta(days=1))
    assert names(tmp_path) == ["new-1-now.jpg"]


async def test_a_disk_that_cannot_be_written_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("a file where the folder should be")
    observer = FakeObserver()
    folder = SnapshotFolder(tmp_path / "snapshots", observer=observer)
    await folder.keep("k3-1", {"now": frame()})
    assert await folder.load("k3-1") is None
    await folder.forget(["k3-1"])
    assert [fields["alert_id"] for fields in observer.named("snapshot.not_kept")] == ["k3-1"]
    assert len(observer.named("snapshot.not_read")) == 1


async def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    observer = FakeObserver()
    monkeypatch.setattr(os, "fsync", full)
    await SnapshotFolder(tmp_path, observer=observer).keep("k3-1", {"now": frame()})
    assert "No space left" in observer.named("snapshot.not_kept")[0]["why"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("alert_id", ["../x", "a/b", "", "A", "x" * 65])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, alert_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a file name"):
        await SnapshotFolder(tmp_path, observer=FakeObserver()).load(alert_id)
