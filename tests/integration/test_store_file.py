"""The store on a real file: one thread, several processes, cancelled callers, and disks that fail."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy.exc
from sqlalchemy import NullPool, text

from omni_watch.domain.errors import StoreError
from omni_watch.store.database import Database, engine_for, open_store
from omni_watch.store.faults import BY_CODE, is_damage, store_error, translated
from omni_watch.store.thread import SqlStore
from omni_watch.watch.ports import Transaction
from tests.fakes.fake_clock import NOON
from tests.fakes.values import a_delivery, a_task, an_alert, an_example

DEADLINE_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "omni-watch.db"


def task_ids(tx: Transaction) -> list[str]:
    return [task.id for task in tx.tasks.all()]


def test_a_fresh_database_is_private_and_leaves_one_file_behind(path: Path) -> None:
    with open_store(path) as store:
        store.transact(lambda tx: tx.tasks.add(a_task()))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_every_connection_is_durable_checked_and_patient(path: Path) -> None:
    open_store(path).close()
    engine = engine_for(path, poolclass=NullPool)
    for _ in range(2):
        with engine.connect() as connection:
            found = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_what_the_relay_asks_is_answered_from_an_index(path: Path) -> None:
    with open_store(path) as store:
        store.transact(lambda tx: tx.tasks.add(a_task()))
        store.transact(lambda tx: tx.alerts.add(an_alert(), [a_delivery()]))
    question = "SELECT min(due_at) FROM deliveries WHERE state = 'pending' AND channel = 'mqtt' AND due_at <= '2027'"
    with closing(sqlite3.connect(path)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}"))
    assert "ix_deliveries_state_channel_due_at" in plan


async def test_all_work_runs_on_the_store_thread(path: Path) -> None:
    store = await SqlStore.open(path)
    threads = [await store.transact(lambda tx: threading.current_thread().name) for _ in range(3)]
    assert threads == ["store_0"] * 3
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.transact(task_ids)


async def test_a_slow_disk_does_not_stop_the_loop(path: Path) -> None:
    store = await SqlStore.open(path)
    may_go_on = threading.Event()
    slow = asyncio.ensure_future(store.transact(lambda tx: may_go_on.wait(DEADLINE_S)))
    await asyncio.sleep(0)
    assert not slow.done(), "the loop runs while the store thread waits"
    may_go_on.set()
    assert await slow
    await store.close()


async def test_a_caller_that_is_cancelled_leaves_all_of_its_change_or_nothing(path: Path) -> None:
    store = await SqlStore.open(path)
    began, may_go_on = threading.Event(), threading.Event()

    def work(tx: Transaction) -> None:
        tx.tasks.add(a_task("first"))
        began.set()
        assert may_go_on.wait(DEADLINE_S)
        tx.tasks.add(a_task("second"))

    running = asyncio.ensure_future(store.transact(work))
    waiting = asyncio.ensure_future(store.transact(lambda tx: tx.tasks.add(a_task("never"))))
    await asyncio.to_thread(began.wait, DEADLINE_S)
    running.cancel()
    waiting.cancel()
    may_go_on.set()
    assert await asyncio.gather(running, waiting, return_exceptions=True)
    assert running.cancelled()
    assert waiting.cancelled()
    assert await store.transact(task_ids) == ["first", "second"]
    await store.close()


async def test_a_change_by_another_process_is_noticed_once(path: Path) -> None:
    store = await SqlStore.open(path)
    await store.transact(lambda tx: tx.tasks.add(a_task("mine")))
    assert not await store.changed_elsewhere()
    with open_store(path) as other:
        other.transact(task_ids)
        assert not await store.changed_elsewhere(), "reading changes nothing"
        other.transact(lambda tx: tx.tasks.add(a_task("theirs")))
        assert not other.changed_elsewhere()
    assert await store.changed_elsewhere()
    assert not await store.changed_elsewhere()
    assert await store.transact(task_ids) == ["mine", "theirs"]
    await store.close()


def test_many_threads_and_connections_lose_no_change(path: Path) -> None:
    open_store(path).close()

    def count(name: str) -> None:
        with open_store(path) as store:
            for number in range(25):
                store.transact(lambda tx, n=number: tx.tasks.add(a_task(f"{name}-{n}")))  # type: ignore[misc]

    threads = [threading.Thread(target=count, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with open_store(path) as store:
        assert len(store.transact(task_ids)) == 100


def test_a_database_that_somebody_holds_is_busy_and_worth_trying_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omni_watch.store.database.BUSY_TIMEOUT_S", 0.05)
    with open_store(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="busy") as refused:
            store.transact(task_ids)
        assert refused.value.can_retry
        other.execute("ROLLBACK")
        assert store.transact(task_ids) == []


def test_an_error_of_the_work_itself_passes_as_it_is_and_the_store_goes_on(path: Path) -> None:
    with open_store(path) as store:
        with pytest.raises(ZeroDivisionError):
            store.transact(lambda tx: 1 // 0)
        with pytest.raises(StoreError, match="contradicts"):
            store.transact(lambda tx: tx.lessons.add("unknown", "kitchen", an_example()))
        with pytest.raises(StoreError, match="fault of omni-watch"):
            store.transact(lambda tx: tx.tasks.add(a_task(set_at=NOON.replace(tzinfo=None))))
        assert store.transact(task_ids) == []


@pytest.mark.parametrize(
    "content", [b"this is no database, it is a shopping list\n" * 200, b"SQLite format 3\x00" + b"x" * 5000]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match="omni-watch db check"):
        open_store(path)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not one of omni-watch"):
        open_store(path)
    assert path.read_bytes() == before


def test_damage_inside_is_found_when_it_is_met_and_says_what_to_do(path: Path) -> None:
    with open_store(path) as store:
        for number in range(300):
            store.transact(lambda tx, n=number: tx.tasks.add(a_task(f"t{n}", text="x" * 400)))  # type: ignore[misc]
    content = bytearray(path.read_bytes())
    content[3 * 4096 : -4096] = b"\xa5" * (len(content) - 4 * 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"damaged.*omni-watch db restore"), open_store(path) as store:
        store.transact(task_ids)


def test_a_value_that_no_version_wrote_is_damage_too(path: Path) -> None:
    with open_store(path) as store:
        store.transact(lambda tx: tx.tasks.add(a_task()))
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA ignore_check_constraints = ON")
            other.execute("UPDATE tasks SET state = 'dancing'")
            other.commit()
        with pytest.raises(StoreError, match="'dancing' where one of armed, fired"):
            store.transact(task_ids)


@pytest.fixture
def as_a_guest() -> Iterator[None]:
    """Root may write everywhere: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory whose parents everybody may enter, which pytest's own do not allow."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def test_a_read_only_file_says_whose_it_must_be(open_place: Path, request: pytest.FixtureRequest) -> None:
    path = open_place / "omni-watch.db"
    with open_store(path) as store:
        store.transact(lambda tx: tx.tasks.add(a_task()))
    path.chmod(0o444)
    open_place.chmod(0o555)
    request.getfixturevalue("as_a_guest")
    with pytest.raises(StoreError, match=r"must belong to the user|readable and writable"):
        open_store(path)


def test_a_read_only_directory_says_so_before_anything_is_made(
    open_place: Path, request: pytest.FixtureRequest
) -> None:
    open_place.chmod(0o555)
    request.getfixturevalue("as_a_guest")
    for path in (open_place / "omni-watch.db", open_place / "deeper" / "omni-watch.db"):
        with pytest.raises(StoreError, match="cannot be created: Permission denied"):
            open_store(path)


def test_a_directory_in_the_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="it is no file"):
        open_store(path)


def fill(store: Database) -> int:
    """Add pictures until there is no more room; how many were kept."""
    store.transact(lambda tx: tx.tasks.add(a_task()))
    for number in range(1000):
        picture = an_example(f"e{number}", jpeg=os.urandom(100_000))
        try:
            store.transact(lambda tx, p=picture: tx.lessons.add("kettle01", "kitchen", p))  # type: ignore[misc]
        except StoreError as refused:
            error = refused
            break
    else:
        pytest.fail("there was always room")
    assert "no room" in str(error)
    assert not error.can_retry
    return number


def test_a_full_database_keeps_all_that_it_had_and_goes_on_once_there_is_room(path: Path) -> None:
    with open_store(path) as store:
        raw = store._engine.raw_connection()
        raw.cursor().execute("PRAGMA max_page_count = 400")
        kept = fill(store)
        (lesson,) = store.transact(lambda tx: tx.lessons.of("kettle01"))
        assert len(lesson.examples) == kept > 3
        raw.cursor().execute("PRAGMA max_page_count = 4000")
        raw.close()
        store.transact(lambda tx: tx.lessons.add("kettle01", "kitchen", an_example("last")))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"a small disk can only be mounted by root: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_on_a_full_disk_nothing_that_was_committed_is_lost(small_disk: Path) -> None:
    path, ballast = small_disk / "omni-watch.db", small_disk / "ballast"
    with open_store(path) as store:
        ballast.write_bytes(bytes(300_000))
        kept = fill(store)
    with open_store(path) as store:
        (lesson,) = store.transact(lambda tx: tx.lessons.of("kettle01"))
        assert len(lesson.examples) == kept > 3
        ballast.unlink()
        assert store.transact(lambda tx: tx.lessons.remove("kettle01", example_id="e0")) == 1
        store.transact(lambda tx: tx.lessons.add("kettle01", "kitchen", an_example("small")))


def is_error(kind: object) -> bool:
    """Whether a library raises it; what SQLAlchemy only warns with is not meant."""
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, Warning):
        return False
    return kind.__module__ in ("sqlite3", "sqlalchemy.exc")


def test_whatever_the_libraries_raise_becomes_a_store_error() -> None:
    """Lists what they can raise, so that a new kind cannot slip by untranslated."""
    raised = {kind for library in (sqlite3, sqlalchemy.exc) for kind in vars(library).values() if is_error(kind)}
    raised -= {sqlalchemy.exc.EmulatedDBAPIException}  # a base for asyncio drivers, which SQLAlchemy wraps itself
    assert len(raised) > 40
    for kind in raised:
        error = kind.__new__(kind)
        with pytest.raises(StoreError, match=r"the database omni-watch\.db"), translated("omni-watch.db"):
            raise error


@pytest.mark.parametrize("code", [value for name, value in vars(sqlite3).items() if name.startswith("SQLITE_IOERR_")])
def test_the_low_byte_of_an_error_code_decides(code: int) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert "the disk under" in str(store_error(error, "x"))
    assert not is_damage(error)


def test_every_error_code_has_a_message_that_says_what_to_do() -> None:
    for code in BY_CODE:
        error = sqlite3.OperationalError("reason")
        error.sqlite_errorcode = code
        message = str(store_error(error, "x.db"))
        assert "x.db" in message
        assert "reason" in message
    assert "fault of omni-watch" in str(store_error(sqlite3.ProgrammingError("secret words"), "x.db"))


def test_what_people_said_stays_out_of_error_messages() -> None:
    origin = sqlite3.OperationalError("no such column: x")
    origin.sqlite_errorcode = sqlite3.SQLITE_ERROR
    wrapped = sqlalchemy.exc.OperationalError("INSERT secret", {"text": "my secret"}, origin)
    assert "secret" not in str(store_error(wrapped, "x.db"))
    broken = sqlalchemy.exc.StatementError("my secret", "INSERT secret", {"text": "my secret"}, ValueError("my secret"))
    assert "secret" not in str(store_error(broken, "x.db"))
