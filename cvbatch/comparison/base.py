"""What comparing means for each task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.results.list_columns import label_ids_of_classes

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """What is compared."""

    models: tuple[ModelSpec, ModelSpec]
    """The model of each run."""
    classes: Sequence[str | int] | None
    """Only these classes, by name or id of the first model."""
    min_score: float | None
    """Answers with a lower score do not count."""
    review: int
    """Images in the list of those to look at."""


@dataclass(frozen=True, kw_only=True)
class TaskAgreement:
    """How far two models agree."""

    images: int
    values: Mapping[str, float | None]
    """The main numbers, in the order in which they are shown."""
    flips: Rows = ()
    """Which class became which, most frequent first."""
    review: Rows = ()
    """Images on which they differ most."""
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


class TaskComparer(ABC):
    """Compares the answers of two models, batch by batch.

    Args:
        options: What is compared.
    """

    batch_rows = 8192
    """Rows that are read at once."""

    def __init__(self, options: ComparisonOptions) -> None:
        self.options = options

    @property
    @abstractmethod
    def short_columns(self) -> Sequence[str]:
        """Columns of a model that are needed, without its prefix."""

    @abstractmethod
    def add_rows(self, first: pa.Table, second: pa.Table) -> None:
        """Count some images.

        Args:
            first: Rows of the first run, with `image_columns` and the columns of `short_columns`.
            second: Rows of the second run about the same images.
        """

    @abstractmethod
    def finish(self) -> TaskAgreement:
        """The result of all rows."""


class CommonClasses:
    """One number for each class name of two models, whatever their label ids.

    Args:
        models: The models.
        classes: Only these classes of the first model; None for all.
    """

    def __init__(self, models: tuple[ModelSpec, ModelSpec], classes: Sequence[str | int] | None = None) -> None:
        keys = [_class_keys(model) for model in models]
        numbers = {key: number for number, key in enumerate(dict.fromkeys([*keys[0], *keys[1]]))}
        self.names = [name if count == 0 else f"{name} ({count + 1})" for name, count in numbers]
        """Name of each number."""
        self.numbers = [np.array([numbers[key] for key in side], np.int32) for side in keys]
        """Of each model, number of each label id."""
        self.chosen: npt.NDArray[np.bool_] = np.ones(len(numbers), np.bool_)
        """Which numbers count."""
        if classes is not None:
            self.chosen[:] = False
            self.chosen[self.numbers[0][label_ids_of_classes(models[0], classes).to_numpy()]] = True


def _class_keys(model: ModelSpec) -> list[tuple[str, int]]:
    """Name of each label id, and how many ids before it have that name."""
    seen = dict[str, int]()
    keys = []
    for index, name in enumerate(model.categories):
        text = ("background" if index == 0 else f"label id {index}") if name is None else name
        keys.append((text, seen.get(text, 0)))
        seen[text] = seen.get(text, 0) + 1
    return keys
