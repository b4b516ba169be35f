"""What is counted while an epoch is learned, and what is told about it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from torch import Tensor

_POINTS: Final = 40
"""Most points of a curve in each epoch."""
_FIRST: Final = 10
"""Steps whose mean loss is compared with later ones."""
_GREATEST: Final = 20.0
"""Factor to the first loss from which on a training diverges."""
_MEMORY: Final = 0.9


@dataclass(slots=True)
class EpochSums:
    """Sums over the steps of an epoch so far."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    """Seconds of waiting for images."""
    loss: dict[str, float] = field(default_factory=dict)
    """Sum of each part over the steps."""
    points: list[list[float]] = field(default_factory=list)
    """Step of all epochs, loss, and rate of the head."""

    def add_step(self, parts: Mapping[str, float], images: int) -> None:
        """Add a step."""
        self.steps += 1
        self.images += images
        for name, value in parts.items():
            self.loss[name] = self.loss.get(name, 0.0) + value

    def add_point(self, step: int, steps_of_epoch: int, loss: float, rate: float) -> None:
        """Keep a point of the curve, if the step is one of those that are shown."""
        if self.steps % max(1, steps_of_epoch // _POINTS) == 0:
            self.points.append([step, loss, rate])

    def mean_loss(self) -> dict[str, float]:
        """Mean of each part."""
        return {name: value / max(1, self.steps) for name, value in self.loss.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Clock:
    """Seconds since the last look."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def read(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds


class LossWatch:
    """Sees that a loss is no longer finite, or grows without bound."""

    def __init__(self) -> None:
        self._first, self._count, self._recent = 0.0, 0, 0.0

    def check(self, loss: float) -> str | None:
        """Look at the loss of a step; returns what is wrong with it, in words.

        Args:
            loss: Of the whole batch.
        """
        if not math.isfinite(loss):
            return "became NaN or infinite"
        self._count += 1
        if self._count <= _FIRST:
            self._first += loss / _FIRST
            self._recent = loss
            return None
        self._recent = _MEMORY * self._recent + (1 - _MEMORY) * loss
        if self._recent > _GREATEST * max(self._first, 1.0):
            return f"has grown from {self._first:.3g} to {self._recent:.3g}"
        return None


def as_numbers(parts: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars as numbers."""
    return {name: float(value) for name, value in parts.items()}
