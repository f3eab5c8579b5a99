"""`omni-watch listen`: where the house listens."""

from __future__ import annotations

import click

from omni_watch.cli.shell import Shell, pass_shell


@click.command()
@click.argument("feed", required=False)
@click.argument("switch", type=click.Choice(["on", "off"]), required=False, metavar="[on|off]")
@pass_shell
def listen(shell: Shell, feed: str | None, switch: str | None) -> None:
    """Say where the house listens, or switch a feed's sound.

    What is off is dropped as it is captured: no model, no ears and no record gets it. It stays off, also after a
    restart, until it is switched on. A running daemon follows within a second.

    \b
    omni-watch listen
    omni-watch listen kitchen off
    """
    if feed is not None and switch is None:
        raise click.UsageError(f"say on or off: omni-watch listen {feed} off")
    with shell.house() as house:
        blind = [] if feed is None else house.listen(feed, is_listening=switch == "on")
        deaf = house.deaf()
        heard = {one.name: one.name not in deaf for one in house.settings.feeds if one.audio is not None}
    lines = [f"{name}: {'on' if is_on else 'off'}" for name, is_on in heard.items()]
    lines += [f"cannot be watched now: {task.text} ({task.id})" for task in blind]
    document = {"listens": heard, "cannot_watch": [task.id for task in blind]}
    shell.say(document, *(lines or ["No feed has sound."]))
