"""What the configuration file may say.

Each field's description completes the sentence "expected …", so that `problems` can word every wrong value. All
problems of a file are found in one pass: validators look at one field each, and at earlier ones if those are right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import time
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, ValidationInfo, field_validator

from omni_watch.config.addresses import audio_address, has_credentials, is_camera, is_stream, video_address
from omni_watch.config.problems import in_words
from omni_watch.domain.addresses import hide_credentials
from omni_watch.domain.errors import ConfigError

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"
NAME_FORM: Final = "1 to 32 of a-z, 0-9, _ and -, beginning with a letter or digit"

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, StringConstraints(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a configuration file lies, so that what it points to can be found."""

    folder: Path  # relative paths begin here
    home: Path
    credentials: Path | None = None  # systemd's $CREDENTIALS_DIRECTORY, tried first for secrets

    def path(self, written: str) -> Path:
        return self.folder / (self.home / written[2:] if written.startswith("~/") else written)

    def secret(self, written: str) -> Path:
        """Where a secret's file lies: a plain name is first looked for among systemd's credentials."""
        if self.credentials is not None and _is_there(self.credentials / written):
            return self.credentials / written
        return self.path(written)


class Section(BaseModel):
    """A table of the file; unknown keys and values of another type are problems."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HouseSection(Section):
    instance: Name | None = Field(default=None, description=NAME_FORM)
    language: Literal["en", "zh"] = Field(default="en", description='"en" or "zh"')
    zone: Text | None = Field(default=None, description='an IANA time zone like "Europe/Madrid"')
    state_dir: Text | None = Field(default=None, description="a folder")

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, zone: str | None) -> str | None:
        if zone is None or _is_zone(zone):
            return zone
        near = get_close_matches(zone, sorted(available_timezones()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f'found {zone!r}; expected an IANA time zone like "Europe/Madrid"{hint}')


class FeedSection(Section):
    name: Name = Field(description=NAME_FORM)
    video: str | None = Field(default=None, description="a text")
    audio: str | None = Field(default=None, description="a text", validate_default=True)
    user: Text | None = Field(default=None, description="a user name")
    password_file: Text | None = Field(default=None, description="a file that holds the password")
    mode: Literal["watch", "companion"] = Field(default="watch", description='"watch" or "companion"')

    @field_validator("video")
    @classmethod
    def _video_is_known(cls, written: str | None, info: ValidationInfo) -> str | None:
        return None if written is None else video_address(written, _place(info).path)

    @field_validator("audio")
    @classmethod
    def _audio_is_known(cls, written: str | None, info: ValidationInfo) -> str | None:
        address = None if written is None else audio_address(written)
        if "video" not in info.data:  # wrong itself; whether they fit cannot be said
            return address
        video = info.data["video"]
        if address is None and video is None:
            raise ValueError("missing, and so is video; a feed needs at least one of both")
        if address == "stream" and (video is None or is_camera(video)):
            raise ValueError('"stream" needs a video that carries sound, a file or an address; expected "mic"')
        return address

    @field_validator("user")
    @classmethod
    def _user_has_an_address(cls, user: str | None, info: ValidationInfo) -> str | None:
        if user is None or "video" not in info.data:
            return user
        video = info.data["video"]
        if video is None or not is_stream(video):
            raise ValueError("video is no address that it could be for; a file or a camera needs no user")
        if has_credentials(video):
            raise ValueError("the address in video has a user already; keep one of the two")
        return user

    @field_validator("password_file")
    @classmethod
    def _password_can_be_read(cls, written: str | None, info: ValidationInfo) -> str | None:
        return _password_file(written, info)


class MqttSection(Section):
    enabled: bool = Field(default=False, description="true or false")
    host: Text = Field(default="localhost", description="a host name or address")
    tls: bool = Field(default=False, description="true or false")
    port: int | None = Field(default=None, ge=1, le=65535, description="a whole number from 1 to 65535")
    user: Text | None = Field(default=None, description="a user name")
    password_file: Text | None = Field(default=None, description="a file that holds the password")
    ca_file: Text | None = Field(default=None, description="a certificate file")
    cert_file: Text | None = Field(default=None, description="a certificate file")
    key_file: Text | None = Field(default=None, description="a key file", validate_default=True)
    retain_snapshot: bool = Field(default=False, description="true or false")
    alert_expiry_s: float = Field(default=300.0, ge=10, le=604_800, description="seconds, from 10 to 604800 (a week)")
    discovery: Literal["device", "component", "off"] = Field(
        default="device", description='"device", "component" or "off"'
    )
    discovery_prefix: str = Field(
        default="homeassistant", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="1 to 64 of A-Z, a-z, 0-9, _ and -"
    )
    requests: bool = Field(default=True, description="true or false")

    @field_validator("host")
    @classmethod
    def _host_is_no_url(cls, host: str) -> str:
        if "/" in host or any(character.isspace() for character in host):
            raise ValueError(
                f"found {hide_credentials(host)!r}; expected a host name alone, like localhost; port has its own key"
            )
        return host

    @field_validator("password_file")
    @classmethod
    def _password_can_be_read(cls, written: str | None, info: ValidationInfo) -> str | None:
        return _password_file(written, info)

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _file_is_there(cls, written: str | None, info: ValidationInfo) -> str | None:
        if written is None:
            if info.field_name == "key_file" and info.data.get("cert_file") is not None:
                raise ValueError("missing; cert_file needs the key that belongs to it")
            return None
        if info.data.get("tls") is False:
            raise ValueError("is used with TLS only; set tls = true or remove it")
        if info.field_name == "key_file" and info.data.get("cert_file", "") is None:
            raise ValueError("set without cert_file; a key needs the certificate that belongs to it")
        path = _place(info).secret(written)
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return str(path)


class VoiceSection(Section):
    enabled: bool = Field(default=True, description="true or false")
    output: Literal["speaker", "file", "off"] = Field(default="speaker", description='"speaker", "file" or "off"')
    device: Text | None = Field(default=None, description="the name or number of a sound device, as text")
    volume: float = Field(default=0.8, ge=0, le=1, description="a number from 0 (silent) to 1")
    folder: Text | None = Field(default=None, description="a folder for the spoken alerts")
    piper: Text | None = Field(default=None, description="the path of the piper program")
    expiry_s: float = Field(default=60.0, ge=1, le=3600, description="seconds, from 1 to 3600")
    urgent_expiry_s: float = Field(default=300.0, ge=1, le=86_400, description="seconds, from 1 to 86400")
    quiet_hours: str | None = Field(default=None, description='hours of the day like "22:00-07:00"')

    @field_validator("quiet_hours")
    @classmethod
    def _hours_are_a_span(cls, written: str | None) -> str | None:
        if written is not None and hours_of(written) is None:
            raise ValueError(f'found {written!r}; expected hours of the day like "22:00-07:00"')
        return written


class EscalationSection(Section):
    """How an urgent alert that nobody acknowledges is told again; a rule may have its own."""

    every_s: float = Field(default=60.0, ge=1, le=86_400, description="seconds, from 1 to 86400")
    times: int = Field(default=5, ge=0, le=1000, description="a whole number from 0 (never) to 1000")
    louder_after: int = Field(default=1, ge=1, le=1001, description="a whole number from 1 to 1001")
    every_channel_after: int = Field(default=2, ge=1, le=1001, description="a whole number from 1 to 1001")


class EarsSection(Section):
    """What people say to the house."""

    enabled: bool = Field(default=True, description="true or false")
    names: list[Annotated[str, Field(pattern=r"^[^\W_][\w '-]{0,30}$")]] = Field(
        default=["Omni", "Omni Watch"], max_length=8, description="a list of names of at most 31 letters, like Omni"
    )
    name_needed: bool = Field(default=False, description="true or false")
    keep_heard: bool = Field(default=False, description="true or false")

    @field_validator("name_needed")
    @classmethod
    def _there_is_a_name(cls, is_needed: bool, info: ValidationInfo) -> bool:
        if is_needed and info.data.get("names") == []:
            raise ValueError("true with no name in names; nothing could ever be asked for")
        return is_needed


class EngineSection(Section):
    kind: Literal["embedded", "minicpm-o", "auto"] = Field(
        default="auto", description='"embedded", "minicpm-o" or "auto"'
    )
    threads: int | None = Field(default=None, ge=1, le=64, description="a whole number from 1 to 64")


class ModelSection(Section):
    """MiniCPM-o: which checkpoint, where it runs, and how it decides."""

    path: Text | None = Field(default=None, description='a folder, or a hub id like "openbmb/MiniCPM-o-4_5"')
    revision: Text | None = Field(default=None, description="a commit of the hub id in path")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$", description='"auto", "cpu", "cuda" or "cuda:0"'
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description='"auto", "bfloat16", "float16" or "float32"'
    )
    quantization: Literal["none", "int8", "int4"] = Field(default="none", description='"none", "int8" or "int4"')
    window: Literal["off", "basic", "context"] = Field(default="off", description='"off", "basic" or "context"')
    window_low: int = Field(default=5000, ge=256, le=40_000, description="a whole number of tokens, 256 to 40000")
    window_high: int = Field(default=6500, ge=256, le=40_000, description="a whole number of tokens, 256 to 40000")
    window_units: int = Field(default=24, ge=2, le=1000, description="a whole number of seconds, 2 to 1000")
    context_tokens: int = Field(default=8192, ge=256, le=40_000, description="a whole number of tokens, 256 to 40000")
    carried_s: int = Field(default=16, ge=0, le=120, description="a whole number of seconds, 0 to 120")
    bias: float = Field(default=0.0, ge=-20, le=20, description="a number from -20 to 20")
    confirm_of: int = Field(default=2, ge=1, le=10, description="a whole number from 1 to 10")
    confirm_in: int = Field(default=3, ge=1, le=10, description="a whole number from confirm_of to 10")
    second_opinion: bool = Field(default=False, description="true or false")
    forced_picture_s: float = Field(default=5.0, ge=0, le=60, description="seconds, from 0 (every picture) to 60")
    speak_requests: bool = Field(default=False, description="true or false")
    voice: Literal["daemon", "model"] = Field(default="daemon", description='"daemon" or "model"')
    voice_sample: Text | None = Field(default=None, description="the path of a recording of 1 to 30 s")
    voice_python: Text | None = Field(default=None, description="the path of a Python program")
    step_limit_s: float = Field(default=30.0, ge=1, le=3600, description="seconds, from 1 to 3600")

    @field_validator("revision")
    @classmethod
    def _revision_is_of_an_id(cls, revision: str | None, info: ValidationInfo) -> str | None:
        if revision is not None and info.data.get("path", "") is None:
            raise ValueError("set without path; it says which commit of the hub id in path is meant")
        return revision

    @field_validator("window_high")
    @classmethod
    def _high_is_above_low(cls, high: int, info: ValidationInfo) -> int:
        low = info.data.get("window_low")
        if low is not None and high <= low:
            raise ValueError(f"found {high}; expected more than window_low, which is {low}")
        return high

    @field_validator("confirm_in")
    @classmethod
    def _in_is_at_least_of(cls, seconds: int, info: ValidationInfo) -> int:
        needed = info.data.get("confirm_of")
        if needed is not None and seconds < needed:
            raise ValueError(f"found {seconds}; expected at least confirm_of, which is {needed}")
        return seconds


class ModelsSection(Section):
    folder: Text | None = Field(default=None, description="a folder")


class RetentionSection(Section):
    alerts_days: float = Field(default=90.0, ge=0.01, le=36_500, description="days, from 0.01 to 36500")
    snapshots_days: float = Field(default=14.0, ge=0.01, le=36_500, description="days, from 0.01 to 36500")


class RulesSection(Section):
    folder: Text | None = Field(default=None, description="a folder with your own rule files")

    @field_validator("folder")
    @classmethod
    def _folder_is_there(cls, written: str | None, info: ValidationInfo) -> str | None:
        if written is not None and not _place(info).path(written).is_dir():
            raise ValueError(f"there is no folder {_place(info).path(written)}")
        return written


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description='"debug", "info", "warning" or "error"'
    )
    format: Literal["auto", "plain", "json"] = Field(default="auto", description='"auto", "plain" or "json"')


class MetricsSection(Section):
    enabled: bool = Field(default=False, description="true or false")
    host: Text = Field(default="127.0.0.1", description="an address of this machine")
    port: int = Field(default=9469, ge=1, le=65535, description="a whole number from 1 to 65535")


class ConfigFile(Section):
    """The whole file. Everything has a default, so an empty file is a right one."""

    house: HouseSection = Field(default=HouseSection(), description="a [house] table")
    feeds: list[FeedSection] = Field(default=[], description="[[feeds]] tables, two brackets each")
    mqtt: MqttSection = Field(default=MqttSection(), description="a [mqtt] table")
    voice: VoiceSection = Field(default=VoiceSection(), description="a [voice] table")
    escalation: EscalationSection = Field(default=EscalationSection(), description="an [escalation] table")
    ears: EarsSection = Field(default=EarsSection(), description="an [ears] table")
    engine: EngineSection = Field(default=EngineSection(), description="an [engine] table")
    model: ModelSection = Field(default=ModelSection(), description="a [model] table")
    models: ModelsSection = Field(default=ModelsSection(), description="a [models] table")
    retention: RetentionSection = Field(default=RetentionSection(), description="a [retention] table")
    rules: RulesSection = Field(default=RulesSection(), description="a [rules] table")
    log: LogSection = Field(default=LogSection(), description="a [log] table")
    metrics: MetricsSection = Field(default=MetricsSection(), description="a [metrics] table")

    @classmethod
    def check(cls, raw: Mapping[str, Any], place: Place) -> Self:
        """The file's content as checked values.

        Raises:
            ConfigError: with one line for every problem found, each beginning with its key.
        """
        problems: list[str] = list(_repeated_names(raw))
        try:
            checked = cls.model_validate(raw, context=place)
        except ValidationError as error:
            problems = [in_words(details, raw, cls) for details in error.errors(include_url=False)] + problems
            raise ConfigError(*problems) from error
        if checked.engine.kind == "minicpm-o" and checked.model.path is None:
            problems.append('engine.kind: "minicpm-o" needs model.path; name the folder of its checkpoint')
        if checked.model.voice == "model" and checked.model.voice_sample is None:
            problems.append('model.voice: "model" needs model.voice_sample, a recording of the voice it shall have')
        if problems:
            raise ConfigError(*problems)
        return checked


def hours_of(written: str) -> tuple[time, time] | None:
    """`22:00-07:00` as begin and end; None when it is not that, or nothing lies between them."""
    begins, dash, ends = (part.strip() for part in written.partition("-"))
    if not (dash and _CLOCK.fullmatch(begins) and _CLOCK.fullmatch(ends)) or begins == ends:
        return None
    return time.fromisoformat(begins), time.fromisoformat(ends)


def read_secret(path: Path) -> str:
    """A secret's file without its last line end.

    Raises:
        ValueError: not there, not readable, not text, or empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"cannot read {path}: {why}") from error
    if not secret:
        raise ValueError(f"{path} is empty; expected the password")
    return secret


def _is_there(path: Path) -> bool:
    """Also when we may not look: whoever reads it then says so."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _place(info: ValidationInfo) -> Place:
    place = info.context
    if not isinstance(place, Place):
        raise TypeError("ConfigFile is validated by ConfigFile.check, which says where the file lies")
    return place


def _password_file(written: str | None, info: ValidationInfo) -> str | None:
    if written is None:
        return None
    if info.data.get("user", "") is None:
        raise ValueError("set without user; give the user too")
    path = _place(info).secret(written)
    read_secret(path)
    return str(path)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _repeated_names(raw: Mapping[str, Any]) -> Iterator[str]:
    feeds = raw.get("feeds")
    names = [feed.get("name") for feed in feeds if isinstance(feed, dict)] if isinstance(feeds, list) else []
    for name in dict.fromkeys(name for name in names if isinstance(name, str) and names.count(name) > 1):
        yield f"feeds.{name}.name: {names.count(name)} feeds have this name; give each its own"
