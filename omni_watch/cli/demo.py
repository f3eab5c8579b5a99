"""`omni-watch demo`: a kettle fills up, and the house says so."""

from __future__ import annotations

from pathlib import Path

import click

from omni_watch.cli.shell import Shell, pass_shell


@click.command(short_help="Watch a kettle fill up; read and hear the alert.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the spoken alert goes as a WAV file; default: a new temporary folder.",
)
@pass_shell
def demo(shell: Shell, folder: Path | None) -> None:
    """Watch a clip of a kettle as if it were a camera: the alert comes as words, as an MQTT message and as speech.

    \b
    omni-watch demo
    omni-watch demo --folder ./demo
    """
    console = shell.aside() if shell.as_json else shell.console()
    document = shell.application.run_demo(console, folder)
    shell.say(document)
