"""What a comparison with recorded numbers found: the largest deviation of each quantity, and what was plainly wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

SHOWN: Final = 20  # mismatches that a report lists


class Place(NamedTuple):
    """Where something was compared."""

    session: str
    unit: int | None = None  # None: the prompt, the end, or a part that was asked alone

    def __str__(self) -> str:
        return self.session if self.unit is None else f"{self.session} unit {self.unit}"


@dataclass(slots=True)
class Quantity:
    """One kind of tensor, over all sessions."""

    name: str
    limit: float
    largest: float = 0.0  # absolute difference; infinite if one was no number
    where: str = ""  # of the largest
    compared: int = 0  # tensors

    @property
    def holds(self) -> bool:
        return self.largest <= self.limit


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something discrete that came out differently."""

    session: str
    unit: int | None
    quantity: str
    expected: Any
    found: Any


@dataclass(slots=True, kw_only=True)
class Report:
    """How equal a model is to the recorded reference."""

    folder: Path
    dtype: str
    device: str
    are_integers_judged: bool
    quantities: dict[str, Quantity]
    integers: int = 0  # compared: integers, texts, decisions and shapes
    wrong: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)  # the first `SHOWN`
    decisions: int = 0  # choices that were imposed
    otherwise: int = 0  # of these, where the model would have chosen otherwise

    @classmethod
    def empty(
        cls, folder: Path, *, dtype: str, device: str, limits: Mapping[str, float], are_integers_judged: bool
    ) -> Report:
        quantities = {name: Quantity(name, limit) for name, limit in limits.items()}
        return cls(
            folder=folder, dtype=dtype, device=device, are_integers_judged=are_integers_judged, quantities=quantities
        )

    @property
    def holds(self) -> bool:
        """Something was compared, and all of it is as equal as it has to be."""
        is_something = self.integers > 0 and any(each.compared for each in self.quantities.values())
        is_exact = self.wrong == 0 or not self.are_integers_judged
        return is_something and is_exact and all(each.holds for each in self.quantities.values())

    def discrete(self, place: Place, quantity: str, expected: Any, found: Any) -> None:
        """Compare something that has to be the same."""
        self.integers += 1
        if expected == found:
            return
        self.wrong += 1
        if len(self.mismatches) < SHOWN:
            self.mismatches.append(Mismatch(place.session, place.unit, quantity, expected, found))

    def tensor(self, place: Place, name: str, expected: Tensor, found: Tensor) -> None:
        """Compare numbers; another shape is a mismatch."""
        if expected.shape != found.shape:
            self.discrete(place, f"{name}.shape", list(expected.shape), list(found.shape))
            return
        quantity = self.quantities[name]
        quantity.compared += 1
        if not expected.numel():
            return
        difference = float((found.to("cpu", torch.float32) - expected.to(torch.float32)).abs().max())
        if not difference <= quantity.largest:  # NaN is larger than anything
            quantity.largest = difference if isfinite(difference) else inf
            quantity.where = str(place)

    def decision(self, *, is_same: bool) -> None:
        self.decisions += 1
        self.otherwise += not is_same

    def document(self) -> dict[str, Any]:
        """As `--json` prints it; a deviation that is no number is null."""
        rows = [
            {**asdict(each), "largest": each.largest if isfinite(each.largest) else None, "holds": each.holds}
            for each in self.quantities.values()
        ]
        return {
            "ok": self.holds,
            "folder": str(self.folder),
            "dtype": self.dtype,
            "device": self.device,
            "quantities": rows,
            "integers": {"compared": self.integers, "wrong": self.wrong, "judged": self.are_integers_judged},
            "decisions": {"imposed": self.decisions, "otherwise": self.otherwise},
            "mismatches": [asdict(each) for each in self.mismatches],
        }
