"""Choice of the image column and the extra columns of a table."""

from __future__ import annotations

import json
from typing import Final

import pyarrow as pa

from cvbatch.sources.fetch.blob import BrokenContainerError
from cvbatch.sources.tables.image_types import (
    BYTES,
    SMALLEST_FIXED,
    fields_beside_bytes,
    is_bytes_struct,
    is_encoded_image_type,
    unwrap_type,
)

_USUAL: Final = "image"
_NAMES: Final = frozenset(
    "image images img picture photo pixel_values jpg jpeg png webp image_bytes img_bytes bytes content".split()  # noqa: SIM905 - reads as a table
)
"""Columns with these names are expected to hold images, unless they hold text or numbers."""
_EXPECTED: Final = "expected encoded images (binary, or a struct of bytes and path)"


def find_image_column(schema: pa.Schema, requested: str | None) -> str | None:
    """Find the column with encoded images: structs of `bytes` and `path` first, then binary columns.

    Args:
        schema: Schema of the table.
        requested: Column that the job names, if it names one.

    Returns:
        The only column of its kind, or among several the one named `image`; None if there is none.

    Raises:
        BrokenContainerError: If several columns are possible.
    """
    if requested is not None:
        is_usable = requested in schema.names and _is_binary_type(schema.field(requested).type)
        return requested if is_usable else None
    structs = [column.name for column in schema if is_bytes_struct(column.type)]
    binaries = [column for column in schema if is_encoded_image_type(column.type)]
    hashes = {column.name for column in binaries if _is_short_binary(column.type)}
    feature_columns = _datasets_image_columns(schema)
    for names in (
        structs if feature_columns is None else [name for name in structs if name in feature_columns],
        [column.name for column in binaries if column.name not in hashes],
    ):
        if len(names) == 1 or _USUAL in names:
            return _USUAL if _USUAL in names else names[0]
        if names:
            raise BrokenContainerError(
                f"several columns could be the images: {', '.join(names)}; set source.image_column"
            )
    return None


def explain_no_images(schema: pa.Schema, requested: str | None) -> str | None:
    """Explain why a table that seems to be intended for images has none; None if it does not seem to be.

    Args:
        schema: Schema of the table.
        requested: Column that the job names, if it names one.
    """
    if requested in schema.names:
        return f"the column {requested!r} is {schema.field(requested).type}: {_EXPECTED}"
    if requested is not None and any(
        _is_binary_type(column.type) and not _is_short_binary(column.type) for column in schema
    ):
        return f"it has no column {requested!r}, which source.image_column names; it has {', '.join(schema.names)}"
    for column in schema:
        if column.name.lower() in _NAMES and not _is_text_or_number(column.type):
            return f"the column {column.name!r} is {column.type}: {_EXPECTED}"
        if pa.types.is_struct(column.type) and BYTES in {field.name for field in column.type}:
            return f"the column {column.name!r} is {column.type}: {_EXPECTED}"
    return None


def offered_columns(schema: pa.Schema, image_column: str) -> pa.Schema:
    """Extra columns: the other columns except structs of `bytes`, and the other fields of the image struct."""
    columns = [column for column in schema if column.name != image_column and not is_bytes_struct(column.type)]
    struct_columns = [
        field.with_name(name_beside_image(image_column, field.name))
        for field in fields_beside_bytes(schema.field(image_column).type)
    ]
    return pa.schema([column.with_nullable(True).remove_metadata() for column in (*columns, *struct_columns)])


def name_beside_image(image_column: str, field: str) -> str:
    """Name of the extra column for another field of the image struct, such as `image_path`."""
    return f"{image_column}_{field}"


def _is_binary_type(kind: pa.DataType) -> bool:
    return is_bytes_struct(kind) or is_encoded_image_type(kind)


def _is_short_binary(kind: pa.DataType) -> bool:
    """Whether a type only holds hashes and similar short values."""
    kind = unwrap_type(kind)
    return bool(pa.types.is_fixed_size_binary(kind)) and kind.byte_width <= SMALLEST_FIXED


def _is_text_or_number(kind: pa.DataType) -> bool:
    """Whether a column named `image` can hold a name or a number instead of an image."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _is_text_or_number(kind.value_type)
    return not pa.types.is_nested(kind) and not isinstance(kind, pa.BaseExtensionType)


def _datasets_image_columns(schema: pa.Schema) -> set[str] | None:
    """Columns that `datasets` declares as images; None if it did not write the table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
