"""How far the answers of a faster setting agree with those of the reference, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.config.job import Task
from cvbatch.images.preprocess import Size
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.masks import decode_mask

Columns = Mapping[str, pa.Array]
"""Columns of the predictions, by name; one row per image, null where it failed."""

SAME_LABEL: Final = 0.99
SCORE_DIFFERENCE: Final = 0.01
SAME_BOXES: Final = 0.98
BOX_SCORE: Final = 0.3
BOX_OVERLAP: Final = 0.9
SAME_PIXELS: Final = 0.99
COSINE: Final = 0.999
"""The tolerances of the parity certificate."""


def agree(spec: ModelSpec, reference: Columns, other: Columns, sizes: Sequence[Size]) -> dict[str, Any]:
    """Compare the answers of one model.

    Args:
        spec: The model.
        reference: Its columns at fp32 with full decoding.
        other: Its columns at another setting; same images in the same order.
        sizes: (width, height) of each oriented original.

    Returns:
        The measured agreement by name, and whether all of it is within the tolerances: `passed`.
    """
    measured, passed = _COMPARE[spec.task](spec.alias, reference, other, sizes)
    return {**measured, "passed": bool(passed)}


_Result = tuple[dict[str, float], bool]


def _classification(alias: str, reference: Columns, other: Columns, sizes: Sequence[Size]) -> _Result:
    labels = [_numbers(columns, f"{alias}_label_id") for columns in (reference, other)]
    scores = [_numbers(columns, f"{alias}_score") for columns in (reference, other)]
    same = float(np.mean(labels[0] == labels[1])) if len(labels[0]) else 0.0
    difference = float(np.mean(np.abs(scores[0] - scores[1]))) if len(scores[0]) else 1.0
    measured = {"same_label": same, "mean_score_difference": difference}
    return measured, same >= SAME_LABEL and difference < SCORE_DIFFERENCE


def _detection(alias: str, reference: Columns, other: Columns, sizes: Sequence[Size]) -> _Result:
    boxes = matched = 0
    for row in range(len(sizes)):
        one, two = (_sure_boxes(columns, alias, row) for columns in (reference, other))
        boxes += max(len(one[0]), len(two[0]))
        matched += _matches(one, two)
    share = matched / boxes if boxes else 1.0
    return {"matched_boxes": share, "boxes": float(boxes)}, boxes > 0 and share >= SAME_BOXES


def _segmentation(alias: str, reference: Columns, other: Columns, sizes: Sequence[Size]) -> _Result:
    equal = pixels = 0
    for row, size in enumerate(sizes):
        one, two = (_label_map(columns, alias, row, size) for columns in (reference, other))
        equal += int(np.count_nonzero(one == two))
        pixels += one.size
    share = equal / pixels if pixels else 0.0
    return {"same_pixels": share}, share >= SAME_PIXELS


def _embedding(alias: str, reference: Columns, other: Columns, sizes: Sequence[Size]) -> _Result:
    one, two = (_vectors(columns[f"{alias}_vector"]) for columns in (reference, other))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    cosines = (one * two).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    smallest = float(cosines.min()) if len(cosines) else 0.0
    return {"smallest_cosine": smallest, "mean_cosine": float(cosines.mean()) if len(cosines) else 0.0}, (
        smallest >= COSINE
    )


_COMPARE: Final[dict[Task, Callable[[str, Columns, Columns, Sequence[Size]], _Result]]] = {
    "classification": _classification,
    "detection": _detection,
    "segmentation": _segmentation,
    "embedding": _embedding,
}


def _numbers(columns: Columns, name: str) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _vectors(column: pa.Array) -> npt.NDArray[np.float64]:
    return np.array(column.drop_null().to_pylist(), np.float64)


def _sure_boxes(columns: Columns, alias: str, row: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    scores = np.array(columns[f"{alias}_scores"][row].as_py() or [])
    sure = scores >= BOX_SCORE
    boxes = np.array(columns[f"{alias}_boxes"][row].as_py() or [], np.float64).reshape(-1, 4)
    return boxes[sure], np.array(columns[f"{alias}_label_ids"][row].as_py() or [], np.int64)[sure]


def _matches(one: tuple[Any, Any], two: tuple[Any, Any]) -> int:
    """Boxes of the same label that overlap enough, each used once, best pairs first."""
    if not len(one[0]) or not len(two[0]):
        return 0
    overlaps = _overlaps(one[0], two[0]) * (one[1][:, None] == two[1][None])
    count = 0
    while (best := np.unravel_index(int(overlaps.argmax()), overlaps.shape)) and overlaps[best] >= BOX_OVERLAP:
        overlaps[best[0], :] = overlaps[:, best[1]] = 0
        count += 1
    return count


def _overlaps(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair: float64, (n, m)."""
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, two)]
    overlaps: npt.NDArray[np.float64] = inside / (areas[0][:, None] + areas[1][None] - inside)
    return overlaps


def _label_map(columns: Columns, alias: str, row: int, size: Size) -> npt.NDArray[np.int64]:
    width, height = size
    labels = np.full((height, width), -1, np.int64, order="F")
    masks, label_ids = columns[f"{alias}_masks"][row].as_py(), columns[f"{alias}_label_ids"][row].as_py()
    for counts, label in zip(masks or [], label_ids or [], strict=True):
        labels[decode_mask(counts, height, width)] = label
    return labels
