"""`omni-watch quiet`: end what is being said."""

from __future__ import annotations

import click

from omni_watch.cli.shell import Shell, pass_shell


@click.command()
@pass_shell
def quiet(shell: Shell) -> None:
    """End what companions are saying now; alerts are still told.

    \b
    omni-watch quiet
    """
    with shell.house() as house:
        house.quiet()
    shell.say({"quiet": True}, "Quiet. Alerts will still be told.")
