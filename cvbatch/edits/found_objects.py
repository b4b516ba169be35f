"""What a run has found in some of its images, read where it is needed: on the workers, for the rows of one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.edits.base import FoundObject
from cvbatch.errors import ImageError, OutputError
from cvbatch.images.preprocess import Size
from cvbatch.models.spec import ModelSpec
from cvbatch.output.row_ranges import RowRanges
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.list_columns import label_ids_of_classes
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import (
    CONTENT_SHA256,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TYPE,
    HEIGHT,
    ROW_ID,
    SOURCE_REMOVED,
    STATUS,
    WIDTH,
)
from cvbatch.storage.location import Location
from cvbatch.tasks import DETECTION, SEGMENTATION
from cvbatch.tasks.masks import decode_mask

_FACTS: Final = (ROW_ID, CONTENT_SHA256, WIDTH, HEIGHT, STATUS, ERROR_STAGE, ERROR_TYPE, ERROR_MESSAGE, SOURCE_REMOVED)
_LISTS: Final = {
    DETECTION.name: ("labels", "label_ids", "scores", "boxes", "masks"),
    SEGMENTATION.name: ("labels", "label_ids", "masks"),
}
_LOCATING: Final = (DETECTION, SEGMENTATION)


@dataclass(frozen=True, slots=True)
class ObjectSelection:
    """Which objects of a run an edit is about; picklable."""

    run: Location
    alias: str
    """Of the model."""
    label_ids: frozenset[int] | None
    """None for all classes."""
    min_score: float
    use_masks: bool = True
    """Whether masks count where the model has them; else only boxes."""

    def read_rows(self, row_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """Read what the run says of some images, by row id; without those that it has not committed.

        Args:
            row_ids: In order, and close to each other.
        """
        opened = _open_cached(self.run)
        model = next(model for model in opened.plan.models if model.alias == self.alias)
        committed = opened.committed_files()
        wanted = RowRanges((row, row + 1) for row in row_ids)
        files = [file for file in committed.files if any(wanted.overlaps(*pair) for pair in file.ranges)]
        is_wanted = (pads.field(ROW_ID) >= row_ids[0]) & (pads.field(ROW_ID) <= row_ids[-1])
        selection = RowSelection(columns=[*_FACTS, *_list_columns(model)], where=is_wanted)
        tables = list(iter_rows(opened, selection, committed=replace(committed, files=files)))
        rows = pa.concat_tables(tables).to_pylist() if tables else []
        return {row[ROW_ID]: row for row in rows}

    def objects_of(self, row: Mapping[str, Any]) -> list[FoundObject]:
        """The objects of one image, the surest first where the model has scores.

        Raises:
            ImageError: `MaskSize`: a mask is not of the size of the image.
        """
        size = (row[WIDTH], row[HEIGHT])
        lists = {name: row.get(f"{self.alias}_{name}") for name in _LISTS[DETECTION.name]}
        count = len(lists["labels"] or ())
        columns = [lists[name] or [None] * count for name in _LISTS[DETECTION.name]]
        found = []
        for label, label_id, score, box, mask in zip(*columns, strict=True):
            is_class = self.label_ids is None or label_id in self.label_ids
            if is_class and (score is None or score >= self.min_score):
                found.append(
                    _to_object(
                        label or str(label_id), score, box, mask if self.use_masks or box is None else None, size
                    )
                )
        return [one for one in found if one is not None]


def select_objects(
    opened: OpenedOutput,
    model: str | None,
    classes: Sequence[str | int] | None,
    min_score: float,
    *,
    use_masks: bool = True,
) -> ObjectSelection:
    """Choose the model and the objects of an edit.

    Args:
        opened: The run.
        model: Column prefix; None if only one model says where things are.
        classes: Names or ids; None for all.
        min_score: Boxes with lower scores do not take part.
        use_masks: Whether masks count.

    Raises:
        OutputError: If no model says where things are, or several do.
        UsageError: If a class does not exist.
    """
    spec = find_locating_model(opened, model)
    label_ids = None if classes is None else frozenset(label_ids_of_classes(spec, classes).to_pylist())
    return ObjectSelection(opened.location, spec.alias, label_ids, min_score, use_masks)


def find_locating_model(opened: OpenedOutput, alias: str | None) -> ModelSpec:
    """The model that says where things are; see `select_objects`."""
    names = {task.name for task in _LOCATING}
    locating = {model.alias: model for model in opened.plan.models if model.task in names}
    if alias is None and len(locating) == 1:
        return next(iter(locating.values()))
    if alias is not None and alias in locating:
        return locating[alias]
    known = ", ".join(locating) or "none"
    if alias is None and locating:
        raise OutputError(f"{opened.store.root} has several models that find objects: name one of {known} with --model")
    wanted = (
        "no model that finds objects" if alias is None else f"no model {alias!r} that finds objects; it has {known}"
    )
    raise OutputError(f"{opened.store.root} has {wanted}: expected a run with detection or segmentation")


def _list_columns(model: ModelSpec) -> list[str]:
    stored = {column.name for column in model.column_fields()}
    return [name for short in _LISTS[model.task] if (name := f"{model.alias}_{short}") in stored]


def _to_object(
    label: str, score: float | None, box: Sequence[float] | None, counts: bytes | None, size: Size
) -> FoundObject | None:
    """None for a segment without a pixel."""
    mask = None
    if counts is not None:
        try:
            mask = decode_mask(counts, size[1], size[0])
        except ValueError as error:
            raise ImageError("MaskSize", str(error)) from None
    if box is None:
        if mask is None or not mask.any():
            return None
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    x_min, y_min, x_max, y_max = map(float, box)
    return FoundObject(label, score, (x_min, y_min, x_max, y_max), mask)


@lru_cache(maxsize=4)
def _open_cached(run: Location) -> OpenedOutput:
    return open_output(run)
