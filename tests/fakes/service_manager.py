"""Stands in for systemd: starts what a unit says, hears what it tells, ends it when it falls silent, starts it anew.

It reads the real unit file, with its drop-ins, so that what is tested is what is shipped. What it knows of systemd:
Type=notify, WatchdogSec=, Restart=on-failure, RestartSec=, RestartPreventExitStatus= and StartLimitBurst=
(systemd.service(5), systemd.unit(5)), and what notifications mean (sd_notify(3)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)  # systemd.service(5), SuccessExitStatus=
LISTEN_S = 0.05


@dataclass(frozen=True)
class UnitFile:
    """The settings of one unit; a key that is given several times has all its values."""

    values: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """A unit with the drop-ins beside it."""
        values: dict[str, list[str]] = {}
        for each in (path, *sorted(path.with_name(f"{path.name}.d").glob("*.conf"))):
            for line in each.read_text().splitlines():
                key, is_setting, value = line.partition("=")
                if is_setting and not line.startswith(("#", ";", "[")):
                    values.setdefault(key.strip(), []).append(value.strip())
        return cls(values)

    def last(self, key: str) -> str:
        return self.values[key][-1]


@dataclass
class Run:
    """One process of the service, and what it told."""

    process: subprocess.Popen[bytes]
    told: list[str] = field(default_factory=list)  # one notification each
    was_silent: bool = False  # the watchdog ended it

    def has_told(self, line: str) -> bool:
        return any(line in each.split("\n") for each in self.told)

    @property
    def failed(self) -> bool:
        code = self.process.returncode
        return self.was_silent or not (code == 0 or (code < 0 and -code in CLEAN_SIGNALS))


class Service:
    """One service under this manager, from `start` to `stop`.

    `hurry`: by how much the unit's own times are divided, so that a test need not wait for a minute.
    """

    def __init__(
        self,
        unit: UnitFile,
        command: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        hurry: float = 1.0,
    ) -> None:
        self.runs: list[Run] = []
        self.is_over = threading.Event()  # it ended, and is not started again
        self._command = command
        self._folder = folder
        self._watchdog_s = float(unit.last("WatchdogSec")) / hurry
        self._restart_s = float(unit.last("RestartSec")) / hurry
        self._starts_allowed = int(unit.last("StartLimitBurst"))
        self._restarts = unit.last("Restart") == "on-failure"
        self._not_again = {int(code) for code in unit.last("RestartPreventExitStatus").split()}
        self._environment = {**os.environ, **_variables(unit), **(environment or {})}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="service manager", daemon=True)

    @property
    def journal(self) -> str:
        return (self._folder / "journal").read_text("utf-8", "replace")

    def start(self) -> None:
        self._thread.start()

    def until(self, fact: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
        """Wait until a fact holds; the journal is shown when it does not."""
        until_s = time.monotonic() + limit_s
        while not fact():
            if time.monotonic() > until_s:
                raise AssertionError(f"{what}: not within {limit_s:g} s\n{self.journal[-4000:]}")
            time.sleep(LISTEN_S)

    def signal(self, number: signal.Signals) -> None:
        self.runs[-1].process.send_signal(number)

    def stop(self) -> Run:
        """SIGTERM; the last run, which has ended."""
        self._stopping.set()
        if self.runs and self.runs[-1].process.poll() is None:
            self.signal(signal.SIGTERM)
        self._thread.join(30)
        if self.runs and self.runs[-1].process.poll() is None:
            self.runs[-1].process.kill()
            raise AssertionError(f"it did not stop\n{self.journal[-4000:]}")
        return self.runs[-1]

    def _keep(self) -> None:
        while True:
            run = self._run_once()
            is_to_restart = run.failed and self._restarts and run.process.returncode not in self._not_again
            if self._stopping.is_set() or not is_to_restart or len(self.runs) >= self._starts_allowed:
                break
            self._stopping.wait(self._restart_s)
        self.is_over.set()

    def _run_once(self) -> Run:
        """From one start to the end of that process."""
        path = self._folder / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(path))
            listening.settimeout(LISTEN_S)
            run = Run(self._spawn(path))
            self.runs.append(run)
            fed_at_s: float | None = None  # the watchdog begins with READY=1
            while run.process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    run.told.append(listening.recv(4096).decode())
                    if fed_at_s is not None and run.told[-1] == "WATCHDOG=1":
                        fed_at_s = time.monotonic()
                if fed_at_s is None and run.has_told("READY=1"):
                    fed_at_s = time.monotonic()
                if fed_at_s is not None and time.monotonic() - fed_at_s > self._watchdog_s and not run.was_silent:
                    run.was_silent = True
                    run.process.send_signal(signal.SIGABRT)
            listening.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # what it said last
                while True:
                    run.told.append(listening.recv(4096).decode())
        return run

    def _spawn(self, notify: Path) -> subprocess.Popen[bytes]:
        environment = {
            **self._environment,
            "NOTIFY_SOCKET": str(notify),
            "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6)),
            "INVOCATION_ID": "0",
            "JOURNAL_STREAM": "8:1",
        }
        environment.pop("WATCHDOG_PID", None)
        with (self._folder / "journal").open("ab") as journal:
            return subprocess.Popen(self._command, env=environment, stdout=journal, stderr=journal)


def _variables(unit: UnitFile) -> dict[str, str]:
    """What `Environment=` says about the program itself; folders of the real machine are none of a test's."""
    pairs = [pair.partition("=") for line in unit.values.get("Environment", ()) for pair in line.split()]
    return {name: value for name, _, value in pairs if not value.startswith("/")}
