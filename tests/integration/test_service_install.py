"""`deploy/install.sh` on a machine below a folder: its own version of systemctl, the real program, real databases.

A version's environment finds the packages that the tests run with, so that no network is needed; pip itself, which
takes half a minute to find them all there, is used once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_watch.domain.tasks import TaskState
from omni_watch.store.database import FILE_NAME, open_store
from omni_watch.store.upgrade import HEAD, revision_of
from tests.fakes.clips import write_clip
from tests.fakes.values import a_task

CHECKOUT = Path(__file__).parents[2]
SHIPPED = (
    "omni_watch",
    "rules",
    "migrations",
    "deploy",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "NOTICE",
)
QUICK_PIP = CHECKOUT / "tests" / "fakes" / "quick_pip.py"
LIMIT_S = 180

# a Python whose environments see the packages of the tests, as if pip had fetched them
PYTHON = """#!/bin/bash
if [ "$1 $2" = "-m venv" ]; then
  {python} -m venv --without-pip "$3"
  cd "$3/lib/python{version}/site-packages"
  echo {packages} >tests.pth
  if [ -n "{pip}" ]; then mkdir pip && touch pip/__init__.py && cp {pip} pip/__main__.py; fi
else
  exec {python} "$@"
fi
"""
NEXT_REVISION = '''"""A column more, as a later version may want it."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "next", "{head}", None, None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("colour", sa.String(8), nullable=False, server_default="red"))
    {then}


def downgrade() -> None:
    op.drop_column("tasks", "colour")
'''


class Machine:
    """A machine of which everything lies below `root`."""

    def __init__(self, folder: Path, *, pip: Path | str = QUICK_PIP) -> None:
        self.root = folder / "root"
        self.systemd = folder / "systemd"
        self.programs = folder / "programs"
        for made in (self.root, self.systemd, self.programs):
            made.mkdir()
        python = {
            "python": Path(sys.executable).resolve(),
            "packages": sysconfig.get_path("purelib"),
            "version": ".".join(map(str, sys.version_info[:2])),
            "pip": pip,
        }
        self._program("python3.11", PYTHON.format(**python))
        systemctl = f'PYTHONPATH={CHECKOUT} exec {sys.executable} -m tests.fakes.systemctl "$@"'
        self._program("systemctl", f"#!/bin/bash\n{systemctl}\n")

    def install(self, source: Path, *options: str, code: int = 0) -> str:
        """What install.sh of that checkout says."""
        return self.run(source, "--root", str(self.root), *options, code=code)

    def run(self, source: Path, *options: str, code: int = 0) -> str:
        """The same, without saying where; HOME is below `root`."""
        command = [str(source / "deploy" / "install.sh"), "--no-packages", "--no-models"]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "SUDO_"))},
            "HOME": str(self.root),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "FAKE_SYSTEMD": str(self.systemd),
            "FAKE_ROOT": str(self.root),
            "PIP_NO_INDEX": "1",
        }
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{self.journal[-3000:]}"
        return done.stdout + done.stderr

    def configure(self, settings: str) -> None:
        (self.root / "etc/omni-watch/config.toml").write_text(f'[voice]\noutput = "off"\n{settings}')

    @property
    def database(self) -> Path:
        return self.root / "var/lib/omni-watch" / FILE_NAME

    @property
    def version(self) -> str:
        """The one that runs, or would."""
        return (self.root / "opt/omni-watch/current").readlink().name

    @property
    def is_running(self) -> bool:
        pid = self.systemd / "pid"
        return pid.exists() and is_alive(int(pid.read_text()))

    @property
    def calls(self) -> list[str]:
        """What systemd was asked to do since the last look."""
        calls = self.systemd / "calls"
        asked = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [call.removesuffix(" omni-watch.service") for call in asked]

    @property
    def journal(self) -> str:
        journal = self.systemd / "journal"
        return journal.read_text("utf-8", "replace") if journal.exists() else ""

    def files(self) -> dict[str, tuple[int, int]]:
        """Everything that is installed or configured, with its size and time of change."""
        left_out = {"var", "__pycache__"}
        found = {path: path.lstat() for path in self.root.rglob("*") if left_out.isdisjoint(path.parts)}
        return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}

    def _program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with kept(Machine(tmp_path)) as machine:
        yield machine


@contextlib.contextmanager
def kept(machine: Machine) -> Iterator[Machine]:
    """Until the end of the context; what runs then is ended."""
    yield machine
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((machine.systemd / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The checkout of the version that is there already."""
    return a_checkout(tmp_path / "old")


@pytest.fixture
def living(machine: Machine, old: Path, tmp_path: Path) -> Machine:
    """A machine on which the old version runs, with a task in its database."""
    clip = write_clip(
        tmp_path / "kitchen.mp4", seconds=600.0, fps=1, paint=lambda at_s: 60 + int(at_s) % 100, tone=None
    )
    machine.install(old)
    machine.configure(f'[[feeds]]\nname = "kitchen"\nvideo = "{clip}"\n')
    with open_store(machine.database) as store:
        store.transact(lambda tx: tx.tasks.add(a_task()))
    machine.install(old)
    assert machine.is_running
    assert machine.calls == ["daemon-reload", "enable", "start"]
    return machine


def is_alive(pid: int) -> bool:
    """Whether it works; one that has ended and that nobody has waited for is only a name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def a_checkout(folder: Path) -> Path:
    folder.mkdir()
    for name in SHIPPED:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / name, folder / name)
    return folder


def a_new_checkout(folder: Path, then: str = "pass") -> Path:
    """A later version, with one revision more; `then` is what its upgrade does last."""
    checkout = a_checkout(folder)
    change(checkout / "omni_watch/__init__.py", r'__version__ = ".*"', '__version__ = "99.0"')
    change(checkout / "omni_watch/store/upgrade.py", r'HEAD: Final = ".*?"', 'HEAD: Final = "next"')
    (checkout / "migrations/versions/next_colour.py").write_text(NEXT_REVISION.format(head=HEAD, then=then))
    return checkout


def change(path: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, text, path.read_text(), count=1)
    assert count == 1, f"{pattern} is not in {path}"
    path.write_text(changed)


def tasks(database: Path) -> list[object]:
    with open_store(database) as store:
        return store.transact(lambda tx: [(task.id, task.text, task.state) for task in tx.tasks.all()])


KEPT = [("kettle01", a_task().text, TaskState.ARMED)]


def test_what_would_be_done_is_told_and_not_done(machine: Machine, old: Path) -> None:
    told = machine.install(old, "--dry-run")

    assert "would make" in told
    assert "would write" in told
    assert told.endswith("Nothing was changed: this was a dry run.\n")
    assert list(machine.root.iterdir()) == []
    assert machine.calls == []


def test_it_is_installed_once_and_the_second_time_nothing_is_to_be_done(living: Machine, old: Path) -> None:
    before, pid = living.files(), (living.systemd / "pid").read_text()

    assert living.install(old).endswith("Nothing was to be done.\n")
    assert living.install(old, "--dry-run").endswith("Nothing was to be done.\n")

    assert living.files() == before
    assert living.calls == []
    assert (living.systemd / "pid").read_text() == pid
    unit = (living.root / "etc/systemd/system/omni-watch.service").read_text()
    assert unit == (CHECKOUT / "deploy/omni-watch.service").read_text()
    command = [str(living.root / "usr/local/bin/omni-watch"), "task", "list", "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert '"kettle01"' in said.stdout, "the command works on the service's own tasks"


def test_without_a_configuration_it_is_installed_by_pip_and_not_started(old: Path, tmp_path: Path) -> None:
    with kept(Machine(tmp_path, pip="")) as machine:
        told = machine.install(old)

        assert "There is no configuration yet. Next: write" in told
        assert machine.calls == ["daemon-reload", "enable"]
        assert (machine.root / "etc/omni-watch/config.example.toml").exists()
        command = [str(machine.root / "usr/local/bin/omni-watch"), "--version"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("omni-watch ")


def test_a_wrong_configuration_is_told_and_what_runs_goes_on(living: Machine, tmp_path: Path) -> None:
    new, before = a_new_checkout(tmp_path / "new"), living.version
    living.configure('[[feeds]]\nname = "kitchen"\nvido = "/dev/video0"\n')

    told = living.install(new, code=1)

    assert "feeds.kitchen.vido" in told
    assert "nothing that runs was changed" in told
    assert (living.version, living.calls, living.is_running) == (before, [], True)


def test_packages_that_cannot_be_installed_change_nothing(living: Machine, tmp_path: Path) -> None:
    new, before = a_new_checkout(tmp_path / "new"), living.version
    change(new / "constraints.txt", r"(?m)^torch==.*$", "torch==0.0.1")

    told = living.install(new, code=1)

    assert "the Python packages could not be installed" in told
    assert (living.version, living.calls, living.is_running) == (before, [], True)
    assert [path.name for path in (living.root / "opt/omni-watch/releases").iterdir()] == [before]


def test_an_upgrade_keeps_the_tasks_and_can_be_rolled_back(living: Machine, tmp_path: Path) -> None:
    new, before = a_new_checkout(tmp_path / "new"), living.version

    living.install(new)

    assert living.version.startswith("99.0-")
    assert living.calls == ["stop", "daemon-reload", "start"]
    assert living.is_running
    assert revision_of(living.database) == "next"
    (copy,) = (living.database.parent / "backups").glob(f"{before}-*.db")
    assert revision_of(copy) == HEAD
    assert tasks(copy) == KEPT
    assert living.install(new).endswith("Nothing was to be done.\n")

    told = living.install(new, "--roll-back")

    assert living.version == before
    assert living.is_running
    assert "put the copy of the database back" in told
    assert revision_of(living.database) == HEAD
    assert tasks(living.database) == KEPT
    assert "there is no version before this one" in living.install(new, "--roll-back", code=1)


def test_a_migration_that_fails_is_undone_and_the_old_version_runs_on(living: Machine, tmp_path: Path) -> None:
    new, before = a_new_checkout(tmp_path / "new", then='op.execute("DROP TABLE colours")'), living.version

    told = living.install(new, code=1)

    assert "no such table: colours" in told
    assert "the upgrade was undone" in told
    assert living.version == before
    assert living.calls[0] == "stop"
    assert living.is_running
    assert revision_of(living.database) == HEAD
    assert tasks(living.database) == KEPT


def test_a_first_start_that_fails_is_undone_with_the_database_as_it_was(living: Machine, tmp_path: Path) -> None:
    new, before = a_new_checkout(tmp_path / "new"), living.version
    change(new / "omni_watch/app/daemon.py", r'observer\.on\("loading", what="models"\)', "raise RuntimeError('a bug')")
    change(new / "deploy/omni-watch.service", "TimeoutStopSec=30", "TimeoutStopSec=31")

    told = living.install(new, code=1)

    assert "put the copy of the database back" in told
    assert "the upgrade was undone" in told
    assert "a bug" in living.journal
    assert living.version == before
    assert living.is_running
    assert revision_of(living.database) == HEAD
    assert tasks(living.database) == KEPT
    unit = (living.root / "etc/systemd/system/omni-watch.service").read_text()
    assert "TimeoutStopSec=30\n" in unit, "the old version's unit is back, too"


def test_secrets_are_handed_over_as_credentials(living: Machine, old: Path) -> None:
    secret = living.root / "etc/omni-watch/credentials/camera_password"
    secret.write_text("quite secret\n")
    secret.chmod(0o644)

    living.install(old)

    assert secret.stat().st_mode & 0o777 == 0o640
    dropin = living.root / "etc/systemd/system/omni-watch.service.d/credentials.conf"
    assert "LoadCredential=camera_password:/etc/omni-watch/credentials/camera_password\n" in dropin.read_text()
    assert living.calls == ["daemon-reload"]
    assert living.install(old).endswith("Nothing was to be done.\n")
    secret.unlink()
    assert f"remove {dropin}" in living.install(old)
    assert not dropin.exists()


def test_uninstalling_leaves_the_house_and_purging_takes_it(living: Machine, old: Path) -> None:
    assert "would remove" in living.install(old, "--uninstall", "--dry-run")
    pid = int((living.systemd / "pid").read_text())
    assert is_alive(pid)

    told = living.install(old, "--uninstall")

    assert living.calls == ["stop", "disable", "daemon-reload"]
    assert not is_alive(pid)
    assert "--purge removes them too" in told
    left = {str(path.relative_to(living.root)) for path in living.root.rglob("*") if not path.is_dir()}
    assert left == {"etc/omni-watch/config.toml", "etc/omni-watch/config.example.toml"} | {
        name for name in left if name.startswith("var/")
    }
    assert tasks(living.database) == KEPT
    living.install(old, "--uninstall", "--purge")
    assert [path for path in living.root.rglob("*") if not path.is_dir()] == []
    assert living.install(old, "--uninstall", "--purge").endswith("Nothing was to be done.\n")


def test_a_service_of_ones_own_session_lies_in_ones_own_folders(machine: Machine, old: Path) -> None:
    told = machine.run(old, "--user")

    assert "There is no configuration yet. Next: write" in told
    assert machine.calls == ["daemon-reload", "enable"]
    unit = machine.root / ".config/systemd/user/omni-watch.service"
    assert unit.read_text() == (CHECKOUT / "deploy/user/omni-watch.service").read_text()
    program = machine.root / ".local/bin/omni-watch"
    assert program.resolve().is_relative_to(machine.root / ".local/share/omni-watch/releases")
    command = [str(program), "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("omni-watch ")
    machine.run(old, "--user", "--uninstall")
    left = [path for path in machine.root.rglob("*") if not path.is_dir()]
    assert left == [machine.root / ".config/omni-watch/config.example.toml"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--frobnicate"], "unknown option '--frobnicate'"),
        (["--purge"], "--purge belongs to --uninstall"),
        (["--user"], "--root and --user do not go together"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    machine: Machine, old: Path, options: list[str], complaint: str
) -> None:
    assert complaint in machine.install(old, *options, code=64)
    assert list(machine.root.iterdir()) == []
