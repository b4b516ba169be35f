"""Targets of detection: for each image its boxes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.training.target_column import Targets, expect_same_size, rarest_classes
from cvbatch.truth.base import Bools, Ints, Truth
from cvbatch.truth.names import list_examples
from cvbatch.truth.objects import ObjectTruth

LABELS: Final = "label_ids"
BOXES: Final = "boxes"
CROWDS: Final = "crowds"
BOX_TARGET: Final = pa.struct(
    {LABELS: pa.list_(pa.int32()), BOXES: pa.list_(pa.list_(pa.float32(), 4)), CROWDS: pa.list_(pa.bool_())}
)
"""Of one image: label ids from 1 on; x_min, y_min, x_max, y_max in pixels; whether a box stands for many objects."""
_LEAST_PIXELS: Final = 1.0
"""Length of a side of a box within the image from which it can be learned."""
_MOST_OUTSIDE: Final = 0.5
"""Share of boxes outside of their images from which they must be in another unit."""
Floats = npt.NDArray[np.float64]


def box_targets(truth: Truth, positions: Ints, images: pa.Table) -> Targets:
    """The boxes of each image, cut to it; images without a box show the background.

    Args:
        truth: An `ObjectTruth`.
        positions: (images,) of each image in the truth.
        images: With their sizes.

    Raises:
        UsageError: If the sizes differ, most boxes lie outside of their images, or there are none.
    """
    assert isinstance(truth, ObjectTruth), "the readers of detection give objects"
    sizes = np.stack([images[name].to_numpy() for name in (WIDTH, HEIGHT)], axis=1).astype(np.int32)
    _check_sizes(truth, positions, sizes)
    rows = np.full(len(truth.image_names), -1, np.int64)
    rows[positions] = np.arange(len(positions))
    all_sizes = np.ones((len(rows), 2), np.int32)
    all_sizes[positions] = sizes
    objects = truth.in_pixels(all_sizes).restrict(rows[truth.image_indices] >= 0)
    row_of = rows[objects.image_indices]
    boxes, is_inside = _cut_boxes(objects.boxes, sizes[row_of])
    notes = _notes_about_boxes(objects, is_inside)
    kept = np.flatnonzero(is_inside)
    kept = kept[np.argsort(row_of[kept], kind="stable")]
    counts = np.bincount(objects.labels[kept][~objects.is_crowd[kept]], minlength=len(truth.categories))
    used = np.flatnonzero(counts)
    if not len(used):
        raise UsageError(f"{truth.source}: expected boxes to learn from, got none in {len(positions):,} images")
    empty = [name for index, name in enumerate(truth.categories) if not counts[index]]
    if empty:
        notes.append(f"classes of the truth without a box are left out: {list_examples(empty)}")
    numbers = np.zeros(len(truth.categories), np.int32)
    numbers[used] = np.arange(1, len(used) + 1)
    kept = kept[numbers[objects.labels[kept]] > 0]
    present = np.zeros((len(positions), len(used)), np.bool_)
    present[row_of[kept], numbers[objects.labels[kept]] - 1] = True
    return Targets(
        categories=(None, *(truth.categories[index] for index in used)),
        column=_to_column(numbers[objects.labels[kept]], boxes[kept], objects.is_crowd[kept], row_of[kept], len(sizes)),
        strata=rarest_classes(present),
        counts={truth.categories[index]: int(counts[index]) for index in used},
        notes=notes,
    )


def _check_sizes(truth: ObjectTruth, positions: Ints, sizes: npt.NDArray[np.int32]) -> None:
    if truth.sizes is None or truth.is_relative:
        return
    stated = truth.sizes[positions]
    for row in np.flatnonzero(((stated != sizes) & (stated > 0)).any(axis=1)).tolist():
        name = truth.image_names[int(positions[row])]
        problem = expect_same_size(truth.source, name, tuple(stated[row].tolist()), tuple(sizes[row].tolist()))
        if problem is not None:
            raise UsageError(problem)


def _cut_boxes(boxes: Floats, sizes: npt.NDArray[np.int32]) -> tuple[Floats, Bools]:
    """Corners within the image, (n, 4), and whether enough is inside, (n,)."""
    limits = np.tile(sizes.astype(np.float64), 2)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    cut = np.clip(np.nan_to_num(corners, nan=-1.0), 0, limits)
    return cut, (cut[:, 2:] - cut[:, :2] >= _LEAST_PIXELS).all(axis=1)


def _notes_about_boxes(objects: ObjectTruth, is_inside: Bools) -> list[str]:
    """Notes about boxes that are left out; most of them outside are a mistake."""
    outside = np.flatnonzero(~is_inside)
    if not len(outside):
        return []
    first = int(outside[0])
    name = objects.image_names[int(objects.image_indices[first])]
    example = f"such as {np.round(objects.boxes[first], 2).tolist()} (x, y, width, height) in {name}"
    if len(outside) > _MOST_OUTSIDE * len(is_inside):
        raise UsageError(
            f"{objects.source}: expected boxes in pixels of their images; {len(outside):,} of {len(is_inside):,} lie "
            f"outside or have no pixel, {example}"
        )
    return [f"boxes outside of their image, or of no pixel, take no part: {len(outside):,}, {example}"]


def _to_column(labels: npt.NDArray[Any], boxes: Floats, crowds: Bools, rows: Ints, count: int) -> pa.Array:
    """One struct for each image, from boxes in the order of the images."""
    offsets = pa.array(np.searchsorted(rows, np.arange(count + 1)), pa.int32())
    flat = pa.array(boxes.astype(np.float32).ravel())
    lists = {
        LABELS: pa.array(labels, pa.int32()),
        BOXES: pa.FixedSizeListArray.from_arrays(flat, 4),
        CROWDS: pa.array(crowds),
    }
    arrays = [pa.ListArray.from_arrays(offsets, values) for values in lists.values()]
    return pa.StructArray.from_arrays(arrays, names=list(lists)).cast(BOX_TARGET)
