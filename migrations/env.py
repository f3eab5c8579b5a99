"""How Alembic reaches a database: `omni_watch.store.upgrade` hands over its connection; by hand it is
`alembic -x database=FILE upgrade head`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, event

from omni_watch.store.rows import Row


def run(connection: Connection) -> None:
    """All revisions in the connection's one transaction: SQLite can undo changes of tables too."""
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_by_hand() -> None:
    """On the file named with `-x database=FILE`."""
    path = context.get_x_argument(as_dictionary=True).get("database")
    if path is None:
        raise SystemExit("say which database: alembic -x database=FILE upgrade head")
    engine = create_engine(f"sqlite+pysqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _(connection, _record):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        connection.isolation_level = None

    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        run(connection)


given = context.config.attributes.get("connection")
if given is None:
    run_by_hand()
else:
    run(given)
