"""What a bench tells: measured values, each beside the limit it should keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """Handed to each `bench(report)`; prints as it goes."""

    misses: int = 0  # values beyond their limit

    def measured(
        self, what: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """One line: what was measured, the value, and whether it keeps its limit."""
        keeps = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        limits = [f"at most {at_most:g}"] if at_most is not None else []
        limits += [f"at least {at_least:g}"] if at_least is not None else []
        verdict = f"{'ok' if keeps else 'MISSED'}, {' and '.join(limits)}" if limits else ""
        self.misses += not keeps
        print(f"  {what:<58} {value:>10.4g} {unit:<8} {verdict}".rstrip(), flush=True)

    def note(self, text: str) -> None:
        """Something to know about the values around it."""
        print(f"  {text}", flush=True)
