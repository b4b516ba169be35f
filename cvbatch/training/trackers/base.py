"""What is told to trackers: numbers with a name, a step and a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cvbatch.training.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class TrackedNumber:
    """One number at one step."""

    name: str
    """Such as `loss/classes` or `validation/top-1`."""
    value: float
    step: int
    """Of all epochs, from 1 on."""
    time: float
    """Seconds since 1970."""


class Tracker(Protocol):
    """Receives what is learned."""

    known_epochs: int
    """Epochs that it has from earlier attempts."""
    errors: tuple[type[Exception], ...]
    """What its methods raise if it cannot be reached; the training goes on without it."""

    def add_numbers(self, numbers: Sequence[TrackedNumber]) -> None:
        """Add the numbers of one epoch that has ended."""

    def close(self, files: Mapping[str, bytes]) -> None:
        """The training is finished; `files` describe its result."""


def numbers_of_history(plan: TrainingPlan, history: Sequence[Mapping[str, Any]]) -> Iterator[list[TrackedNumber]]:
    """The numbers of each epoch; those of an interrupted training are timed as if it had gone on at once.

    Args:
        plan: Of the training.
        history: See `TrainingState.history`.
    """
    now = plan.created_at
    for row in history:
        points, numbers = row.get("points", ()), list[TrackedNumber]()
        for place, (step, loss, rate) in enumerate(points, 1):
            then = now + row["seconds"] * place / len(points)
            numbers += [
                TrackedNumber("loss/total", loss, int(step), then),
                TrackedNumber("rate", rate, int(step), then),
            ]
        now += row["seconds"]
        yield [*numbers, *(TrackedNumber(name, value, row["steps"], now) for name, value in _numbers_of_epoch(row))]


def _numbers_of_epoch(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield from ((f"loss/{name}", value) for name, value in row["loss"].items())
    yield from ((f"validation/{name}", value) for name, value in row["scores"].items() if value is not None)
    yield "speed/images_per_second", row["images_per_second"]
    yield "speed/share_of_waiting", row["waiting"]
