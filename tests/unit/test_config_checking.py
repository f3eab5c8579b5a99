"""Every way to get the configuration wrong has a line that says what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from omni_watch.config.checking import ConfigFile, Place
from omni_watch.domain.errors import ConfigError


def problems_of(text: str, folder: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        ConfigFile.check(tomllib.loads(text), Place(folder=folder, home=folder))
    return caught.value.problems


def feed(line: str) -> str:
    return f'[[feeds]]\nname = "porch"\n{line}\n'


NO_ADDRESS = (
    "is no address with a port from 1 to 65535; write / @ : ? of a password as %2F %40 %3A %3F, or better use user and "
    "password_file"
)
WRONG = {
    # addresses
    feed('video = "rstp://cam/1"'): "feeds.porch.video: 'rstp://cam/1' has unknown scheme; did you mean rtsp?",
    feed('video = "htp://cam/1"'): "feeds.porch.video: 'htp://cam/1' has unknown scheme; did you mean http?",
    feed('video = "gopher://cam/1"'): (
        "feeds.porch.video: 'gopher://cam/1' has unknown scheme; expected a file, an rtsp://, rtsps://, http:// or "
        "https:// address, /dev/videoN or v4l2:N"
    ),
    feed('video = "rtsp:/cam/1"'): "feeds.porch.video: 'rtsp:/cam/1' lacks a slash; expected rtsp://…",
    feed('video = "rtsp:///1"'): "feeds.porch.video: 'rtsp:///1' names no host; expected rtsp://HOST[:PORT]/PATH",
    feed('video = "rtsp://cam:99999/1"'): f"feeds.porch.video: 'rtsp://cam:99999/1' {NO_ADDRESS}",
    feed('video = "rtsp://anna:hun/ter2@cam/1"'): f"feeds.porch.video: 'rtsp://***@cam/1' {NO_ADDRESS}",
    feed('video = "file:///clip.mp4"'): (
        "feeds.porch.video: 'file:///clip.mp4' is a file; write its path without file://"
    ),
    feed('video = "v4l2:front"'): (
        "feeds.porch.video: 'v4l2:front' does not name a camera; expected a number, like v4l2:0 or /dev/video0"
    ),
    feed('video = ""'): (
        "feeds.porch.video: found ''; expected a file, an rtsp://, rtsps://, http:// or https:// address, "
        "/dev/videoN or v4l2:N"
    ),
    feed('video = "rstp://anna:hunter2@cam/1?token=abc"'): (
        "feeds.porch.video: 'rstp://***@cam/1?token=***' has unknown scheme; did you mean rtsp?"
    ),
    feed("video = 0"): "feeds.porch.video: found 0; expected a text",
    # sound
    feed('audio = "steam"\nvideo = "a.mp4"'): (
        'feeds.porch.audio: found \'steam\'; expected "stream" (the sound of `video`), "mic", or "mic:NAME" with a '
        "device name or number; did you mean 'stream'?"
    ),
    feed('audio = "mic:"'): (
        'feeds.porch.audio: found \'mic:\'; expected "stream" (the sound of `video`), "mic", or "mic:NAME" with a '
        "device name or number; did you mean 'mic'?"
    ),
    feed('audio = "stream"'): (
        'feeds.porch.audio: "stream" needs a video that carries sound, a file or an address; expected "mic"'
    ),
    feed('audio = "stream"\nvideo = "v4l2:0"'): (
        'feeds.porch.audio: "stream" needs a video that carries sound, a file or an address; expected "mic"'
    ),
    feed(""): "feeds.porch.audio: missing, and so is video; a feed needs at least one of both",
    # names
    '[[feeds]]\nvideo = "a.mp4"': (
        "feeds[0].name: missing; expected 1 to 32 of a-z, 0-9, _ and -, beginning with a letter or digit"
    ),
    '[[feeds]]\nname = "Küche"\nvideo = "a.mp4"': (
        "feeds[0].name: found 'Küche'; expected 1 to 32 of a-z, 0-9, _ and -, beginning with a letter or digit"
    ),
    '[[feeds]]\nname = "a"\naudio = "mic"\n[[feeds]]\nname = "a"\naudio = "mic"': (
        "feeds.a.name: 2 feeds have this name; give each its own"
    ),
    '[feeds]\nname = "a"': "feeds: found a table; expected [[feeds]] tables, two brackets each",
    'feeds = ["porch"]': "feeds[0]: found 'porch'; expected a [[feeds]] table",
    # keys
    '[mqtt]\nhosst = "x"': "mqtt.hosst: unknown key; did you mean mqtt.host?",
    "[mqqt]\nenabled = true": "mqqt: unknown key; did you mean mqtt?",
    '[house]\nhost = "x"': "house.host: unknown key; did you mean mqtt.host?",
    "[log]\nquux = 1": "log.quux: unknown key; known keys here: level, format",
    '[mqtt]\npassword = "hunter2"': "mqtt.password: unknown key; did you mean mqtt.password_file?",
    feed('vidio = "a.mp4"\naudio = "mic"'): "feeds.porch.vidio: unknown key; did you mean feeds.porch.video?",
    'language = "en"': "language: unknown key; did you mean house.language?",
    # values
    '[mqtt]\nport = "1883"': "mqtt.port: found '1883'; expected a whole number from 1 to 65535",
    "[mqtt]\nport = 0": "mqtt.port: found 0; expected a whole number from 1 to 65535",
    "[mqtt]\nport = 1.5": "mqtt.port: found 1.5; expected a whole number from 1 to 65535",
    '[mqtt]\nenabled = "yes"': "mqtt.enabled: found 'yes'; expected true or false",
    '[mqtt]\nhost = "mqtt://broker"': (
        "mqtt.host: found 'mqtt://broker'; expected a host name alone, like localhost; port has its own key"
    ),
    "[mqtt]\npassword_file = 1234": "mqtt.password_file: found ***; expected a file that holds the password",
    "[voice]\nvolume = 11": "voice.volume: found 11; expected a number from 0 (silent) to 1",
    "[voice]\nvolume = nan": "voice.volume: found nan; expected a number from 0 (silent) to 1",
    '[voice]\noutput = "speeker"': (
        'voice.output: found \'speeker\'; expected "speaker", "file" or "off"; did you mean "speaker"?'
    ),
    "voice = true": "voice: found true; expected a [voice] table",
    "[engine]\nthreads = -1": "engine.threads: found -1; expected a whole number from 1 to 64",
    "[retention]\nalerts_days = 0": "retention.alerts_days: found 0; expected days, from 0.01 to 36500",
    '[house]\nlanguage = "de"': 'house.language: found \'de\'; expected "en" or "zh"',
    '[house]\ninstance = "My House"': (
        "house.instance: found 'My House'; expected 1 to 32 of a-z, 0-9, _ and -, beginning with a letter or digit"
    ),
    '[house]\nzone = "Europe/Madird"': (
        "house.zone: found 'Europe/Madird'; expected an IANA time zone like \"Europe/Madrid\"; "
        "did you mean Europe/Madrid?"
    ),
    '[house]\nzone = "../../etc/passwd"': (
        "house.zone: found '../../etc/passwd'; expected an IANA time zone like \"Europe/Madrid\""
    ),
    # things that belong together
    '[mqtt]\ncert_file = "c.pem"\ntls = false': "mqtt.cert_file: is used with TLS only; set tls = true or remove it",
    '[mqtt]\nkey_file = "k.pem"\ntls = true': (
        "mqtt.key_file: set without cert_file; a key needs the certificate that belongs to it"
    ),
    '[mqtt]\npassword_file = "p"': "mqtt.password_file: set without user; give the user too",
    feed('video = "a.mp4"\nuser = "anna"'): (
        "feeds.porch.user: video is no address that it could be for; a file or a camera needs no user"
    ),
    feed('audio = "mic"\nuser = "anna"'): (
        "feeds.porch.user: video is no address that it could be for; a file or a camera needs no user"
    ),
    feed('video = "rtsp://anna:pw@cam/1"\nuser = "anna"'): (
        "feeds.porch.user: the address in video has a user already; keep one of the two"
    ),
    '[voice]\nquiet_hours = "22-7"': (
        "voice.quiet_hours: found '22-7'; expected hours of the day like \"22:00-07:00\""
    ),
    '[voice]\nquiet_hours = "22:00-22:00"': (
        "voice.quiet_hours: found '22:00-22:00'; expected hours of the day like \"22:00-07:00\""
    ),
    "[escalation]\nevery_s = 0": "escalation.every_s: found 0; expected seconds, from 1 to 86400",
    feed('password_file = "p"\nvideo = "rtsp://cam/1"'): (
        "feeds.porch.password_file: set without user; give the user too"
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items(), ids=range(len(WRONG)))
def test_each_mistake_is_named_with_its_key_what_was_found_and_what_to_write(
    text: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "p").write_text("secret\n")

    assert problems_of(text, tmp_path) == (expected,)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = """
    [house]
    zone = "Nowhere/City"
    [[feeds]]
    name = "porch"
    video = "rstp://cam/1"
    audio = "steam"
    [[feeds]]
    name = "porch"
    vidio = "a.mp4"
    [mqtt]
    port = 0
    ca_file = "missing.pem"
    tls = true
    """

    keys = [problem.split(":")[0] for problem in problems_of(text, tmp_path)]

    assert sorted(keys) == [
        "feeds.porch.audio",
        "feeds.porch.audio",
        "feeds.porch.name",
        "feeds.porch.video",
        "feeds.porch.vidio",
        "house.zone",
        "mqtt.ca_file",
        "mqtt.port",
    ]


def test_files_that_are_named_must_be_there(tmp_path: Path) -> None:
    text = """
    [mqtt]
    user = "anna"
    password_file = "none"
    tls = true
    ca_file = "ca.pem"
    [rules]
    folder = "my-rules"
    """

    assert problems_of(text, tmp_path) == (
        f"mqtt.password_file: cannot read {tmp_path}/none: No such file or directory",
        f"mqtt.ca_file: there is no file {tmp_path}/ca.pem",
        f"rules.folder: there is no folder {tmp_path}/my-rules",
    )


def test_an_empty_or_unreadable_secret_is_a_mistake_that_does_not_show_the_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    text = '[mqtt]\nuser = "anna"\npassword_file = "{}"'

    assert problems_of(text.format("empty"), tmp_path) == (
        f"mqtt.password_file: {tmp_path}/empty is empty; expected the password",
    )
    assert problems_of(text.format("binary"), tmp_path) == (
        f"mqtt.password_file: cannot read {tmp_path}/binary: it is not UTF-8 text",
    )


def test_a_long_wrong_value_is_cut_short(tmp_path: Path) -> None:
    (problem,) = problems_of(f'[house]\nlanguage = "{"x" * 500}"', tmp_path)

    assert len(problem) < 130
    assert "…" in problem


def test_systemd_credentials_come_before_the_files_own_folder(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "mqtt_password").write_text("from systemd")
    place = Place(folder=tmp_path, home=tmp_path, credentials=credentials)

    checked = ConfigFile.check({"mqtt": {"user": "anna", "password_file": "mqtt_password"}}, place)

    assert checked.mqtt.password_file == str(credentials / "mqtt_password")


def test_a_credential_that_may_not_be_read_is_a_problem_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)  # root, as whom tests may run, is refused nothing
    monkeypatch.setattr(Path, "read_text", refuse)
    place = Place(folder=tmp_path, home=tmp_path, credentials=tmp_path / "credentials")

    with pytest.raises(ConfigError, match=r"mqtt.password_file: cannot read .*/credentials/pw: Permission denied"):
        ConfigFile.check({"mqtt": {"user": "anna", "password_file": "pw"}}, place)
