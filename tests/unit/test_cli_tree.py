"""What holds for every command there is."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator

import click
import pytest

from omni_watch.cli import cli


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


ALL = dict(commands(cli))
PATHS = pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "omni-watch")


def examples(command: click.Command) -> list[list[str]]:
    """The lines of a command's help that can be pasted, as arguments."""
    lines = inspect.cleandoc(command.help or "").splitlines()
    return [shlex.split(each)[1:] for each in lines if each.startswith("omni-watch ")]


@PATHS
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    shown = examples(ALL[path])

    assert shown
    assert any(tuple(example[: len(path)]) == path for example in shown)


@PATHS
def test_every_example_can_be_parsed(
    path: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("examples")
    for name in ("kettle.mp4", "clip.mp4", "teach.json", "config.toml"):
        (folder / name).touch()
    monkeypatch.chdir(folder)

    for example in examples(ALL[path]):
        command: click.Command = cli
        context = click.Context(cli, **cli.context_settings)
        while isinstance(command, click.Group) and example:
            command, example = command.commands[example[0]], example[1:]
            context = click.Context(command, parent=context)
        command.parse_args(context, list(example))


@PATHS
def test_every_command_takes_the_shared_options_and_explains_each_option(path: tuple[str, ...]) -> None:
    options = [each for each in ALL[path].params if isinstance(each, click.Option)]
    names = {name for option in options for name in option.opts}

    assert {"--config", "--json", "-v", "--verbose"} <= names
    assert all(option.help for option in options)
    assert len(names) == sum(len(option.opts) for option in options)


@PATHS
def test_short_help_fits_its_line(path: tuple[str, ...]) -> None:
    assert not path or not ALL[path].get_short_help_str(limit=60).endswith("...")
