"""What evaluating means for each task: which truth it reads, and what scores it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cvbatch.evaluation.report import Metrics
from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput
from cvbatch.truth.alignment import Alignment
from cvbatch.truth.base import Bools, Truth, TruthReader


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predictions of one model, and the truth of some of its images."""

    opened: OpenedOutput
    model: ModelSpec
    truth: Truth
    alignment: Alignment
    """Which row is about which image; `alignment.takes_part` are the images to judge."""
    classes: Sequence[str | int] | None = None
    """Only these categories of the model, by name or id."""
    min_score: float | None = None
    """Predictions with a lower score are left out."""


class Scorer(Protocol):
    """Predictions and truth of one model, read and matched."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user, such as which classes the model does not know."""
        ...

    def score(self, images: Bools | None = None) -> dict[str, Metrics]:
        """Calculate the numbers.

        Args:
            images: (images of the truth,): judge only these of the images that take part, without `Metrics.details`;
                None for all of them.

        Returns:
            Metrics by what was judged: `boxes`, `masks` and `keypoints` of a detector, else the name of the task.
        """
        ...


@dataclass(frozen=True)
class Evaluator:
    """Evaluation of one task."""

    readers: Sequence[TruthReader]
    """File formats of truth that fit the task; the first that accepts a path reads it."""
    open_scorer: Callable[[Comparison], Scorer]
    """Reads the predictions once; slices are scored from what it has read.

    Raises `UsageError` if the truth names no class that the model knows.
    """
