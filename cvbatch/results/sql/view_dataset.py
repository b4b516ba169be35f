"""A stream of Arrow tables that DuckDB scans like an Arrow dataset: it reads only the columns that a query names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.errors import CvbatchError

ReadTables: TypeAlias = Callable[[Sequence[str], pads.Expression | None], Iterator[pa.Table]]
"""Reads some columns of the rows for which a condition holds."""


@dataclass(frozen=True, slots=True)
class ViewSource:
    """Where the rows of a view come from."""

    schema: pa.Schema
    early_columns: frozenset[str]
    """Columns that a condition for `read_tables` may use."""
    read_tables: ReadTables


class ViewDataset(pads.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """Rows of a view; each scan reads them anew.

    DuckDB asks an object of this class for a scanner with the columns and the simple conditions of a query, and relies
    on the conditions being applied. It finds `schema` and `scanner` by the class of the object (so does LanceDB).

    Args:
        source: Where the rows come from.
    """

    def __init__(self, source: ViewSource) -> None:
        self._source = source
        self.failure: CvbatchError | None = None
        """Why the last scan ended early; DuckDB passes on only its text."""

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return self._source.schema

    def scanner(
        self, columns: Sequence[str] | None = None, filter: pads.Expression | None = None, **_: Any
    ) -> pads.Scanner:
        """Begin a scan.

        Args:
            columns: Columns to read, in this order; None for all.
            filter: Condition on any column.
        """
        names = list(self.schema.names if columns is None else columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        batches = self._iter_batches(names, schema, filter)
        return pads.Scanner.from_batches(pa.RecordBatchReader.from_batches(schema, batches))

    def _iter_batches(
        self, names: Sequence[str], schema: pa.Schema, where: pads.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        self.failure = None
        used = set() if where is None else columns_of_condition(where, self.schema)
        is_early = used <= self._source.early_columns
        read = names if is_early else list(dict.fromkeys([*names, *used]))
        try:
            for table in self._source.read_tables(read, where if is_early else None):
                kept = table if is_early else table.filter(where)
                yield from kept.select(names).cast(schema).to_batches()
        except CvbatchError as error:
            self.failure = error
            raise


def columns_of_condition(condition: pads.Expression, schema: pa.Schema) -> set[str]:
    """The columns that an expression uses: those without which it does not fit a schema.

    Args:
        condition: Fits the schema.
        schema: All columns.
    """
    return {name for index, name in enumerate(schema.names) if not _fits(condition, schema.remove(index))}


def _fits(condition: pads.Expression, schema: pa.Schema) -> bool:
    try:
        pads.dataset(schema.empty_table()).scanner(filter=condition)
    except pa.ArrowInvalid:
        return False
    return True
