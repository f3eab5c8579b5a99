"""`omni-watch say …`: what people say to the house, typed."""

from __future__ import annotations

import click
from rich.markup import escape

from omni_watch.cli.shell import Shell, pass_shell


@click.command()
@click.argument("sentence")
@pass_shell
def say(shell: Shell, sentence: str) -> int:
    """Say something to the house as you would aloud.

    \b
    omni-watch say "tell me every time the dog barks in the kitchen"
    omni-watch say "not the cup, the bowl"
    omni-watch say "in ten minutes remind me to turn off the oven"
    omni-watch say "别看水壶了"

    It is as strict as it is with a voice: a sentence that only mentions something does nothing. When it asks which one
    you mean, say it within ten seconds. To have any words watched for, use `omni-watch task add`.
    """
    with shell.house() as house:
        reply = house.say(sentence)
    document = {
        "reply": reply.text,
        "language": reply.language,
        "deed": reply.deed,
        "is_done": reply.is_done,
        "is_question": reply.is_question,
        "task_ids": list(reply.task_ids),
        "why": reply.understood.why,
    }
    why = [f"[dim]{escape(reply.understood.why)}[/]"] if reply.deed == "nothing" else []
    shell.say(document, escape(reply.text), *why)
    return 0 if reply.is_done or reply.is_question else 1
