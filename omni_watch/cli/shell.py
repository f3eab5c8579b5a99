"""What every command shares: the options, the way to print, and the doors to the application.

`--json` prints exactly one JSON document on standard output; everything else (progress, hints, logs) goes to standard
error, and only to people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console, RenderableType

from omni_watch.cli.ports import Application, House
from omni_watch.config.settings import Settings, read_settings

PIPED_WIDTH = 120  # columns when nobody's terminal says how wide it is


@dataclass(slots=True)
class Shell:
    """One invocation: what was asked of every command, and where its words go."""

    config_path: Path | None = None
    as_json: bool = False
    is_verbose: bool = False
    given_application: Application | None = field(default=None, repr=False)

    @property
    def application(self) -> Application:
        """Imported when first used, so that help and mistyped commands answer at once."""
        if self.given_application is None:
            from omni_watch.cli.application import RealApplication

            self.given_application = RealApplication()
        return self.given_application

    def settings(self, *, is_file_needed: bool = False) -> Settings:
        """ConfigError when the file cannot be used, or there is none though one is needed."""
        return read_settings(self.config_path, is_file_needed=is_file_needed)

    @contextmanager
    def house(self) -> Iterator[House]:
        with self.application.open_house(self.config_path) as house:
            yield house

    def console(self) -> Console:
        """Standard output, for people."""
        return _console(sys.stdout)

    def aside(self) -> Console:
        """Standard error: progress, hints and mistakes. Silent lines under --json are the caller's duty."""
        return _console(sys.stderr)

    def say(self, document: Mapping[str, Any], *lines: RenderableType) -> None:
        """The command's answer: `document` for scripts, `lines` for people."""
        if self.as_json:
            click.echo(json.dumps(document, ensure_ascii=False, indent=2))
            return
        console = self.console()
        for line in lines:
            console.print(line)


def _console(file: Any) -> Console:
    console = Console(file=file, highlight=False, emoji=False)
    return console if console.is_terminal else Console(file=file, width=PIPED_WIDTH, highlight=False, emoji=False)


pass_shell = click.make_pass_decorator(Shell)


def add_shared_options(command: click.Command) -> None:
    """Let `command`, and all below it, take --config, --json and -v, wherever people write them."""
    taken = {option for parameter in command.params for option in parameter.opts}
    command.params += [option for option in _shared_options() if taken.isdisjoint(option.opts)]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_shared_options(below)


def _shared_options() -> list[click.Option]:
    return [
        _option(
            ["--config", "config_path"],
            _keep_config,
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="The configuration file, when not in its usual place.",
        ),
        _option(["--json", "as_json"], _keep_json, is_flag=True, help="Print one JSON document and nothing else."),
        _option(["-v", "--verbose"], _keep_verbose, is_flag=True, help="Say more: details of errors, more log lines."),
    ]


def _option(names: list[str], keep: Callable[[Shell, Any], None], **attributes: Any) -> click.Option:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:
            keep(context.ensure_object(Shell), value)

    return click.Option(names, callback=callback, expose_value=False, **attributes)


def _keep_config(shell: Shell, value: Path) -> None:
    shell.config_path = value


def _keep_json(shell: Shell, value: bool) -> None:
    shell.as_json = value


def _keep_verbose(shell: Shell, value: bool) -> None:
    shell.is_verbose = value


def local_time(at: datetime, zone: str) -> str:
    """`2026-11-22 18:03:07`, in the house's own time."""
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"


def json_time(at: datetime | None) -> str | None:
    """ISO 8601 in UTC, with milliseconds and Z."""
    return (
        None if at is None else at.astimezone(ZoneInfo("UTC")).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
