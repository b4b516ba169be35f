"""Chosen images as a CSV or Parquet file, and the row ids of such files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cvbatch.errors import UsageError
from cvbatch.schema import ROW_ID

_WRITERS: Final[Mapping[str, Callable[[pa.Table, str], Any]]] = {".csv": pacsv.write_csv, ".parquet": pq.write_table}
_READERS: Final[Mapping[str, Callable[[str], pa.Table]]] = {".csv": pacsv.read_csv, ".parquet": pq.read_table}


def check_table_path(path: str, option: str) -> str:
    """Check that a path ends in a way that can be written, and return this ending.

    Raises:
        UsageError: If it does not; the message names `option`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise UsageError(f"{option}: expected a file that ends with {' or '.join(_WRITERS)}, got {path!r}")
    return suffix


def write_table_file(table: pa.Table, path: str) -> None:
    """Write a table.

    Raises:
        UsageError: If the path does not end with `.csv` or `.parquet`, or cannot be written.
    """
    suffix = check_table_path(path, "--to")
    try:
        _WRITERS[suffix](table, path)
    except OSError as error:
        raise UsageError(
            f"--to: cannot write {path!r} ({error.strerror or error}); expected a folder that exists"
        ) from None


def read_row_ids(paths: Sequence[str]) -> npt.NDArray[np.int64]:
    """The `row_id` column of some CSV or Parquet files.

    Raises:
        UsageError: If a file cannot be read, or has no such column.
    """
    return np.concatenate([np.empty(0, np.int64), *map(_read_row_ids, paths)])


def _read_row_ids(path: str) -> npt.NDArray[np.int64]:
    suffix = check_table_path(path, "--exclude")
    try:
        table = _READERS[suffix](path)
        return table[ROW_ID].cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise UsageError(f"--exclude: there is no file {path!r}; expected a table with row_id") from None
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--exclude: {path!r} cannot be read ({reason}); expected a table with row_id") from None
    except KeyError:
        names = ", ".join(table.column_names)
        raise UsageError(f"--exclude: {path!r} has no column row_id; it has {names}") from None
