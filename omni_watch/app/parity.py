"""`omni-watch models parity`: is the native model the one that was recorded?

The one door of the application behind which torch is imported in this process; nothing else here may pass through it.

Intel's library rounds differently on each kind of processor, unless it is asked, once, when it is first used, for what
all of them can do. The logarithm of a quiet bin shows that: a recording made on another kind differs by 1e-5 to 1e-3
there. So where the numbers of this processor do not hold, a process of its own tries the common ones.
Source: oneMKL developer guide, "Conditional Numerical Reproducibility".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

ARITHMETIC: Final = "MKL_CBWR"
COMMON: Final = "COMPATIBLE"


def check_parity(
    folder: Path, *, dtype: str, device: str, on_progress: Callable[[int, int], None] | None
) -> Mapping[str, Any]:
    """Live through the recorded sessions of a folder and compare; the document that `--json` prints.

    `on_progress` is told the units done and the units in all. ModelError when there is nothing to compare with.
    """
    from omni_watch.duplex.minicpmo.parity import replay

    asked = os.environ.get(ARITHMETIC)
    own = {"arithmetic": asked or "own"} | replay(
        folder, dtype=dtype, device=device, on_progress=on_progress
    ).document()
    if own["ok"] or asked or device != "cpu":
        return own
    common = _in_common_arithmetic(folder, dtype)
    return common if common is not None and common["ok"] else own


def _in_common_arithmetic(folder: Path, dtype: str) -> Mapping[str, Any] | None:
    """The same by another process; None when it has nothing to say."""
    program = [sys.executable, "-P", "-c", "from omni_watch.cli import main; main()"]
    command = [*program, "models", "parity", str(folder), "--dtype", dtype, "--json"]
    ended = subprocess.run(command, env=os.environ | {ARITHMETIC: COMMON}, stdout=subprocess.PIPE, text=True)
    try:
        document: Mapping[str, Any] = json.loads(ended.stdout)
    except ValueError:
        return None
    return document if "ok" in document else None
