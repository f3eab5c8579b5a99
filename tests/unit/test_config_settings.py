"""One file, read once: where it is looked for, what it becomes, and what is never shown."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from datetime import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omni_watch.config.checking import ConfigFile
from omni_watch.config.settings import Settings, host_slug, read_settings, settings_as_shown, usual_places
from omni_watch.domain.addresses import hide_credentials
from omni_watch.domain.errors import ConfigError
from omni_watch.domain.rules import Escalation
from omni_watch.domain.tasks import WatchWindow

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config.example.toml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = read_settings(environment={"HOME": str(tmp_path)})

    assert settings.origin is None
    assert settings.feeds == ()
    assert settings.state_dir == tmp_path / ".local/state/omni-watch"
    assert settings.models_dir == tmp_path / ".cache/omni-watch/models"
    assert settings.voice.folder == settings.state_dir / "spoken"
    assert settings.mqtt.port == 1883
    ZoneInfo(settings.zone)


def test_without_a_file_that_is_needed_the_places_looked_at_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.example\.toml") as caught:
        read_settings(environment={"HOME": str(tmp_path)}, is_file_needed=True)

    assert f"{tmp_path}/.config/omni-watch/config.toml" in str(caught.value)
    assert "/etc/omni-watch/config.toml" in str(caught.value)


def test_without_a_feed_there_is_nothing_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feeds: none"):
        read_settings(environment={"HOME": str(tmp_path)}).with_feeds()


def test_the_first_place_that_holds_a_file_wins(tmp_path: Path) -> None:
    places = {name: tmp_path / name / "config.toml" for name in ("flag", "variable", "service")}
    own = write(tmp_path / "own/omni-watch/config.toml", '[house]\ninstance = "own"')
    for name, path in places.items():
        write(path, f'[house]\ninstance = "{name}"')
    variables = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "own"),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "service"),
        "OMNI_WATCH_CONFIG": str(places["variable"]),
    }

    def instance(path: Path | None = None) -> str:
        return read_settings(path, environment=variables).instance

    assert instance(places["flag"]) == "flag"
    assert instance() == "variable"
    del variables["OMNI_WATCH_CONFIG"]
    assert instance() == "service"
    places["service"].unlink()
    assert instance() == "own"
    assert usual_places(variables)[-2:] == (own, Path("/etc/omni-watch/config.toml"))


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        read_settings(tmp_path / "none.toml", environment={})
    with pytest.raises(ConfigError, match="there is no configuration file"):
        read_settings(environment={"OMNI_WATCH_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[mqtt\n", r"not TOML: .*line 1"),
        (b"a = 1\na = 2\n", r"not TOML: .*line 2"),
        (b"name = '\xff'", r"not UTF-8 text \(byte 8\)"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=expected) as caught:
        read_settings(path, environment={})

    assert caught.value.__notes__ == [f"in {path}"]


def test_systemd_folders_are_used_when_given(tmp_path: Path) -> None:
    variables = {
        "HOME": str(tmp_path),
        "STATE_DIRECTORY": "/var/lib/omni-watch:/var/lib/other",
        "CACHE_DIRECTORY": "/var/cache/omni-watch",
    }

    settings = read_settings(environment=variables)

    assert settings.state_dir == Path("/var/lib/omni-watch")
    assert settings.models_dir == Path("/var/cache/omni-watch/models")
    assert read_settings(environment=variables | {"OMNI_WATCH_MODELS": "/m"}).models_dir == Path("/m")


def test_relative_xdg_folders_are_ignored_as_their_specification_asks(tmp_path: Path) -> None:
    settings = read_settings(environment={"HOME": str(tmp_path), "XDG_STATE_HOME": "state"})

    assert settings.state_dir == tmp_path / ".local/state/omni-watch"


def test_paths_begin_at_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "etc/rules").mkdir(parents=True)
    path = write(
        tmp_path / "etc/config.toml",
        """
        [house]
        state_dir = "state"
        [[feeds]]
        name = "tape"
        video = "clips/a.mp4"
        audio = "stream"
        [models]
        folder = "~/models"
        [rules]
        folder = "rules"
        """,
    )

    settings = read_settings(path, environment={"HOME": "/home/anna"})

    assert settings.state_dir == tmp_path / "etc/state"
    assert settings.feeds[0].video == str(tmp_path / "etc/clips/a.mp4")
    assert settings.models_dir == Path("/home/anna/models")
    assert settings.rules_dir == tmp_path / "etc/rules"


def house_with_secrets(folder: Path) -> Settings:
    write(folder / "cam", "pa/ss:w@rd\n")
    write(folder / "broker", "correct horse\n")
    path = write(
        folder / "config.toml",
        """
        [[feeds]]
        name = "porch"
        video = "rtsp://cam.lan:554/stream1?channel=1"
        audio = "stream"
        user = "anna"
        password_file = "cam"
        [[feeds]]
        name = "yard"
        video = "http://anna:hunter2@yard.lan/live.m3u8?token=abc123"
        [mqtt]
        enabled = true
        tls = true
        user = "house"
        password_file = "broker"
        """,
    )
    return read_settings(path, environment={"HOME": str(folder)})


def test_a_camera_is_opened_with_its_password_and_shown_without(tmp_path: Path) -> None:
    porch, yard = house_with_secrets(tmp_path).feeds

    assert porch.video_address == "rtsp://anna:pa%2Fss%3Aw%40rd@cam.lan:554/stream1?channel=1"
    assert porch.video == "rtsp://cam.lan:554/stream1?channel=1"
    assert yard.video_address == yard.video


def test_no_secret_is_in_what_config_show_prints_nor_in_any_repr(tmp_path: Path) -> None:
    settings = house_with_secrets(tmp_path)
    shown = json.dumps(settings_as_shown(settings)) + str(settings.mqtt) + str(settings.feeds[0])

    assert "correct horse" not in shown
    assert "w@rd" not in shown
    assert "hunter2" not in json.dumps(settings_as_shown(settings))
    assert "abc123" not in json.dumps(settings_as_shown(settings))
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.reveal() == "correct horse"
    assert settings.mqtt.port == 8883


def test_what_config_show_prints_has_exactly_the_files_own_keys(tmp_path: Path) -> None:
    shown = settings_as_shown(house_with_secrets(tmp_path))
    in_file = {
        name: set(table) for name, table in ConfigFile.model_validate({}).model_dump().items() if name != "feeds"
    }
    in_file["mqtt"] = in_file["mqtt"] - {"password_file"} | {"password"}

    assert {name: set(table) for name, table in shown.items() if name != "feeds"} == in_file


def test_quiet_hours_are_those_of_the_house_s_own_time(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[house]\nzone = "Asia/Shanghai"\n[voice]\nquiet_hours = "22:30 - 7:00"\n')
    with pytest.raises(ConfigError, match="quiet_hours"):
        read_settings(config, environment={})
    config.write_text('[house]\nzone = "Asia/Shanghai"\n[voice]\nquiet_hours = "22:30 - 07:00"\n')
    settings = read_settings(config, environment={"HOME": str(tmp_path)})
    assert settings.voice.quiet_hours == WatchWindow(begins=time(22, 30), ends=time(7), zone="Asia/Shanghai")
    assert settings_as_shown(settings)["voice"]["quiet_hours"] == "22:30-07:00"
    assert settings.escalation == Escalation()


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = read_settings(environment={"HOME": str(tmp_path)})

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.zone = "UTC"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variables", "watchdog_s", "is_supervised"),
    [
        ({}, None, False),
        ({"INVOCATION_ID": "x"}, None, False),
        ({"INVOCATION_ID": "x", "JOURNAL_STREAM": "8:1"}, None, True),
        ({"WATCHDOG_USEC": "60000000"}, 60.0, False),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0, False),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None, False),
        ({"WATCHDOG_USEC": "soon"}, None, False),
    ],
)
def test_what_the_service_manager_told_is_read_with_the_settings(
    variables: dict[str, str], watchdog_s: float | None, is_supervised: bool, tmp_path: Path
) -> None:
    service = read_settings(environment={"HOME": str(tmp_path)} | variables).service

    assert service.watchdog_s == watchdog_s
    assert service.is_supervised == is_supervised


@pytest.mark.parametrize(
    ("host", "slug"),
    [
        ("Anna's-PC.local", "anna-s-pc"),
        ("kitchen_pi", "kitchen_pi"),
        ("---", "house"),
        ("", "house"),
        ("家", "house"),
        ("x" * 64, "x" * 32),
    ],
)
def test_a_host_name_becomes_an_instance_name(host: str, slug: str) -> None:
    assert host_slug(host) == slug


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("open rtsp://anna:pw@cam/1 failed", "open rtsp://***@cam/1 failed"),
        ("rtsp://anna:p@ss:w?rd@cam/1", "rtsp://***@cam/1"),
        ("rtsp://anna@cam/1", "rtsp://***@cam/1"),
        ("rtsp://an@na:hun/te?r2@cam/1", "rtsp://***@cam/1"),
        ("rtsp:/anna:pw@cam/1", "rtsp:/***@cam/1"),
        ("http://cam/s?channel=1&user=anna&password=pw&x=2", "http://cam/s?channel=1&user=***&password=***&x=2"),
        ("http://cam/s?access_token=abc#t", "http://cam/s?access_token=***"),
        ("http://cam/s?u=anna&p=pw", "http://cam/s?u=***&p=***"),
        ("rtsp://cam/1 and mail anna@example.org", "rtsp://cam/1 and mail anna@example.org"),
        ("/dev/video0", "/dev/video0"),
        ("", ""),
    ],
)
def test_addresses_lose_what_opens_a_camera(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


@given(odd=st.text(min_size=4, alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "S"])))
def test_no_password_however_odd_survives(odd: str) -> None:
    """Also one that nobody escaped."""
    assume(odd not in "rtsp://***@camera.lan/stream1")

    for text in (f"rtsp://anna:{odd}@camera.lan/stream1", f"cannot open rtsp://{odd}@camera.lan/stream1"):
        assert odd not in hide_credentials(text)


class TestExample:
    """The example that people copy."""

    def test_is_right_as_it_stands(self) -> None:
        settings = read_settings(EXAMPLE, environment={"HOME": "/home/anna"})

        assert [feed.name for feed in settings.feeds] == ["kitchen", "hall"]

    def test_shows_every_key_that_there_is(self) -> None:
        uncommented = re.sub(r"(?m)^# (?=\w+ = |\[)", "", EXAMPLE.read_text(encoding="utf-8"))
        in_example = tomllib.loads(uncommented)
        feed_keys = {key for feed in in_example["feeds"] for key in feed}

        assert feed_keys == set(ConfigFile.model_fields["feeds"].annotation.__args__[0].model_fields)  # type: ignore[union-attr]
        assert {name: set(table) for name, table in in_example.items() if name != "feeds"} == _keys_of_file()

    def test_shows_the_defaults_that_hold_without_it(self) -> None:
        in_example = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
        defaults = ConfigFile.model_validate({}).model_dump()

        written = {
            (table, key): value for table, keys in in_example.items() if table != "feeds" for key, value in keys.items()
        }

        assert written == {(table, key): defaults[table][key] for table, key in written}


def _keys_of_file() -> dict[str, set[str]]:
    defaults: dict[str, Any] = ConfigFile.model_validate({}).model_dump()
    return {name: set(table) for name, table in defaults.items() if name != "feeds"}
