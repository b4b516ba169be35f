"""Which column of a table holds the images, and which ones come along."""

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
"""Columns of these names are meant to hold images, unless they hold words or numbers."""
_EXPECTED: Final = "expected encoded images (binary, or a struct of bytes and path)"


def find_image_column(schema: pa.Schema, wanted: str | None) -> str | None:
    """The column with the encoded images: structs of `bytes` and `path` first, then binary columns.

    Args:
        schema: Of the table.
        wanted: What the job names, if it does.

    Returns:
        The only column of its kind, or the one of several that is called `image`; None if there is none.

    Raises:
        BrokenContainerError: If several could be meant.
    """
    if wanted is not None:
        known = wanted in schema.names and _is_binary_type(schema.field(wanted).type)
        return wanted if known else None
    structs = [column.name for column in schema if is_bytes_struct(column.type)]
    binaries = [column for column in schema if is_encoded_image_type(column.type)]
    hashes = {column.name for column in binaries if _is_short_binary(column.type)}
    marked = _datasets_image_columns(schema)
    for names in (
        structs if marked is None else [name for name in structs if name in marked],
        [column.name for column in binaries if column.name not in hashes],
    ):
        if len(names) == 1 or _USUAL in names:
            return _USUAL if _USUAL in names else names[0]
        if names:
            raise BrokenContainerError(
                f"several columns could be the images: {', '.join(names)}; say source.image_column"
            )
    return None


def explain_no_images(schema: pa.Schema, wanted: str | None) -> str | None:
    """Why a table without images seems to have been meant to hold some; None if nothing says so.

    Args:
        schema: Of the table.
        wanted: The column that the job names, if it does.
    """
    if wanted in schema.names:
        return f"the column {wanted!r} is {schema.field(wanted).type}: {_EXPECTED}"
    if wanted is not None and any(_is_binary_type(each.type) and not _is_short_binary(each.type) for each in schema):
        return f"it has no column {wanted!r}, which source.image_column names; it has {', '.join(schema.names)}"
    for column in schema:
        if column.name.lower() in _NAMES and not _is_text_or_number(column.type):
            return f"the column {column.name!r} is {column.type}: {_EXPECTED}"
        if pa.types.is_struct(column.type) and BYTES in {field.name for field in column.type}:
            return f"the column {column.name!r} is {column.type}: {_EXPECTED}"
    return None


def offered_columns(schema: pa.Schema, image: str) -> pa.Schema:
    """What comes along: every other column that holds no files, and what the images have beside their bytes."""
    columns = [column for column in schema if column.name != image and not is_bytes_struct(column.type)]
    own = [
        field.with_name(name_beside_image(image, field.name)) for field in fields_beside_bytes(schema.field(image).type)
    ]
    return pa.schema([column.with_nullable(True).remove_metadata() for column in (*columns, *own)])


def name_beside_image(image: str, field: str) -> str:
    """Name of the column with what images of a struct column have beside their bytes, such as the names they had."""
    return f"{image}_{field}"


def _is_binary_type(kind: pa.DataType) -> bool:
    return is_bytes_struct(kind) or is_encoded_image_type(kind)


def _is_short_binary(kind: pa.DataType) -> bool:
    """Whether it only holds hashes and the like."""
    kind = unwrap_type(kind)
    return bool(pa.types.is_fixed_size_binary(kind)) and kind.byte_width <= SMALLEST_FIXED


def _is_text_or_number(kind: pa.DataType) -> bool:
    """Whether a column called `image` may hold its name or its number."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _is_text_or_number(kind.value_type)
    return not pa.types.is_nested(kind) and not isinstance(kind, pa.BaseExtensionType)


def _datasets_image_columns(schema: pa.Schema) -> set[str] | None:
    """The columns that `datasets` calls images; None if it has not written the table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
