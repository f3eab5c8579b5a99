"""`omni-watch alerts …`: what was told, and whether it arrived."""

from __future__ import annotations

import click

from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.cli.shown import alert_document, alerts_table


@click.group()
def alerts() -> None:
    """See what was told.

    \b
    omni-watch alerts list
    """


@alerts.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@click.option("--task", "words", metavar="TASK", help="Only those of this task: its id, or words of it.")
@pass_shell
def list_(shell: Shell, limit: int, words: str | None) -> None:
    """List alerts, newest first, with their channels.

    \b
    omni-watch alerts list --limit 50
    omni-watch alerts list --task kettle --json
    """
    with shell.house() as house:
        task_id = house.find(words).id if words else None
        recent = house.alerts(limit, task_id)
        zone = house.settings.zone
    shell.say(
        {"alerts": [alert_document(alert, deliveries) for alert, deliveries in recent]},
        alerts_table(recent, zone) if recent else "Nothing was told yet.",
    )
