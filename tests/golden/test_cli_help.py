"""The help texts, word by word. After a change: python tests/golden/test_cli_help.py"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from omni_watch.cli import cli

FOLDER = Path(__file__).parent / "cli_help"
WIDTH = 100


def texts() -> dict[str, str]:
    """File name -> help, of every command."""
    settings = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return dict(_texts(click.Context(cli, info_name="omni-watch", **settings)))


def _texts(context: click.Context) -> Iterator[tuple[str, str]]:
    command = context.command
    yield f"{context.command_path.replace(' ', '-')}.txt", command.get_help(context) + "\n"
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _texts(click.Context(below, parent=context, info_name=name))


@pytest.mark.parametrize("name", texts())
def test_help_is_as_it_was_agreed(name: str) -> None:
    agreed = (FOLDER / name).read_text(encoding="utf-8")

    assert texts()[name] == agreed, "if that is meant: python tests/golden/test_cli_help.py"


def test_no_help_is_left_of_commands_that_are_gone() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(texts())


def regenerate() -> None:
    """Write the texts as they are now, and print what changed."""
    now = texts()
    for path in FOLDER.iterdir():
        if path.name not in now:
            path.unlink()
            sys.stdout.write(f"removed {path.name}\n")
    for name, text in now.items():
        path = FOLDER / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = difflib.unified_diff(before.splitlines(True), text.splitlines(True), f"before/{name}", f"now/{name}")
        sys.stdout.writelines(lines)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    regenerate()
