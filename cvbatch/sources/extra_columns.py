"""Extra columns: their types, their names, and values that do not match the planned type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.schema import RESERVED_COLUMNS
from cvbatch.sources.column_types import UnportableError, portable_type, to_portable_array

CONVERSION_ERRORS: Final = (UnportableError, TypeError, UnicodeError, OverflowError, pa.ArrowException)
"""Errors of pyarrow for values without a common type, or with another type than requested."""


_SHOWN: Final = 120


def portable_schema(schema: pa.Schema, container_name: str) -> pa.Schema:
    """The columns of a container with portable types.

    Raises:
        SourceError: If a column type has no portable form.
    """
    fields = []
    for column in schema:
        try:
            fields.append(pa.field(column.name, portable_type(column.type)))
        except UnportableError:
            kind = str(column.type)
            shown = f"{kind[:_SHOWN]}{'…' if len(kind) > _SHOWN else ''}"
            raise SourceError(
                f"{container_name}: the column {column.name!r} is {shown}, which cannot be kept; remove it "
                "from the file, or drop all extra columns with source.metadata: off"
            ) from None
    return pa.schema(fields)


def replace_null_types(kind: pa.DataType) -> pa.DataType:
    """Replace null types by text, at any depth."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(replace_null_types(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([column.with_type(replace_null_types(column.type)) for column in kind])
    return kind


def has_empty_object(kind: pa.DataType) -> bool:
    """Whether a type contains a struct without fields, which Parquet cannot store."""
    if pa.types.is_list(kind):
        return has_empty_object(kind.value_type)
    return pa.types.is_struct(kind) and (not len(kind) or any(has_empty_object(column.type) for column in kind))


def rename_columns(
    schema: pa.Schema, rename: Mapping[str, str], container_name: str, planned: pa.Schema | None = None
) -> pa.Schema:
    """The columns of a container under their names in the predictions.

    Args:
        schema: The columns.
        rename: New names, old name to new name.
        container_name: The container, for messages.
        planned: Columns of an existing run; its names that differ only in case are accepted.

    Raises:
        SourceError: If a name is reserved or occurs twice, or `rename` names a column that does not exist.
    """
    planned_names = frozenset(() if planned is None else planned.names)
    if unknown := sorted(set(rename) - set(schema.names)):
        known = ", ".join(schema.names) or "no extra columns"
        raise SourceError(f"source.rename: {container_name} has no column {unknown[0]!r}; it has {known}")
    renamed = pa.schema([column.with_name(rename.get(column.name, column.name)) for column in schema])
    # Spark and DuckDB ignore case
    reserved_names = [
        name
        for name in renamed.names
        if name in RESERVED_COLUMNS
        or name.startswith("_")
        or (name.lower() in RESERVED_COLUMNS and name not in planned_names)
    ]
    if reserved_names:
        advice = ", ".join(f"{name}: my_{name.lstrip('_')}" for name in reserved_names)
        problem = f"the column {reserved_names[0]!r} has a name that is reserved for cvbatch; rename it"
        if len(reserved_names) > 1:
            listed = ", ".join(map(repr, reserved_names))
            problem = f"the columns {listed} have names that are reserved for cvbatch; rename them"
        raise SourceError(f"{container_name}: {problem} with source.rename: {{{advice}}}")
    if repeated_names := [name for name in renamed.names if renamed.names.count(name) > 1]:
        name = repeated_names[0]
        if schema.names.count(name) > 1:
            raise SourceError(
                f"{container_name}: two columns are named {name!r}; rename one of them in the file, or drop all "
                "extra columns with source.metadata: off"
            )
        raise SourceError(f"{container_name}: source.rename gives two columns the name {name!r}; choose another name")
    first_spellings = dict[str, str]()
    for column, name in zip(schema.names, renamed.names, strict=True):
        earlier_name = first_spellings.setdefault(name.lower(), name)
        if earlier_name != name and not {name, earlier_name} <= planned_names:
            raise SourceError(
                f"{container_name}: the columns {earlier_name!r} and {name!r} differ only in case, which Spark and "
                f"DuckDB ignore; rename one of them with source.rename: {{{column}: my_{name}}}"
            )
    return renamed


def infer_json_type(values: Sequence[Any]) -> pa.DataType:
    """Type that holds all these JSON values unchanged; text, with the values as JSON, if there is no such type."""
    present_values = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in present_values):
        return pa.string()
    try:
        array = pa.array(present_values)
    except CONVERSION_ERRORS:
        return pa.string()
    nested = pa.types.is_nested(array.type)
    kind = replace_null_types(array.type)
    # a struct adds the keys that an object lacks, so such objects would change
    if has_empty_object(kind) or (nested and array.to_pylist() != present_values):
        return pa.string()
    return kind


def json_values_to_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """JSON values as a column of a type: for text, other values become JSON; else, values of another type are null."""
    if pa.types.is_string(kind):
        return pa.array([_json_to_text(value) for value in values], kind)
    try:
        column = pa.array(values, kind)
        if column.to_pylist() == list(values):  # pyarrow silently truncates 1.5 to 1
            return column
    except CONVERSION_ERRORS:
        pass
    return pa.array([value if _fits_type(value, kind) else None for value in values], kind)


def cast_or_null(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column cast to the planned type; all null if that is impossible."""
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
    """Escape lone surrogates, which JSON may contain and Arrow cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json_to_text(value: Any) -> str | None:
    if value is None:
        return None
    return escape_surrogates(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
