"""Reads the images that take part in an export, with what a model found in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.export.base import FormatOptions, ImageBatch, RowCounts
from cvbatch.export.names import ImageNames
from cvbatch.export.targets import ExportTarget
from cvbatch.models.spec import ModelSpec
from cvbatch.repeats.filter import RepeatFilter
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.elements import ELEMENT_COLUMNS
from cvbatch.results.list_columns import ELEMENT_INDEX, ElementSelection, ElementTable, label_ids_of_classes
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where
from cvbatch.schema import ERROR, HEIGHT, IMAGE_URI, ROW_ID, SOURCE_REMOVED, STATUS, WIDTH
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION, Task

_POSITION: Final = "_position"
"""Of an image in its batch."""
_IMAGE_COLUMNS: Final = (ROW_ID, IMAGE_URI, WIDTH, HEIGHT)
_BATCH_ROWS: Final = 2048
_MOST_ELEMENTS: Final = 131_072
"""In one batch, about."""
_MASK_BATCH_ROWS: Final = 256
"""Images at once whose elements have masks, which take tens of kilobytes each."""
_LABEL_COLUMNS: Final = ("label", "label_id", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which images and elements are exported."""

    where: Where = None
    classes: Sequence[str | int] | None = None
    min_score: float | None = None
    repeats: RepeatFilter | None = None
    """Boxes that are left out."""


def _split_rows(rows: pa.Table) -> Iterator[pa.Table]:
    """Split rows with very many elements, so that what is made of them stays small; nothing for no rows."""
    lists = [column for column in rows.columns if pa.types.is_list(column.type)]
    most = max((pc.sum(pc.list_value_length(column)).as_py() or 0 for column in lists), default=0)
    step = max(1, rows.num_rows * _MOST_ELEMENTS // max(most, _MOST_ELEMENTS))
    return (rows.slice(start, step) for start in range(0, rows.num_rows, step))


Flatten: TypeAlias = Callable[[pa.Table], pa.Table]
"""From rows with `_POSITION` to elements with `_POSITION`."""


@dataclass(slots=True, kw_only=True)
class RunExport:
    """An export of a run; see `cvbatch.export.base.ExportJob`."""

    opened: OpenedOutput
    model: ModelSpec | None
    target: ExportTarget
    options: FormatOptions
    chosen: Chosen
    names: ImageNames
    counts: RowCounts = field(default_factory=RowCounts)
    """Of the last call of `iter_batches`."""

    def iter_batches(self, columns: Sequence[str] = (), *, batch_rows: int | None = None) -> Iterator[ImageBatch]:
        """See `ExportJob.iter_batches`."""
        self.counts = RowCounts()
        stored, flatten = self._elements()
        image_columns = list(dict.fromkeys((*_IMAGE_COLUMNS, *columns)))
        wanted = list(dict.fromkeys((*image_columns, STATUS, SOURCE_REMOVED, *stored)))
        if batch_rows is None:
            batch_rows = _MASK_BATCH_ROWS if any(name.endswith("_masks") for name in stored) else _BATCH_ROWS
        for table in iter_rows(
            self.opened, RowSelection(columns=wanted, where=self.chosen.where), batch_rows=batch_rows
        ):
            for rows in _split_rows(self._without_failed(table)):
                yield self._make_batch(rows, image_columns, flatten)

    def _without_failed(self, rows: pa.Table) -> pa.Table:
        is_removed, is_failed = rows[SOURCE_REMOVED], pc.equal(rows[STATUS], ERROR)
        self.counts.removed += pc.sum(is_removed).as_py() or 0
        self.counts.failed += pc.sum(pc.and_not(is_failed, is_removed)).as_py() or 0
        return rows.filter(pc.invert(pc.or_(is_removed, is_failed))).combine_chunks()

    def _make_batch(self, rows: pa.Table, image_columns: Sequence[str], flatten: Flatten) -> ImageBatch:
        elements = flatten(rows.append_column(_POSITION, pa.array(np.arange(rows.num_rows))))
        if self.chosen.repeats is not None:
            elements = self._without_repeats(elements, self.chosen.repeats)
        counts = np.bincount(elements[_POSITION].to_numpy(), minlength=rows.num_rows)
        self.counts.images += rows.num_rows
        self.counts.elements += elements.num_rows
        uris = rows[IMAGE_URI].combine_chunks()
        return ImageBatch(
            images=rows.select(image_columns),
            names=self.names.of_images(uris, rows[ROW_ID].to_numpy()),
            elements=elements.drop_columns([_POSITION]).combine_chunks(),
            offsets=np.concatenate([[0], np.cumsum(counts)]),
        )

    def _without_repeats(self, elements: pa.Table, repeats: RepeatFilter) -> pa.Table:
        is_repeat = repeats.is_repeat(elements[ROW_ID].to_numpy(), elements[ELEMENT_INDEX].to_numpy())
        self.counts.repeats += int(is_repeat.sum())
        return elements.filter(pa.array(~is_repeat)).drop_columns([ROW_ID, ELEMENT_INDEX])

    def _elements(self) -> tuple[Sequence[str], Flatten]:
        """Columns of the predictions that elements come from, and what makes elements of rows."""
        if self.model is None:
            return (), lambda rows: rows.select([_POSITION]).slice(0, 0)
        return _ELEMENTS_OF_TASK[self.model.task](self.model, self.chosen)


def _flatten_lists(threshold_list: str) -> Callable[[ModelSpec, Chosen], tuple[Sequence[str], Flatten]]:
    """For tasks whose answers are lists."""

    def make(model: ModelSpec, chosen: Chosen) -> tuple[Sequence[str], Flatten]:
        known = ELEMENT_COLUMNS[model.task]
        stored = {column.name for column in model.column_fields()}
        names = [name for name, column in known.items() if f"{model.alias}_{column.list_name}" in stored]
        keys = [] if chosen.repeats is None else [ROW_ID, ELEMENT_INDEX]
        selection = ElementSelection(
            columns=[_POSITION, *keys, *names],
            threshold_list=threshold_list,
            minimum=chosen.min_score,
            classes=chosen.classes,
        )
        table = ElementTable(model, known, [_POSITION], [_POSITION, *keys], selection)
        stored_columns = [name for name in table.stored_columns() if name != _POSITION]
        return stored_columns, table.flatten

    return make


def _take_best_label(model: ModelSpec, chosen: Chosen) -> tuple[Sequence[str], Flatten]:
    """For classification: one element an image."""
    stored = [f"{model.alias}_{name}" for name in _LABEL_COLUMNS]
    label_ids = None if chosen.classes is None else label_ids_of_classes(model, chosen.classes)

    def flatten(rows: pa.Table) -> pa.Table:
        elements = rows.select([_POSITION, *stored]).rename_columns([_POSITION, *_LABEL_COLUMNS])
        keep = pc.is_valid(elements["label_id"])
        if label_ids is not None:
            keep = pc.and_(keep, pc.is_in(elements["label_id"], label_ids))
        if chosen.min_score is not None:
            keep = pc.and_(keep, pc.greater_equal(elements["score"], chosen.min_score))
        return elements.filter(keep)

    return stored, flatten


def _take_nothing(model: ModelSpec, chosen: Chosen) -> tuple[Sequence[str], Flatten]:
    """For vectors, which are a column of the images."""
    return (), lambda rows: rows.select([_POSITION]).slice(0, 0)


_ELEMENTS_OF_TASK: Final[Mapping[str, Callable[[ModelSpec, Chosen], tuple[Sequence[str], Flatten]]]] = {
    DETECTION.name: _flatten_lists("scores"),
    SEGMENTATION.name: _flatten_lists("areas"),
    CLASSIFICATION.name: _take_best_label,
    EMBEDDING.name: _take_nothing,
}


def choose_model(opened: OpenedOutput, tasks: Sequence[Task], alias: str | None) -> ModelSpec | None:
    """The model to export: the one of this alias, or one for the first of the tasks that the run has a model for.

    Raises:
        OutputError: If there is none, or several could be meant.
    """
    if not tasks:
        return None
    tasks_of_run = {model.task for model in opened.plan.models if alias in (None, model.alias)}
    known_tasks = [task for task in tasks if task.name in tasks_of_run] or tasks
    return opened.find_model(known_tasks[0], alias)
