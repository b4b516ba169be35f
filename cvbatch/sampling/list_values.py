"""List columns as NumPy arrays: the elements, and the row of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ids = npt.NDArray[np.integer[Any]]
Values = npt.NDArray[np.float64]


def flatten_list(rows: pa.Table, name: str) -> tuple[Ids, Any]:
    """The elements of a list column.

    Args:
        rows: Has the column; null lists have no elements.
        name: Of the column.

    Returns:
        The row of each element, (elements,), and the elements: a NumPy array, or an Arrow array of masks.
    """
    lists = rows[name].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    values = pc.list_flatten(lists)
    owners = pc.list_parent_indices(lists).to_numpy()
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    return owners, values.to_numpy(zero_copy_only=False) if is_number else values


def list_matrix(rows: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of lists of one length as an array, (rows, length)."""
    values = flatten_list(rows, name)[1]
    return values.reshape(rows.num_rows, -1) if rows.num_rows else np.empty((0, 1), values.dtype)


def first_of_each(owners: Ids, order: Values) -> Ids:
    """Position of the element with the lowest `order` of each row that has any.

    Args:
        owners: (elements,), the row of each element.
        order: (elements,)
    """
    positions = np.lexsort((order, owners))
    return positions[np.diff(owners[positions], prepend=-1) > 0]
