"""Two houses of one name on one broker would undo each other's work; here they find out. Pure.

Whoever connects says so on a topic of the name and hears its own words come back. The broker passes all on in one
order, so of two that say it at once both know who was first; whoever was first answers the other that it is taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

TOKEN_MAX: Final = 64  # characters of a token or host that we repeat
MESSAGE_MAX: Final = 512  # bytes


@dataclass(slots=True)
class Claim:
    """Our claim on one connection. `token` is ours alone; `host` is for people."""

    token: str
    host: str
    is_echoed: bool = False  # ours was heard: who claims from now on came later
    has_rival: bool = False  # another claim was heard before ours
    taken_by: str | None = None  # the host that has the name

    def message(self) -> bytes:
        return json.dumps({"claim": self.token, "host": self.host}).encode()

    def hear(self, payload: bytes) -> bytes | None:
        """Take note of what was said on the topic; what to answer. What makes no sense is passed over."""
        said = _read(payload)
        if (claimed := said.get("claim")) is not None:
            if claimed == self.token:
                self.is_echoed = True
            elif self.is_echoed:
                return json.dumps({"taken": claimed, "by": self.token, "host": self.host}).encode()
            else:
                self.has_rival = True
        elif said.get("taken") == self.token and said.get("by") != self.token:
            self.taken_by = said.get("host") or "another host"
        return None


def _read(payload: bytes) -> dict[str, str]:
    if len(payload) > MESSAGE_MAX:
        return {}
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {key: text for key, text in said.items() if isinstance(text, str) and 0 < len(text) <= TOKEN_MAX}
