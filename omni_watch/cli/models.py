"""`omni-watch models`: which model files there are, fetch them, check them; is the native model the recorded one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table as Grid
from rich.text import Text

from omni_watch.cabinet import Cabinet, ModelFile, Standing, State, Step, lacking
from omni_watch.cabinet.cabinet import Progress as Told
from omni_watch.cli.parity import deviations, mismatches, parity_verdict
from omni_watch.cli.ports import OnUnits
from omni_watch.cli.shell import Shell, pass_shell

COLOURS = {State.PRESENT: "green", State.MISSING: "yellow", State.WRONG: "red"}


@click.group()
def models() -> None:
    """Look after model files.

    Hearing, seeing, reading and speaking need them.

    \b
    omni-watch models list
    omni-watch models pull
    """


@models.command("list")
@pass_shell
def list_models(shell: Shell) -> None:
    """Show every model file, and whether it is here.

    \b
    omni-watch models list
    """
    cabinet = _cabinet(shell)
    standings = cabinet.status()
    shell.say(_document(cabinet, standings), _grid(cabinet, standings), f"In {cabinet.folder}", *_verdict(standings))


@models.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@pass_shell
def pull(shell: Shell, ids: tuple[str, ...]) -> None:
    """Fetch the model files that are missing or wrong.

    All of them when no ID is given. Works again after an error.

    \b
    omni-watch models pull
    omni-watch models pull yamnet yamnet-classes
    """
    cabinet = _cabinet(shell)
    with _telling(shell) as told:
        changed = cabinet.pull(ids or None, told)
    said = f"Fetched or made {len(changed)} model files" if changed else "The model files are all here and right"
    shell.say({"folder": str(cabinet.folder), "changed": changed}, f"{said}, in {cabinet.folder}")


@models.command()
@click.pass_context
@pass_shell
def verify(shell: Shell, context: click.Context) -> None:
    """Compare every model file, byte for byte.

    Exits with 1 when one is missing or wrong.

    \b
    omni-watch models verify
    """
    cabinet = _cabinet(shell)
    standings = cabinet.status()
    shell.say(_document(cabinet, standings), *_verdict(standings))
    if lacking(standings):
        context.exit(1)


@models.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="What to compute in. Only float32 has to be exact.",
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where to compute: cpu, cuda, cuda:1.")
@click.pass_context
@pass_shell
def parity(shell: Shell, context: click.Context, folder: Path, dtype: str, device: str) -> None:
    """Hold our MiniCPM-o against recorded sessions.

    DIR holds a checkpoint and what the reference computed with it. Every session is lived through again; every integer
    and decision has to come out the same, every tensor within its limit. Exits with 1 when anything does not.

    \b
    omni-watch models parity tests/golden/minicpmo/tiny-a
    omni-watch models parity tests/golden/minicpmo/tiny-a --dtype bfloat16 --json
    """
    with _counting(shell) as on_units:
        found = shell.application.check_parity(folder, dtype=dtype, device=device, on_progress=on_units)
    shell.say(found, deviations(found), *mismatches(found), *parity_verdict(found))
    if not found["ok"]:
        context.exit(1)


def _cabinet(shell: Shell) -> Cabinet:
    return Cabinet(shell.settings().models_dir)


def _document(cabinet: Cabinet, standings: Sequence[Standing]) -> dict[str, Any]:
    return {"folder": str(cabinet.folder), "files": [_row(cabinet, standing) for standing in standings]}


def _row(cabinet: Cabinet, standing: Standing) -> dict[str, Any]:
    row = {
        "id": standing.id,
        "ability": standing.ability,
        "state": standing.state.value,
        "detail": standing.detail,
        "mend": standing.mend,
        "path": str(standing.path),
    }
    match cabinet.table.entries[standing.id]:
        case ModelFile() as file:
            origin = {"package": file.package.requirement, "origin": file.origin, "licence": file.licence}
            return {**row, **origin, "size": file.size, "sha256": file.sha256}
        case derived:
            return {**row, "made_from": [source.id for source in derived.sources]}


def _grid(cabinet: Cabinet, standings: Sequence[Standing]) -> Grid:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for header in ("model file", "for", "state", "MB", "from", "licence"):
        grid.add_column(header, overflow="fold", no_wrap=header == "model file")
    for standing in standings:
        match cabinet.table.entries[standing.id]:
            case ModelFile() as file:
                size, source, licence = f"{file.size / 1e6:.1f}", file.package.requirement, file.licence
            case derived:
                size, source, licence = "", f"made from {' and '.join(file.id for file in derived.sources)}", ""
        state = Text(standing.state.value, COLOURS[standing.state])
        grid.add_row(standing.id, standing.ability, state, size, source, licence)
    return grid


def _verdict(standings: Sequence[Standing]) -> Iterator[str]:
    amiss = lacking(standings)
    if not amiss:
        yield f"All {len(standings)} model files are here and right."
    for ability, files in amiss.items():
        yield f"Cannot {ability}:"
        for standing in files:
            yield f"  {standing.id} {standing.detail}"
    if amiss:
        yield f"To mend it: {next(iter(amiss.values()))[0].mend}"


@contextmanager
def _telling(shell: Shell) -> Iterator[Told]:
    """Where the steps of a pull go: a bar in a terminal, a line each otherwise, nowhere under --json."""
    console = shell.aside()
    if shell.as_json or not console.is_terminal:
        yield _lines(console, is_silent=shell.as_json)
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda step: bars.update(bar, description=step.title, completed=step.done, total=step.total or None)


def _lines(console: Console, *, is_silent: bool) -> Told:
    told: set[str] = set()

    def tell(step: Step) -> None:
        if not is_silent and step.title not in told:
            told.add(step.title)
            console.print(step.title)

    return tell


@contextmanager
def _counting(shell: Shell) -> Iterator[OnUnits | None]:
    """A bar on standard error while somebody looks on."""
    console = shell.aside()
    if shell.as_json or not console.is_terminal:
        yield None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("units")
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("living through it again", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
