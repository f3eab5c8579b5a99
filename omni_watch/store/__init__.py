"""What must survive: SQLite through SQLAlchemy, migrations, care of the file, and timers.

columns.py       aware UTC, enums and regions as SQLite keeps them
rows.py          the tables, and rows <-> domain values
repositories.py  the parts of one `watch.ports.Transaction`
database.py      one connection with its pragmas: `Database.transact`, `open_store` for the command line
thread.py        `SqlStore`: the same on the one store thread, for the daemon
faults.py        what the libraries raise -> `StoreError` with what to do
upgrade.py       migrations, with a backup before
care.py          check, backup and restore
timers.py        wake-ups that survive restarts and clock changes
"""
