"""What works in this house, what does not, and what to do about it.

Each check is a function of values and of one probe that does the touching, so that all of them can be tried without a
camera, a speaker or a broker. `omni_watch.app.diagnosing` has the real ones. Checks never change anything that is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from omni_watch.app.engines import Choice
from omni_watch.app.service import Service
from omni_watch.cabinet import Standing, State, lacking
from omni_watch.config.settings import FeedSettings, MetricsSettings, MqttSettings, Settings, VoiceSettings
from omni_watch.domain.addresses import hide_credentials
from omni_watch.domain.errors import ChannelError, ConfigError, ModelError, StoreError
from omni_watch.domain.rules import Language
from omni_watch.store.care import Health

ROOM_NEEDED: Final = 200_000_000  # bytes: the database, its backups, and some weeks of snapshots
ESPEAK: Final = "espeak-ng"
NAMES: Final[Mapping[Language, str]] = {"en": "English", "zh": "Chinese"}
NATURAL: Final[Mapping[Language, str]] = {  # what brings it
    "en": "pip install piper-tts, and omni-watch models pull",
    "zh": "omni-watch models pull",
}
EARLIEST: Final = 2026  # a clock before the year this was written in was never set

CONFIG_WRONG: Final = 78  # EX_CONFIG, as the command line exits

_CAMERA: Final = re.compile(r"(?:/dev/video|v4l2:)(\d+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str  # "camera porch", "broker"
    ok: bool | None  # None: not used, or nobody can tell
    what: str
    do: str = ""  # empty: nothing is to be done


class DeviceProbe(Protocol):
    """What `omni_watch.sensing.probing.probe` finds out about one device."""

    @property
    def label(self) -> str: ...
    @property
    def works(self) -> bool: ...
    @property
    def what(self) -> str: ...
    @property
    def advice(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The hands of the doctor; each may take seconds and raises only what it says."""

    devices: Callable[[FeedSettings], Sequence[DeviceProbe]]
    speaker: Callable[[VoiceSettings], str]  # says what was found; ChannelError
    voices: Callable[[], Mapping[Language, Sequence[str]]]  # who would speak each language, in order; ModelError
    broker: Callable[[MqttSettings], str]  # says what answered; ChannelError
    models: Callable[[], Sequence[Standing]]  # ModelError
    engine: Callable[[], Choice]  # ConfigError, ModelError
    database: Callable[[Path], Health]  # StoreError
    deaf: Callable[[Path], AbstractSet[str]]  # feeds whose sound is switched off, by the database; StoreError
    free_bytes: Callable[[Path], int]  # OSError
    services: Callable[[], Sequence[Service] | None]  # None: nobody here manages services
    metrics: Callable[[MetricsSettings, bool], str]  # while the daemon runs, or not; says what was found; OSError
    is_clock_kept: Callable[[], bool | None]
    now: Callable[[], datetime]


def diagnose(
    settings: Settings, probes: Probes, *, database: Path, is_quick: bool = False, is_running: bool = False
) -> list[Finding]:
    """Every finding, in the order in which one would mend things.

    `is_quick` opens no device and reads no model; while the daemon `is_running` its cameras and microphones are left
    alone.
    """
    feeds = [
        finding
        for feed in settings.feeds
        for finding in check_feed(feed, None if is_quick or (is_running and has_device(feed)) else probes.devices)
    ]
    slow = (
        []
        if is_quick
        else [
            check_speaker(settings.voice, probes.speaker),
            check_voices(settings.voice, settings.language, probes.voices),
            *check_models(probes.models),
            check_engine(probes.engine),
        ]
    )
    return [
        check_config(settings),
        check_state_dir(settings.state_dir),
        check_disk(settings.state_dir, probes.free_bytes),
        check_database(database, probes.database),
        check_clock(probes.now(), probes.is_clock_kept),
        *check_services(probes.services),
        *check_secrets(settings.origin),
        *check_metrics(settings.metrics, probes.metrics, is_running=is_running),
        *feeds,
        *check_listening(settings.feeds, database, probes.deaf),
        check_broker(settings.mqtt, probes.broker),
        *slow,
    ]


def check_config(settings: Settings) -> Finding:
    if settings.origin is None:
        return Finding("configuration", None, "there is no file; defaults are used", "copy deploy/config.example.toml")
    if not settings.feeds:
        return Finding("configuration", False, f"{settings.origin} has no feeds", "add a [[feeds]] table")
    names = ", ".join(feed.name for feed in settings.feeds)
    return Finding("configuration", True, f"{settings.origin}, feeds: {names}")


def check_feed(
    feed: FeedSettings, devices: Callable[[FeedSettings], Sequence[DeviceProbe]] | None
) -> Iterator[Finding]:
    """One finding for each device of the feed; without a probe only what the file system says."""
    if devices is None:
        yield _glance(feed)
        return
    for probe in devices(feed):
        what = hide_credentials(f"{probe.label}: {probe.what}")
        yield Finding(f"feed {feed.name}", probe.works, what, hide_credentials(probe.advice))


def check_listening(
    feeds: Sequence[FeedSettings], database: Path, deaf: Callable[[Path], AbstractSet[str]]
) -> Iterator[Finding]:
    """One finding for each feed whose sound a person has switched off."""
    try:
        found = deaf(database)
    except StoreError:  # told by the database's own finding
        return
    for feed in feeds:
        if feed.audio is not None and feed.name in found:
            do = f"omni-watch listen {feed.name} on, when it shall listen again"
            yield Finding(f"feed {feed.name}", None, "its sound is switched off", do)


def has_device(feed: FeedSettings) -> bool:
    """Whether the feed uses a camera or microphone of this machine, which only one program may have open."""
    is_camera = feed.video is not None and _CAMERA.fullmatch(feed.video) is not None
    return is_camera or (feed.audio or "").startswith("mic")


def check_speaker(voice: VoiceSettings, speaker: Callable[[VoiceSettings], str]) -> Finding:
    if not voice.enabled or voice.output == "off":
        return Finding("speaker", None, "switched off in the configuration")
    try:
        return Finding("speaker", True, speaker(voice))
    except ChannelError as error:
        return Finding("speaker", False, str(error), 'set voice.device, or voice.output = "off" to go without')


def check_voices(
    settings: VoiceSettings, language: Language, voices: Callable[[], Mapping[Language, Sequence[str]]]
) -> Finding:
    """Who speaks which language. A house whose own language nobody speaks is mute."""
    if not settings.enabled or settings.output == "off":
        return Finding("voices", None, "switched off in the configuration")
    try:
        found = voices()
    except ModelError as error:
        return Finding("voices", False, str(error), "omni-watch models pull")
    what = "; ".join(f"{NAMES[each]}: {', then '.join(found[each]) or 'nobody'}" for each in found)
    if not found[language]:
        return Finding("voices", False, what, "apt install espeak-ng")
    plain = [each for each in found if found[each][:1] == [ESPEAK]]
    return Finding(
        "voices", True, what, "; ".join(f"for a natural {NAMES[each]} voice: {NATURAL[each]}" for each in plain)
    )


def check_broker(mqtt: MqttSettings, broker: Callable[[MqttSettings], str]) -> Finding:
    if not mqtt.enabled:
        return Finding("broker", None, "MQTT is switched off in the configuration")
    try:
        return Finding("broker", True, broker(mqtt))
    except ChannelError as error:
        do = "alerts wait until it is back; check mqtt.host, mqtt.port, user, password and TLS, and that it runs"
        return Finding("broker", False, str(error), do)


def check_services(services: Callable[[], Sequence[Service] | None]) -> Iterator[Finding]:
    """One finding for each installed service, and for each thing about it that is to be mended."""
    found = services()
    if found is None:
        yield Finding("service", None, "nothing here manages services; `omni-watch run` works in the foreground")
    elif not found:
        yield Finding("service", None, "not installed", "sudo deploy/install.sh, or deploy/install.sh --user")
    for service in found or ():
        area = "service" if service.scope == "system" else "your service"
        yield _service_runs(area, service)
        if service.is_stale:
            yield Finding(area, False, "its unit was changed since systemd read it", _control(service, "daemon-reload"))
        if not service.is_enabled:
            yield Finding(area, None, "it will not start by itself next time", _control(service, "enable omni-watch"))
        if not service.lingers:
            yield Finding(area, None, "it runs only while you are logged in", "loginctl enable-linger")


def _service_runs(area: str, service: Service) -> Finding:
    journal = f"journalctl {'--user ' * (service.scope == 'user')}-u omni-watch -n 50"
    again = f"; it was started anew {service.restarts} times, see {journal}" if service.restarts else ""
    match service.state:
        case "active" | "reloading":
            return Finding(area, True, f"{service.status or 'it runs'}{again}")
        case "activating":
            return Finding(area, None, f"it is starting: {service.status}{again}")
        case "failed" if service.exit_status == CONFIG_WRONG:
            return Finding(area, False, "it stopped because the configuration is wrong", "omni-watch config check")
        case "failed" if service.result == "watchdog":
            return Finding(area, False, "it fell silent too often; is the machine too slow?", journal)
        case "failed":
            return Finding(area, False, f"it failed ({service.result}, exit {service.exit_status})", journal)
        case _:
            is_wanted = False if service.is_enabled else None
            return Finding(area, is_wanted, "it does not run", _control(service, "start omni-watch"))


def _control(service: Service, what: str) -> str:
    return f"systemctl --user {what}" if service.scope == "user" else f"sudo systemctl {what}"


def check_secrets(origin: Path | None) -> Iterator[Finding]:
    """Whether anybody on this machine may read the secrets beside the configuration."""
    folder = None if origin is None else origin.parent / "credentials"
    try:
        files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        open_to_all = [path for path in files if path.is_file() and path.stat().st_mode & 0o007]
    except PermissionError:  # which is as it should be, for whoever is not the service
        return
    for path in open_to_all:
        yield Finding("secrets", False, f"everybody may read {path}", f"chmod o= {path}")
    if files and not open_to_all:
        yield Finding("secrets", True, f"{len(files)} in {folder}, closed to others")


def check_metrics(
    metrics: MetricsSettings, probe: Callable[[MetricsSettings, bool], str], *, is_running: bool
) -> Iterator[Finding]:
    if not metrics.enabled:
        return
    try:
        yield Finding("metrics", True, probe(metrics, is_running))
    except OSError as error:
        why = error.strerror or str(error)
        yield Finding("metrics", False, f"{metrics.host}:{metrics.port}: {why}", "set metrics.port to a free one")


def check_models(models: Callable[[], Sequence[Standing]]) -> Iterator[Finding]:
    """One finding for each ability that the engine goes without, or one that says all is there."""
    try:
        standings = models()
    except ModelError as error:
        yield Finding("models", False, str(error), "omni-watch models verify")
        return
    for ability, files in lacking(standings).items():
        details = "; ".join(f"{file.id} {file.detail or file.state.value}" for file in files)
        yield Finding("models", False, f"cannot {ability}: {details}", files[0].mend)
    if all(standing.state is State.PRESENT for standing in standings):
        yield Finding("models", True, f"all {len(standings)} files are there and right")


def check_engine(choose: Callable[[], Choice]) -> Finding:
    """Which engine would watch, and why; the weights are not read."""
    try:
        choice = choose()
    except (ConfigError, ModelError) as error:
        return Finding("engine", False, str(error), 'set model.path, or engine.kind = "auto" to watch without it')
    what = f"{choice.kind}: {choice.why}"
    if choice.is_second_best:
        return Finding("engine", False, what, 'mend that, or remove model.path to be content with "embedded"')
    return Finding("engine", True, what)


def check_disk(state_dir: Path, free_bytes: Callable[[Path], int]) -> Finding:
    place = _nearest_folder(state_dir)
    try:
        free = free_bytes(place)
    except OSError as error:
        return Finding("disk", False, f"{place}: {error.strerror}", "check that the disk is mounted and well")
    what = f"{_megabytes(free)} free for {state_dir}"
    if free < ROOM_NEEDED:
        return Finding("disk", False, what, f"make room: at least {_megabytes(ROOM_NEEDED)}, or shorten [retention]")
    return Finding("disk", True, what)


def check_state_dir(state_dir: Path) -> Finding:
    """Whether it can be written, by writing (permissions alone do not tell of read-only disks)."""
    place = _nearest_folder(state_dir)
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
    except OSError as error:
        do = f"give it to the user that runs omni-watch: chown {_user()} {place}, or set house.state_dir"
        return Finding("state folder", False, f"cannot write to {place}: {error.strerror}", do)
    if place != state_dir:
        return Finding("state folder", True, f"{state_dir} will be made")
    if state_dir.stat().st_mode & 0o077:
        return Finding("state folder", True, f"{state_dir}; others may look into it", f"chmod 700 {state_dir}")
    return Finding("state folder", True, str(state_dir))


def check_database(path: Path, examine: Callable[[Path], Health]) -> Finding:
    if not path.exists():
        return Finding("database", None, "will be made with the first task or at the first start")
    try:
        health = examine(path)
    except StoreError as error:
        return Finding("database", False, str(error), "omni-watch db restore BACKUP")
    if not health.is_sound:
        return Finding("database", False, f"damaged: {health.problems[0]}", "omni-watch db restore BACKUP")
    return Finding("database", True, ", ".join(f"{health.rows[name]} {name}" for name in sorted(health.rows)))


def check_clock(now: datetime, is_kept: Callable[[], bool | None]) -> Finding:
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    if now.year < EARLIEST:
        return Finding("clock", False, f"it says {shown}, which cannot be", "set the clock: timedatectl set-ntp true")
    match is_kept():
        case None:
            return Finding("clock", None, f"it says {shown}; nobody tells whether it is kept right")
        case False:
            do = "switch synchronising on: timedatectl set-ntp true"
            return Finding("clock", None, f"it says {shown}, and is not synchronised", do)
        case True:
            return Finding("clock", True, f"it says {shown}, and is synchronised")


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _glance(feed: FeedSettings) -> Finding:
    """Whether what the feed names is there, without opening it; an address on the network is not tried."""
    area = f"feed {feed.name}"
    if feed.video is None:
        return Finding(area, None, f"microphone ({feed.audio}), not tried")
    camera = _CAMERA.fullmatch(feed.video)
    path = Path(f"/dev/video{camera[1]}") if camera else Path(feed.video)
    if camera is None and "://" in feed.video:
        return Finding(area, None, f"{hide_credentials(feed.video)}, not tried")
    if not path.exists():
        return Finding(area, False, f"{path} is not there", "connect the camera" if camera else "check the path")
    if not os.access(path, os.R_OK):
        do = f"let {_user()} read it" + (": add it to the group video" if camera else "")
        return Finding(area, False, f"{path} may not be read", do)
    return Finding(area, True, f"{path} is there")


def _nearest_folder(path: Path) -> Path:
    """`path`, or the deepest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.is_dir())


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def _user() -> str:
    return f"uid {os.getuid()}"
