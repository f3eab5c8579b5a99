"""A real Home Assistant in a process of its own, set up as a person would: a user, and the MQTT integration.

Where it is, the environment says (`make test-ha` sets it): OMNI_WATCH_HA_BIN is the folder of its `python` and `hass`.
OMNI_WATCH_HA_ROOT is a folder that is the root to it, if it lives in another system: it is then started by chroot.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures_broker import free_port

INSIDE = Path(__file__).parent / "inside"
FILES = Path(__file__).parents[2] / "deploy" / "home-assistant"  # what a person copies
ITS_OWN = "No device components to cleanup"  # for each further entity of a device that a person deletes there
START_LIMIT_S = 400.0  # the first start installs what its integrations need
BIN, ROOT = "OMNI_WATCH_HA_BIN", "OMNI_WATCH_HA_ROOT"

CONFIGURATION = """
homeassistant:
  name: Test
  latitude: 50
  longitude: 8
  elevation: 0
  unit_system: metric
  time_zone: UTC
  currency: EUR
  country: DE
{packages}http:
  server_host: 127.0.0.1
  server_port: {port}
api:
config:
onboarding:
conversation:
logger:
  default: warning
"""


def inside(*command: str, given: str = "") -> str:
    """Run one of its programs; what it printed."""
    done = subprocess.run(_started(*command), input=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(name: str) -> str:
    """Where it finds one of the scripts in `inside`."""
    if not (root := os.environ.get(ROOT)):
        return str(INSIDE / name)
    shutil.copy(INSIDE / name, Path(root) / "tmp" / name)
    return f"/tmp/{name}"  # noqa: S108 - of another system


def _started(*command: str) -> list[str]:
    place = os.environ.get(BIN)
    if place is None:
        pytest.fail(f"{BIN} does not say where a Home Assistant is; `make test-ha` installs one")
    program, *arguments = command
    root = os.environ.get(ROOT)
    return [*(["chroot", root] if root else []), f"{place}/{program}", *arguments]


@dataclass
class HomeAssistant:
    """`start` it, then `join` it to a broker; stop it with `stop`."""

    folder: Path  # of its configuration, as we see it
    has_package: bool = True  # with our sentences and scripts, which want 2024.11
    port: int = field(default_factory=free_port)
    token: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> list[str]:
        """Its warnings and errors of this and earlier starts that have to do with us."""
        lines = (self.folder / "run.log").read_text(errors="replace").splitlines()
        about_us = re.compile("mqtt|omni|template|conversation|intent|script", re.IGNORECASE)
        warnings = [line for line in lines if about_us.search(line) and (" WARNING " in line or " ERROR " in line)]
        return [line for line in warnings if ITS_OWN not in line]

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("custom_sentences", "packages") if self.has_package else ():
            shutil.copytree(FILES / name, self.folder / name, dirs_exist_ok=True)
        packages = "  packages: !include_dir_named packages\n" if self.has_package else ""
        configuration = CONFIGURATION.format(port=self.port, packages=packages)
        (self.folder / "configuration.yaml").write_text(configuration)
        own = self.folder if not (root := os.environ.get(ROOT)) else Path("/") / self.folder.relative_to(root)
        with (self.folder / "run.log").open("ab") as log:
            self._process = subprocess.Popen(_started("hass", "-c", str(own)), stdout=log, stderr=log)
        self.until(lambda: self._answers(), "it does not answer", START_LIMIT_S)

    def _answers(self) -> bool:
        try:
            if self.token:
                return bool(self.get("/api/config")["state"] == "RUNNING")
            with urllib.request.urlopen(f"{self.base}/api/onboarding", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, AssertionError):
            return False

    def join(self, broker_port: int) -> None:
        """Make a user, and let MQTT go to this broker."""
        user = {"client_id": f"{self.base}/", "name": "T", "username": "t", "password": "t" * 8, "language": "en"}
        code = self.post("/api/onboarding/users", user)["auth_code"]
        grant = {"client_id": f"{self.base}/", "grant_type": "authorization_code", "code": code}
        self.token = self._ask("/auth/token", urllib.parse.urlencode(grant).encode(), "")["access_token"]
        flow = self.post("/api/config/config_entries/flow", {"handler": "mqtt", "show_advanced_options": False})
        where: dict[str, Any] = {"broker": "127.0.0.1", "port": broker_port}
        if any(one["name"] == "other_settings" for one in flow["data_schema"]):  # newer releases
            where["other_settings"] = {"set_client_cert": False, "set_ca_cert": "off"}
        made = self.post(f"/api/config/config_entries/flow/{flow['flow_id']}", where)
        assert made["type"] == "create_entry", made

    def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def cpu_s(self) -> float:
        """Processor seconds that it has used; says more than the clock on a machine that is busy with other things."""
        assert self._process is not None
        used = psutil.Process(self._process.pid).cpu_times()
        return float(used.user + used.system)

    # --- what it says ---

    def states(self) -> dict[str, dict[str, Any]]:
        """By entity id."""
        return {state["entity_id"]: state for state in self.get("/api/states")}

    def state(self, entity_id: str) -> str | None:
        found = self.states().get(entity_id)
        return None if found is None else str(found["state"])

    def has(self, entity_id: str) -> bool:
        """Whether it is there; costs Home Assistant less than `states`."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback
            f"{self.base}/api/states/{entity_id}", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60):  # noqa: S310
                return True
        except urllib.error.HTTPError:
            return False

    def call(self, service: str, **data: Any) -> Any:
        return self.post(f"/api/services/{service.replace('.', '/')}", data)

    def converse(self, sentence: str, language: str) -> str:
        """What Assist answers."""
        asked = {"text": sentence, "language": language}
        answer = self.post("/api/conversation/process", asked)["response"]
        return str(answer["speech"]["plain"]["speech"])

    def command(self, **message: Any) -> Any:
        """Over its websocket."""
        answer = json.loads(inside("python", script("call.py"), self.base, self.token, json.dumps(message)))
        assert answer["success"], answer
        return answer["result"]

    def until(self, fact: Callable[[], object], what: str, limit_s: float = 30.0) -> float:
        """Wait until a fact holds; the seconds that it took."""
        began_s = time.monotonic()
        while not fact():
            if time.monotonic() - began_s > limit_s:
                tail = (self.folder / "run.log").read_text(errors="replace")[-4000:]
                pytest.fail(f"{what}: not within {limit_s:g} s\n{tail}")
            assert self._process is None or self._process.poll() is None, "Home Assistant has ended"
            time.sleep(0.05)
        return time.monotonic() - began_s

    async def until_true(self, fact: Callable[[], object], what: str, limit_s: float = 30.0) -> float:
        """The same while our own loop runs."""
        return await asyncio.to_thread(self.until, fact, what, limit_s)

    def get(self, path: str) -> Any:
        return self._ask(path, None, "")

    def post(self, path: str, data: Mapping[str, Any]) -> Any:
        return self._ask(path, json.dumps(data).encode(), "application/json")

    def _ask(self, path: str, body: bytes | None, content_type: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if content_type:
            headers["Content-Type"] = content_type
        request = urllib.request.Request(self.base + path, body, headers)  # noqa: S310 - our own loopback
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read()[:500]!r}") from error
