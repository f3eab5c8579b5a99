"""`omni-watch models parity`: is the native model the one that was recorded?

The one door of the application behind which torch is imported in this process; nothing else here may pass through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

# Intel's library rounds differently on each kind of processor, unless it is asked for what all of them can do; it asks
# once, when it is first used. Source: oneMKL developer guide, "Conditional Numerical Reproducibility".
_ALIKE_EVERYWHERE: Final = {"MKL_CBWR": "COMPATIBLE"}


def check_parity(
    folder: Path, *, dtype: str, device: str, on_progress: Callable[[int, int], None] | None
) -> Mapping[str, Any]:
    """Live through the recorded sessions of a folder and compare; the document that `--json` prints.

    `on_progress` is told the units done and the units in all. ModelError when there is nothing to compare with.
    """
    os.environ.update(_ALIKE_EVERYWHERE)
    from omni_watch.duplex.minicpmo.parity import replay

    return replay(folder, dtype=dtype, device=device, on_progress=on_progress).document()
