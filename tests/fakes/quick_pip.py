"""Stands in for `python -m pip` in an environment that sees the packages of the tests: it only copies our own package.

Anything pinned to a version that cannot be is refused, as pip does.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

OWN = "[piper]"


def main(wanted: str) -> int:
    if wanted.endswith("==0.0.1"):
        sys.stderr.write(f"ERROR: No matching distribution found for {wanted}\n")
        return 1
    if wanted.endswith(OWN):
        copy(Path(wanted.removesuffix(OWN)), Path(sysconfig.get_path("purelib")))
    return 0


def copy(source: Path, packages: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / "omni_watch", packages / "omni_watch", ignore=ignore)
    for name in ("rules", "migrations"):
        shutil.copytree(source / name, packages / "omni_watch" / "data" / name, ignore=ignore)
    program = Path(sys.executable).with_name("omni-watch")
    program.write_text(f"#!{sys.executable}\nfrom omni_watch.cli import main\n\nmain()\n")
    program.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))
