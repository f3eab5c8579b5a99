"""The command line: parse, make one request of the application, print.

Exit codes: 0 done; 1 it could not be done, and why is told; 2 the command was mistyped; 78 (EX_CONFIG of sysexits.h)
the configuration is wrong, so that a service manager does not try again; 130 interrupted.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from omni_watch import __version__
from omni_watch.cli.alerts import alerts
from omni_watch.cli.config import config
from omni_watch.cli.db import db
from omni_watch.cli.demo import demo
from omni_watch.cli.doctor import doctor
from omni_watch.cli.listen import listen
from omni_watch.cli.models import models
from omni_watch.cli.quiet import quiet
from omni_watch.cli.replay import replay
from omni_watch.cli.run import run
from omni_watch.cli.say import say
from omni_watch.cli.shell import Shell, add_shared_options
from omni_watch.cli.task import task
from omni_watch.cli.teach import teach
from omni_watch.domain.addresses import hide_credentials
from omni_watch.domain.errors import ConfigError, OmniWatchError

FAILED: Final = 1
MISTYPED: Final = 2
CONFIG_WRONG: Final = 78
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="omni-watch", message="%(prog)s %(version)s")
def cli() -> None:
    """Watch the house's cameras and microphones for what you asked, and speak up when it happens.

    \b
    omni-watch demo
    omni-watch task add "tell me when the kettle is full"
    omni-watch run

    Every command takes --config, --json and -v, and explains itself with --help.
    """


for command in (run, say, task, teach, replay, demo, alerts, quiet, listen, doctor, models, config, db):
    cli.add_command(command)
add_shared_options(cli)


def main() -> None:
    """The program `omni-watch`."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str], shell: Shell | None = None) -> int:
    """Run one command line; its exit code. Mistakes and failures are told, never thrown at the user."""
    shell = shell or Shell()
    try:
        code = cli.main(args=list(arguments), prog_name="omni-watch", standalone_mode=False, obj=shell)
    except click.UsageError as error:
        return _mistyped(error, shell, arguments)
    except click.Abort:
        return INTERRUPTED
    except OmniWatchError as error:
        return _failed(error, shell, arguments)
    except BrokenPipeError:  # `omni-watch alerts list | head`
        sys.stdout = None
        return PIPE_CLOSED
    return code if isinstance(code, int) else 0


def _mistyped(error: click.UsageError, shell: Shell, arguments: Iterable[str]) -> int:
    if _wants_json(shell, arguments):
        _print_error({"kind": "UsageError", "message": error.format_message(), "exit_code": MISTYPED})
    else:
        error.show(sys.stderr)
    return MISTYPED


def _failed(error: OmniWatchError, shell: Shell, arguments: Iterable[str]) -> int:
    code = CONFIG_WRONG if isinstance(error, ConfigError) else FAILED
    if _wants_json(shell, arguments):
        document: dict[str, Any] = {"kind": type(error).__name__, "message": str(error), "exit_code": code}
        if isinstance(error, ConfigError):
            document["problems"] = list(error.problems)
        _print_error(document)
        return code
    aside = shell.aside()
    for note in getattr(error, "__notes__", ()):
        aside.print(f"{note}:", markup=False, soft_wrap=True)
    aside.print("[red]error:[/] ", end="")
    aside.print(str(error), markup=False, soft_wrap=True)
    if shell.is_verbose:
        aside.print(hide_credentials("".join(traceback.format_exception(error))), markup=False, soft_wrap=True)
    return code


def _print_error(document: dict[str, Any]) -> None:
    click.echo(json.dumps({"error": document}, ensure_ascii=False, indent=2))


def _wants_json(shell: Shell, arguments: Iterable[str]) -> bool:
    """Also when the mistake kept --json from being read."""
    return shell.as_json or "--json" in arguments
