"""What is compared: numbers of each image, from the columns of the predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.models.spec import ModelSpec
from cvbatch.results.certainty import class_entropies
from cvbatch.schema import HEIGHT, IMAGE_BYTES, WIDTH
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION

Numbers = npt.NDArray[np.float64]
MEGAPIXELS: Final = "megapixels"
SHAPE: Final = "width by height"
BYTES_PER_PIXEL: Final = "bytes per pixel"
IMAGE_COLUMNS: Final = (WIDTH, HEIGHT, IMAGE_BYTES)


@dataclass(frozen=True, slots=True)
class ModelSignals:
    """What is read from the answers of one task."""

    columns: tuple[str, ...]
    """Short names of the columns that are needed."""
    measure: Callable[[pa.Table, ModelSpec], dict[str, Numbers]]
    """Numbers of each row by name."""
    lead_labels: Callable[[pa.Table, ModelSpec], pa.Array]
    """One label for each image, null if there is none."""


def image_signals(rows: pa.Table) -> dict[str, Numbers]:
    """Size, shape, and bytes per pixel, which tell cameras and compression apart."""
    width, height, size = (rows[name].to_numpy().astype(np.float64) for name in IMAGE_COLUMNS)
    pixels = width * height
    return {MEGAPIXELS: pixels / 1e6, SHAPE: width / height, BYTES_PER_PIXEL: size / pixels}


def signals_of_task(task: str) -> ModelSignals | None:
    """What is compared of the answers of a task; None for a task without labels."""
    return _SIGNALS.get(task)


def _class_signals(rows: pa.Table, model: ModelSpec) -> dict[str, Numbers]:
    lists = _combined(rows, f"{model.alias}_top_scores")
    scores = pc.list_flatten(lists).to_numpy().reshape(rows.num_rows, -1)
    named = sum(name is not None for name in model.categories)
    return {"confidence": scores[:, 0].astype(np.float64), "entropy": class_entropies(scores, named)}


def _box_signals(rows: pa.Table, model: ModelSpec) -> dict[str, Numbers]:
    lists = _combined(rows, f"{model.alias}_scores")
    return {"boxes": _lengths(lists), "surest box": _first_or_zero(lists)}


def _segment_signals(rows: pa.Table, model: ModelSpec) -> dict[str, Numbers]:
    lists = _combined(rows, f"{model.alias}_areas")
    owners = pc.list_parent_indices(lists).to_numpy()
    areas = pc.list_flatten(lists).to_numpy()
    return {"classes": _lengths(lists), "area": np.bincount(owners, areas, rows.num_rows).astype(np.float64)}


def _label_column(rows: pa.Table, model: ModelSpec) -> pa.Array:
    return _combined(rows, f"{model.alias}_label")


def _first_label(rows: pa.Table, model: ModelSpec) -> pa.Array:
    """The label of the best box: boxes are stored best first."""
    lists = _combined(rows, f"{model.alias}_labels")
    return _take_elements(lists, lists.offsets.to_numpy()[:-1], _lengths(lists) > 0)


def _largest_label(rows: pa.Table, model: ModelSpec) -> pa.Array:
    """The label of the largest segment."""
    lists, areas = _combined(rows, f"{model.alias}_labels"), _combined(rows, f"{model.alias}_areas")
    owners = pc.list_parent_indices(areas).to_numpy()
    order = np.lexsort((-pc.list_flatten(areas).to_numpy(), owners))
    largest = np.zeros(rows.num_rows, np.int64)
    is_first = np.diff(owners[order], prepend=-1) > 0
    largest[owners[order][is_first]] = order[is_first]
    return _take_elements(lists, largest + lists.offsets.to_numpy()[0], _lengths(lists) > 0)


def _take_elements(
    lists: pa.Array, positions: npt.NDArray[np.integer[Any]], has_any: npt.NDArray[np.bool_]
) -> pa.Array:
    """One element of the values of each list; null where a list is empty."""
    return lists.values.take(pa.array(positions.astype(np.int64), mask=~has_any))


def _lengths(lists: pa.Array) -> Numbers:
    lengths: Numbers = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.float64)
    return lengths


def _first_or_zero(lists: pa.Array) -> Numbers:
    first = _take_elements(lists, lists.offsets.to_numpy()[:-1], _lengths(lists) > 0)
    numbers: Numbers = pc.fill_null(first, 0).to_numpy().astype(np.float64)
    return numbers


def _combined(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


_SIGNALS: Final[Mapping[str, ModelSignals]] = {
    CLASSIFICATION.name: ModelSignals(("label", "top_scores"), _class_signals, _label_column),
    DETECTION.name: ModelSignals(("labels", "scores"), _box_signals, _first_label),
    SEGMENTATION.name: ModelSignals(("labels", "areas"), _segment_signals, _largest_label),
}
