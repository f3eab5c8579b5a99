"""`omni-watch teach`: show the house how a place looks before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.markup import escape

from omni_watch.cli.ports import House
from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.cli.shown import lesson_document, lesson_line, lessons_table, plan_document, plan_lines
from omni_watch.cli.values import Moments, Place
from omni_watch.domain.errors import RequestError
from omni_watch.domain.regions import Region
from omni_watch.domain.tasks import Task
from omni_watch.domain.teaching import Label

LABELS = {label.value.replace("_", "-"): label for label in Label}


@click.command(short_help="Show how a place looks before and after.")
@click.argument("task", metavar="TASK")
@click.option(
    "--clip", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Take pictures of this clip."
)
@click.option("--not-yet", type=Moments(), help="Seconds of the clip that show it not yet so.")
@click.option("--done", type=Moments(), help="Seconds of the clip that show it done.")
@click.option("--empty", type=Moments(), help="Seconds that show the vessel empty, for a level that rises.")
@click.option("--full", type=Moments(), help="Seconds that show it full.")
@click.option("--feed", metavar="NAME", help="The feed it is for. Without --clip, its picture of this moment is taken.")
@click.option("--label", type=click.Choice(list(LABELS)), help="What the feed shows at this moment.")
@click.option("--region", type=Place(), help="Where to look, as fractions of the picture.")
@click.option("--display-region", type=Place(), help="Where a display is that can be read.")
@click.option("--list", "is_list", is_flag=True, help="List what was taught.")
@click.option("--remove", metavar="WHAT", help="Forget an example by its id, all of a label, or `all`.")
@pass_shell
def teach(
    shell: Shell,
    task: str,
    clip: Path | None,
    not_yet: tuple[float, ...] | None,
    done: tuple[float, ...] | None,
    empty: tuple[float, ...] | None,
    full: tuple[float, ...] | None,
    feed: str | None,
    label: str | None,
    region: Region | None,
    display_region: Region | None,
    is_list: bool,
    remove: str | None,
) -> None:
    """Show what a task's place looks like before and after, from a clip or from a camera as it is now.

    \b
    omni-watch teach kettle --clip kettle.mp4 --not-yet 0.5,2,6 --done 13.5,14.5 --region 0.36,0.30,0.34,0.52
    omni-watch teach kettle --feed kitchen --label done --region 0.36,0.30,0.34,0.52
    omni-watch teach kettle --list
    omni-watch teach kettle --remove done

    Two or three pictures of each kind are a good beginning; other light makes better ones. A running daemon takes
    what it was shown into use by itself.
    """
    given = {Label.NOT_YET: not_yet, Label.DONE: done, Label.EMPTY: empty, Label.FULL: full}
    times = {each: moments for each, moments in given.items() if moments}
    _require_one_way(clip=clip, times=times, feed=feed, label=label, is_list=is_list, remove=remove)
    with shell.house() as house:
        found = house.find(task)
        if is_list:
            _list(shell, house, found)
        elif remove:
            _remove(shell, house, found, remove)
        elif clip:
            house.teach_from_clip(found, feed, clip, times, region, display_region)
            _tell(shell, house, found)
        elif label:
            house.teach_live(found, feed, LABELS[label], region, display_region)
            _tell(shell, house, found)


def _require_one_way(
    *,
    clip: Path | None,
    times: Mapping[Label, Sequence[float]],
    feed: str | None,
    label: str | None,
    is_list: bool,
    remove: str | None,
) -> None:
    """click.UsageError unless exactly one of the four ways to use the command was asked for."""
    ways = [clip is not None, label is not None, is_list, remove is not None]
    if sum(ways) != 1:
        raise click.UsageError("expected one of --clip FILE, --feed NAME --label WHAT, --list or --remove WHAT")
    if times and clip is None:
        raise click.UsageError("--not-yet, --done, --empty and --full are seconds of a clip; give --clip FILE too")
    if clip is not None and not times:
        raise click.UsageError("say which seconds of the clip show what, like --not-yet 0.5,2 --done 13.5")
    if label is not None and feed is None:
        raise click.UsageError("--label is what a feed shows now; give --feed NAME too")


def _tell(shell: Shell, house: House, task: Task) -> None:
    lessons, plan = house.lessons(task), house.plan(task)
    lacking = [sentence for lesson in lessons for sentence in house.lacking(lesson)]
    document = {
        "lessons": [lesson_document(lesson) for lesson in lessons],
        "lacking": lacking,
        "plan": plan_document(plan),
    }
    warnings = [f"[yellow]{escape(sentence)}[/]" for sentence in lacking]
    shell.say(document, *(escape(lesson_line(lesson)) for lesson in lessons), *warnings, *plan_lines(plan))


def _list(shell: Shell, house: House, task: Task) -> None:
    lessons = house.lessons(task)
    shown = any(lesson.examples for lesson in lessons)
    shell.say(
        {"lessons": [lesson_document(lesson) for lesson in lessons]},
        *(escape(lesson_line(lesson)) for lesson in lessons),
        lessons_table(lessons, house.settings.zone) if shown else "Nothing was taught for this task.",
    )


def _remove(shell: Shell, house: House, task: Task, what: str) -> None:
    label = LABELS.get(what.replace("_", "-"))
    example_id = None if label or what == "all" else what
    count = house.forget_examples(task, example_id, label)
    if example_id and not count:
        raise RequestError(f"no example is called {what!r}; `omni-watch teach {task.id} --list` shows them")
    shell.say({"removed": count}, f"Forgot {count} example{'s' * (count != 1)}.")
