"""Stands in for `systemctl` below a root folder: starts what the unit there says, and waits for it to be ready.

Called by `deploy/install.sh`. Every call that changes something is written to `$FAKE_SYSTEMD/calls`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.fakes.service_manager import UnitFile

FOLDER = Path(os.environ["FAKE_SYSTEMD"])
ROOT = Path(os.environ["FAKE_ROOT"])
PID, ENABLED, CALLS, JOURNAL = (FOLDER / name for name in ("pid", "enabled", "calls", "journal"))
READY_LIMIT_S = 60.0


def main(arguments: list[str]) -> int:
    words = [word for word in arguments if not word.startswith("--")]
    if words[0] == "show":
        sys.stdout.write("252\n")
        return 0
    if words[0] == "is-active":
        sys.stdout.write("active\n" if is_running() else "inactive\n")
        return 0 if is_running() else 3
    if words[0] == "is-enabled":
        return 0 if ENABLED.exists() else 1
    with CALLS.open("a") as calls:
        calls.write(" ".join(words) + "\n")
    match words:
        case ["enable", _]:
            ENABLED.touch()
        case ["disable", _]:
            ENABLED.unlink()
        case ["start", unit]:
            return start(ROOT / "etc/systemd/system" / unit)
        case ["stop", _]:
            stop()
    return 0


def start(unit_path: Path) -> int:
    """0 once it is ready; 1 when it ended before."""
    unit = UnitFile.read(unit_path)
    program, *arguments = unit.last("ExecStart").split()
    notify = FOLDER / "notify"
    notify.unlink(missing_ok=True)
    loaded = [line.partition(":") for line in unit.values["LoadCredential"]]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},  # that is ours
        "NOTIFY_SOCKET": str(notify),
        "CONFIGURATION_DIRECTORY": str(ROOT / "etc/omni-watch"),
        "STATE_DIRECTORY": str(ROOT / "var/lib/omni-watch"),
        "CACHE_DIRECTORY": str(ROOT / "var/cache/omni-watch"),
        "CREDENTIALS_DIRECTORY": str(credentials({name: path for name, _, path in loaded if path})),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening, JOURNAL.open("ab") as journal:
        listening.bind(str(notify))
        listening.settimeout(0.05)
        process = subprocess.Popen(
            [f"{ROOT}{program}", *arguments], env=environment, stdout=journal, stderr=journal, start_new_session=True
        )
        PID.write_text(str(process.pid))
        until_s = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < until_s and process.poll() is None:
            try:
                if listening.recv(4096).startswith(b"READY=1"):
                    return 0
            except TimeoutError:
                continue
    stop()
    return 1


def credentials(named: dict[str, str]) -> Path:
    folder = FOLDER / "credentials"
    folder.mkdir(exist_ok=True)
    for name, path in named.items():
        (folder / name).write_bytes(Path(f"{ROOT}{path}").read_bytes())
    return folder


def is_running() -> bool:
    """Whether the process is there; one that ended but was not waited for is not."""
    try:
        return Path(f"/proc/{PID.read_text()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stop() -> None:
    if is_running():
        os.kill(int(PID.read_text()), signal.SIGTERM)
    until_s = time.monotonic() + 30
    while is_running() and time.monotonic() < until_s:
        time.sleep(0.02)
    PID.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
