"""Interface of a task: its columns and options, and how its answers are parsed, checked and compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.images.preprocess import Size, View
from cvbatch.images.tiles import Tiles, Window

Columns = Mapping[str, pa.Array]
"""Columns of one model by short name, such as `label`; one row per image, null where the image failed."""
Agreement = tuple[dict[str, float], bool]
"""The measured values by name, and whether all are within the tolerances of the parity certificate."""


class ModelFacts(Protocol):
    """Facts about a model that a task needs; `cvbatch.models.spec.ModelSpec` has all of them."""

    @property
    def alias(self) -> str:
        """Prefix of the model's columns."""
        ...

    @property
    def name(self) -> str:
        """Name of the model in messages while it has no alias."""
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
        """Whether the model returns masks."""
        ...

    @property
    def keypoints(self) -> bool:
        """Whether the model returns keypoints."""
        ...

    @property
    def dimension(self) -> int | None:
        """Length of the model's vectors."""
        ...

    @property
    def top_k(self) -> int:
        """Number of best classes in the predictions."""
        ...

    @property
    def score_threshold(self) -> float | None:
        """Answers with a lower score are dropped; None uses the model's own threshold."""
        ...

    @property
    def normalize(self) -> bool:
        """Whether vectors are scaled to length 1."""
        ...

    @property
    def dtype(self) -> str:
        """Type of the vectors, `float32` or `float16`."""
        ...


class SuppressOverlaps(Protocol):
    """Drops overlapping boxes; `cvbatch.inference.torch.suppression` has it."""

    def __call__(
        self, boxes: npt.NDArray[Any], scores: npt.NDArray[Any], label_ids: npt.NDArray[Any], overlap: float, /
    ) -> npt.NDArray[np.int64]:
        """Return positions of the best of boxes (n, 4) of one class that overlap, best first."""
        ...


class TileMerger(ABC):
    """Joins the answers for the tiles of one image to that of the image."""

    @abstractmethod
    def add_tile(self, window: Window, answer: Any) -> None:
        """Add the answer for one tile.

        Args:
            window: Of the tile, in the image.
            answer: Of the model, in pixels of the tile.
        """

    @abstractmethod
    def join_tiles(self) -> Any:
        """Return the answer for the image, in its pixels."""


class BackgroundClass(Enum):
    """Whether networks for a task have an output for the background, in front of the outputs of the classes."""

    NEVER = "never"
    OPTIONAL = "optional"
    ALWAYS = "always"


class BatchSizes(NamedTuple):
    """Images in one forward pass by default, by kind of device.

    On CPUs, small batches are as fast per image as large ones, or faster if their feature maps fit the caches:
    EfficientNet-Lite0 at 384 × 512 takes 57 ms per image in batches of one, and 65 ms in batches of four.
    """

    cpu: int
    cuda: int


class Task(ABC):
    """One task: a row of `cvbatch.tasks.TASKS`.

    To add a task, write a file with a subclass and add a row to that table; in your own package, add an entry point in
    the group `cvbatch.tasks`. A task has no state: one object serves all models and threads.
    """

    name: ClassVar[str]
    """Name in jobs, in the plan and in the catalog; also the default alias of a model."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options of a job's model that belong to this task; options of other tasks are refused."""
    facts: ClassVar[frozenset[str]] = frozenset()
    """Those of `masks`, `keypoints` and `dimension` that apply to models of this task."""
    batch_sizes: ClassVar[BatchSizes] = BatchSizes(cpu=1, cuda=8)
    locates_objects: ClassVar[bool] = False
    """Whether its answers say where in the image objects are. Such answers are computed image by image, largely in
    Python, from more than one vector per image."""
    has_boxes: ClassVar[bool] = False
    """Whether its answers are boxes of objects."""
    covers_image: ClassVar[bool] = False
    """Whether its answers cover the whole image; the view must not crop then."""
    has_labels: ClassVar[bool] = True
    """Whether its answers name categories; the model must have some then."""
    background: ClassVar[BackgroundClass] = BackgroundClass.NEVER
    """Whether its networks have an output for the background."""
    default_model: ClassVar[str | None] = None
    """The model that does this task where a job names none; None if a job must name one."""
    label_column: ClassVar[str | None] = None
    """The column of labels, or of lists of labels, that a summary counts; None if there is none."""

    @property
    def goes_one_by_one(self) -> bool:
        """Whether CPUs process one image at a time by default."""
        return self.batch_sizes.cpu == 1

    @abstractmethod
    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """Return the columns of a model in order: Arrow types by short name."""

    @abstractmethod
    def to_columns(self, model: ModelFacts, answers: Sequence[Any]) -> dict[str, pa.Array]:
        """Turn answers into columns.

        Args:
            model: The model that answered.
            answers: One for each image, at least one, each as `check_answers` returned it.

        Returns:
            For each column of `column_types`, by short name, an array with one value per image.
        """

    @abstractmethod
    def compare_columns(self, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> Agreement:
        """Compare the answers of a faster setting with those of the reference.

        Args:
            reference: Columns at fp32 with full decoding.
            candidate: Columns at another setting; the same images in the same order.
            sizes: (width, height) of each oriented original.
        """

    @abstractmethod
    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Take the answers of this task from the outputs of a built-in network.

        Args:
            outputs: Outputs for a batch, with a part for each task that the network can do.
            model: The model that answers.

        Returns:
            One answer for each image.
        """

    @abstractmethod
    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """Parse the return value of a `python:` model.

        Args:
            model: The model that answered.
            raw: A list or an array with an item for each image.
            sizes: (width, height) of each oriented original.
            logits: Whether the model's scores are logits.

        Returns:
            One answer for each image; a `RowError` in place of an invalid answer.

        Raises:
            ImageError: All answers are invalid.
        """

    def check_answers(self, model: ModelFacts, answers: Sequence[Any]) -> Sequence[Any]:
        """Replace each invalid answer by a `RowError`; by default, all answers are valid.

        Args:
            model: The model that answered.
            answers: From `take_answers` or `parse_answers`.
        """
        return answers

    def merge_tiles(self, model: ModelFacts, tiles: Tiles, size: Size, suppress: SuppressOverlaps) -> TileMerger:
        """Return what joins the answers for the tiles of one image; needed if `tiles` is one of the task's options.

        Args:
            model: The model that answered.
            tiles: How the image was cut.
            size: (width, height) of the oriented original.
            suppress: Drops overlapping boxes.
        """
        raise NotImplementedError(f"{self.name} has no tiles")

    def column_fields(self, model: ModelFacts) -> list[pa.Field]:
        """The columns of a model as they are in the predictions, in order."""
        return [pa.field(f"{model.alias}_{name}", kind) for name, kind in self.column_types(model).items()]
