"""Every error this project raises on purpose.

    OmniWatchError
    ├── ConfigError            a setting, rule file or command is wrong; exit code 78
    ├── FeedError              a camera or microphone cannot be opened or read
    ├── ModelError             a model file is missing or wrong, or a step failed
    ├── StoreError             the database cannot be read or written
    ├── RequestError           a person asked for something that cannot be done
    └── ChannelError           an alert did not get through
        ├── ChannelUnavailable   try again later: broker down, speaker busy
        │   └── Interrupted        a person spoke over it: the channel works, offer it again soon
        └── AlertRejected        never try again: the far side refused this alert

Adapters raise these and nothing else of their own; what their library raises is translated at the border with
`from`. A message names the thing, what was found, what was expected and what to do.
"""

from __future__ import annotations


class OmniWatchError(Exception):
    """The root. `can_retry` says whether the same call may succeed later without a person doing something."""

    can_retry: bool = False


class ConfigError(OmniWatchError):
    """Settings, rule files or command-line values that cannot be used; lists every problem found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class FeedError(OmniWatchError):
    """A camera or microphone cannot be opened or read."""

    def __init__(self, message: str, *, can_retry: bool = True) -> None:
        super().__init__(message)
        self.can_retry = can_retry


class ModelError(OmniWatchError):
    """A model file is missing or damaged, or a model step failed."""

    def __init__(self, message: str, *, can_retry: bool = False) -> None:
        super().__init__(message)
        self.can_retry = can_retry


class StoreError(OmniWatchError):
    """The database cannot be read or written: damaged, read-only, locked, disk full."""

    def __init__(self, message: str, *, can_retry: bool = False) -> None:
        super().__init__(message)
        self.can_retry = can_retry


class RequestError(OmniWatchError):
    """A person asked for something impossible; the message says what would be possible."""


class ChannelError(OmniWatchError):
    """An alert did not get through a channel."""


class ChannelUnavailable(ChannelError):  # noqa: N818 - the name says the state of the world
    """The far side is away; try again later."""

    can_retry = True


class Interrupted(ChannelUnavailable):
    """A person began to speak while it was told. The channel is there, and who waits for it need not."""

    def __init__(self, message: str, *, again_in_s: float) -> None:
        """`again_in_s`: when it may be offered again."""
        super().__init__(message)
        self.again_in_s = again_in_s


class AlertRejected(ChannelError):  # noqa: N818
    """The far side refused this alert for good."""
