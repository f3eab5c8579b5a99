"""Alerts on a terminal."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest
from rich.console import Console

from omni_watch.alerts.terminal import TerminalChannel, line
from omni_watch.domain.alerts import Transition
from omni_watch.domain.errors import ChannelUnavailable
from tests.fakes.fake_channel import alert, delivery
from tests.fakes.fake_clock import FakeClock


class Unread(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_line_says_what_where_how_late_and_how_it_is_known() -> None:
    told = alert()
    assert line(told).plain == (
        f"{told.decided_at.astimezone():%H:%M:%S}  The kettle is full.  "
        "(Tell me when the kettle is full; kitchen, 27 s; 0.9 s after; taught)"
    )


async def test_an_alert_is_printed_once_with_its_brackets_and_without_what_steers_terminals() -> None:
    output = io.StringIO()
    channel = TerminalChannel(Console(file=output, width=40), clock=FakeClock())
    told = alert(text="[bold]full[/bold] \x1b[2J水壶满了")
    for _ in range(2):
        await channel.send(told, delivery(told, "terminal"))
    assert output.getvalue().count("\n") == 1
    assert "[bold]full[/bold] \N{REPLACEMENT CHARACTER}[2J水壶满了" in output.getvalue()
    assert "\x1b" not in output.getvalue()


async def test_output_that_nobody_reads_any_more_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # rich points our standard output to nowhere
    channel = TerminalChannel(Console(file=Unread()), clock=FakeClock())
    told = alert()
    for _ in range(2):
        with pytest.raises(ChannelUnavailable, match="nobody reads our output"):
            await channel.send(told, delivery(told, "terminal"))


async def test_what_is_told_again_is_printed_again_and_what_became_of_it_is_not() -> None:
    output = io.StringIO()
    channel = TerminalChannel(Console(file=output, width=200), clock=FakeClock())
    told = alert()
    first = delivery(told, "terminal")
    again = replace(first, number=2, transition=Transition.REPEAT)
    over = replace(first, number=3, transition=Transition.ACKNOWLEDGED)
    for each in (first, again, again, over):
        await channel.send(told, each)
    assert output.getvalue().count("\n") == 2
    assert "(told again, 2; Tell me when" in output.getvalue()
