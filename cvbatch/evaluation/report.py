"""What an evaluation answers, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cvbatch.truth.alignment import Alignment

ERROR_KINDS: Final = "error_kinds"
"""Key of the kinds of error in `Metrics.details`: images, AP50, and the numbers of each kind."""
Numbers = Mapping[str, float | None]
"""Values by name; None where there is nothing to measure, such as small objects where there are none."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Numbers about some images."""

    images: int
    """Images that were judged."""
    values: Numbers
    """The main numbers, in the order in which they are shown."""
    per_class: Mapping[str, Numbers] = field(default_factory=dict)
    """Numbers of each class of the truth."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % bootstrap intervals of some of `values`."""
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Short tables that people see, too, by title: rows with the same columns."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What is no single number, as plain data: curves, kinds of error, a confusion matrix."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; parts that are empty are left out."""
        parts = {
            "values": dict(self.values),
            "per_class": {name: dict(numbers) for name, numbers in self.per_class.items()},
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "tables": {name: [dict(row) for row in rows] for name, rows in self.tables.items()},
            "details": dict(self.details),
        }
        return {"images": self.images, **{name: part for name, part in parts.items() if part}}


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The answer of `cvbatch.evaluate`."""

    output: str
    model: str
    """Column prefix of the model."""
    task: str
    truth: str
    """Where the truth lies."""
    layout: str
    """Its file format."""
    alignment: Alignment
    """Which image has which row, and how many have none."""
    notes: Sequence[str]
    """Sentences about what was assumed and what was left out."""
    metrics: Mapping[str, Metrics]
    """By what was judged: `boxes`, `masks`, `keypoints`, or the name of the task."""
    by: str | None = None
    """What the slices differ in."""
    slices: Mapping[str, Mapping[str, Metrics]] = field(default_factory=dict)
    """The same metrics for the images of each slice."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `cvbatch evaluate --json` prints it."""
        answer = {
            "output": self.output,
            "model": self.model,
            "task": self.task,
            "truth": self.truth,
            "truth_format": self.layout,
            "alignment": self.alignment.to_json(),
            "notes": list(self.notes),
            "metrics": _plain_metrics(self.metrics),
        }
        if self.by is not None:
            answer |= {"by": self.by, "slices": {name: _plain_metrics(part) for name, part in self.slices.items()}}
        return answer


def _plain_metrics(metrics: Mapping[str, Metrics]) -> dict[str, Any]:
    return {name: part.to_json() for name, part in metrics.items()}
