"""Home Assistant itself looks at what a person copies: the package, and automations made of the blueprints."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "deploy" / "home-assistant"
LIMIT_S = 600  # it may install a package of its own first
AUTOMATIONS = """
homeassistant:
  packages: !include_dir_named packages
automation:
  - alias: notify
    use_blueprint:
      path: omni_watch/notify.yaml
      input: {alert: [event.omni_watch_home_alert], phone: "0123", snapshot: image.omni_watch_home_snapshot}
  - alias: announce
    use_blueprint:
      path: omni_watch/announce.yaml
      input: {alert: [event.omni_watch_home_alert], satellites: [assist_satellite.kitchen]}
"""


def test_home_assistant_accepts_the_package_and_the_blueprints(tmp_path: Path) -> None:
    hass = os.environ.get("OMNI_WATCH_HASS") or shutil.which("hass")
    if hass is None:
        pytest.skip("there is no Home Assistant here; OMNI_WATCH_HASS may name its program hass (2024.11 or newer)")
    for name in ("custom_sentences", "packages", "blueprints"):
        shutil.copytree(FILES / name, tmp_path / name)
    (tmp_path / "configuration.yaml").write_text(AUTOMATIONS)

    command = [hass, "--script", "check_config", "--config", str(tmp_path)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert checked.returncode == 0, f"{checked.stdout}\n{checked.stderr}"
    assert "ERROR" not in checked.stdout
    assert "Invalid config" not in checked.stdout
