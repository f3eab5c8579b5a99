"""What the broker should hold: the newest state of each topic, and which of them it has not accepted yet. Pure.

States are sent when they change, not more often than their topic allows, and again after a new connection: a broker
that was restarted without its database knows nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _State:
    wanted: bytes  # empty: the broker should hold nothing
    spacing_s: float = 0.0
    refresh_s: float | None = None
    is_first: bool = False
    then: bytes | None = None  # what becomes wanted once the broker has answered for `wanted`
    settled: tuple[bytes, float] | None = None  # what the broker was last given on this connection, and when

    def due_at_s(self) -> float | None:
        """When to send next, on the monotonic clock; None: not before something changes."""
        if self.settled is None:
            return 0.0
        payload, at_s = self.settled
        if payload != self.wanted:
            return at_s + self.spacing_s
        return None if self.refresh_s is None else at_s + self.refresh_s


class RetainedStates:
    """Owned by the MQTT channel; loop thread only. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def put(
        self,
        topic: str,
        payload: bytes,
        *,
        spacing_s: float = 0.0,
        refresh_s: float | None = None,
        is_first: bool = False,
        then: bytes | None = None,
    ) -> None:
        """`topic` should hold `payload`: send it at most every `spacing_s`, and every `refresh_s` even unchanged.

        `is_first`: before all that is not. `then`: what it should hold once the broker has answered for `payload`.
        """
        state = self._states.setdefault(topic, _State(payload))
        state.wanted, state.spacing_s, state.refresh_s = payload, spacing_s, refresh_s
        state.is_first, state.then = is_first, then

    def clear(self, topic: str) -> None:
        """`topic` should hold nothing."""
        self.put(topic, b"")

    def wanted(self, topic: str) -> bytes | None:
        state = self._states.get(topic)
        return None if state is None else state.wanted

    def connected(self) -> None:
        """A new connection: the broker may know nothing."""
        for state in self._states.values():
            state.settled = None

    def due(self, now_s: float) -> list[tuple[str, bytes]]:
        """What to publish now, what comes first before the rest; both in the order in which their topics were put."""
        due = [
            (topic, state)
            for topic, state in self._states.items()
            if (due_at_s := state.due_at_s()) is not None and due_at_s <= now_s
        ]
        return [(topic, state.wanted) for topic, state in sorted(due, key=lambda one: not one[1].is_first)]

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until something will be due; None: not before something changes."""
        moments = [at_s for state in self._states.values() if (at_s := state.due_at_s()) is not None]
        return max(0.0, min(moments) - now_s) if moments else None

    def settle(self, topic: str, payload: bytes, now_s: float) -> None:
        """The broker was given `payload` and answered, yes or no; a no is asked again on the next connection."""
        state = self._states.get(topic)
        if state is None:
            return
        state.settled = (payload, now_s)
        if payload == state.wanted and state.then is not None:
            state.wanted, state.then = state.then, None
        if payload == b"" == state.wanted:
            del self._states[topic]
