"""Columns that come along: their types, their names, and values that do not fit the type that was planned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.schema import RESERVED_COLUMNS
from cvbatch.sources.column_types import UnportableError, portable_type, to_portable_array

CONVERSION_ERRORS: Final = (UnportableError, TypeError, UnicodeError, OverflowError, pa.ArrowException)
"""What pyarrow raises for values that have no common type, or not the one asked for."""


_SHOWN: Final = 120


def portable_schema(schema: pa.Schema, where: str) -> pa.Schema:
    """The columns of a container with types that every reader knows.

    Raises:
        SourceError: If a column has a type that cannot be kept in any form.
    """
    fields = []
    for column in schema:
        try:
            fields.append(pa.field(column.name, portable_type(column.type)))
        except UnportableError:
            kind = str(column.type)
            raise SourceError(
                f"{where}: the column {column.name!r} is {kind[:_SHOWN]}{'…' if len(kind) > _SHOWN else ''}, which "
                "cannot come along; leave it out of the "
                "file, or all of them with source.metadata: off"
            ) from None
    return pa.schema(fields)


def replace_null_types(kind: pa.DataType) -> pa.DataType:
    """What is null wherever it occurs has no type of its own and becomes text."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(replace_null_types(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([column.with_type(replace_null_types(column.type)) for column in kind])
    return kind


def has_empty_object(kind: pa.DataType) -> bool:
    """Whether a struct without fields is in it, which Parquet cannot hold."""
    if pa.types.is_list(kind):
        return has_empty_object(kind.value_type)
    return pa.types.is_struct(kind) and (not len(kind) or any(has_empty_object(column.type) for column in kind))


def rename_columns(
    schema: pa.Schema, rename: Mapping[str, str], where: str, planned: pa.Schema | None = None
) -> pa.Schema:
    """The columns of a container under the names that they get in the predictions.

    Args:
        schema: The columns.
        rename: New names, old name to new name.
        where: The container, for messages.
        planned: Names of a run that is there already; those that differ in case only are left as they are.

    Raises:
        SourceError: If a name is one of ours or occurs twice, or `rename` names a column that is not there.
    """
    there = frozenset(() if planned is None else planned.names)
    if unknown := sorted(set(rename) - set(schema.names)):
        known = ", ".join(schema.names) or "none that comes along"
        raise SourceError(f"source.rename: {where} has no column {unknown[0]!r}; it has {known}")
    renamed = pa.schema([column.with_name(rename.get(column.name, column.name)) for column in schema])
    # Spark and DuckDB do not tell upper from lower case
    taken = [
        name
        for name in renamed.names
        if name in RESERVED_COLUMNS or name.startswith("_") or (name.lower() in RESERVED_COLUMNS and name not in there)
    ]
    if taken:
        advice = ", ".join(f"{name}: my_{name.lstrip('_')}" for name in taken)
        some = f"the column {taken[0]!r} has a name that cvbatch uses; give it another one"
        if len(taken) > 1:
            some = f"the columns {', '.join(map(repr, taken))} have names that cvbatch uses; give them others"
        raise SourceError(f"{where}: {some} with source.rename: {{{advice}}}")
    if twice := [name for name in renamed.names if renamed.names.count(name) > 1]:
        name = twice[0]
        if schema.names.count(name) > 1:
            raise SourceError(
                f"{where}: two columns are named {name!r}; give one of them another name in the file, or leave all of "
                "them out with source.metadata: off"
            )
        raise SourceError(f"{where}: source.rename makes two columns {name!r}; choose another name there")
    first = dict[str, str]()
    for column, name in zip(schema.names, renamed.names, strict=True):
        other = first.setdefault(name.lower(), name)
        if other != name and not {name, other} <= there:
            raise SourceError(
                f"{where}: the columns {other!r} and {name!r} differ in case only, which Spark and DuckDB do not tell "
                f"apart; give one of them another name with source.rename: {{{column}: my_{name}}}"
            )
    return renamed


def infer_json_type(values: Sequence[Any]) -> pa.DataType:
    """The type that holds all these JSON values as they are; text where there is none, and they are JSON then."""
    given = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in given):
        return pa.string()
    try:
        found = pa.array(given)
    except CONVERSION_ERRORS:
        return pa.string()
    nested = pa.types.is_nested(found.type)
    kind = replace_null_types(found.type)
    # a struct adds keys that an object lacks, so such objects would not come out as they were
    if has_empty_object(kind) or (nested and found.to_pylist() != given):
        return pa.string()
    return kind


def json_values_to_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """JSON values as a column of a type; where that is text the others become JSON, else what does not fit is null."""
    if pa.types.is_string(kind):
        return pa.array([_json_to_text(value) for value in values], kind)
    try:
        column = pa.array(values, kind)
        if column.to_pylist() == list(values):  # pyarrow cuts 1.5 to 1 without a word
            return column
    except CONVERSION_ERRORS:
        pass
    return pa.array([value if _fits_type(value, kind) else None for value in values], kind)


def cast_or_null(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column of a table as the type that was planned; null if it is of another kind."""
    try:
        return pa.chunked_array([to_portable_array(part).cast(kind) for part in column.chunks], kind)
    except CONVERSION_ERRORS:
        return pa.chunked_array([pa.nulls(len(column), kind)])


def _fits_type(value: Any, kind: pa.DataType) -> bool:
    try:
        fitted = pa.array([value], kind).to_pylist()
        is_nan = pa.types.is_floating(kind) and value != value
        return is_nan or bool(fitted == [value])
    except CONVERSION_ERRORS:
        return False


def escape_surrogates(text: str) -> str:
    """Text that Arrow can hold: JSON may carry lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json_to_text(value: Any) -> str | None:
    if value is None:
        return None
    return escape_surrogates(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
