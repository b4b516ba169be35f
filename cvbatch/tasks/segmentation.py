"""Segmentation: the classes present in an image, their areas and their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import capture_row_error
from cvbatch.images.preprocess import Size
from cvbatch.images.tiles import Tiles
from cvbatch.schema import BINARIES, FLOATS, INTS, STRINGS
from cvbatch.tasks.arrow import category_names, join_arrays, split_into_lists
from cvbatch.tasks.base import (
    Agreement,
    BackgroundClass,
    BatchSizes,
    Columns,
    ModelFacts,
    SuppressOverlaps,
    Task,
    TileMerger,
)
from cvbatch.tasks.masks import decode_mask, encode_mask, scaled_nearest
from cvbatch.tasks.output_checks import (
    TRUTH,
    WHOLE,
    expect_label_ids,
    expect_shape,
    invalid_output_error,
    to_number_array,
)

SAME_PIXELS: Final = 0.99
"""The tolerance of the parity certificate: the least share of pixels with the same label."""
_LONGEST: Final = 8
"""Bytes of the widest integers; `numpy.bincount` does not accept unsigned ones of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentAnswer:
    """The classes present in one image, by label id; arrays are aligned."""

    label_ids: npt.NDArray[np.int32]
    """(n,)"""
    areas: npt.NDArray[np.float32]
    """(n,), share of the image's pixels."""
    masks: Sequence[bytes]
    """RLE at the size of the oriented original."""


def emitted_label_ids(model: ModelFacts) -> list[int | None]:
    """All label ids of a model; None in place of ids without a name, such as the background."""
    return [None if name is None else label for label, name in enumerate(model.categories)]


def summarize_label_map(label_map: npt.NDArray[np.integer[Any]], label_ids: Sequence[int | None]) -> SegmentAnswer:
    """Summarise a label map.

    Args:
        label_map: A position in `label_ids` for each pixel; (height, width) of the oriented original, fastest in
            Fortran order.
        label_ids: In ascending order; None is left out.
    """
    counts = np.bincount(label_map.reshape(-1, order="A"), minlength=len(label_ids))
    present = [(position, label) for position, label in enumerate(label_ids) if label is not None and counts[position]]
    return SegmentAnswer(
        label_ids=np.array([label for _, label in present], np.int32),
        areas=np.array([counts[position] / label_map.size for position, _ in present], np.float32),
        masks=[encode_mask(label_map == position) for position, _ in present],
    )


class SegmentationTask(Task):
    """An answer is a `SegmentAnswer`."""

    name = "segmentation"
    default_model = "efficientnet_lite0"
    options = ("tiles",)
    batch_sizes = BatchSizes(cpu=1, cuda=16)
    locates_objects = True
    covers_image = True
    background = BackgroundClass.OPTIONAL
    label_column = "labels"

    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.column_types`."""
        return {"labels": STRINGS, "label_ids": INTS, "areas": FLOATS, "masks": BINARIES}

    def to_columns(self, model: ModelFacts, answers: Sequence[SegmentAnswer]) -> dict[str, pa.Array]:
        """See `Task.to_columns`."""
        counts = [len(image.label_ids) for image in answers]
        label_ids = join_arrays([image.label_ids for image in answers], np.int32)
        masks = pa.array([mask for image in answers for mask in image.masks], pa.binary())
        return {
            "labels": split_into_lists(category_names(model).take(label_ids), counts),
            "label_ids": split_into_lists(label_ids, counts),
            "areas": split_into_lists(join_arrays([image.areas for image in answers], np.float32), counts),
            "masks": split_into_lists(masks, counts),
        }

    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """Return the outputs' `segments` for the model."""
        answers: Sequence[Any] = outputs.segments(model)
        return answers

    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse_answers`: for each image a map of label ids, (height, width)."""
        pairs = zip(raw, sizes, strict=True)
        return [
            capture_row_error("predict", partial(_parse_label_map, model, label_map, size)) for label_map, size in pairs
        ]

    def merge_tiles(self, model: ModelFacts, tiles: Tiles, size: Size, suppress: SuppressOverlaps) -> TileMerger:
        """See `Task.merge_tiles`."""
        from cvbatch.tasks.tiled_segments import SegmentMerger  # it needs `SegmentAnswer`

        return SegmentMerger(model, tiles, size)

    def compare_columns(self, reference: Columns, candidate: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare_columns`: by the share of pixels with the same label."""
        equal = pixels = 0
        for row, size in enumerate(sizes):
            expected, actual = (_label_map_of_row(columns, row, size) for columns in (reference, candidate))
            equal += int(np.count_nonzero(expected == actual))
            pixels += expected.size
        share = equal / pixels if pixels else 0.0
        return {"same_pixels": share}, share >= SAME_PIXELS


SEGMENTATION: Final = SegmentationTask()


def _parse_label_map(model: ModelFacts, raw: Any, size: Size) -> SegmentAnswer:
    labels = to_number_array(model, "label map", raw, WHOLE + TRUTH)
    expect_shape(model, "label map", labels, (None, None))
    if not labels.size:
        raise invalid_output_error(model, f"expected a label map with pixels, got one of shape {labels.shape}")
    expect_label_ids(model, labels)
    countable = labels if labels.dtype.itemsize < _LONGEST else labels.astype(np.int64)
    return summarize_label_map(scaled_nearest(countable, size, model.view), emitted_label_ids(model))


def _label_map_of_row(columns: Columns, row: int, size: Size) -> npt.NDArray[np.int64]:
    width, height = size
    labels = np.full((height, width), -1, np.int64, order="F")
    masks, label_ids = columns["masks"][row].as_py(), columns["label_ids"][row].as_py()
    for counts, label in zip(masks or [], label_ids or [], strict=True):
        labels[decode_mask(counts, height, width)] = label
    return labels
