"""Stream addresses as people may see them: without user names, passwords and tokens.

Logs, messages, `config show` and MQTT all pass addresses through here, so that no camera's password leaves the house
by way of a text that was meant to help.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

# everything up to the last "@": people write passwords with "@", ":", "/" and "?" unescaped, and rather a path is
# hidden than half a password shown
_USERINFO: Final = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*:/{1,2})\S*@", re.IGNORECASE)
# cameras take credentials in the query too: ?user=admin&password=… and ?token=…
_SECRET_FIELD: Final = re.compile(
    r"(?P<name>[?&;](?:[\w.-]*(?:user|usr|login|pass|pwd|token|auth|secret|signature|key)[\w.-]*|u|p)=)[^&;\s'\"<>]*",
    re.IGNORECASE,
)


def hide_credentials(text: str) -> str:
    """The same text, every URL in it without user name, password and secret query values."""
    return _SECRET_FIELD.sub(rf"\g<name>{HIDDEN}", _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text))
