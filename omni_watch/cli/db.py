"""`omni-watch db`: is the database sound, keep a copy of it, put a copy back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from omni_watch.config.settings import read_settings
from omni_watch.store import care
from omni_watch.store.care import Health
from omni_watch.store.database import FILE_NAME

DATABASE = click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to look after.  [default: omni-watch.db in the configured state directory]",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")


@click.group()
def db() -> None:
    """Look after the database: tasks, what was taught, alerts.

    \b
    omni-watch db check
    omni-watch db backup /mnt/usb/omni-watch.db
    """


@db.command()
@DATABASE
@JSON
@click.pass_context
def check(context: click.Context, database: Path | None, as_json: bool) -> None:
    """Read every page and say whether the database is sound; safe while omni-watch runs. Exits with 1 if it is not.

    \b
    omni-watch db check
    omni-watch db check --json
    """
    health = care.check(_path(context, database))
    if as_json:
        _print_json(_as_json(health))
    else:
        click.echo(_sentences(health))
    if not health.is_sound:
        context.exit(1)


@db.command()
@click.argument("to", type=click.Path(path_type=Path))
@DATABASE
@JSON
@click.pass_context
def backup(context: click.Context, to: Path, database: Path | None, as_json: bool) -> None:
    """Copy the database as of now to the new file TO, and check the copy; safe while omni-watch runs.

    \b
    omni-watch db backup /mnt/usb/omni-watch-monday.db
    """
    health = care.backup(_path(context, database), to)
    if as_json:
        _print_json(_as_json(health))
    else:
        click.echo(f"Backed up to {to}: {_contents(health)}, {_size(health)}.")


@db.command()
@click.argument("backup", type=click.Path(path_type=Path))
@DATABASE
@JSON
@click.pass_context
def restore(context: click.Context, backup: Path, database: Path | None, as_json: bool) -> None:
    """Put a copy of BACKUP in the place of the database, after checking it. Stop omni-watch first.

    The replaced file is kept beside it under another name.

    \b
    omni-watch db restore /mnt/usb/omni-watch-monday.db
    """
    path = _path(context, database)
    aside = care.restore(path, backup)
    if as_json:
        _print_json({"path": str(path), "backup": str(backup), "kept_aside": str(aside) if aside else None})
        return
    click.echo(f"{path} now holds what {backup} holds.")
    if aside:
        click.echo(f"The file that was there before is kept as {aside}.")


def _path(context: click.Context, database: Path | None) -> Path:
    """The file that is meant: named here, or that of the configuration named on the main command, or the usual one."""
    if database is not None:
        return database
    config = context.find_root().params.get("config")
    return read_settings(Path(config) if config else None).state_dir / FILE_NAME


def _as_json(health: Health) -> dict[str, Any]:
    return {
        **asdict(health),
        "path": str(health.path),
        "is_sound": health.is_sound,
        "is_current": health.is_current,
    }


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


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
