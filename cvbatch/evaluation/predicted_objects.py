"""The objects that a model found in the images of the truth, in compact arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cvbatch.evaluation.base import Comparison
from cvbatch.results.elements import iter_elements
from cvbatch.results.list_columns import ElementSelection
from cvbatch.schema import ROW_ID
from cvbatch.tasks import DETECTION
from cvbatch.truth.base import Bools, Ints

_BOX: tuple[str, ...] = ("x_min", "y_min", "x_max", "y_max")
_LABEL_ID, _SCORE, _MASK, _KEYPOINTS = "label_id", "score", "mask", "keypoints"


@dataclass(frozen=True, kw_only=True)
class PredictedObjects:
    """Objects; all arrays have one row per object, and those of one image are in the order of their scores."""

    image_indices: npt.NDArray[np.int32]
    """(n,): position of the image in the truth."""
    labels: npt.NDArray[np.int32]
    """(n,): position of the class in the truth."""
    scores: npt.NDArray[np.float32]
    """(n,)"""
    boxes: npt.NDArray[np.float32]
    """(n, 4): x_min, y_min, x_max, y_max in pixels."""
    masks: pa.Array | None = None
    """(n,) binary: COCO's compressed counts at the size of the image."""
    keypoints: npt.NDArray[np.float32] | None = None
    """(n, keypoints × 3): x, y, score."""
    other_classes: Counter[str] = field(default_factory=Counter)
    """How many objects of classes there were that the truth does not name; they are not among these."""

    def __len__(self) -> int:
        return len(self.scores)

    def boxes_xywh(self) -> npt.NDArray[np.float64]:
        """(n, 4): x, y, width, height in pixels."""
        boxes = self.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return boxes

    def restrict(self, objects: Bools | Ints) -> PredictedObjects:
        """Only some objects, by a mask or by their positions."""
        chosen = np.flatnonzero(objects) if objects.dtype == np.bool_ else objects
        return PredictedObjects(
            image_indices=self.image_indices[chosen],
            labels=self.labels[chosen],
            scores=self.scores[chosen],
            boxes=self.boxes[chosen],
            masks=None if self.masks is None else self.masks.take(pa.array(chosen)),
            keypoints=None if self.keypoints is None else self.keypoints[chosen],
        )


def read_predicted_objects(
    comparison: Comparison, truth_labels: Ints, *, masks: bool, keypoints: bool
) -> PredictedObjects:
    """Read what a model found in the images that take part.

    Args:
        comparison: The run and the images.
        truth_labels: (label ids of the model,): position of each in the classes of the truth, or -1.
        masks: Whether to read masks.
        keypoints: Whether to read keypoints.

    Raises:
        UsageError: If a class of `comparison.classes` does not exist.
    """
    wanted = [_LABEL_ID, _SCORE, *_BOX, *([_MASK] if masks else []), *([_KEYPOINTS] if keypoints else [])]
    tables, other_ids = [], Counter[int]()
    for table in _iter_aligned(comparison, wanted):
        labels = truth_labels[table[_LABEL_ID].to_numpy()]
        other_ids.update(table[_LABEL_ID].to_numpy()[labels < 0].tolist())
        table = table.append_column("label", pa.array(labels.astype(np.int32)))
        tables.append(table.filter(pa.array(labels >= 0)).drop_columns([_LABEL_ID]))
    objects = pa.concat_tables(tables) if tables else None
    names = comparison.model.categories
    other_classes = Counter({str(names[label_id]): count for label_id, count in other_ids.items()})
    if objects is None or not objects.num_rows:
        return _no_objects(other_classes, masks=masks, keypoints=keypoints)
    return PredictedObjects(
        image_indices=objects[ROW_ID].to_numpy().astype(np.int32),
        labels=objects["label"].to_numpy(),
        scores=objects[_SCORE].to_numpy(),
        boxes=np.column_stack([objects[name].to_numpy() for name in _BOX]),
        masks=objects[_MASK].cast(pa.large_binary()).combine_chunks() if masks else None,
        keypoints=_flatten_keypoints(objects[_KEYPOINTS]) if keypoints else None,
        other_classes=other_classes,
    )


def _iter_aligned(comparison: Comparison, columns: list[str]) -> Iterator[pa.Table]:
    """Objects of images that take part; their row id is replaced by the position of the image in the truth."""
    selection = ElementSelection(columns=[ROW_ID, *columns], minimum=comparison.min_score, classes=comparison.classes)
    rows = comparison.alignment.row_ids[comparison.alignment.takes_part]
    if not len(rows):
        return
    row_id = pads.field(ROW_ID)
    between = (row_id >= int(rows.min())) & (row_id <= int(rows.max()))  # skips files and row groups
    for table in iter_elements(comparison.opened, DETECTION, comparison.model.alias, selection, between):
        images = comparison.alignment.truth_indices(table[ROW_ID].to_numpy())
        table = table.set_column(table.column_names.index(ROW_ID), ROW_ID, pa.array(images))
        yield table if (images >= 0).all() else table.filter(pa.array(images >= 0))


def _flatten_keypoints(lists: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    numbers: npt.NDArray[np.float32] = pc.list_flatten(lists).to_numpy()
    return numbers.reshape(len(lists), -1)


def _no_objects(other_classes: Counter[str], *, masks: bool, keypoints: bool) -> PredictedObjects:
    return PredictedObjects(
        image_indices=np.zeros(0, np.int32),
        labels=np.zeros(0, np.int32),
        scores=np.zeros(0, np.float32),
        boxes=np.zeros((0, 4), np.float32),
        masks=pa.array([], pa.large_binary()) if masks else None,
        keypoints=np.zeros((0, 0), np.float32) if keypoints else None,
        other_classes=other_classes,
    )
