"""What the service manager knows of us, for the doctor: is there a service, does it run, what ended it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

UNIT: Final = "omni-watch.service"
PATIENCE_S: Final = 5.0
PROPERTIES: Final = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "NRestarts",
    "Result",
    "ExecMainStatus",
    "StatusText",
)

Scope = Literal["system", "user"]
Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An installed service, as systemd shows it (systemctl(1), `show`)."""

    scope: Scope
    state: str  # "active", "activating", "inactive", "failed", ...
    is_enabled: bool  # it starts with the machine, or with the session
    is_stale: bool  # its unit was changed since systemd read it
    restarts: int  # since it was started by hand or with the machine
    result: str  # "success", "exit-code", "watchdog", "oom-kill", ...
    exit_status: int
    status: str  # what it says of itself
    lingers: bool = True  # it runs when nobody is logged in


def find_services(run: Run | None = None) -> list[Service] | None:
    """Those that are installed, of the machine and of this user; None: nobody here manages services.

    Asks `systemctl`; takes seconds at most.
    """
    ask = run or _run
    found: list[Service] = []
    is_managed = False
    for scope, option in (("system", "--system"), ("user", "--user")):
        try:
            text = ask(["systemctl", option, "show", UNIT, f"--property={','.join(PROPERTIES)}"])
        except (OSError, subprocess.SubprocessError):
            continue
        is_managed = True
        shown = dict(_pairs(text))
        if shown.get("LoadState") not in (None, "not-found"):
            found.append(_service("system" if scope == "system" else "user", shown, ask))
    return found if is_managed else None


def _service(scope: Scope, shown: Mapping[str, str], ask: Run) -> Service:
    return Service(
        scope=scope,
        state=shown.get("ActiveState", ""),
        is_enabled=shown.get("UnitFileState") == "enabled",
        is_stale=shown.get("NeedDaemonReload") == "yes",
        restarts=_number(shown.get("NRestarts")),
        result=shown.get("Result", ""),
        exit_status=_number(shown.get("ExecMainStatus")),
        status=shown.get("StatusText", ""),
        lingers=scope == "system" or _lingers(ask),
    )


def _lingers(ask: Run) -> bool:
    try:
        return "no" not in ask(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]).split()
    except (OSError, subprocess.SubprocessError):
        return True  # nobody can tell


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, is_pair, value = line.partition("=")
        if is_pair:
            yield name, value


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL
    )
    return done.stdout
