"""The column of the planned images with what the model shall answer, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.truth.base import Bools, Ints

TARGET: Final = "target"
"""Name of the column."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Targets of some images, in their order."""

    categories: tuple[str | None, ...]
    """Names of the label ids; targets hold positions in it. None at the front is a background."""
    column: pa.Array
    """(images,): for classification int32, the class; see the module of each task."""
    strata: Ints
    """(images,): the split takes the same share of each."""
    counts: Mapping[str, int]
    """How often each category occurs: images, objects, or pixels."""
    notes: Sequence[str] = field(default=())


def rarest_classes(present: Bools) -> npt.NDArray[Any]:
    """For each image the rarest of its classes, so that a split leaves no class on one side only.

    Args:
        present: (images, classes)

    Returns:
        (images,) positions of classes; -1 for images without any.
    """
    counts = np.where(present, present.sum(axis=0), np.iinfo(np.int64).max)
    return np.where(present.any(axis=1), counts.argmin(axis=1), -1)


def expect_same_size(source: str, name: str, got: tuple[int, int], expected: tuple[int, int]) -> str | None:
    """What is wrong if truth is about an image of another size, in words.

    Args:
        source: Of the truth.
        name: Of the image.
        got: (width, height) in the truth.
        expected: (width, height) of the oriented image.
    """
    if got == expected:
        return None
    hint = "; the image is turned as its Exif says" if got == expected[::-1] else ""
    return (
        f"{source}: expected truth of the size of each image, got {got[0]} × {got[1]} for {name}, which has "
        f"{expected[0]} × {expected[1]}{hint}"
    )
