"""One SQL query over a run: as a frame, as a stream, or into a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.results.committed import Output, Storage
from cvbatch.results.data_frame import MemoryBudget, to_data_frame
from cvbatch.results.sql.connection import RunConnection, connect_to_run, explained_errors
from cvbatch.results.sql.result_rows import plain_rows, with_plain_numbers
from cvbatch.storage.location import Location

if TYPE_CHECKING:
    import pandas as pd

_QUERIES: Final = ("SELECT", "EXPLAIN", "MULTI")
"""Kinds of statements that are queries; PIVOT is of the last kind."""
_WRITERS: Final = {".csv": "write_csv", ".parquet": "write_parquet"}
"""Method of a relation for each kind of file."""


def query_sql(
    output: Output,
    sql: str,
    *,
    tables: Mapping[str, Any] | None = None,
    max_bytes: int | None = None,
    storage: Storage = None,
) -> pd.DataFrame:
    """Answer an SQL query over the rows of a run, by DuckDB.

    Args:
        output: The output location.
        sql: One query over the views of `open_sql`, such as `"SELECT label, count(*) FROM detections GROUP BY label"`.
            It can read files (`read_csv('truth.csv')`).
        tables: More tables by name, as for `open_sql`.
        max_bytes: Most memory that DuckDB takes before it uses the disk, and most memory of the result; None for half
            and four fifths of what is free.
        storage: As for `read`.

    Returns:
        The result. Decimal numbers are floats, or int64 if they are whole and fit.

    Raises:
        OutputError: If there is no run, or the query or its result does not fit into memory.
        UsageError: If DuckDB is missing, or the query is wrong or would change something.
    """
    budget = MemoryBudget(max_bytes)
    with SqlQuery.open(output, sql, tables=tables, max_bytes=max_bytes, storage=storage) as query:
        batches = []
        for batch in query.iter_batches():
            budget.add_batch(batch)
            batches.append(batch)
        table = pa.Table.from_batches(batches, query.schema)
    return to_data_frame(with_plain_numbers(table))


class SqlQuery:
    """A query that has been checked and bound to its tables.

    Args:
        connection: The run.
        sql: The query.

    Raises:
        UsageError: If the query is wrong, or is none.
    """

    def __init__(self, connection: RunConnection, sql: str) -> None:
        self._connection = connection
        with explained_errors(connection):
            statements = connection.duckdb.extract_statements(sql)
            if len(statements) != 1:
                raise UsageError(f"expected one query such as SELECT * FROM images LIMIT 9, got {len(statements)}")
            kind = statements[0].type.name
            if kind not in _QUERIES:
                raise UsageError(
                    f"expected a query, which only reads, got {kind}; results are written with --to FILE, and in "
                    "Python cvbatch.open_sql gives a connection that can do more"
                )
            self._relation = connection.duckdb.sql(sql)

    @cached_property
    def _reader(self) -> pa.RecordBatchReader:
        with explained_errors(self._connection):
            return pa.RecordBatchReader.from_stream(self._relation)

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the result; columns with the same name get numbers."""
        return _with_unique_names(self._reader.schema)

    @staticmethod
    @contextlib.contextmanager
    def open(
        output: Output,
        sql: str,
        *,
        tables: Mapping[str, Any] | None = None,
        max_bytes: int | None = None,
        storage: Storage = None,
    ) -> Iterator[SqlQuery]:
        """Open a run for one query; see `query_sql`."""
        connection = connect_to_run(output, tables=tables, max_bytes=max_bytes, storage=storage, finds_variables=False)
        with connection.duckdb:
            yield SqlQuery(connection, sql)

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the result, as they come; once."""
        with explained_errors(self._connection):
            for batch in self._reader:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def first_rows(self, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """The first rows as plain data, and whether these are all.

        Args:
            limit: Most rows.

        Raises:
            OutputError: If they do not fit into memory.
        """
        budget, rows = MemoryBudget(), list[dict[str, Any]]()
        for batch in self.iter_batches():
            first = batch.slice(0, min(batch.num_rows, limit + 1 - len(rows)))  # one more tells whether there are more
            budget.add_batch(first)
            rows += plain_rows(pa.Table.from_batches([first]))
            if len(rows) > limit:
                break
        return rows[:limit], len(rows) <= limit

    def write(self, path: str) -> None:
        """Write the result to a file, which appears when it is complete.

        Args:
            path: As for `check_target`.

        Raises:
            UsageError: If it cannot be written there.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.part")
        try:
            with explained_errors(self._connection):
                getattr(self._relation, _WRITERS[target.suffix.lower()])(str(part))
            os.replace(part, target)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)


def check_target(path: str, output: Output) -> None:
    """Check that a result can be written to a file.

    Args:
        path: Its suffix says what it becomes, `.csv` or `.parquet`.
        output: The run; its own folder is no place for results.

    Raises:
        UsageError: If its suffix is not known, its folder does not exist, or it lies in the output itself.
    """
    target = Path(path)
    if target.suffix.lower() not in _WRITERS or "://" in path:
        raise UsageError(f"expected a local file that ends in {' or '.join(_WRITERS)}, got {path}")
    if not target.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {target.parent}")
    location = Location.from_path_or_uri(output)
    if location.is_local and target.resolve().is_relative_to(Path(location.uri).resolve()):
        raise UsageError(f"expected a file outside the run, got {path}; other readers would take it for predictions")


def _with_unique_names(schema: pa.Schema) -> pa.Schema:
    names: list[str] = []
    for name in schema.names:
        unique, number = name, 1
        while unique in names:
            unique, number = f"{name}_{number}", number + 1
        names.append(unique)
    return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])
