"""Segmentation: the classes that are present, how much of the image they cover, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.arrow import flat, lists, names
from cvbatch.tasks.masks import encode_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The classes present in one image, by label id; arrays are aligned."""

    label_ids: npt.NDArray[np.int32]
    """(n,)"""
    areas: npt.NDArray[np.float32]
    """(n,), share of the image's pixels."""
    masks: Sequence[bytes]
    """RLE at the size of the oriented original."""


def emitted(spec: ModelSpec) -> list[int | None]:
    """Every label id of a model, None in place of those without a name, such as the background."""
    return [None if name is None else label for label, name in enumerate(spec.categories)]


def segments(label_map: npt.NDArray[np.integer[Any]], label_ids: Sequence[int | None]) -> Segments:
    """Summarise a label map.

    Args:
        label_map: Of each pixel a position in `label_ids`; (height, width) of the oriented original, fastest in
            Fortran order.
        label_ids: Ascending; None is left out.
    """
    counts = np.bincount(label_map.reshape(-1, order="A"), minlength=len(label_ids))
    present = [(at, label) for at, label in enumerate(label_ids) if label is not None and counts[at]]
    return Segments(
        label_ids=np.array([label for _, label in present], np.int32),
        areas=np.array([counts[at] / label_map.size for at, _ in present], np.float32),
        masks=[encode_mask(label_map == at) for at, _ in present],
    )


def columns(spec: ModelSpec, found: Sequence[Segments]) -> list[pa.Array]:
    """Turn segments into columns.

    Args:
        spec: Its categories name the label ids.
        found: For each image.

    Returns:
        One array per field of `spec.fields()`, in their order.
    """
    counts = [len(image.label_ids) for image in found]
    label_ids = flat([image.label_ids for image in found], np.int32)
    masks = pa.array([mask for image in found for mask in image.masks], pa.binary())
    return [
        lists(names(spec).take(label_ids), counts),
        lists(label_ids, counts),
        lists(flat([image.areas for image in found], np.float32), counts),
        lists(masks, counts),
    ]
