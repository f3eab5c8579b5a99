"""The settings of one house: one TOML file, read once, checked whole, turned into frozen values.

This is the only module that reads the environment; everybody else is given values. `omni-watch config check` runs the
same code as start-up. A part of the program is handed its own values (a host, a folder), never the whole of this.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import tzlocal

from omni_watch.config.checking import ConfigFile, FeedSection, ModelSection, MqttSection, Place, hours_of, read_secret
from omni_watch.domain.addresses import hide_credentials
from omni_watch.domain.errors import ConfigError
from omni_watch.domain.rules import Escalation, Language
from omni_watch.domain.tasks import WatchWindow

FILE_NAME: Final = "config.toml"
SYSTEM_FILE: Final = Path("/etc/omni-watch") / FILE_NAME
MQTT_PORT, MQTT_TLS_PORT = 1883, 8883  # IANA: mqtt, secure-mqtt
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

LogFormat = Literal["auto", "plain", "json"]
EngineKind = Literal["embedded", "minicpm-o", "auto"]
Mode = Literal["watch", "companion"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that shows itself only when asked by name."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """One place that is watched; at least one of `video` and `audio` is there."""

    name: str
    video: str | None = None  # absolute path, rtsp(s)/http(s) address, /dev/videoN or v4l2:N
    audio: str | None = None  # "stream", "mic" or "mic:NAME_OR_INDEX"
    user: str | None = None
    password: Secret | None = None
    mode: Mode = "watch"  # companion: a language model also comments and answers on its own

    @property
    def video_address(self) -> str | None:
        """`video` with its user and password written in, ready to be opened; never to be shown or logged."""
        if self.video is None or self.user is None:
            return self.video
        parts = urlsplit(self.video)
        password = "" if self.password is None else ":" + quote(self.password.reveal(), safe="")
        return urlunsplit(parts._replace(netloc=f"{quote(self.user, safe='')}{password}@{parts.netloc}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    enabled: bool = False
    host: str = "localhost"
    port: int = MQTT_PORT
    user: str | None = None
    password: Secret | None = None
    tls: bool = False
    ca_file: Path | None = None  # None: the system's own authorities
    cert_file: Path | None = None
    key_file: Path | None = None
    retain_snapshot: bool = False
    alert_expiry_s: float = 300.0
    discovery: Literal["device", "component", "off"] = "device"  # how Home Assistant is told of the house
    discovery_prefix: str = "homeassistant"
    requests: bool = True  # whether anything may be asked of the house over MQTT


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSettings:
    enabled: bool = True
    output: Literal["speaker", "file", "off"] = "speaker"
    device: str | None = None  # name or number; None: the system's default
    volume: float = 0.8  # 0..1
    folder: Path  # where `output = "file"` writes
    piper: Path | None = None  # None: found beside our Python or on the path
    expiry_s: float = 60.0
    urgent_expiry_s: float = 300.0
    quiet_hours: WatchWindow | None = None  # in which only urgent alerts are spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class EarsSettings:
    """What people say to the house."""

    enabled: bool = True
    names: tuple[str, ...] = ("Omni", "Omni Watch")  # that a sentence may begin with
    is_name_needed: bool = False  # only sentences that begin with one are for us
    keep_heard: bool = False  # what was heard and answered is written to a file


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    kind: EngineKind = "auto"
    threads: int | None = None  # None: the engine decides


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """MiniCPM-o: which checkpoint, where it runs, what it remembers, how it decides."""

    path: str | None = None  # an absolute folder, or a hub id; None: there is none
    revision: str | None = None  # a commit of the hub id
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: Literal["none", "int8", "int4"] = "none"
    window: Literal["off", "basic", "context"] = "off"
    window_low: int = 5000  # tokens: `basic` drops the oldest seconds down to here ...
    window_high: int = 6500  # ... once there are more than this
    window_units: int = 24  # seconds that `context` keeps
    context_tokens: int = 8192  # a session is replaced before it holds so many
    carried_s: int = 16  # the last seconds that its successor is shown first
    bias: float = 0.0  # logits: above 0 speaks more readily, below less
    confirm_of: int = 2  # seconds that must speak for an alert ...
    confirm_in: int = 3  # ... among the last so many
    second_opinion: bool = False
    forced_picture_s: float = 5.0  # a picture that has not changed is shown again after so long
    speak_requests: bool = False  # whether a session begins with hearing the tasks
    voice: Literal["daemon", "model"] = "daemon"  # of companions
    voice_sample: Path | None = None  # a recording of the voice that the model shall speak with
    voice_python: Path | None = None  # of the environment in which its codec is installed; None: ours
    step_limit_s: float = 30.0  # a step that takes longer ends the process


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    alerts_days: float = 90.0
    snapshots_days: float = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: LogFormat = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Numbers for Prometheus, over HTTP without a password."""

    enabled: bool = False
    host: str = "127.0.0.1"  # only this machine
    port: int = 9469


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What the service manager told us, if there is one."""

    is_supervised: bool = False  # started by systemd: logs go to the journal
    notify_socket: str | None = None
    watchdog_s: float | None = None  # a heartbeat is expected at least so often


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a person may set, complete and checked. Paths are absolute."""

    instance: str
    language: Language
    zone: str  # IANA name
    state_dir: Path
    models_dir: Path
    rules_dir: Path | None  # the user's own rules, beside those we ship
    feeds: tuple[FeedSettings, ...]
    mqtt: MqttSettings
    voice: VoiceSettings
    escalation: Escalation  # of urgent alerts, where a rule does not say otherwise
    ears: EarsSettings
    engine: EngineSettings
    model: ModelSettings
    retention: RetentionSettings
    log: LogSettings
    metrics: MetricsSettings
    service: ServiceSettings
    origin: Path | None  # the file; None: only defaults

    def with_feeds(self) -> Settings:
        """These settings, when there is something to watch.

        Raises:
            ConfigError: no feed is configured.
        """
        if self.feeds:
            return self
        place = self.origin or "a configuration file (deploy/config.example.toml shows one)"
        raise ConfigError(
            f'feeds: none; expected at least one [[feeds]] table in {place}, like name = "kitchen", video = "rtsp://…"'
        )


def read_settings(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    is_file_needed: bool = False,
) -> Settings:
    """The settings of `path`, or of the first file found in the usual places, or (none there) the defaults.

    Raises:
        ConfigError: a file that was named, or one that is needed, is not there; a file that cannot be read; or every
            problem found inside. `__notes__` names the file.
    """
    variables = os.environ if environment is None else environment
    chosen = find_file(path, variables)
    if chosen is None:
        if is_file_needed:
            places = "\n".join(f"  {place}" for place in usual_places(variables))
            raise ConfigError(
                f"no configuration file found; looked for\n{places}\ndeploy/config.example.toml shows how to write one"
            )
        return _settings({}, variables, None)
    try:
        return _settings(_parse(chosen), variables, chosen.absolute())
    except ConfigError as error:
        error.add_note(f"in {chosen}")
        raise


def find_file(path: Path | None, variables: Mapping[str, str]) -> Path | None:
    """Which file is meant: a named one must be there, of the usual places the first that is.

    Raises:
        ConfigError: the named file is not there.
    """
    named = path or _variable_path(variables, "OMNI_WATCH_CONFIG")
    if named is None:
        return next((place for place in usual_places(variables) if place.is_file()), None)
    if not named.is_file():
        raise ConfigError(f"there is no configuration file {named}; deploy/config.example.toml shows how to write one")
    return named


def usual_places(variables: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a configuration file is looked for, first one first."""
    service = _variable_path(variables, "CONFIGURATION_DIRECTORY")
    own = _xdg(variables, "XDG_CONFIG_HOME", ".config") / "omni-watch"
    return (*([service / FILE_NAME] if service else []), own / FILE_NAME, SYSTEM_FILE)


def settings_as_shown(settings: Settings) -> dict[str, Any]:
    """The settings as plain values under the file's own keys, secrets hidden; for `config show`."""
    mqtt, voice = settings.mqtt, settings.voice
    return {
        "house": {
            "instance": settings.instance,
            "language": settings.language,
            "zone": settings.zone,
            "state_dir": str(settings.state_dir),
        },
        "feeds": [_feed_as_shown(feed) for feed in settings.feeds],
        "mqtt": {
            "enabled": mqtt.enabled,
            "host": mqtt.host,
            "port": mqtt.port,
            "user": mqtt.user,
            "password": _hidden(mqtt.password),
            "tls": mqtt.tls,
            "ca_file": _plain(mqtt.ca_file),
            "cert_file": _plain(mqtt.cert_file),
            "key_file": _plain(mqtt.key_file),
            "retain_snapshot": mqtt.retain_snapshot,
            "alert_expiry_s": mqtt.alert_expiry_s,
            "discovery": mqtt.discovery,
            "discovery_prefix": mqtt.discovery_prefix,
            "requests": mqtt.requests,
        },
        "voice": {
            "enabled": voice.enabled,
            "output": voice.output,
            "device": voice.device,
            "volume": voice.volume,
            "folder": str(voice.folder),
            "piper": _plain(voice.piper),
            "expiry_s": voice.expiry_s,
            "urgent_expiry_s": voice.urgent_expiry_s,
            "quiet_hours": voice.quiet_hours and f"{voice.quiet_hours.begins:%H:%M}-{voice.quiet_hours.ends:%H:%M}",
        },
        "escalation": asdict(settings.escalation),
        "ears": {
            "enabled": settings.ears.enabled,
            "names": list(settings.ears.names),
            "name_needed": settings.ears.is_name_needed,
            "keep_heard": settings.ears.keep_heard,
        },
        "engine": {"kind": settings.engine.kind, "threads": settings.engine.threads},
        "model": asdict(settings.model)
        | {name: _plain(getattr(settings.model, name)) for name in ("voice_sample", "voice_python")},
        "models": {"folder": str(settings.models_dir)},
        "retention": {
            "alerts_days": settings.retention.alerts_days,
            "snapshots_days": settings.retention.snapshots_days,
        },
        "rules": {"folder": _plain(settings.rules_dir)},
        "log": {"level": settings.log.level, "format": settings.log.format},
        "metrics": asdict(settings.metrics),
    }


def _settings(raw: Mapping[str, Any], variables: Mapping[str, str], origin: Path | None) -> Settings:
    place = Place(
        folder=origin.parent if origin else Path.cwd(),
        home=_home(variables),
        credentials=_variable_path(variables, "CREDENTIALS_DIRECTORY"),
    )
    checked = ConfigFile.check(raw, place)
    house, voice = checked.house, checked.voice
    state_dir = _folder(house.state_dir, place) or _default_state_dir(variables)
    zone = house.zone or tzlocal.get_localzone_name()
    return Settings(
        instance=house.instance or host_slug(socket.gethostname()),
        language=house.language,
        zone=zone,
        state_dir=state_dir,
        models_dir=_folder(checked.models.folder, place) or _default_models_dir(variables),
        rules_dir=_folder(checked.rules.folder, place),
        feeds=tuple(_feed(feed) for feed in checked.feeds),
        mqtt=_mqtt(checked.mqtt),
        voice=VoiceSettings(
            enabled=voice.enabled,
            output=voice.output,
            device=voice.device,
            volume=voice.volume,
            folder=_folder(voice.folder, place) or state_dir / "spoken",
            piper=_folder(voice.piper, place),
            expiry_s=voice.expiry_s,
            urgent_expiry_s=voice.urgent_expiry_s,
            quiet_hours=_hours(voice.quiet_hours, zone),
        ),
        escalation=Escalation(**checked.escalation.model_dump()),
        ears=EarsSettings(
            enabled=checked.ears.enabled,
            names=tuple(checked.ears.names),
            is_name_needed=checked.ears.name_needed,
            keep_heard=checked.ears.keep_heard,
        ),
        engine=EngineSettings(kind=checked.engine.kind, threads=checked.engine.threads),
        model=_model(checked.model, place),
        retention=RetentionSettings(
            alerts_days=checked.retention.alerts_days, snapshots_days=checked.retention.snapshots_days
        ),
        log=LogSettings(level=checked.log.level, format=checked.log.format),
        metrics=MetricsSettings(**checked.metrics.model_dump()),
        service=_service(variables),
        origin=origin,
    )


def _hours(written: str | None, zone: str) -> WatchWindow | None:
    span = None if written is None else hours_of(written)
    return None if span is None else WatchWindow(begins=span[0], ends=span[1], zone=zone)


def _feed(section: FeedSection) -> FeedSettings:
    return FeedSettings(
        name=section.name,
        video=section.video,
        audio=section.audio,
        user=section.user,
        password=_secret(section.password_file),
        mode=section.mode,
    )


def _mqtt(section: MqttSection) -> MqttSettings:
    return MqttSettings(
        enabled=section.enabled,
        host=section.host,
        port=section.port or (MQTT_TLS_PORT if section.tls else MQTT_PORT),
        user=section.user,
        password=_secret(section.password_file),
        tls=section.tls,
        ca_file=_optional_path(section.ca_file),
        cert_file=_optional_path(section.cert_file),
        key_file=_optional_path(section.key_file),
        retain_snapshot=section.retain_snapshot,
        alert_expiry_s=section.alert_expiry_s,
        discovery=section.discovery,
        discovery_prefix=section.discovery_prefix,
        requests=section.requests,
    )


def _model(section: ModelSection, place: Place) -> ModelSettings:
    paths = {
        "path": _checkpoint(section.path, place),
        "voice_sample": _folder(section.voice_sample, place),
        "voice_python": _folder(section.voice_python, place),
    }
    return ModelSettings(**section.model_dump() | paths)


def _checkpoint(written: str | None, place: Place) -> str | None:
    """A folder that is there, made absolute; what looks like a hub id stays as it is, the rest is a folder too."""
    if written is None:
        return None
    folder = place.path(written)
    is_hub_id = _HUB_ID.fullmatch(written) is not None and not folder.exists()
    return written if is_hub_id else str(folder)


def _service(variables: Mapping[str, str]) -> ServiceSettings:
    """sd_watchdog_enabled(3): the interval counts only for the process it was meant for."""
    watchdog_us = variables.get("WATCHDOG_USEC", "")
    is_meant_for_us = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return ServiceSettings(
        is_supervised="INVOCATION_ID" in variables and "JOURNAL_STREAM" in variables,
        notify_socket=variables.get("NOTIFY_SOCKET") or None,
        watchdog_s=int(watchdog_us) / 1e6 if watchdog_us.isdecimal() and is_meant_for_us else None,
    )


def host_slug(host: str) -> str:
    """A host name as an instance name: "Anna's-PC.local" becomes "anna-s-pc"."""
    slug = re.sub(r"[^a-z0-9_-]+", "-", host.split(".")[0].lower()).strip("-_")[:32].rstrip("-_")
    return slug or "house"


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"this is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from error


def _default_state_dir(variables: Mapping[str, str]) -> Path:
    return (
        _variable_path(variables, "STATE_DIRECTORY") or _xdg(variables, "XDG_STATE_HOME", ".local/state") / "omni-watch"
    )


def _default_models_dir(variables: Mapping[str, str]) -> Path:
    if named := _variable_path(variables, "OMNI_WATCH_MODELS"):
        return named
    cache = _variable_path(variables, "CACHE_DIRECTORY") or _xdg(variables, "XDG_CACHE_HOME", ".cache") / "omni-watch"
    return cache / "models"


def _variable_path(variables: Mapping[str, str], name: str) -> Path | None:
    """A folder or file that a variable names; systemd separates several by colons, and ours is the first."""
    first = variables.get(name, "").split(":")[0]
    return Path(first).absolute() if first else None


def _xdg(variables: Mapping[str, str], name: str, otherwise: str) -> Path:
    """An XDG base folder; relative values are to be ignored (XDG Base Directory Specification 0.8)."""
    named = Path(variables.get(name, ""))
    return named if named.is_absolute() else _home(variables) / otherwise


def _home(variables: Mapping[str, str]) -> Path:
    return Path(variables["HOME"]) if variables.get("HOME") else Path.home()


def _folder(written: str | None, place: Place) -> Path | None:
    return None if written is None else place.path(written)


def _optional_path(written: str | None) -> Path | None:
    return None if written is None else Path(written)


def _secret(path: str | None) -> Secret | None:
    return None if path is None else Secret(read_secret(Path(path)))


def _feed_as_shown(feed: FeedSettings) -> dict[str, Any]:
    video = None if feed.video is None else hide_credentials(feed.video)
    shown = {"name": feed.name, "video": video, "audio": feed.audio, "mode": feed.mode}
    return shown | ({"user": feed.user, "password": _hidden(feed.password)} if feed.user else {})


def _hidden(secret: Secret | None) -> str | None:
    return None if secret is None else str(secret)


def _plain(path: Path | None) -> str | None:
    return None if path is None else str(path)
