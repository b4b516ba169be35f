"""Arrow arrays from NumPy, shared by the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.tasks.base import ModelFacts


def category_names(model: ModelFacts) -> pa.Array:
    """The model's category names as an Arrow array, indexed by label id; null for ids that are never emitted."""
    return pa.array(model.categories, pa.string())


def split_into_lists(values: pa.Array, lengths: npt.NDArray[np.integer[Any]] | Sequence[int]) -> pa.ListArray:
    """Cut a flat array into one list per row.

    Args:
        values: All elements, row after row.
        lengths: Elements of each row.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def join_arrays(parts: Sequence[npt.NDArray[Any]], dtype: type[np.generic], *, width: int | None = None) -> pa.Array:
    """Join per-image arrays into one Arrow array.

    Args:
        parts: One array per image.
        dtype: Type of the result's elements.
        width: If given, each part is (n, width) and the result is a list of `width` elements for each of the n.
    """
    empty = np.empty((0,) if width is None else (0, width), dtype)
    joined = np.concatenate([empty, *parts], dtype=dtype, casting="same_kind")
    if width is None:
        return pa.array(joined)
    return split_into_lists(pa.array(joined.reshape(-1)), np.full(len(joined), width))
