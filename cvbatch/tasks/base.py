"""What a task is: its columns, the options that apply to it, and how its answers are read, checked and compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

import pyarrow as pa

from cvbatch.images.preprocess import Size, View

Columns = Mapping[str, pa.Array]
"""Columns of one model by their short names, such as `label`; one row per image, null where it failed."""
Agreement = tuple[dict[str, float], bool]
"""What was measured, by name, and whether all of it is within the tolerances of the parity certificate."""


class ModelFacts(Protocol):
    """What a task needs to know of a model; `cvbatch.models.spec.ModelSpec` has it all."""

    @property
    def alias(self) -> str:
        """Prefix of the model's columns."""
        ...

    @property
    def name(self) -> str:
        """What to call the model that has no alias yet."""
        ...

    @property
    def view(self) -> View:
        """How the model wants images."""
        ...

    @property
    def categories(self) -> tuple[str | None, ...]:
        """Name of each label id; None where an id is never emitted."""
        ...

    @property
    def masks(self) -> bool:
        """Whether it gives masks."""
        ...

    @property
    def keypoints(self) -> bool:
        """Whether it gives keypoints."""
        ...

    @property
    def dimension(self) -> int | None:
        """Length of its vectors."""
        ...

    @property
    def top_k(self) -> int:
        """How many of the best classes are kept."""
        ...

    @property
    def score_threshold(self) -> float | None:
        """The score below which answers are dropped; None leaves that to the model."""
        ...

    @property
    def normalize(self) -> bool:
        """Whether vectors are scaled to length 1."""
        ...

    @property
    def dtype(self) -> str:
        """Type of the vectors, `float32` or `float16`."""
        ...


class BackgroundClass(Enum):
    """Whether a network for a task has an output for what is none of the classes, before those of the classes."""

    NEVER = "never"
    OPTIONAL = "optional"
    ALWAYS = "always"


class BatchSizes(NamedTuple):
    """Images in one forward pass by default, by kind of device.

    On CPUs small batches are as fast per image, and feature maps that fit the caches faster: EfficientNet-Lite0 at
    384 × 512 takes 57 ms alone and 65 ms in fours.
    """

    cpu: int
    cuda: int


class Task(ABC):
    """One task: a row of `cvbatch.tasks.TASKS`.

    A new one is a file with a subclass, and a row there; in a package of your own, an entry point in the group
    `cvbatch.tasks`. It has no state: one object serves all models and threads.
    """

    name: ClassVar[str]
    """What a job, the plan and the catalog call it; also the alias of a model that is given none."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options of a job's model that belong to this task; some belong to another one, and are refused."""
    facts: ClassVar[frozenset[str]] = frozenset()
    """Which of `masks`, `keypoints` and `dimension` a model of this task may or must have."""
    batch_sizes: ClassVar[BatchSizes] = BatchSizes(cpu=1, cuda=8)
    locates_objects: ClassVar[bool] = False
    """Whether its answers say where in the image something is: each image's are made by themselves, much of that in
    Python, and from more than one vector for each image."""
    covers_image: ClassVar[bool] = False
    """Whether its answers cover the whole image, so that a view must not crop."""
    has_labels: ClassVar[bool] = True
    """Whether its answers name categories, so that a model must have some."""
    background: ClassVar[BackgroundClass] = BackgroundClass.NEVER
    """Whether networks for it have an output for the background."""
    label_column: ClassVar[str | None] = None
    """The column with the labels, or lists of them, that a summary counts; None if there is none."""

    @property
    def goes_one_by_one(self) -> bool:
        """Whether CPUs do one image at a time."""
        return self.batch_sizes.cpu == 1

    @abstractmethod
    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """The columns of a model, in their order: Arrow types by short name."""

    @abstractmethod
    def to_columns(self, model: ModelFacts, answers: Sequence[Any]) -> dict[str, pa.Array]:
        """Turn answers into columns.

        Args:
            model: Whose answers they are.
            answers: One for each image, at least one, each as `check_answers` returned it.

        Returns:
            An array with one value per image for each of `column_types`, by short name.
        """

    @abstractmethod
    def compare_columns(self, reference: Columns, other: Columns, sizes: Sequence[Size]) -> Agreement:
        """Compare the answers of a faster setting with those of the reference.

        Args:
            reference: Columns at fp32 with full decoding.
            other: Columns at another setting; same images in the same order.
            sizes: (width, height) of each oriented original.
        """

    @abstractmethod
    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Take the answers of this task from the outputs of one of our networks.

        Args:
            outputs: What the network found in a batch; it has a part for each task that the network can do.
            model: Whose answers are wanted.

        Returns:
            One answer for each image.
        """

    @abstractmethod
    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """Read what a `python:` model returned.

        Args:
            model: Whose answers they are.
            raw: A list or an array with an item for each image.
            sizes: (width, height) of each oriented original.
            logits: Whether the model says that its scores are logits.

        Returns:
            One answer for each image; a `RowError` in the place of one that cannot be an answer.

        Raises:
            ImageError: None of them can be.
        """

    def check_answers(self, model: ModelFacts, answers: Sequence[Any]) -> Sequence[Any]:
        """Put a `RowError` in the place of each answer that cannot be one; by default all can.

        Args:
            model: Whose answers they are.
            answers: From `take_answers` or `parse_answers`.
        """
        return answers

    def column_fields(self, model: ModelFacts) -> list[pa.Field]:
        """The columns of a model as they are in the predictions, in their order."""
        return [pa.field(f"{model.alias}_{name}", kind) for name, kind in self.column_types(model).items()]
