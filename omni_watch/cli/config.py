"""`omni-watch config …`: is the file right, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.markup import escape

from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.cli.shown import table
from omni_watch.config.settings import Settings, settings_as_shown


@click.group()
def config() -> None:
    """Check and show the configuration.

    \b
    omni-watch config check
    omni-watch config show
    """


@config.command()
@pass_shell
def check(shell: Shell) -> None:
    """Check the configuration file, as start-up does.

    \b
    omni-watch config check
    omni-watch config check --config ./config.toml

    Every mistake is told at once, with the nearest right word; the exit code is then 78.
    """
    settings = shell.settings(is_file_needed=True).with_feeds()
    count = len(settings.feeds)
    shell.say(
        {
            "ok": True,
            "file": str(settings.origin),
            "feeds": [feed.name for feed in settings.feeds],
            "engine": {"kind": settings.engine.kind, "checkpoint": settings.model.path},
        },
        f"[green]{escape(str(settings.origin))} is right[/]: {count} feed{'s' * (count != 1)}",
        f"engine: {escape(_engine(settings))}",
    )


@config.command()
@pass_shell
def show(shell: Shell) -> None:
    """Show every setting as it holds, without passwords.

    \b
    omni-watch config show
    omni-watch config show --json
    """
    settings = shell.settings()
    shown = settings_as_shown(settings)
    made = table("setting", "value")
    for key, value in _flat(shown):
        made.add_row(key, escape(_text(value)))
    origin = f"from {settings.origin}" if settings.origin else "no configuration file; these are the defaults"
    shell.say({"file": settings.origin and str(settings.origin), "settings": shown}, escape(origin), made)


def _engine(settings: Settings) -> str:
    """What is asked for; whether it can be had is found out by looking at the checkpoint, as the doctor does."""
    kind, path = settings.engine.kind, settings.model.path
    if kind == "auto":
        return "embedded" if path is None else f"minicpm-o with {path}, else embedded; `omni-watch doctor` says which"
    return f"{kind} with {path}" if kind == "minicpm-o" else kind


def _flat(shown: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, section in shown.items():
        named = {f"feeds.{feed['name']}": feed for feed in section} if name == "feeds" else {name: section}
        for head, table_ in named.items():
            yield from ((f"{head}.{key}", value) for key, value in table_.items() if key != "name")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
