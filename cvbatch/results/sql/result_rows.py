"""Rows of a result as plain data."""

from __future__ import annotations

import contextlib
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table with values that JSON knows.

    Args:
        table: Its names are unique. Single precision becomes the shortest decimal number that stands for it; NaN and
            infinity become None, and bytes text.
    """
    table = with_plain_numbers(table)
    for index, field in enumerate(table.schema):
        if field.type == pa.float32():
            shortest = table.column(index).cast(pa.string()).cast(pa.float64())
            table = table.set_column(index, field.name, shortest)
    return [{name: _plain_value(value) for name, value in row.items()} for row in table.to_pylist()]


def with_plain_numbers(table: pa.Table) -> pa.Table:
    """The same table without decimal numbers: int64 if they are whole and fit, else float64."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(index, field.name, _plain_numbers(table.column(index)))
    return table


def _plain_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type.scale == 0:
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.int64())
    return pc.cast(column, pa.float64())


def _plain_value(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value) if value % 1 else int(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case dict():
            return {str(key): _plain_value(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain_value(part) for part in value]
        case None | bool() | int() | str():
            return value
    return str(value)
