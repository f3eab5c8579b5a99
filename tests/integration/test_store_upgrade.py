"""Migrations: up, down, with data inside, with a backup before, and never of a database that is newer than we are."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool

from omni_watch.domain.alerts import AlertState, Course, DeliveryState, Transition
from omni_watch.domain.errors import StoreError
from omni_watch.store.database import engine_for, open_store
from omni_watch.store.rows import Row
from omni_watch.store.upgrade import HEAD, config, downgrade, known_revisions, migrations, revision_of, upgrade
from omni_watch.watch.ledger import Mark
from omni_watch.watch.ports import Transaction
from tests.fakes.values import a_delivery, a_task, an_alert, an_example

OPEN_IT = """
import sys
from pathlib import Path
from omni_watch.store.upgrade import revision_of, upgrade
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
upgrade(path, path.parent / "backups")
print(revision_of(path))
"""

NEXT_REVISION = '''"""A column more, and a table made anew, as a later version may want it."""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tasks", recreate="always") as batch:
        batch.add_column(sa.Column("colour", sa.String(8), nullable=False, server_default="red"))
    {then}


def downgrade() -> None:
    with op.batch_alter_table("tasks", recreate="always") as batch:
        batch.drop_column("colour")
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "omni-watch.db"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The revisions of a later version."""
    return make_later(tmp_path, "pass")


def make_later(tmp_path: Path, then: str) -> Path:
    scripts = tmp_path / "later"
    shutil.copytree(migrations(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "next_colour.py").write_text(NEXT_REVISION.format(head=HEAD, then=then))
    return scripts


def keep_something(tx: Transaction) -> None:
    tx.tasks.add(a_task())
    tx.lessons.add("kettle01", "kitchen", an_example())
    tx.marks.save(Mark(task_id="kettle01", feed="kitchen", is_primed=True))
    tx.alerts.add(an_alert(), [a_delivery()])
    tx.topics.remember("t", "kettle01")


def everything(path: Path) -> dict[str, list[object]]:
    """Every row of every table, but for the revision."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            for table in sorted(tables)
            if table != "alembic_version"
        }


def layout(path: Path) -> set[str]:
    """Every table and index as SQL, without regard to spaces, quotes and the order of columns and checks."""
    with closing(sqlite3.connect(path)) as connection:
        statements = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    parts = [re.split(r"[,()]", re.sub(r"[\s\"]", "", statement)) for statement in statements]
    return {" ".join(sorted(words)) for words in parts if "CREATETABLEalembic_version" not in words}


def test_the_newest_revision_is_named_in_the_code() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD
    assert HEAD in known_revisions()


def test_the_tables_of_the_code_and_of_the_migrations_are_the_same(path: Path, backups: Path, tmp_path: Path) -> None:
    upgrade(path, backups)
    engine = engine_for(path, poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Row.metadata) == []
    made_at_once = tmp_path / "at-once.db"
    Row.metadata.create_all(engine_for(made_at_once, poolclass=NullPool))
    assert layout(path) == layout(made_at_once), "checks, which Alembic does not compare, too"


def test_every_revision_goes_up_and_down_and_up(path: Path, backups: Path) -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()]
    upgrade(path, backups)
    before = layout(path)
    for revision in [*revisions[1:], "base"]:
        downgrade(path, revision)
    assert everything(path) == {}
    for revision in reversed(revisions):
        upgrade(path, backups, to=revision)
    assert layout(path) == before


def test_a_new_database_needs_no_backup_and_a_current_one_nothing_at_all(path: Path, backups: Path) -> None:
    first = upgrade(path, backups)
    before = path.read_bytes()
    second = upgrade(path, backups)
    assert (first.found, first.backup) == (None, None)
    assert (second.found, second.backup) == (HEAD, None)
    assert path.read_bytes() == before
    assert not backups.exists()


def test_an_older_database_keeps_all_it_holds_and_is_backed_up_before(path: Path, backups: Path, later: Path) -> None:
    with open_store(path) as store:
        store.transact(keep_something)
    before = everything(path)
    done = upgrade(path, backups, to="next", scripts=later)
    assert done.found == HEAD
    assert done.backup is not None
    assert done.backup.parent == backups
    assert done.backup.stat().st_mode & 0o077 == 0
    assert everything(done.backup) == before
    assert revision_of(done.backup) == HEAD
    assert revision_of(path) == "next"
    after = everything(path)
    assert [(*row, "red") for row in before["tasks"]] == after["tasks"]  # type: ignore[misc]
    assert {name: rows for name, rows in after.items() if name != "tasks"} == {
        name: rows for name, rows in before.items() if name != "tasks"
    }, "making the table of tasks anew must not take what refers to it"
    downgrade(path, HEAD, scripts=later)
    assert everything(path) == before


def test_alerts_of_before_count_as_noted_but_for_those_that_wait_to_be_told(path: Path, backups: Path) -> None:
    with open_store(path) as store:
        store.transact(keep_old_alerts)
    downgrade(path, "0002")
    as_they_were = everything(path)
    upgrade(path, backups)

    with open_store(path) as store:
        courses = {number: store.transact(lambda tx, n=number: tx.alerts.course(f"kettle01-{n}")) for number in (1, 2)}  # type: ignore[misc]
        deliveries = store.transact(lambda tx: [one for n in (1, 2) for one in tx.alerts.deliveries(f"kettle01-{n}")])
    decided_at = an_alert().decided_at
    assert courses[1] == Course(
        alert_id="kettle01-1", state=AlertState.ACKNOWLEDGED, closed_at=decided_at, closed_by="upgrade"
    )
    assert courses[2] == Course(alert_id="kettle01-2")
    assert deliveries == [a_delivery(state=DeliveryState.SENT), a_delivery("kettle01-2")], "no word more is told"
    downgrade(path, "0002")
    assert everything(path) == as_they_were


def keep_old_alerts(tx: Transaction) -> None:
    tx.tasks.add(a_task())
    tx.alerts.add(an_alert(), [a_delivery(state=DeliveryState.SENT)])
    tx.alerts.add_deliveries([a_delivery(number=1, transition=Transition.REPEAT)])
    tx.alerts.add(an_alert(occurrence=2), [a_delivery("kettle01-2")])


@pytest.mark.parametrize(
    ("then", "complaint"),
    [
        ("op.execute('DELETE FROM tasks')", "broken references"),
        ("op.execute('DROP TABLE colours')", "no such table"),
        ("raise OSError(28, 'No space left on device')", None),
    ],
)
def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    path: Path, backups: Path, tmp_path: Path, then: str, complaint: str | None
) -> None:
    with open_store(path) as store:
        store.transact(keep_something)
    before, was = everything(path), layout(path)
    later = make_later(tmp_path, then)
    with pytest.raises(StoreError if complaint else OSError, match=complaint or "No space"):
        upgrade(path, backups, to="next", scripts=later)
    assert (everything(path), layout(path), revision_of(path)) == (before, was, HEAD)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(path: Path, backups: Path, later: Path) -> None:
    upgrade(path, backups, to="next", scripts=later)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"revision next, but this version of omni-watch knows only up to {HEAD}"):
        open_store(path)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("backups/*"))


def test_two_processes_may_bring_it_up_to_date_at_once(path: Path, backups: Path) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_IT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in starting:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outcomes = [process.communicate("go\n", timeout=60)[0] for process in starting]
    assert outcomes == [f"{HEAD}\n"] * 2
    assert [process.returncode for process in starting] == [0, 0]


def test_backups_never_overwrite_one_another(path: Path, backups: Path, later: Path) -> None:
    upgrade(path, backups)
    names = []
    for _ in range(3):
        done = upgrade(path, backups, to="next", scripts=later)
        assert done.backup is not None
        names.append(done.backup.name)
        downgrade(path, HEAD, scripts=later)
    stem = f"omni-watch-{HEAD}-before-next"
    assert names == [f"{stem}.db", f"{stem}-2.db", f"{stem}-3.db"]


def test_without_room_for_the_backup_nothing_is_changed(path: Path, backups: Path, later: Path) -> None:
    upgrade(path, backups)
    backups.write_text("a file where the directory should be")
    with pytest.raises(StoreError, match="no copy of"):
        upgrade(path, backups, to="next", scripts=later)
    assert revision_of(path) == HEAD
