"""From Arrow to pandas, within the memory that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import OutputError
from cvbatch.system.control_group import available_memory

if TYPE_CHECKING:
    import pandas as pd

_SHARE_OF_MEMORY: Final = 0.8
_LIST_OBJECT_BYTES: Final = 130
"""A NumPy array in a frame, besides its numbers: measured with pandas 3.1 and NumPy 2.4."""
_GIGABYTE: Final = 1e9


class MemoryBudget:
    """Refuses tables that would not fit into memory as a frame.

    Args:
        max_bytes: Most bytes of the table and the frame together; None for four fifths of the memory that is free.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._limit = int(available_memory() * _SHARE_OF_MEMORY) if max_bytes is None else max_bytes
        self._needed = 0

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Count a batch that was read.

        Raises:
            OutputError: If all batches so far would not fit.
        """
        self._needed += 2 * batch.nbytes + sum(_count_lists(column) * _LIST_OBJECT_BYTES for column in batch.columns)
        if self._needed > self._limit:
            raise OutputError(
                f"the frame does not fit: expected at most {self._limit / _GIGABYTE:.3g} GB, and the first rows alone "
                "take more; read fewer columns or rows (columns=, where=), or use open_dataset or iter_detections, "
                "which read in batches (max_bytes= sets the limit)"
            )


def to_data_frame(table: pa.Table) -> pd.DataFrame:
    """Convert to pandas; integer columns with missing values get nullable types instead of becoming floats."""
    import pandas as pd

    nullable = {
        name: pd.api.types.pandas_dtype(str(column.type).replace("int", "Int").replace("uI", "UI"))
        for name, column in zip(table.column_names, table.columns, strict=True)
        if column.null_count and pa.types.is_integer(column.type)
    }
    frame: pd.DataFrame = table.drop_columns(list(nullable)).to_pandas(split_blocks=True)
    for name, kind in nullable.items():
        values = table[name].to_pandas(types_mapper={table[name].type: kind}.get)
        frame.insert(table.column_names.index(name), name, values)
    return frame


def _count_lists(column: pa.Array) -> int:
    """Number of lists at all levels, which become Python objects."""
    if not pa.types.is_list(column.type):
        return 0
    return len(column) + _count_lists(pc.list_flatten(column))
