"""What was told, as the command line shows it."""

from __future__ import annotations

from dataclasses import dataclass

from omni_watch.domain.alerts import Alert, Course, Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An alert with what became of it, and with every message about it."""

    alert: Alert
    course: Course
    deliveries: tuple[Delivery, ...]
