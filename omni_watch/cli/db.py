"""`omni-watch db`: is the database sound, keep a copy of it, put a copy back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.store import care
from omni_watch.store.care import Health
from omni_watch.store.database import BACKUPS, FILE_NAME
from omni_watch.store.upgrade import HEAD
from omni_watch.store.upgrade import upgrade as bring_up_to_date

DATABASE = click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to look after.  [default: omni-watch.db in the configured state directory]",
)


@click.group()
def db() -> None:
    """Look after the database: tasks, what was taught, alerts.

    \b
    omni-watch db check
    omni-watch db backup /mnt/usb/omni-watch.db
    """


@db.command()
@DATABASE
@click.pass_context
@pass_shell
def check(shell: Shell, context: click.Context, database: Path | None) -> None:
    """Read every page and say whether the database is sound.

    Safe while omni-watch runs. Exits with 1 if it is not.

    \b
    omni-watch db check
    omni-watch db check --json
    """
    health = care.check(_path(shell, database))
    shell.say(_as_json(health), escape(_sentences(health)))
    if not health.is_sound:
        context.exit(1)


@db.command()
@click.argument("to", type=click.Path(path_type=Path))
@DATABASE
@pass_shell
def backup(shell: Shell, to: Path, database: Path | None) -> None:
    """Copy the database as of now to the new file TO.

    The copy is checked. Safe while omni-watch runs.

    \b
    omni-watch db backup /mnt/usb/omni-watch-monday.db
    """
    health = care.backup(_path(shell, database), to)
    shell.say(_as_json(health), escape(f"Backed up to {to}: {_contents(health)}, {_size(health)}."))


@db.command()
@click.argument("backup", type=click.Path(path_type=Path))
@DATABASE
@pass_shell
def restore(shell: Shell, backup: Path, database: Path | None) -> None:
    """Put a copy of BACKUP in the place of the database.

    The backup is checked first. Stop omni-watch before. The replaced file is kept beside it under another name.

    \b
    omni-watch db restore /mnt/usb/omni-watch-monday.db
    """
    path = _path(shell, database)
    aside = care.restore(path, backup)
    lines = [f"{path} now holds what {backup} holds."]
    lines += [f"The file that was there before is kept as {aside}."] if aside else []
    document = {"path": str(path), "backup": str(backup), "kept_aside": str(aside) if aside else None}
    shell.say(document, *map(escape, lines))


@db.command(short_help="Bring the database up to date now.")
@DATABASE
@pass_shell
def upgrade(shell: Shell, database: Path | None) -> None:
    """Bring the database to the layout of this version.

    A copy is kept in the folder "backups" beside it first. Stop omni-watch before. When it fails, the database is as it
    was.

    \b
    omni-watch db upgrade
    """
    path = _path(shell, database)
    done = bring_up_to_date(path, path.parent / BACKUPS)
    lines = [f"{path}: revision {HEAD}, before {done.found or 'nothing'}."]
    lines += [f"A copy from before is kept as {done.backup}."] if done.backup else []
    document = {
        "path": str(path),
        "found": done.found,
        "revision": HEAD,
        "backup": str(done.backup) if done.backup else None,
    }
    shell.say(document, *map(escape, lines))


def _path(shell: Shell, database: Path | None) -> Path:
    """The file that is meant: the one named here, or that of the configuration."""
    return database if database is not None else shell.settings().state_dir / FILE_NAME


def _as_json(health: Health) -> dict[str, Any]:
    return {
        **asdict(health),
        "path": str(health.path),
        "is_sound": health.is_sound,
        "is_current": health.is_current,
    }


def _sentences(health: Health) -> str:
    newness = "current" if health.is_current else "brought up to date at the next start"
    first = f"{health.path}: revision {health.revision} ({newness}), {_size(health)}, {_contents(health)}."
    if health.is_sound:
        return f"{first}\nIt is sound."
    found = "\n".join(f"  {problem}" for problem in health.problems)
    return f"{first}\nIt is damaged:\n{found}\nPut a backup in its place: omni-watch db restore BACKUP"


def _contents(health: Health) -> str:
    return ", ".join(f"{health.rows[name]} {name}" for name in ("tasks", "examples", "alerts") if name in health.rows)


def _size(health: Health) -> str:
    return f"{health.size_bytes / 1024:,.0f} kB"
