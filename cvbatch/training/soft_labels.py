"""Truth with shares of several classes for each image, as a teacher gives them, and targets made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.tasks.arrow import split_into_lists
from cvbatch.truth.base import Ints
from cvbatch.truth.labels import LabelTruth

SOFT_TARGET: Final = pa.struct(
    [
        pa.field("label", pa.int32()),
        pa.field("label_ids", pa.list_(pa.int32())),
        pa.field("shares", pa.list_(pa.float32())),
    ]
)
"""Target of an image: its best class, and the classes whose shares are known; what is missing to a sum of 1 belongs to
the other classes together."""


@dataclass(frozen=True, kw_only=True)
class SoftLabelTruth(LabelTruth):
    """The best classes of each image with their scores; `labels` are the best ones."""

    lengths: Ints
    """(images,): how many classes are listed."""
    listed: Ints
    """(sum of lengths,): positions in `categories`, image by image."""
    scores: npt.NDArray[np.float64]
    """(sum of lengths,)"""


def soft_target_column(truth: SoftLabelTruth, positions: Ints, numbers: npt.NDArray[np.int32]) -> pa.Array:
    """Targets of images: shares among the classes that are learned.

    Classes that are not learned are left out, and the shares of the others are divided by what remains of 1. If all
    learned classes are listed, their shares sum to 1.

    Args:
        truth: Has the scores.
        positions: (images,) of each image in the truth.
        numbers: (categories of the truth,): label id of each, or -1 if it is not learned; the best classes of these
            images are.

    Returns:
        (images,) of type `SOFT_TARGET`.
    """
    classes, count = int(numbers.max()) + 1, len(positions)
    starts = (np.cumsum(truth.lengths) - truth.lengths)[positions]
    lengths = truth.lengths[positions]
    images = np.repeat(np.arange(count), lengths)
    elements = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    scores = np.clip(truth.scores[elements], 0, 1)
    sums = np.bincount(images, scores, count)
    scores = scores / np.maximum(sums, 1)[images]  # scores that are no shares, as of sigmoids, may sum to more
    label_ids = numbers[truth.listed[elements]]
    is_learned = label_ids >= 0
    others = np.bincount(images[~is_learned], scores[~is_learned], count)
    keys, inverse = np.unique(images[is_learned] * classes + label_ids[is_learned], return_inverse=True)
    known = np.bincount(inverse, scores[is_learned], len(keys))  # one name may have several label ids
    images, label_ids = keys // classes, keys % classes
    listed = np.bincount(images, minlength=count)
    sums = np.bincount(images, known, count)
    whole = np.where(listed == classes, sums, np.maximum(1 - others, sums))
    shares = known / np.where(whole > 0, whole, 1)[images]
    arrays: list[Any] = [
        pa.array(numbers[truth.labels[positions]], pa.int32()),
        split_into_lists(pa.array(label_ids, pa.int32()), listed),
        split_into_lists(pa.array(shares, pa.float32()), listed),
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(SOFT_TARGET))
