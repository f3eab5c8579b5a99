"""Every test meets the same terminal, whatever the one is like that the tests were started from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# what rich and click look at before they draw or colour
SWITCHES = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@pytest.fixture(scope="session", autouse=True)
def a_plain_terminal() -> Iterator[None]:
    """TERM=dumb, as many CI machines have it, would keep live lines from being drawn at all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        for switch in SWITCHES:
            patch.delenv(switch, raising=False)
        yield
