"""What the doctor says about each part of the house, well or not."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from omni_watch.app.doctor import (
    ROOM_NEEDED,
    Finding,
    Probes,
    check_broker,
    check_clock,
    check_config,
    check_database,
    check_disk,
    check_engine,
    check_feed,
    check_metrics,
    check_models,
    check_secrets,
    check_services,
    check_speaker,
    check_state_dir,
    check_voices,
    diagnose,
)
from omni_watch.app.engines import Choice
from omni_watch.app.service import Service, find_services
from omni_watch.cabinet import Standing, State
from omni_watch.config.settings import (
    FeedSettings,
    MetricsSettings,
    MqttSettings,
    Settings,
    VoiceSettings,
    read_settings,
)
from omni_watch.domain.errors import ChannelUnavailable, ModelError, StoreError
from omni_watch.store.care import Health
from omni_watch.telemetry.clock import is_synchronised
from tests.fakes.fake_clock import NOON


@dataclass(frozen=True)
class FakeProbe:
    label: str = "camera rtsp://cam/1"
    works: bool = True
    what: str = "1280x720"
    advice: str = ""


def failing(error: Exception) -> Any:
    def fail(*_arguments: object) -> NoReturn:
        raise error

    return fail


def standing(id_: str, state: State = State.PRESENT, ability: str = "hear") -> Standing:
    return Standing(
        id=id_, ability=ability, path=Path(id_), state=state, detail="" if state is State.PRESENT else state.value
    )


def health(*problems: str) -> Health:
    return Health(path=Path("x.db"), revision="1", problems=problems, size_bytes=4096, rows={"tasks": 3, "alerts": 2})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(environment={"HOME": str(tmp_path)})


class TestConfiguration:
    def test_no_file_is_not_a_failure_but_told(self, settings: Settings) -> None:
        assert check_config(settings).ok is None

    def test_a_file_without_feeds_watches_nothing(self, settings: Settings) -> None:
        assert check_config(replace(settings, origin=Path("/c.toml"))).ok is False

    def test_a_file_with_feeds_names_them(self, settings: Settings) -> None:
        feeds = (FeedSettings(name="porch", audio="mic"), FeedSettings(name="yard", audio="mic"))

        assert check_config(replace(settings, origin=Path("/c.toml"), feeds=feeds)) == Finding(
            "configuration", True, "/c.toml, feeds: porch, yard"
        )


class TestFeeds:
    def findings(self, *probes: FakeProbe) -> list[Finding]:
        return list(check_feed(FeedSettings(name="porch", video="rtsp://cam/1"), lambda feed: probes))

    def test_each_device_has_its_own_finding(self) -> None:
        found = self.findings(FakeProbe(), FakeProbe(label="microphone", works=False, what="busy", advice="close it"))

        assert found == [
            Finding("feed porch", True, "camera rtsp://cam/1: 1280x720"),
            Finding("feed porch", False, "microphone: busy", "close it"),
        ]

    def test_credentials_are_not_shown(self) -> None:
        (found,) = self.findings(FakeProbe(label="rtsp://anna:pw@cam", works=False, what="no", advice="rtsp://u:pw@c"))

        assert "pw" not in found.what + found.do

    @pytest.mark.parametrize(
        ("video", "audio", "ok", "words"),
        [
            ("rtsp://anna:pw@cam/1", "stream", None, "rtsp://***@cam/1, not tried"),
            ("/dev/video99", None, False, "/dev/video99 is not there"),
            ("v4l2:99", "mic", False, "/dev/video99 is not there"),
            ("/nowhere/clip.mp4", "stream", False, "/nowhere/clip.mp4 is not there"),
            (__file__, None, True, "is there"),
            (None, "mic:1", None, "microphone (mic:1), not tried"),
        ],
    )
    def test_a_quick_look_opens_nothing(
        self, video: str | None, audio: str | None, ok: bool | None, words: str
    ) -> None:
        (found,) = check_feed(FeedSettings(name="porch", video=video, audio=audio), None)

        assert found.ok is ok
        assert words in found.what
        assert bool(found.do) == (ok is False)


class TestSpeaker:
    VOICE = VoiceSettings(folder=Path("/spoken"))

    def test_a_speaker_that_answers_works(self) -> None:
        assert check_speaker(self.VOICE, lambda voice: "USB Audio").ok is True

    def test_a_speaker_that_is_gone_fails_with_advice(self) -> None:
        found = check_speaker(self.VOICE, failing(ChannelUnavailable("no sound device")))

        assert (found.ok, found.what) == (False, "no sound device")
        assert "voice.device" in found.do

    @pytest.mark.parametrize("voice", [replace(VOICE, enabled=False), replace(VOICE, output="off")])
    def test_a_speaker_that_is_not_wanted_is_not_asked(self, voice: VoiceSettings) -> None:
        assert check_speaker(voice, failing(AssertionError("asked"))).ok is None


class TestVoices:
    VOICE = VoiceSettings(folder=Path("/spoken"))

    def found(self, language: str, english: Sequence[str], chinese: Sequence[str]) -> Finding:
        return check_voices(self.VOICE, language, lambda: {"en": english, "zh": chinese})

    def test_natural_voices_need_nothing_done(self) -> None:
        assert self.found("en", ["piper", "espeak-ng"], ["kokoro", "espeak-ng"]) == Finding(
            "voices", True, "English: piper, then espeak-ng; Chinese: kokoro, then espeak-ng"
        )

    def test_a_language_with_the_plain_voice_only_works_and_is_told_what_would_be_better(self) -> None:
        found = self.found("en", ["espeak-ng"], ["espeak-ng"])

        assert found.ok is True
        assert "natural English voice: pip install piper-tts" in found.do
        assert "natural Chinese voice: omni-watch models pull" in found.do

    def test_a_house_whose_own_language_nobody_speaks_is_mute(self) -> None:
        assert self.found("en", ["piper"], []).ok is True
        assert self.found("zh", ["piper"], []) == Finding(
            "voices", False, "English: piper; Chinese: nobody", "apt install espeak-ng"
        )

    def test_a_damaged_model_is_told(self) -> None:
        assert check_voices(self.VOICE, "en", failing(ModelError("voice-en has other bytes"))).ok is False

    def test_a_house_that_does_not_speak_needs_none(self) -> None:
        assert check_voices(replace(self.VOICE, output="off"), "en", failing(AssertionError("asked"))).ok is None


class TestBroker:
    def test_a_broker_that_answers_works(self) -> None:
        assert check_broker(MqttSettings(enabled=True), lambda mqtt: "MQTT 5 at localhost:1883").ok is True

    def test_a_broker_that_refuses_fails_with_advice(self) -> None:
        found = check_broker(MqttSettings(enabled=True), failing(ChannelUnavailable("not authorized")))

        assert found.ok is False
        assert "mqtt.host" in found.do

    def test_a_broker_that_is_not_wanted_is_not_asked(self) -> None:
        assert check_broker(MqttSettings(), failing(AssertionError("asked"))).ok is None


class TestModels:
    def test_all_there_is_one_line(self) -> None:
        assert [found.ok for found in check_models(lambda: [standing("a"), standing("b")])] == [True]

    def test_each_ability_that_lacks_something_is_named_with_the_command_that_mends_it(self) -> None:
        standings = [
            standing("a", State.MISSING),
            standing("b", State.WRONG),
            standing("c", State.MISSING, ability="read displays"),
        ]

        found = list(check_models(lambda: standings))

        assert [each.what for each in found] == ["cannot hear: a missing; b wrong", "cannot read displays: c missing"]
        assert {(each.ok, each.do) for each in found} == {(False, "omni-watch models pull")}

    def test_a_cabinet_that_cannot_be_read_is_a_finding(self) -> None:
        (found,) = check_models(failing(ModelError("permission denied")))

        assert (found.ok, found.what) == (False, "permission denied")


class TestDisk:
    def test_enough_room_works(self, tmp_path: Path) -> None:
        assert check_disk(tmp_path, lambda folder: ROOM_NEEDED).ok is True

    def test_too_little_room_says_how_much_is_needed(self, tmp_path: Path) -> None:
        found = check_disk(tmp_path, lambda folder: ROOM_NEEDED - 1)

        assert found.ok is False
        assert "at least 200 MB" in found.do

    def test_a_disk_that_is_gone_is_a_finding(self, tmp_path: Path) -> None:
        found = check_disk(tmp_path, failing(OSError(errno.EIO, "Input/output error")))

        assert (found.ok, found.what) == (False, f"{tmp_path}: Input/output error")

    def test_a_folder_to_come_is_measured_where_it_will_be(self, tmp_path: Path) -> None:
        asked: list[Path] = []
        check_disk(tmp_path / "a" / "b", lambda folder: asked.append(folder) or ROOM_NEEDED)  # type: ignore[func-returns-value]

        assert asked == [tmp_path]


class TestStateFolder:
    def test_a_private_folder_is_right(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)

        assert check_state_dir(tmp_path) == Finding("state folder", True, str(tmp_path))

    def test_a_folder_that_others_may_read_is_told(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)

        found = check_state_dir(tmp_path)

        assert found.ok is True
        assert found.do == f"chmod 700 {tmp_path}"

    def test_a_folder_to_come_is_promised_and_not_made(self, tmp_path: Path) -> None:
        found = check_state_dir(tmp_path / "a" / "b")

        assert (found.ok, found.what) == (True, f"{tmp_path}/a/b will be made")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_written_fails(self) -> None:
        found = check_state_dir(Path("/proc/omni-watch"))

        assert found.ok is False
        assert "house.state_dir" in found.do


class TestDatabase:
    def test_one_to_come_is_not_opened(self, tmp_path: Path) -> None:
        assert check_database(tmp_path / "x.db", failing(AssertionError("opened"))).ok is None

    @pytest.mark.parametrize(
        ("probe", "ok", "words"),
        [
            (lambda path: health(), True, "2 alerts, 3 tasks"),
            (lambda path: health("row 7 missing"), False, "damaged: row 7 missing"),
            (failing(StoreError("it is no database")), False, "it is no database"),
        ],
    )
    def test_one_that_is_there_is_examined(self, tmp_path: Path, probe: Any, ok: bool, words: str) -> None:
        (tmp_path / "x.db").touch()

        found = check_database(tmp_path / "x.db", probe)

        assert (found.ok, found.what) == (ok, words)
        assert bool(found.do) is not ok


class TestClock:
    @pytest.mark.parametrize(
        ("now", "is_kept", "ok", "words"),
        [
            (NOON, True, True, "is synchronised"),
            (NOON, False, None, "is not synchronised"),
            (NOON, None, None, "nobody tells"),
            (NOON.replace(year=1970), True, False, "1970-11-22 12:00 UTC, which cannot be"),
        ],
    )
    def test_it_is_right_kept_or_doubted(
        self, now: datetime, is_kept: bool | None, ok: bool | None, words: str
    ) -> None:
        found = check_clock(now, lambda: is_kept)

        assert found.ok is ok
        assert words in found.what

    def test_the_kernel_is_asked_without_harm(self) -> None:
        assert is_synchronised() in (True, False, None)


class TestEngine:
    def test_which_engine_watches_and_why_is_told(self) -> None:
        found = check_engine(lambda: Choice("minicpm-o", "MiniCPM-o-4_5 on NVIDIA RTX 4090, bfloat16"))

        assert found.ok
        assert "4090" in found.what

    def test_a_checkpoint_that_is_named_and_cannot_be_used_is_a_failure_also_where_something_else_watches(self) -> None:
        found = check_engine(lambda: Choice("embedded", "it does not fit", is_second_best=True))

        assert found.ok is False
        assert "does not fit" in found.what
        assert "model.path" in found.do

    def test_an_engine_that_is_asked_for_and_cannot_be_had_is_a_failure(self) -> None:
        assert check_engine(failing(ModelError("/models/x is no folder"))).ok is False


RUNNING = Service(
    scope="system",
    state="active",
    is_enabled=True,
    is_stale=False,
    restarts=0,
    result="success",
    exit_status=0,
    status="watching 2 feeds for 3 tasks",
)


class TestService:
    def found(self, **changes: Any) -> list[Finding]:
        return list(check_services(lambda: [replace(RUNNING, **changes)]))

    def test_one_that_runs_says_what_it_does(self) -> None:
        assert self.found() == [Finding("service", True, "watching 2 feeds for 3 tasks")]

    def test_one_that_had_to_be_started_anew_says_where_to_look(self) -> None:
        assert "started anew 2 times, see journalctl -u omni-watch -n 50" in self.found(restarts=2)[0].what

    @pytest.mark.parametrize(
        ("changes", "what", "do"),
        [
            ({"exit_status": 78, "result": "exit-code"}, "the configuration is wrong", "omni-watch config check"),
            ({"exit_status": 6, "result": "watchdog"}, "fell silent", "journalctl -u omni-watch -n 50"),
            ({"exit_status": 1, "result": "exit-code"}, "failed (exit-code, exit 1)", "journalctl -u omni-watch -n 50"),
        ],
    )
    def test_one_that_failed_says_why_and_what_to_do(self, changes: dict[str, Any], what: str, do: str) -> None:
        (found,) = self.found(state="failed", **changes)

        assert found.ok is False
        assert what in found.what
        assert found.do == do

    def test_one_that_does_not_run_is_a_failure_only_where_it_is_wanted(self) -> None:
        assert self.found(state="inactive")[0].ok is False
        assert self.found(state="inactive", is_enabled=False)[0].ok is None

    def test_what_would_surprise_later_is_told_now(self) -> None:
        found = self.found(scope="user", is_stale=True, is_enabled=False, lingers=False)

        assert [each.do for each in found] == [
            "",
            "systemctl --user daemon-reload",
            "systemctl --user enable omni-watch",
            "loginctl enable-linger",
        ]

    def test_none_is_no_failure(self) -> None:
        (not_installed,) = check_services(list)
        (no_systemd,) = check_services(lambda: None)

        assert not_installed.ok is no_systemd.ok is None

    def test_systemd_is_asked_for_both_kinds(self) -> None:
        lines = ("LoadState=loaded", "ActiveState=failed", "UnitFileState=enabled", "NRestarts=3", "Result=watchdog")
        shown = "\n".join([*lines, "ExecMainStatus=6", ""])
        answers = {"--system": shown, "--user": "LoadState=not-found\n"}

        assert find_services(lambda command: answers[command[1]]) == [
            replace(RUNNING, state="failed", restarts=3, result="watchdog", exit_status=6, status="")
        ]

    def test_where_no_systemd_is_nobody_manages_services(self) -> None:
        assert find_services(failing(FileNotFoundError("systemctl"))) is None

    def test_a_session_without_lingering_is_noticed(self) -> None:
        def run(command: Sequence[str]) -> str:
            scopes = {"--system": "LoadState=not-found", "--user": "LoadState=loaded\nActiveState=active"}
            return "no\n" if command[0] == "loginctl" else scopes[command[1]]

        found = find_services(run)

        assert found is not None
        assert [(each.scope, each.lingers) for each in found] == [("user", False)]


class TestSecretsAndNumbers:
    def test_secrets_that_everybody_may_read_are_a_failure(self, tmp_path: Path) -> None:
        (tmp_path / "credentials").mkdir()
        secret = tmp_path / "credentials" / "mqtt_password"
        secret.write_text("quite secret")
        secret.chmod(0o644)

        (found,) = check_secrets(tmp_path / "config.toml")
        assert (found.ok, found.do) == (False, f"chmod o= {secret}")
        assert "quite" not in found.what

        secret.chmod(0o640)
        (found,) = check_secrets(tmp_path / "config.toml")
        assert found.ok

    def test_without_secrets_there_is_nothing_to_say(self, tmp_path: Path) -> None:
        assert list(check_secrets(tmp_path / "config.toml")) == []
        assert list(check_secrets(None)) == []

    def test_a_port_that_another_has_is_told(self) -> None:
        metrics = MetricsSettings(enabled=True)

        (found,) = check_metrics(
            metrics, failing(OSError(errno.EADDRINUSE, "Address already in use")), is_running=False
        )
        assert found.ok is False
        assert found.what == "127.0.0.1:9469: Address already in use"

        (found,) = check_metrics(metrics, lambda metrics, is_running: "shown", is_running=True)
        assert found.ok

    def test_numbers_that_nobody_wants_are_not_mentioned(self) -> None:
        assert list(check_metrics(MetricsSettings(), failing(OSError()), is_running=False)) == []


class TestExamination:
    def probes(self, devices: Sequence[FakeProbe] = ()) -> Probes:
        return Probes(
            devices=lambda feed: devices,
            speaker=lambda voice: "USB Audio",
            voices=lambda: {"en": ["piper", "espeak-ng"], "zh": ["kokoro", "espeak-ng"]},
            broker=lambda mqtt: "MQTT 5",
            models=lambda: [standing("a")],
            engine=lambda: Choice("embedded", "model.path names no checkpoint"),
            database=lambda path: health(),
            deaf=lambda path: frozenset(),
            free_bytes=lambda folder: ROOM_NEEDED,
            services=list,
            metrics=lambda metrics, is_running: "shown",
            is_clock_kept=lambda: True,
            now=lambda: NOON,
        )

    def house(self, settings: Settings) -> Settings:
        porch = FeedSettings(name="porch", video="rtsp://cam/1", audio="stream")
        hall = FeedSettings(name="hall", video=__file__, audio="mic")
        return replace(settings, feeds=(porch, hall), origin=Path("/c.toml"))

    def test_everything_is_looked_at_once(self, settings: Settings, tmp_path: Path) -> None:
        found = diagnose(self.house(settings), self.probes([FakeProbe()]), database=tmp_path / "x.db")

        assert [each.area for each in found] == [
            "configuration",
            "state folder",
            "disk",
            "database",
            "clock",
            "service",
            "feed porch",
            "feed hall",
            "broker",
            "speaker",
            "voices",
            "models",
            "engine",
        ]
        assert all(each.ok is not False for each in found)

    def test_a_feed_to_which_nobody_wants_us_to_listen_is_told_and_is_no_fault(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        probes = replace(self.probes([FakeProbe()]), deaf=lambda path: {"hall", "gone"})
        found = diagnose(self.house(settings), probes, database=tmp_path / "x.db")

        (told,) = [each for each in found if each.what == "its sound is switched off"]
        assert (told.area, told.ok) == ("feed hall", None)
        assert told.do.startswith("omni-watch listen hall on")

    def test_a_quick_one_opens_no_device_and_reads_no_model(self, settings: Settings, tmp_path: Path) -> None:
        slow = replace(
            self.probes(),
            devices=failing(AssertionError("opened")),
            speaker=failing(AssertionError("opened")),
            models=failing(AssertionError("read")),
        )

        found = diagnose(self.house(settings), slow, database=tmp_path / "x.db", is_quick=True)

        assert [each.area for each in found][-3:] == ["feed porch", "feed hall", "broker"]

    def test_the_running_daemons_devices_are_left_alone(self, settings: Settings, tmp_path: Path) -> None:
        asked: list[str] = []
        probes = replace(self.probes(), devices=lambda feed: [FakeProbe(what=asked.append(feed.name) or "")])  # type: ignore[func-returns-value]

        diagnose(self.house(settings), probes, database=tmp_path / "x.db", is_running=True)

        assert asked == ["porch"]
