"""Every command against a house in memory: what people read, what scripts read, and how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from omni_watch.app.doctor import Finding
from omni_watch.app.told import Told
from omni_watch.cli import run_command
from omni_watch.cli.shell import Shell
from omni_watch.config.settings import FeedSettings
from omni_watch.domain.alerts import Alert, Course, Delivery, DeliveryState, Transition
from omni_watch.domain.decisions import Means
from omni_watch.domain.errors import ConfigError, FeedError, StoreError
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import TaskState
from omni_watch.domain.teaching import Label
from omni_watch.watch.asking import Cancel
from omni_watch.watch.ledger import Mark
from tests.fakes.fake_clock import NOON
from tests.fakes.fake_house import FakeApplication, FakeHouse, fake_application

KETTLE = "tell me when the kettle is full"


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True)
class Terminal:
    """Somebody who types commands."""

    application: FakeApplication
    capture: pytest.CaptureFixture[str]

    @property
    def house(self) -> FakeHouse:
        return self.application.house

    def type(self, *arguments: str) -> Outcome:
        code = run_command(arguments, Shell(given_application=self.application))
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("OMNI_WATCH_CONFIG", "CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", "STATE_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Terminal(fake_application(tmp_path), capsys)


def add_kettle(terminal: Terminal, *more: str) -> Outcome:
    return terminal.type("task", "add", KETTLE, *more)


class TestTasks:
    def test_adding_a_task_tells_its_id_and_what_it_still_needs(self, terminal: Terminal) -> None:
        outcome = add_kettle(terminal)

        assert outcome.code == 0
        assert f"task1  {KETTLE}" in outcome.out
        assert "cannot be watched yet" in outcome.out
        assert "Show me what full looks like." in outcome.out
        assert outcome.err == ""

    def test_adding_a_task_for_a_script_is_one_document(self, terminal: Terminal) -> None:
        document = add_kettle(terminal, "--json").document

        assert document["task"]["text"] == KETTLE
        assert document["task"]["set_at"] == "2026-11-22T12:00:00.000Z"
        assert document["plan"] == {
            "means": [],
            "why": ["it makes no sound"],
            "ask": "Show me what full looks like.",
        }

    def test_a_sentence_is_said_and_its_answer_read(self, terminal: Terminal) -> None:
        terminal.house.answers = {"stop watching it": Cancel()}

        outcome = terminal.type("say", "stop watching it")

        assert (outcome.code, outcome.out, outcome.err) == (0, "Okay.\n", "")
        assert terminal.type("say", "stop watching it", "--json").document == {
            "reply": "Okay.",
            "language": "en",
            "deed": "cancel",
            "is_done": True,
            "is_question": False,
            "task_ids": [],
            "why": "a form",
        }

    def test_a_sentence_that_asks_for_nothing_ends_with_one_and_says_why(self, terminal: Terminal) -> None:
        outcome = terminal.type("say", "the kettle was full [yesterday]")

        assert outcome.code == 1
        assert outcome.out == "Nothing in that was meant for me.\nno known form\n"
        assert terminal.house.heard == ["the kettle was full [yesterday]"]

    def test_every_choice_reaches_the_house(self, terminal: Terminal) -> None:
        choices = (
            "--feed kitchen --feed hall --each --cooldown 5m --between 22:00-06:30 --expires-in 2h --priority urgent"
        )
        add_kettle(terminal, *choices.split(), "--message", "Full!")

        task = terminal.house.kept["task1"]

        assert (task.feeds, task.repeat, task.cooldown_s) == (("kitchen", "hall"), Repeat.EACH, 300.0)
        assert (task.message, task.priority, task.set_by) == ("Full!", Priority.URGENT, "cli")
        assert task.window is not None
        assert f"{task.window.begins:%H:%M}-{task.window.ends:%H:%M} {task.window.zone}" == "22:00-06:30 Europe/Madrid"
        assert task.expires_at == NOON + timedelta(hours=2)

    def test_the_list_shows_what_is_being_watched(self, terminal: Terminal) -> None:
        add_kettle(terminal)
        terminal.type("task", "add", "every time the dog barks")
        terminal.type("task", "cancel", "kettle")

        assert "kettle" not in terminal.type("task", "list").out
        assert "dog barks" in terminal.type("task", "list").out
        assert "cancelled" in terminal.type("task", "list", "--all").out
        assert [task["state"] for task in terminal.type("task", "list", "--all", "--json").document["tasks"]] == [
            "cancelled",
            "armed",
        ]

    def test_an_empty_list_says_how_to_begin(self, terminal: Terminal) -> None:
        assert 'omni-watch task add "tell me when' in terminal.type("task", "list").out
        assert terminal.type("task", "list", "--json").document == {"tasks": []}

    def test_showing_a_task_tells_how_why_and_what_happened_in_local_time(self, terminal: Terminal) -> None:
        add_kettle(terminal, "--between", "08:00-22:00")
        house = terminal.house
        house.kept["task1"] = replace(house.kept["task1"], fired_count=2, last_fired_at=NOON)
        house.ledger.append(Mark(task_id="task1", feed="kitchen", holds=True, held_when_set=True))

        out = terminal.type("task", "show", "kettle").out

        assert "2 times, last 2026-11-22 13:00:00" in out
        assert "08:00-22:00 (Europe/Madrid)" in out
        assert "cannot be watched yet" in out
        assert "on kitchen it was already so when the task was set" in out
        assert terminal.type("task", "show", "kettle", "--json").document["marks"][0]["held_when_set"] is True

    @pytest.mark.parametrize(
        ("command", "state"),
        [("cancel", TaskState.CANCELLED), ("pause", TaskState.PAUSED), ("resume", TaskState.ARMED)],
    )
    def test_a_task_can_be_changed_by_its_words(self, terminal: Terminal, command: str, state: TaskState) -> None:
        add_kettle(terminal)
        if command == "resume":
            terminal.type("task", "pause", "kettle")

        outcome = terminal.type("task", command, "kettle")

        assert outcome.code == 0
        assert state.value in outcome.out
        assert terminal.house.kept["task1"].state is state

    def test_snoozing_tells_until_when(self, terminal: Terminal) -> None:
        add_kettle(terminal)

        assert "snoozed until 2026-11-22 15:00:00" in terminal.type("task", "snooze", "kettle", "--for", "2h").out
        assert terminal.house.kept["task1"].snoozed_until == NOON + timedelta(hours=2)
        terminal.type("task", "snooze", "kettle")
        assert terminal.house.kept["task1"].snoozed_until == NOON + timedelta(minutes=10)

    def test_words_of_people_are_never_taken_for_markup(self, terminal: Terminal) -> None:
        terminal.type("task", "add", "[red]when [/] it [beeps]")

        for command in (("task", "list"), ("task", "show", "task1"), ("task", "pause", "task1")):
            assert "[red]when [/] it [beeps]" in terminal.type(*command).out


class TestTeaching:
    def test_a_clip_teaches_what_its_seconds_show(self, terminal: Terminal, tmp_path: Path) -> None:
        add_kettle(terminal)
        clip = tmp_path / "kettle.mp4"
        clip.touch()

        outcome = terminal.type(
            *["teach", "kettle", "--clip", str(clip), "--not-yet", "0.5,2,6", "--done", "13.5,14.5"],
            *["--region", "0.36,0.30,0.34,0.52", "--display-region", "0.1,0.1,0.2,0.2"],
        )

        assert outcome.code == 0
        assert "kitchen: 3 not yet, 2 done; looks at 0.36,0.3,0.34,0.52; reads 0.1,0.1,0.2,0.2" in outcome.out
        assert "watched by taught" in outcome.out

    def test_a_feed_teaches_what_it_shows_now(self, terminal: Terminal) -> None:
        add_kettle(terminal)

        document = terminal.type("teach", "kettle", "--feed", "hall", "--label", "not-yet", "--json").document

        assert document["lessons"][0]["feed"] == "hall"
        assert [example["label"] for example in document["lessons"][0]["examples"]] == ["not_yet"]

    def test_what_is_lacking_is_said_when_it_is_shown(self, terminal: Terminal) -> None:
        add_kettle(terminal)
        told = terminal.type("teach", "kettle", "--feed", "hall", "--label", "empty")
        assert "'empty' was shown but not 'full'; show both" in told.out

    def test_what_was_taught_can_be_listed_and_forgotten(self, terminal: Terminal, tmp_path: Path) -> None:
        add_kettle(terminal)
        clip = tmp_path / "kettle.mp4"
        clip.touch()
        terminal.type("teach", "kettle", "--clip", str(clip), "--empty", "1", "--full", "2,3", "--not-yet", "4")

        assert "clip kettle.mp4 at 2 s" in terminal.type("teach", "kettle", "--list").out
        assert "Forgot 2 examples." in terminal.type("teach", "kettle", "--remove", "full").out
        first = terminal.house.taught["task1"].examples[0].id
        assert terminal.type("teach", "kettle", "--remove", first, "--json").document == {"removed": 1}
        assert "Forgot 1 example." in terminal.type("teach", "kettle", "--remove", "all").out
        assert "Nothing was taught" in terminal.type("teach", "kettle", "--list").out

    def test_forgetting_what_is_not_there_says_how_to_look(self, terminal: Terminal, tmp_path: Path) -> None:
        add_kettle(terminal)
        terminal.type("teach", "kettle", "--feed", "hall", "--label", "done")

        outcome = terminal.type("teach", "kettle", "--remove", "e99")

        assert outcome.code == 1
        assert "omni-watch teach task1 --list" in outcome.err
        assert len(terminal.house.taught["task1"].labelled(Label.DONE)) == 1

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            ([], "expected one of --clip FILE"),
            (["--list", "--remove", "all"], "expected one of --clip FILE"),
            (["--clip", "CLIP"], "say which seconds"),
            (["--done", "3", "--feed", "hall", "--label", "done"], "give --clip FILE too"),
            (["--label", "done"], "give --feed NAME too"),
            (["--clip", "CLIP", "--done", "3", "--region", "2,2,2,2"], "does not lie inside the picture"),
            (["--clip", "none.mp4", "--done", "3"], "does not exist"),
        ],
    )
    def test_half_a_request_is_answered_with_what_is_missing(
        self, terminal: Terminal, tmp_path: Path, arguments: Sequence[str], hint: str
    ) -> None:
        add_kettle(terminal)
        clip = tmp_path / "kettle.mp4"
        clip.touch()

        outcome = terminal.type("teach", "kettle", *(str(clip) if each == "CLIP" else each for each in arguments))

        assert outcome.code == 2
        assert hint in " ".join(outcome.err.split())


class TestAlerts:
    def tell(self, terminal: Terminal) -> None:
        add_kettle(terminal)
        alert = Alert(
            id="task1-1",
            task_id="task1",
            task_text=KETTLE,
            feed="kitchen",
            text="The kettle is full.",
            language="en",
            priority=Priority.NORMAL,
            occurrence=1,
            confidence=0.934,
            means=(Means.TAUGHT,),
            stream_s=27.0,
            condition_at=NOON,
            decided_at=NOON,
        )
        expires_at = NOON + timedelta(minutes=1)
        sent = Delivery(
            alert_id=alert.id, channel="mqtt", state=DeliveryState.SENT, attempts=1, due_at=NOON, expires_at=expires_at
        )
        again = replace(sent, number=1, transition=Transition.REPEAT)
        missed = replace(sent, channel="voice", state=DeliveryState.EXPIRED)
        course = Course(alert_id=alert.id, repeats=1)
        terminal.house.told.append(Told(alert=alert, course=course, deliveries=(sent, missed, again)))

    def test_alerts_are_listed_in_local_time_with_what_became_of_them(self, terminal: Terminal) -> None:
        self.tell(terminal)

        out = terminal.type("alerts", "list").out

        assert "2026-11-22 13:00:00" in out
        assert "The kettle is full." in out
        assert "open" in out
        assert "mqtt sent ×2, voice expired" in out
        assert "93%" in out

    def test_alerts_for_a_script_carry_everything(self, terminal: Terminal) -> None:
        self.tell(terminal)

        (alert,) = terminal.type("alerts", "list", "--task", "kettle", "--json").document["alerts"]

        assert alert["decided_at"] == "2026-11-22T12:00:00.000Z"
        assert [delivery["state"] for delivery in alert["deliveries"]] == ["sent", "expired", "sent"]
        assert [delivery["transition"] for delivery in alert["deliveries"]] == ["alert", "alert", "repeat"]
        assert (alert["state"], alert["repeats"], alert["closed_by"]) == ("open", 1, None)

    @pytest.mark.parametrize("words", [("alerts", "ack"), ("alerts", "ack", "task1-1"), ("task", "ack", "kettle")])
    def test_an_alert_is_acknowledged_and_said_to_be(self, terminal: Terminal, words: tuple[str, ...]) -> None:
        self.tell(terminal)

        assert terminal.type(*words).out == "task1-1  The kettle is full.  acknowledged by cli\n"
        (alert,) = terminal.type(*words, "--json").document["alerts"]
        assert (alert["state"], alert["closed_by"]) == ("acknowledged", "cli")

    def test_what_was_never_told_cannot_be_acknowledged(self, terminal: Terminal) -> None:
        assert terminal.type("alerts", "ack", "k9-1").code == 1

    def test_companions_can_be_asked_to_be_quiet(self, terminal: Terminal) -> None:
        assert terminal.type("quiet").out == "Quiet. Alerts will still be told.\n"
        assert terminal.house.was_hushed
        assert terminal.type("quiet", "--json").document == {"quiet": True}

    def test_a_feed_can_be_listened_to_or_not(self, terminal: Terminal) -> None:
        hall = FeedSettings(name="hall", video="v4l2:0", audio="mic")
        attic = FeedSettings(name="attic", video="v4l2:1")
        terminal.house.settings = replace(terminal.house.settings, feeds=(hall, attic))
        assert terminal.type("listen").out == "hall: on\n"
        assert terminal.type("listen", "hall", "off").out == "hall: off\n"
        assert terminal.type("listen", "--json").document == {"listens": {"hall": False}, "cannot_watch": []}
        assert terminal.type("listen", "hall").code == 2
        assert terminal.type("listen", "hall", "on").out == "hall: on\n"

    def test_a_quiet_house_says_so(self, terminal: Terminal) -> None:
        assert terminal.type("alerts", "list").out == "Nothing was told yet.\n"


class TestReplay:
    DOCUMENT: ClassVar[dict[str, Any]] = {
        "clip": "kettle.mp4",
        "duration_s": 40.0,
        "engine": "embedded",
        "warnings": [],
        "tasks": [
            {"id": "a", "text": KETTLE, "means": ["taught"], "ask": ""},
            {"id": "b", "text": "the oven", "means": [], "ask": "Show me what hot looks like."},
        ],
        "commands": [],
        "alerts": [
            {"id": "a-1", "stream_s": 27.0, "text": "The kettle is full.", "confidence": 0.93, "means": ["taught"]}
        ],
        "units": {"count": 40, "missed": 0, "step_ms": {"p50": 10.0, "p95": 21.5, "max": 40.0}},
        "wall_s": 2.0,
        "rss_mb_peak": 321.4,
    }

    def test_a_replay_shows_when_it_would_have_told_what(self, terminal: Terminal) -> None:
        terminal.application.replayed = self.DOCUMENT

        outcome = terminal.type("replay", "kettle.mp4", "--task", KETTLE, "--task", "the oven")

        assert outcome.code == 0
        assert "00:27.0" in outcome.out
        assert "The kettle is full." in outcome.out
        assert "cannot be watched yet  the oven: Show me what hot looks like." in outcome.out
        assert "40 units, 0 missed, step 21.5 ms p95; 2.0 s, 20 times as fast as life; 321 MB; embedded" in outcome.out
        asked = dict(terminal.application.asked)["replay"]
        assert asked["tasks"] == (KETTLE, "the oven")
        assert asked["is_progress_wanted"] is False  # nobody looks on

    def test_a_replay_for_a_script_is_the_document_as_it_is(self, terminal: Terminal) -> None:
        terminal.application.replayed = self.DOCUMENT

        outcome = terminal.type("replay", "kettle.mp4", "--task", KETTLE, "--json")

        assert outcome.document == self.DOCUMENT
        assert outcome.err == ""

    def test_somebody_who_looks_on_sees_how_far_it_is(self, terminal: Terminal) -> None:
        terminal.application.replayed = self.DOCUMENT
        paper = io.StringIO()

        class Watched(Shell):
            def aside(self) -> Console:
                return Console(file=paper, force_terminal=True, width=80)

        run_command(["replay", "kettle.mp4", "--task", KETTLE], Watched(given_application=terminal.application))

        assert dict(terminal.application.asked)["replay"]["is_progress_wanted"] is True
        assert "00:27.0" in paper.getvalue()

    def test_no_alert_is_said(self, terminal: Terminal) -> None:
        terminal.application.replayed = self.DOCUMENT | {"alerts": []}

        assert "No alerts." in terminal.type("replay", "kettle.mp4", "--task", KETTLE).out

    def test_a_replay_needs_something_to_watch_for(self, terminal: Terminal) -> None:
        outcome = terminal.type("replay", "kettle.mp4")
        assert outcome.code == 2
        assert "--listen" in outcome.err

    def test_what_was_heard_and_answered_stands_between_the_alerts_where_it_was_said(self, terminal: Terminal) -> None:
        said = {
            "stream_s": 28.0,
            "ended_s": 26.4,
            "heard": "Tell me when the [dog] barks",
            "language": "en",
            "op": "add",
            "task_id": "t1",
            "reply": "Okay. I'll listen for it.",
        }
        late = self.DOCUMENT["alerts"][0] | {"stream_s": 29.0, "text": "The dog is barking."}
        terminal.application.replayed = self.DOCUMENT | {
            "commands": [said],
            "alerts": [*self.DOCUMENT["alerts"], late],
        }

        outcome = terminal.type("replay", "kettle.mp4", "--listen")

        assert outcome.code == 0
        in_order = ("“Tell me when the [dog] barks”", "The kettle is full.", "Okay. I'll listen", "The dog is barking.")
        places = [outcome.out.find(words) for words in in_order]
        assert -1 not in places
        assert places == sorted(places)
        asked = dict(terminal.application.asked)["replay"]
        assert (asked["listens"], asked["tasks"]) == (True, ())


class TestDoctor:
    FINDINGS = (
        Finding("broker", None, "MQTT is switched off"),
        Finding("feed porch", False, "no route to rtsp://***@cam", "look whether it is on"),
        Finding("disk", True, "40.0 GB free"),
    )

    def test_what_fails_is_told_with_what_to_do_and_exits_with_1(self, terminal: Terminal) -> None:
        terminal.application.findings = list(self.FINDINGS)

        outcome = terminal.type("doctor", "--quick")

        assert outcome.code == 1
        assert "look whether it is on" in outcome.out
        assert "1 to mend." in outcome.out
        assert ("diagnose", {"is_quick": True}) in terminal.application.asked

    def test_what_is_not_used_is_no_failure(self, terminal: Terminal) -> None:
        terminal.application.findings = [self.FINDINGS[0], self.FINDINGS[2]]

        outcome = terminal.type("doctor", "--json")

        assert outcome.code == 0
        assert outcome.document["ok"] is True
        assert outcome.document["findings"][0] == {
            "area": "broker",
            "ok": None,
            "what": "MQTT is switched off",
            "do": "",
        }


class TestConfig:
    GOOD = '[[feeds]]\nname = "porch"\nvideo = "rtsp://anna:hunter2@cam/1"\n'

    def write(self, folder: Path, text: str) -> str:
        path = folder / "config.toml"
        path.write_text(text)
        return str(path)

    def test_a_right_file_is_praised(self, terminal: Terminal, tmp_path: Path) -> None:
        path = self.write(tmp_path, self.GOOD)

        assert f"{path} is right: 1 feed" in terminal.type("config", "check", "--config", path).out
        assert terminal.type("--config", path, "--json", "config", "check").document == {
            "ok": True,
            "file": path,
            "feeds": ["porch"],
            "engine": {"kind": "auto", "checkpoint": None},
        }

    def test_all_mistakes_are_told_at_once_and_a_service_is_not_to_try_again(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        path = self.write(tmp_path, '[[feeds]]\nname = "porch"\nvideo = "rstp://cam"\n[mqtt]\nhosst = "x"\n')

        for command in (("config", "check"), ("run",)):
            outcome = terminal.type(*command, "--config", path)
            assert outcome.code == 78
            assert f"in {path}:" in outcome.err
            assert "feeds.porch.video: 'rstp://cam' has unknown scheme; did you mean rtsp?" in outcome.err
            assert "mqtt.hosst: unknown key; did you mean mqtt.host?" in outcome.err
            assert "Traceback" not in outcome.err

    def test_mistakes_for_a_script_are_a_list(self, terminal: Terminal, tmp_path: Path) -> None:
        path = self.write(tmp_path, "[mqtt]\nport = 0\n[voice]\nvolume = 2\n")

        error = terminal.type("config", "check", "--config", path, "--json").document["error"]

        assert error["kind"] == "ConfigError"
        assert error["exit_code"] == 78
        assert [problem.split(":")[0] for problem in error["problems"]] == ["mqtt.port", "voice.volume"]

    def test_without_a_file_there_is_nothing_to_check_or_run(self, terminal: Terminal) -> None:
        for command in (("config", "check"), ("run",)):
            outcome = terminal.type(*command)
            assert outcome.code == 78
            assert "config.example.toml" in outcome.err

    def test_what_holds_is_shown_without_secrets(self, terminal: Terminal, tmp_path: Path) -> None:
        path = self.write(tmp_path, self.GOOD)

        outcome = terminal.type("config", "show", "--config", path)

        assert "feeds.porch.video" in outcome.out
        assert "rtsp://***@cam/1" in outcome.out
        assert "hunter2" not in outcome.out + terminal.type("config", "show", "--config", path, "--json").out

    def test_without_a_file_the_defaults_are_shown(self, terminal: Terminal) -> None:
        assert "these are the defaults" in terminal.type("config", "show").out
        assert terminal.type("config", "show", "--json").document["file"] is None


class TestEndings:
    """How a command ends when things go wrong."""

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ConfigError("rules/x.yaml: unknown field"), 78),
            (StoreError("the disk is full"), 1),
            (FeedError("porch: no such file"), 1),
        ],
    )
    def test_our_errors_are_sentences_not_tracebacks(self, terminal: Terminal, error: Exception, code: int) -> None:
        terminal.application.error = error

        outcome = terminal.type("task", "list")

        assert outcome.code == code
        assert outcome.err == f"error: {error}\n"
        assert outcome.out == ""

    def test_verbose_adds_the_traceback(self, terminal: Terminal) -> None:
        terminal.application.error = StoreError("the disk is full")

        assert "Traceback" in terminal.type("-v", "task", "list").err

    def test_errors_for_a_script_are_a_document_on_standard_output(self, terminal: Terminal) -> None:
        terminal.application.error = StoreError("the disk is full")

        outcome = terminal.type("task", "list", "--json")

        assert outcome.code == 1
        assert outcome.err == ""
        assert outcome.document == {"error": {"kind": "StoreError", "message": "the disk is full", "exit_code": 1}}

    @pytest.mark.parametrize("arguments", [["taks"], ["task", "ad"], ["task", "add"], ["task", "list", "--al"]])
    def test_a_mistyped_command_exits_with_2_and_a_hint(self, terminal: Terminal, arguments: Sequence[str]) -> None:
        outcome = terminal.type(*arguments)

        assert outcome.code == 2
        assert "Usage: omni-watch" in outcome.err
        assert terminal.type(*arguments, "--json").document["error"]["exit_code"] == 2

    def test_a_bug_is_let_out(self, terminal: Terminal) -> None:
        terminal.application.error = KeyError("bug")

        with pytest.raises(KeyError):
            terminal.type("task", "list")

    def test_an_interrupt_ends_quietly(self, terminal: Terminal) -> None:
        terminal.application.error = KeyboardInterrupt()  # type: ignore[assignment]

        outcome = terminal.type("task", "list")

        assert outcome.code == 130
        assert "Traceback" not in outcome.err

    def test_version_and_help_end_well(self, terminal: Terminal) -> None:
        assert terminal.type("--version").out.startswith("omni-watch 0")
        assert terminal.type("--help").code == 0
        assert terminal.type("task", "-h").code == 0


def test_the_demo_tells_people_on_output_and_scripts_on_the_side(terminal: Terminal) -> None:
    assert terminal.type("demo").out == "the kettle is filling\n"

    outcome = terminal.type("demo", "--json")

    assert outcome.document == {"alerts": 1}
    assert outcome.err == "the kettle is filling\n"
