"""How much may be asked in a while: buckets that fill with time. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Holds `size` at most and fills with `per_s`; each thing takes one. Times are monotonic seconds."""

    size: float
    per_s: float
    level: float | None = None  # None: full
    at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Whether there was one left."""
        filled = self.size if self.level is None else self.level + max(0.0, now_s - self.at_s) * self.per_s
        self.level, self.at_s = min(self.size, filled), now_s
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True
