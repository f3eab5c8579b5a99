"""The model gives the recorded numbers of the reference, and the comparison that says so can say no."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omni_watch.app import parity
from omni_watch.cli import run_command
from omni_watch.domain.errors import ModelError
from omni_watch.duplex.minicpmo.checkpoint import open_checkpoint
from omni_watch.duplex.minicpmo.golden import Arrays, read_golden
from omni_watch.duplex.minicpmo.parity import HALF_LIMITS, LIMITS, replay, replay_sessions
from omni_watch.duplex.minicpmo.report import SHOWN, Place, Report

CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "inputs.npz")
SHORT = "hd_slices"  # the session of four units


class Recording:
    """A folder with one recorded session of the tiny checkpoint, to be falsified."""

    def __init__(self, original: Path, folder: Path) -> None:
        self.original, self.folder = original, folder
        for name in CHECKPOINT_FILES:
            (folder / name).symlink_to(original / name)
        sessions = json.loads((original / "sessions.json").read_text())
        self.write("sessions.json", [session for session in sessions if session["name"] == SHORT])
        self.edit(f"expected_{SHORT}.json", lambda expected: None)
        self.edit_arrays(lambda arrays: None)

    def write(self, name: str, document: Any) -> None:
        (self.folder / name).write_text(json.dumps(document))

    def edit(self, name: str, change: Callable[[Any], None]) -> None:
        source = self.folder / name
        document = json.loads((source if source.exists() else self.original / name).read_text())
        change(document)
        self.write(name, document)

    def edit_arrays(self, change: Callable[[dict[str, Any]], None]) -> None:
        name = f"expected_{SHORT}.npz"
        source = self.folder / name
        with np.load(source if source.exists() else self.original / name) as loaded:
            arrays = {key: loaded[key] for key in loaded.files}
        change(arrays)
        np.savez(self.folder / name, **arrays)


@pytest.fixture
def recording(tiny_folder: Path, tmp_path: Path) -> Recording:
    return Recording(tiny_folder, tmp_path)


class TestTheModel:
    def test_every_recorded_number_comes_out_again(self, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(["models", "parity", str(tiny_folder), "--json"]) == 0

        document = json.loads(capsys.readouterr().out)
        assert document["mismatches"] == []
        assert {row["name"]: row["largest"] for row in document["quantities"] if not row["holds"]} == {}
        assert [row["name"] for row in document["quantities"] if not row["compared"]] == []
        assert document["integers"]["compared"] > 6000
        assert document["ok"]

    def test_in_bfloat16_it_stays_near_and_seldom_decides_otherwise(self, tiny_folder: Path) -> None:
        report = replay(tiny_folder, dtype="bfloat16")

        assert {name: each.largest for name, each in report.quantities.items() if not each.holds} == {}
        assert report.quantities["logits"].largest > LIMITS["logits"]  # it was bfloat16 indeed
        assert report.decisions > 1000
        assert report.otherwise < 0.1 * report.decisions
        assert report.holds

    def test_another_model_is_told_from_this_one(self, recording: Recording) -> None:
        golden, checkpoint = read_golden(recording.folder), open_checkpoint(recording.folder)
        model = checkpoint.load(dtype=torch.float32)
        with torch.no_grad():
            model.llm.model.norm.weight.mul_(1.001)
        report = Report.empty(recording.folder, dtype="float32", device="cpu", limits=LIMITS, are_integers_judged=True)

        replay_sessions(golden, model, checkpoint.tokens, report)

        assert not report.holds
        assert not report.quantities["hidden"].holds
        assert report.quantities["resampler"].holds


class TestTheReport:
    def test_a_decision_that_differs_is_named_and_fails(self, recording: Recording) -> None:
        def falsify(expected: Any) -> None:
            expected["units"][2]["decoded_ids"] = [1, 2]

        recording.edit(f"expected_{SHORT}.json", falsify)

        report = replay(recording.folder)

        found = json.loads((recording.original / f"expected_{SHORT}.json").read_text())["units"][2]["decoded_ids"]
        assert not report.holds
        assert [tuple(json.loads(json.dumps(each))) for each in _rows(report)] == [
            (SHORT, 2, "decoded_ids", [1, 2], found)
        ] * 2  # both ways of feeding
        assert report.document()["integers"]["wrong"] == 2

    def test_a_number_out_of_bounds_is_measured_and_fails(self, recording: Recording) -> None:
        def falsify(arrays: dict[str, Any]) -> None:
            arrays["u001_logits"][0, 17] += 0.5

        recording.edit_arrays(falsify)

        report = replay(recording.folder)

        assert not report.holds
        assert report.quantities["logits"].largest == pytest.approx(0.5, abs=1e-3)
        assert report.quantities["logits"].where == f"{SHORT} unit 1"
        assert report.wrong == 0

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_no_number_is_never_near(self, recording: Recording, bad: float) -> None:
        def falsify(arrays: dict[str, Any]) -> None:
            arrays["u000_logits"][0, 0] = bad

        recording.edit_arrays(falsify)

        report = replay(recording.folder)

        assert not report.holds
        (row,) = [row for row in report.document()["quantities"] if row["name"] == "logits"]
        assert row["largest"] is None
        assert row["holds"] is False

    def test_another_shape_is_a_mismatch(self, recording: Recording) -> None:
        def falsify(arrays: dict[str, Any]) -> None:
            arrays["u001_resampler0"] = arrays["u001_resampler0"][:, :, :-1]

        recording.edit_arrays(falsify)

        report = replay(recording.folder)

        assert not report.holds
        assert {row[2] for row in _rows(report)} == {"resampler.shape"}

    def test_only_the_first_mismatches_are_listed_but_all_are_counted(self) -> None:
        report = _empty(Path())

        for unit in range(3 * SHOWN):
            report.discrete(Place("a session", unit), "kv_len", 1, 2)

        assert [each.unit for each in report.mismatches] == list(range(SHOWN))
        assert report.wrong == report.integers == 3 * SHOWN

    def test_nothing_compared_is_not_equality(self) -> None:
        assert not _empty(Path()).holds

    def test_what_was_not_recorded_is_not_missed(self, recording: Recording) -> None:
        def forget(arrays: dict[str, Any]) -> None:
            for name in [name for name in arrays if not name.endswith("_logits")]:
                del arrays[name]

        def forget_too(expected: Any) -> None:
            del expected["prepare"]
            for unit in expected["units"]:
                for name in ("feeds", "previous_ids", "unit_ids", "pixel_stats"):
                    del unit[name]

        recording.edit_arrays(forget)
        recording.edit(f"expected_{SHORT}.json", forget_too)

        report = replay(recording.folder)

        assert report.holds
        assert [name for name, each in report.quantities.items() if each.compared] == ["logits"]

    def test_progress_counts_the_units_of_both_ways(self, recording: Recording) -> None:
        told = []

        replay(recording.folder, on_progress=lambda done, total: told.append((done, total)))

        assert told == [(done, 8) for done in range(1, 9)]

    def test_limits_of_half_precision_are_never_tighter(self) -> None:
        assert HALF_LIMITS.keys() == LIMITS.keys()
        assert all(HALF_LIMITS[name] >= limit for name, limit in LIMITS.items())


class TestWrongFolders:
    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has no sessions\.json; expected a folder of recorded sessions"):
            replay(tmp_path)

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="nowhere has no sessions"):
            replay(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["inputs.npz", f"expected_{SHORT}.json"])
    def test_a_file_that_is_promised_but_missing_is_named(self, recording: Recording, name: str) -> None:
        (recording.folder / name).unlink()

        with pytest.raises(ModelError, match=rf"{name} is missing"):
            replay(recording.folder)

    @pytest.mark.parametrize("name", ["sessions.json", f"expected_{SHORT}.json", f"expected_{SHORT}.npz"])
    def test_a_damaged_file_is_named(self, recording: Recording, name: str) -> None:
        (recording.folder / name).write_bytes(b"PK\x03\x04 not what it was")

        with pytest.raises(ModelError, match=rf"{name} cannot be read"):
            replay(recording.folder)

    def test_sessions_of_another_kind_are_refused(self, recording: Recording) -> None:
        recording.write("sessions.json", {"name": "a", "units": []})

        with pytest.raises(ModelError, match="expected a list of sessions"):
            replay(recording.folder)

    def test_an_unknown_window_is_refused(self, recording: Recording) -> None:
        recording.edit("sessions.json", lambda sessions: sessions[0].update(window={"mode": "sliding"}))

        with pytest.raises(ModelError, match="window mode 'sliding'; expected off, basic or context"):
            replay(recording.folder)

    def test_a_file_that_ends_early_or_changed_is_named_whatever_the_packer_says(
        self, tiny_folder: Path, tmp_path: Path
    ) -> None:
        packed = (tiny_folder / "components.npz").read_bytes()
        size = len(packed)
        damaged = [packed[:kept] for kept in (0, 100, size // 2, size - 1)]
        damaged += [packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :] for at in range(500, size, size // 20)]
        path = tmp_path / "components.npz"
        for each in damaged:
            path.write_bytes(each)

            with pytest.raises(ModelError, match=r"components\.npz cannot be read as numpy arrays"):
                Arrays(path)

    @pytest.mark.parametrize(
        ("unit", "said"),
        [
            ({"frames": [77]}, r"inputs\.npz has no 'frame_77', which the recorded sessions name"),
            ({"audio": 9000}, rf"session {SHORT}: second 9000 of sound, and inputs\.npz has \d+"),
        ],
    )
    def test_a_second_that_was_not_copied_along_is_named(
        self, recording: Recording, unit: dict[str, Any], said: str
    ) -> None:
        recording.edit("sessions.json", lambda sessions: sessions[0]["units"][1].update(unit))

        with pytest.raises(ModelError, match=said):
            replay(recording.folder)

    @pytest.mark.parametrize("expected", [{}, [], {"units": [{}]}])
    def test_what_was_recorded_of_another_session_is_refused(self, recording: Recording, expected: Any) -> None:
        recording.write(f"expected_{SHORT}.json", expected)

        with pytest.raises(ModelError, match=rf"expected_{SHORT}\.json has [01] units, and its session 4"):
            replay(recording.folder)

    @pytest.mark.parametrize("device", ["cuda:63", "xpu", "the graphics card"])
    def test_a_device_that_is_not_there_is_told(self, recording: Recording, device: str) -> None:
        with pytest.raises(ModelError, match=rf"device: '{device}' is n"):
            replay(recording.folder, device=device)


class TestTheCommand:
    """`omni-watch models parity`, as typed: nothing is thrown at the user, and scripts see the exit code."""

    def test_recordings_that_hold_are_a_table_and_a_verdict(
        self, recording: Recording, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_command(["models", "parity", str(recording.folder)]) == 0

        out = capsys.readouterr().out
        assert "language model: logits" in out
        assert "fails" not in out
        assert "integers, texts and decisions are the recorded ones." in out
        assert "The model is the recorded one." in out

    def test_a_script_reads_one_document(self, recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(["models", "parity", str(recording.folder), "--json"]) == 0

        captured = capsys.readouterr()
        document = json.loads(captured.out)
        assert captured.err == ""
        assert (document["ok"], document["dtype"], document["mismatches"]) == (True, "float32", [])
        assert all(row["holds"] for row in document["quantities"])

    def test_a_recording_from_another_kind_of_processor_is_compared_in_what_all_of_them_share(
        self, recording: Recording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        common = parity._in_common_arithmetic(recording.folder, "float32")
        assert common is not None
        assert (common["ok"], common["arithmetic"]) == (True, "COMPATIBLE")

        def falsify(arrays: dict[str, Any]) -> None:
            arrays["u001_mel"][3, 17] += 1e-3  # as another transform rounds in a quiet bin

        recording.edit_arrays(falsify)
        monkeypatch.setattr(parity, "_in_common_arithmetic", lambda _folder, _dtype: common)
        assert run_command(["models", "parity", str(recording.folder)]) == 0
        assert "the arithmetic that all processors share" in capsys.readouterr().out

    def test_one_integer_that_differs_fails_and_is_shown_with_its_place(
        self, recording: Recording, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recording.edit(f"expected_{SHORT}.json", lambda expected: expected["units"][2].update(kv_after_finalize=4711))

        assert run_command(["models", "parity", str(recording.folder)]) == 1

        out = capsys.readouterr().out
        (row, _) = [line for line in out.splitlines() if "4711" in line]  # both ways of feeding
        assert row.split()[:4] == [SHORT, "2", "kv_after_finalize", "4711"]
        assert "2 of " in out
        assert "The model is not the recorded one." in out

    def test_one_tensor_that_differs_fails_and_is_shown_with_its_limit(
        self, recording: Recording, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def falsify(arrays: dict[str, Any]) -> None:
            arrays["u001_logits"][0, 17] += 0.5

        recording.edit_arrays(falsify)

        assert run_command(["models", "parity", str(recording.folder)]) == 1

        out = capsys.readouterr().out
        (failed,) = [line for line in out.splitlines() if "fails" in line]
        assert failed.startswith("language model: logits")
        assert f"{LIMITS['logits']:g}" in failed
        assert f"{SHORT} unit 1" in failed

    def test_a_changed_weight_fails(self, recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
        weights = bytearray((recording.original / "model.safetensors").read_bytes())
        weights[-3] ^= 0x70  # the last number's exponent
        (recording.folder / "model.safetensors").unlink()
        (recording.folder / "model.safetensors").write_bytes(weights)

        assert run_command(["models", "parity", str(recording.folder)]) == 1
        assert "The model is not the recorded one." in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            ("rm -r .", "has no sessions.json; expected a folder of recorded sessions"),
            ("rm sessions.json", "has no sessions.json; expected a folder of recorded sessions"),
            (f"truncate -s 100000 expected_{SHORT}.npz", f"expected_{SHORT}.npz cannot be read as numpy arrays"),
            ("truncate -s 5000000 model.safetensors", "model.safetensors has 5,000,000 bytes; expected 7,730,688"),
            ("truncate -s 50 model.safetensors", "model.safetensors (50 bytes) is no safetensors file"),
            (f"sed -i s/{SHORT}/nowhere/ sessions.json", "expected_nowhere.json is missing"),
        ],
    )
    def test_a_folder_that_is_not_whole_is_one_sentence_and_no_traceback(
        self, recording: Recording, capsys: pytest.CaptureFixture[str], damage: str, said: str
    ) -> None:
        for linked in list(recording.folder.iterdir()):
            if linked.is_symlink():
                linked.unlink()
                shutil.copy(recording.original / linked.name, linked)
        if damage == "rm -r .":
            shutil.rmtree(recording.folder)
        else:
            subprocess.run(damage.split(), cwd=recording.folder, check=True)

        assert run_command(["models", "parity", str(recording.folder)]) == 1

        captured = capsys.readouterr()
        assert captured.out == ""
        assert said in captured.err
        assert captured.err.startswith("error: ")
        assert len(captured.err.splitlines()) == 1

    def test_a_script_reads_the_mistake_too(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(["models", "parity", str(tmp_path / "nowhere"), "--json"]) == 1

        error = json.loads(capsys.readouterr().out)["error"]
        assert (error["kind"], error["exit_code"]) == ("ModelError", 1)


def _rows(report: Report) -> list[tuple[Any, ...]]:
    return [(each.session, each.unit, each.quantity, each.expected, each.found) for each in report.mismatches]


def _empty(folder: Path) -> Report:
    return Report.empty(folder, dtype="float32", device="cpu", limits=LIMITS, are_integers_judged=True)
