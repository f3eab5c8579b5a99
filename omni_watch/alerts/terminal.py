"""Alerts on a terminal, one line each."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.text import Text

from omni_watch.domain.alerts import Alert, Delivery, Receipt
from omni_watch.domain.errors import ChannelUnavailable
from omni_watch.domain.rules import Priority
from omni_watch.watch.ports import Clock

EXPIRY_S: Final = 86_400.0
STYLES: Final = {Priority.URGENT: "bold white on red", Priority.NORMAL: "bold green", Priority.LOW: "green"}


class TerminalChannel:
    """Implements `Channel`. Local time; the same alert twice is printed once."""

    name = "terminal"

    def __init__(self, console: Console, *, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._last: tuple[str, int] | None = None
        self._is_unread = False

    async def send(self, alert: Alert, delivery: Delivery) -> Receipt:
        """Print it; what became of an alert is not printed.

        Raises:
            ChannelUnavailable: nobody reads our output any more.
        """
        if not delivery.transition.is_telling:
            return Receipt(channel=self.name, at=self._clock.now(), detail="not printed")
        if (alert.id, delivery.number) != self._last:
            self._print(line(alert, delivery.repeats))
            self._last = (alert.id, delivery.number)
        return Receipt(channel=self.name, at=self._clock.now(), detail="printed")

    def expiry_s(self, priority: Priority) -> float:
        return EXPIRY_S

    async def close(self) -> None:
        """The console belongs to whoever made it."""

    def _print(self, text: Text) -> None:
        if self._is_unread:
            raise ChannelUnavailable(f"{self.name}: nobody reads our output any more")
        try:
            self._console.print(text, soft_wrap=True)
        except SystemExit as error:  # rich ends the program at a broken pipe; other channels may still tell people
            self._is_unread = True
            raise ChannelUnavailable(f"{self.name}: nobody reads our output any more") from error
        except OSError as error:
            raise ChannelUnavailable(f"{self.name}: {error.strerror}") from error


def line(alert: Alert, repeats: int = 0) -> Text:
    """`12:00:04  The kettle is full.  (Tell me …; kitchen, 27 s; 0.9 s after; taught)`."""
    again = f"told again, {repeats}; " if repeats else ""
    delay_s = (alert.decided_at - alert.condition_at).total_seconds()
    means = ", ".join(each.value for each in alert.means)
    place = f"{alert.feed}, {alert.stream_s:.0f} s" if alert.feed else "reminder"
    return Text.assemble(
        (f"{alert.decided_at.astimezone():%H:%M:%S}  ", "dim"),
        (_shown(alert.text), STYLES[alert.priority]),
        (f"  ({again}{_shown(alert.task_text)}; {place}; {delay_s:.1f} s after; {means})", "dim"),
    )


def _shown(text: str) -> str:
    """Without control characters, which could steer the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
