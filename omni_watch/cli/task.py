"""`omni-watch task …`: what the house is asked to watch for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time, timedelta

import click
from rich.markup import escape

from omni_watch.cli.alerts import say_acknowledged
from omni_watch.cli.ports import House
from omni_watch.cli.shell import Shell, local_time, pass_shell
from omni_watch.cli.shown import (
    lesson_document,
    lesson_line,
    mark_document,
    mark_lines,
    plan_document,
    plan_lines,
    span,
    state_text,
    task_document,
    task_facts,
    tasks_table,
)
from omni_watch.cli.values import Duration, Hours
from omni_watch.domain.rules import Priority, Repeat
from omni_watch.domain.tasks import Task, WatchWindow


@click.group()
def task() -> None:
    """Say what to watch for; see, pause and cancel it.

    \b
    omni-watch task add "tell me when the kettle is full"
    omni-watch task list
    omni-watch task cancel kettle

    A running daemon notices changes within a second or two. TASK is an id, the beginning of one, or words of the task.
    """


@task.command()
@click.argument("text")
@click.option("--feed", "feeds", multiple=True, metavar="NAME", help="Watch only this feed; may be given again.")
@click.option("--once", "repeat", flag_value="once", help="Tell it once, then be done.")
@click.option("--each", "repeat", flag_value="each", help="Tell it each time. Without either, the words decide.")
@click.option("--message", metavar="TEXT", help="What to say, instead of the rule's own words.")
@click.option("--cooldown", type=Duration(), help="Quiet for so long after each time it was told.")
@click.option("--between", type=Hours(), metavar="FROM-TO", help="Watch only in these hours, like 22:00-06:30.")
@click.option("--expires-in", type=Duration(), help="Stop watching after so long.")
@click.option("--priority", type=click.Choice([each.value for each in Priority]), help="Urgent ones are told first.")
@pass_shell
def add(
    shell: Shell,
    text: str,
    feeds: tuple[str, ...],
    repeat: str | None,
    message: str | None,
    cooldown: timedelta | None,
    between: tuple[time, time] | None,
    expires_in: timedelta | None,
    priority: str | None,
) -> None:
    """Ask the house to watch for something, in your own words.

    \b
    omni-watch task add "tell me when the kettle is full" --feed kitchen
    omni-watch task add "every time the dog barks" --between 22:00-06:30
    omni-watch task add "水壶满了告诉我一声" --expires-in 2h
    """
    with shell.house() as house:
        added = house.add_task(
            text,
            feeds=feeds,
            repeat=Repeat(repeat) if repeat else None,
            message=message,
            cooldown_s=cooldown.total_seconds() if cooldown else None,
            window=WatchWindow(begins=between[0], ends=between[1], zone=house.settings.zone) if between else None,
            expires_in=expires_in,
            priority=Priority(priority) if priority else None,
            set_by="cli",
        )
        plan = house.plan(added)
    shell.say(
        {"task": task_document(added), "plan": plan_document(plan)},
        f"[bold]{added.id}[/]  {escape(added.text)}",
        *plan_lines(plan),
    )


@task.command("list")
@click.option("--all", "is_all", is_flag=True, help="Also those that ended.")
@pass_shell
def list_(shell: Shell, is_all: bool) -> None:
    """List the tasks being watched.

    \b
    omni-watch task list
    omni-watch task list --all --json
    """
    with shell.house() as house:
        tasks = [each for each in house.tasks() if is_all or each.is_live]
        zone = house.settings.zone
    empty = 'Nothing is being watched. Try: omni-watch task add "tell me when the kettle is full"'
    shell.say({"tasks": [task_document(each) for each in tasks]}, tasks_table(tasks, zone) if tasks else empty)


@task.command()
@click.argument("task", metavar="TASK")
@pass_shell
def show(shell: Shell, task: str) -> None:
    """Show how a task is watched and why, and what happened.

    \b
    omni-watch task show kettle
    """
    with shell.house() as house:
        found = house.find(task)
        plan, lessons, marks = house.plan(found), house.lessons(found), house.marks(found)
        zone = house.settings.zone
    document = {
        "task": task_document(found),
        "plan": plan_document(plan),
        "lessons": [lesson_document(lesson) for lesson in lessons],
        "marks": [mark_document(mark) for mark in marks],
    }
    taught = [f"taught on {escape(lesson_line(lesson))}" for lesson in lessons]
    shell.say(document, task_facts(found, zone), "", *plan_lines(plan), *taught, *mark_lines(marks))


@task.command()
@click.argument("task", metavar="TASK")
@pass_shell
def cancel(shell: Shell, task: str) -> None:
    """Stop watching for good; what is being told of it ends too.

    \b
    omni-watch task cancel kettle
    """
    _change(shell, task, lambda house, found: house.cancel(found.id))


@task.command()
@click.argument("task", metavar="TASK")
@pass_shell
def pause(shell: Shell, task: str) -> None:
    """Keep a task, but do not watch until it is resumed.

    \b
    omni-watch task pause "dog barks"
    """
    _change(shell, task, lambda house, found: house.pause(found.id))


@task.command()
@click.argument("task", metavar="TASK")
@pass_shell
def resume(shell: Shell, task: str) -> None:
    """Watch again, at once: ends a pause or a snooze.

    \b
    omni-watch task resume "dog barks"
    """
    _change(shell, task, lambda house, found: house.resume(found.id))


@task.command()
@click.argument("task", metavar="TASK")
@click.option("--for", "lasting", type=Duration(), default=timedelta(minutes=10), help="For how long.  [default: 10m]")
@pass_shell
def snooze(shell: Shell, task: str, lasting: timedelta) -> None:
    """Do not watch for a while; watching begins again by itself.

    \b
    omni-watch task snooze "dog barks" --for 2h
    """
    _change(shell, task, lambda house, found: house.snooze(found.id, lasting), f"for {span(lasting)}")


@task.command()
@click.argument("task", metavar="TASK")
@pass_shell
def ack(shell: Shell, task: str) -> None:
    """Take note of what a task told: it is not told again.

    \b
    omni-watch task ack "smoke alarm"
    """
    with shell.house() as house:
        noted = house.acknowledge_task(house.find(task).id)
    say_acknowledged(shell, noted)


def _change(shell: Shell, words: str, change: Callable[[House, Task], Task], how: str = "") -> None:
    """Find the task that is meant, change it, and say how it is now."""
    with shell.house() as house:
        changed = change(house, house.find(words))
        zone = house.settings.zone
    until = f" until {local_time(changed.snoozed_until, zone)}" if how and changed.snoozed_until else ""
    shell.say(
        {"task": task_document(changed)}, f"[bold]{changed.id}[/]  {escape(changed.text)}  {state_text(changed)}{until}"
    )
