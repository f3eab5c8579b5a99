"""Wish: what one process of ours asks of another, answered through the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Something that only the running daemon can do, because it owns the feeds. Times are aware UTC."""

    id: str  # [a-z0-9]{8}
    kind: str  # "teach"
    payload: Mapping[str, Any]  # plain JSON values
    made_at: datetime
    answered_at: datetime | None = None
    answer: Mapping[str, Any] | None = None  # plain JSON values; None until answered

    @property
    def is_open(self) -> bool:
        return self.answered_at is None
