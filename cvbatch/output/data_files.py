"""Writes predicted blocks as data files: one Parquet file of good rows and one of error rows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cvbatch.errors import CorruptionError, FencedError
from cvbatch.output.commit_log import last_record
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import DATA_FOLDER
from cvbatch.output.row_ranges import RowRanges, ranges_of_rows
from cvbatch.output.store import Store, open_store
from cvbatch.schema import ERROR, ERROR_TYPE, IMAGE_BYTES, MEASURES, ROW_ID, STATUS, WORKER
from cvbatch.storage.location import Location

CHANGED = "changed"
"""Measure that counts images whose version differs from the planned one."""


_newest_records: dict[Location, str] = {}
"""Newest record that this process has read, by output; so it does not list a long log for each file."""


@dataclass(frozen=True, slots=True)
class WriteContext:
    """Settings that all files of one run attempt share."""

    output: Location
    epoch: int
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What the write task reports to the driver."""

    files: tuple[DataFile, ...]
    measures: dict[str, float]
    """Seconds that each stage spent on these rows."""
    image_bytes: int
    """Encoded bytes that were read for these rows."""
    workers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`rows` and `seconds` of each predicting process, by its name."""


def write_data_files(context: WriteContext, blocks: Sequence[pa.Table]) -> WriteResult:
    """Write blocks as files with new names; their rows count only once the driver commits them.

    Args:
        context: Output, epoch and schema of the files.
        blocks: Predicted units, with rows in any order.

    Raises:
        FencedError: If the log shows that another attempt has taken over.
    """
    started = time.perf_counter()
    blocks = [block for block in blocks if block.num_rows]
    if not blocks:
        return WriteResult((), {}, 0)
    table = pa.concat_tables(blocks, promote_options="default")
    measure_columns = [name for name in table.column_names if name.startswith(MEASURES)]
    measures = {name.removeprefix(MEASURES): pc.sum(table[name]).as_py() for name in measure_columns}
    workers = _rows_by_worker(table)
    table = table.select(context.schema.names).cast(context.schema).sort_by(ROW_ID)
    is_error = pc.equal(table[STATUS], ERROR)
    parts = [part for part in (table.filter(pc.invert(is_error)), table.filter(is_error)) if part.num_rows]
    files = tuple(_write_data_file(context, part) for part in parts)
    measures["write"] = time.perf_counter() - started
    return WriteResult(files, measures, pc.sum(table[IMAGE_BYTES]).as_py() or 0, workers)


def copy_unchanged_rows(context: WriteContext, files: Sequence[DataFile], without: RowRanges) -> tuple[DataFile, ...]:
    """Copy the rows of committed files into new files of this epoch.

    Args:
        context: Output, epoch and schema of the new files.
        files: Files to copy from.
        without: Rows that are not copied.

    Raises:
        CorruptionError: If a file cannot be read, since its rows must not be lost.
    """
    store, tables = open_store(context.output), []
    for file in files:
        table = read_data_file(store, file)
        tables.append(table.filter(pa.array(~without.contains_rows(table[ROW_ID].to_numpy()))))
    return write_data_files(context, tables).files


def read_data_file(store: Store, file: DataFile, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a committed file.

    Args:
        store: The output.
        file: The file, as the log names it.
        columns: Only these columns; by default all.

    Raises:
        CorruptionError: If it cannot be read.
    """
    try:
        with store.open_object(file.path) as stream:
            return pq.read_table(stream, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise CorruptionError(f"{store.root}/{file.path} cannot be read: {str(error).splitlines()[0]}") from None


def _rows_by_worker(table: pa.Table) -> dict[str, dict[str, Any]]:
    if WORKER not in table.column_names or f"{MEASURES}predict" not in table.column_names:
        return {}
    grouped = table.group_by(WORKER).aggregate([(f"{MEASURES}predict", "sum"), (ROW_ID, "count")])
    columns = (WORKER, f"{MEASURES}predict_sum", f"{ROW_ID}_count")
    return {
        worker: {"rows": rows, "seconds": seconds}
        for worker, seconds, rows in zip(*(grouped[name].to_pylist() for name in columns), strict=True)
        if worker is not None
    }


def _write_data_file(context: WriteContext, table: pa.Table) -> DataFile:
    store = open_store(context.output)
    path = f"{DATA_FOLDER}/e{context.epoch:08d}-{uuid.uuid4().hex}.parquet"

    def write_parquet(local: str) -> None:
        pq.write_table(table, local, compression="zstd", write_page_checksum=True)
        _require_newest_epoch(store, context)  # as late as possible before the file gets its name

    size = store.add_file(path, write_parquet)
    counts = pc.value_counts(table[ERROR_TYPE].drop_null())
    errors = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
    return DataFile(path, size, tuple(ranges_of_rows(table[ROW_ID].to_numpy())), errors)


def _require_newest_epoch(store: Store, context: WriteContext) -> None:
    newest = last_record(store, _newest_records.get(context.output))
    if newest is None or newest[1]["epoch"] != context.epoch or newest[1]["type"] == "final":
        raise FencedError(f"{context.output}: another attempt has taken over")
    _newest_records[context.output] = newest[0]
