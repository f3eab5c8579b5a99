"""`omni-watch replay`: the same pipeline over a recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from omni_watch.cli.ports import OnProgress
from omni_watch.cli.shell import Shell, pass_shell
from omni_watch.cli.shown import table
from omni_watch.config.settings import EngineKind


@click.command(short_help="Run a recording through the same pipeline.")
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--task", "tasks", multiple=True, metavar="TEXT", help="What to watch for; may be given again.")
@click.option("--listen", "listens", is_flag=True, help="Do what people ask for in the clip itself.")
@click.option(
    "--teach",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Takes that were shown before: a JSON file that names clips, regions and seconds.",
)
@click.option(
    "--engine",
    type=click.Choice(["embedded", "minicpm-o", "auto"]),
    help="Which engine watches; the configuration says unless given.",
)
@pass_shell
def replay(
    shell: Shell, clip: Path, tasks: tuple[str, ...], listens: bool, teach: Path | None, engine: EngineKind | None
) -> None:
    """Run a recording through the same pipeline as live feeds, as fast as this machine can.

    \b
    omni-watch replay clip.mp4 --task "tell me when the kettle is full" --teach teach.json
    omni-watch replay clip.mp4 --task "every time the dog barks" --json
    omni-watch replay clip.mp4 --listen
    omni-watch replay clip.mp4 --task "the card game is over" --engine minicpm-o --config model.toml

    With --listen the house hears what people say in the clip, and does what they ask for, as it does live. Nothing is
    kept and nobody is told; two replays of a clip give the same alerts.
    """
    if not tasks and not listens:
        raise click.UsageError("Say with --task what to watch for, or with --listen that the clip itself says it.")
    settings = shell.settings()
    if engine is not None:
        settings = replace(settings, engine=replace(settings.engine, kind=engine))
    with _progress(shell) as on_progress:
        document = shell.application.replay(
            settings, clip, tasks=tasks, listens=listens, teach=teach, on_progress=on_progress
        )
    shell.say(document, *_warnings(document), *_asks(document), *_events(document), _summary(document))


@contextmanager
def _progress(shell: Shell) -> Iterator[OnProgress | None]:
    """A bar on standard error while somebody looks on."""
    aside = shell.aside()
    if shell.as_json or not aside.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
    with Progress(*columns, console=aside, transient=True) as progress:
        bar = progress.add_task("replaying", total=None, at="")
        yield lambda done_s, total_s: progress.update(bar, completed=done_s, total=total_s, at=clock_text(done_s))


def clock_text(seconds: float) -> str:
    """Seconds into a clip as `1:02:03.4` or `02:03.4`."""
    minutes, rest_s = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02d}:{rest_s:04.1f}"


def _warnings(document: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"[yellow]{escape(warning)}[/]" for warning in document["warnings"])


def _asks(document: Mapping[str, Any]) -> Iterator[str]:
    """What a person should do for tasks that cannot be watched (better)."""
    for task in document["tasks"]:
        head = "" if task["means"] else "[red]cannot be watched yet[/]  "
        if ask := task.get("ask"):
            yield f"{head}{escape(task['text'])}: [yellow]{escape(ask)}[/]"


Row = tuple[float, str, str, str]  # seconds into the clip, what was said or told, how sure, by what


def _events(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """What was told, and what was asked for and answered, in the order of time."""
    told = [_told(alert) for alert in document["alerts"]]
    said = [row for command in document["commands"] for row in _said(command)]
    if said or told:
        made = table("at", "what" if said else "alert", "sure", "by")
        for at_s, *cells in sorted((*told, *said), key=lambda row: row[0]):
            made.add_row(clock_text(at_s), *cells)
        yield made
    if not told:
        yield "No alerts."


def _said(command: Mapping[str, Any]) -> Iterator[Row]:
    """What somebody asked for, and what was answered."""
    yield command["ended_s"], f"[cyan]“{escape(command['heard'])}”[/]", "", "voice"
    if command["reply"]:
        yield command["stream_s"], f"[dim]{escape(command['reply'])}[/]", "", ""


def _told(alert: Mapping[str, Any]) -> Row:
    return alert["stream_s"], escape(alert["text"]), f"{alert['confidence']:.0%}", ", ".join(alert["means"])


def _summary(document: Mapping[str, Any]) -> str:
    units, wall_s = document["units"], document["wall_s"]
    pace = f", {document['duration_s'] / wall_s:.0f} times as fast as life" if wall_s else ""
    return (
        f"[dim]{units['count']} units, {units['missed']} missed, step {units['step_ms']['p95']:g} ms p95; "
        f"{wall_s:.1f} s{pace}; {document['rss_mb_peak']:.0f} MB; {escape(str(document['engine']))}[/]"
    )
