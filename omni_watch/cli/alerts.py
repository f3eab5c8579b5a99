"""`omni-watch alerts …`: what was told, whether it arrived, and that a person has taken note of it."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.markup import escape

from omni_watch.app.told import Told
from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.cli.shown import alert_document, alerts_table, course_text


@click.group()
def alerts() -> None:
    """See what was told, and take note of it.

    \b
    omni-watch alerts list
    omni-watch alerts ack
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
        {"alerts": [alert_document(told) for told in recent]},
        alerts_table(recent, zone) if recent else "Nothing was told yet.",
    )


@alerts.command()
@click.argument("alert_id", metavar="[ID]", required=False)
@pass_shell
def ack(shell: Shell, alert_id: str | None) -> None:
    """Take note of an alert, so that it is not told again.

    \b
    omni-watch alerts ack
    omni-watch alerts ack k3-1

    Without an id the last open alert is meant, an urgent one first.
    """
    with shell.house() as house:
        told = house.acknowledge(alert_id)
    say_acknowledged(shell, [told])


def say_acknowledged(shell: Shell, noted: Sequence[Told]) -> None:
    """How the alerts are now that a person has taken note of them."""
    shell.say(
        {"alerts": [alert_document(told) for told in noted]},
        *(f"[bold]{told.alert.id}[/]  {escape(told.alert.text)}  {course_text(told.course)}" for told in noted),
    )
