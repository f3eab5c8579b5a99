"""The real application behind the commands. Imported only by a command that needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from omni_watch import app
from omni_watch.app.doctor import Finding
from omni_watch.cli.ports import House, OnProgress, OnUnits
from omni_watch.config.settings import Settings
from omni_watch.watch.ports import Observer


class RealApplication:
    """Implements `Application` by `omni_watch.app`."""

    def open_house(self, config_path: Path | None) -> AbstractContextManager[House]:
        return app.open_house(config_path)

    def run_daemon(self, settings: Settings, observers: Sequence[Observer], console: Console | None) -> None:
        app.run_daemon(settings, observers, console)

    def replay(
        self,
        settings: Settings,
        clip: Path,
        *,
        tasks: Sequence[str],
        listens: bool,
        teach: Path | None,
        on_progress: OnProgress | None,
    ) -> Mapping[str, Any]:
        return app.replay(settings, clip, tasks=tasks, listens=listens, teach=teach, on_progress=on_progress)

    def run_demo(self, console: Console, folder: Path | None) -> Mapping[str, Any]:
        return app.run_demo(console, folder)

    def diagnose(self, settings: Settings, *, is_quick: bool) -> Sequence[Finding]:
        return app.diagnose(settings, is_quick=is_quick)

    def check_parity(self, folder: Path, *, dtype: str, device: str, on_progress: OnUnits | None) -> Mapping[str, Any]:
        return app.check_parity(folder, dtype=dtype, device=device, on_progress=on_progress)
