"""Segmentation: the classes that are present, how much of the image they cover, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import attempt
from cvbatch.images.preprocess import Size
from cvbatch.schema import BINARIES, FLOATS, INTS, STRINGS
from cvbatch.tasks.arrow import flat, lists, names
from cvbatch.tasks.base import Agreement, Background, BatchSizes, Columns, ModelFacts, Task
from cvbatch.tasks.masks import decode_mask, encode_mask, scaled_nearest
from cvbatch.tasks.output_checks import TRUTH, WHOLE, expect_label_ids, expect_shape, invalid, number_array

SAME_PIXELS: Final = 0.99
"""The tolerance of the parity certificate: the least share of pixels with the same label."""
_LONGEST: Final = 8
"""Bytes of a whole number, of which unsigned ones cannot be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The classes present in one image, by label id; arrays are aligned."""

    label_ids: npt.NDArray[np.int32]
    """(n,)"""
    areas: npt.NDArray[np.float32]
    """(n,), share of the image's pixels."""
    masks: Sequence[bytes]
    """RLE at the size of the oriented original."""


def emitted(model: ModelFacts) -> list[int | None]:
    """Every label id of a model, None in place of those without a name, such as the background."""
    return [None if name is None else label for label, name in enumerate(model.categories)]


def segments(label_map: npt.NDArray[np.integer[Any]], label_ids: Sequence[int | None]) -> Segments:
    """Summarise a label map.

    Args:
        label_map: Of each pixel a position in `label_ids`; (height, width) of the oriented original, fastest in
            Fortran order.
        label_ids: Ascending; None is left out.
    """
    counts = np.bincount(label_map.reshape(-1, order="A"), minlength=len(label_ids))
    present = [(position, label) for position, label in enumerate(label_ids) if label is not None and counts[position]]
    return Segments(
        label_ids=np.array([label for _, label in present], np.int32),
        areas=np.array([counts[position] / label_map.size for position, _ in present], np.float32),
        masks=[encode_mask(label_map == position) for position, _ in present],
    )


class Segmentation(Task):
    """An answer is a `Segments`."""

    name = "segmentation"
    batch_sizes = BatchSizes(cpu=1, cuda=16)
    has_places = True
    covers_image = True
    background = Background.OPTIONAL
    label_column = "labels"

    def types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        """See `Task.types`."""
        return {"labels": STRINGS, "label_ids": INTS, "areas": FLOATS, "masks": BINARIES}

    def columns(self, model: ModelFacts, answers: Sequence[Segments]) -> dict[str, pa.Array]:
        """See `Task.columns`."""
        counts = [len(image.label_ids) for image in answers]
        label_ids = flat([image.label_ids for image in answers], np.int32)
        masks = pa.array([mask for image in answers for mask in image.masks], pa.binary())
        return {
            "labels": lists(names(model).take(label_ids), counts),
            "label_ids": lists(label_ids, counts),
            "areas": lists(flat([image.areas for image in answers], np.float32), counts),
            "masks": lists(masks, counts),
        }

    def take(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        """What the outputs' `segments` finds for the model."""
        found: Sequence[Any] = outputs.segments(model)
        return found

    def parse(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        """See `Task.parse`: for each image a map of label ids, (height, width)."""
        pairs = zip(raw, sizes, strict=True)
        return [attempt("predict", partial(_parsed, model, label_map, size)) for label_map, size in pairs]

    def compare(self, reference: Columns, other: Columns, sizes: Sequence[Size]) -> Agreement:
        """See `Task.compare`: by the share of pixels with the same label."""
        equal = pixels = 0
        for row, size in enumerate(sizes):
            one, two = (_label_map(columns, row, size) for columns in (reference, other))
            equal += int(np.count_nonzero(one == two))
            pixels += one.size
        share = equal / pixels if pixels else 0.0
        return {"same_pixels": share}, share >= SAME_PIXELS


SEGMENTATION: Final = Segmentation()


def _parsed(model: ModelFacts, raw: Any, size: Size) -> Segments:
    labels = number_array(model, "label map", raw, WHOLE + TRUTH)
    expect_shape(model, "label map", labels, (None, None))
    if not labels.size:
        raise invalid(model, f"expected a label map with pixels, got one of shape {labels.shape}")
    expect_label_ids(model, labels)
    small = labels if labels.dtype.itemsize < _LONGEST else labels.astype(np.int64)
    return segments(scaled_nearest(small, size), emitted(model))


def _label_map(columns: Columns, row: int, size: Size) -> npt.NDArray[np.int64]:
    width, height = size
    labels = np.full((height, width), -1, np.int64, order="F")
    masks, label_ids = columns["masks"][row].as_py(), columns["label_ids"][row].as_py()
    for counts, label in zip(masks or [], label_ids or [], strict=True):
        labels[decode_mask(counts, height, width)] = label
    return labels
