"""Column types for encoded images: all binary types, alone or in a struct with a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.sources.column_types import to_portable_array

BYTES: Final = "bytes"
PATH: Final = "path"
SMALLEST_FIXED: Final = 64
"""Bytes; shorter fixed-size values are hashes and similar, as images are larger."""


def is_encoded_image_type(kind: pa.DataType) -> bool:
    """Whether values of a type can be encoded images: binary, large, view, fixed-size, dictionary-encoded."""
    kind = unwrap_type(kind)
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_bytes_struct(kind: pa.DataType) -> bool:
    """Whether a type is a struct with `bytes`, as Hugging Face stores images and audio."""
    kind = unwrap_type(kind)
    if not pa.types.is_struct(kind) or (names := [column.name for column in kind]).count(BYTES) != 1:
        return False
    inner = unwrap_type(kind.field(BYTES).type)
    return is_encoded_image_type(inner) or (pa.types.is_null(inner) and PATH in names)


def fields_beside_bytes(kind: pa.DataType) -> list[pa.Field]:
    """Fields of an image struct other than `bytes`; empty for other types."""
    return [column for column in unwrap_type(kind) if column.name != BYTES] if is_bytes_struct(kind) else []


def encoded_images(array: pa.Array) -> pa.Array:
    """The encoded images of a column as binary or large binary; only copied if they have another type."""
    array = unwrap_array(array)
    if pa.types.is_struct(array.type):
        return encoded_images(pc.struct_field(array, BYTES))
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return array
    return array.cast(pa.large_binary())


Value = tuple[bytes | None, str | None]
"""Bytes and path of an encoded image; without bytes, the path names a file."""


def image_values(array: pa.Array, rows: Sequence[int]) -> list[Value]:
    """The images in the given rows of a column."""
    images, names = encoded_images(array), image_paths(array)
    return [(images[row].as_py(), names[row].as_py()) for row in rows]


def image_paths(array: pa.Array) -> pa.Array:
    """The paths of the images of a column, as text; all null if there are none."""
    array = unwrap_array(array)
    if PATH not in {field.name for field in fields_beside_bytes(array.type)}:
        return pa.nulls(len(array), pa.string())
    return unwrap_array(pc.struct_field(array, PATH)).cast(pa.string())


def field_beside_bytes(array: pa.Array, field: str) -> pa.Array:
    """One of the other fields of an image struct."""
    return pc.struct_field(unwrap_array(array), field)


def unwrap_array(array: pa.Array) -> pa.Array:
    """Values without extension types, run-end encoding and dictionary encoding."""
    if isinstance(array, pa.ExtensionArray):
        return unwrap_array(array.storage)
    if pa.types.is_run_end_encoded(array.type):
        return unwrap_array(pc.run_end_decode(array))
    if pa.types.is_dictionary(array.type):
        values = to_portable_array(array.dictionary)  # `take` does not support views
        if pa.types.is_binary(values.type):  # repeats of one value can exceed 2 GB
            values = values.cast(pa.large_binary())
        return values.take(array.indices)
    return array


def unwrap_type(kind: pa.DataType) -> pa.DataType:
    """A type without extension types, run-end encoding and dictionary encoding."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type if isinstance(kind, pa.UuidType) else unwrap_type(kind.storage_type)
    if pa.types.is_run_end_encoded(kind) or pa.types.is_dictionary(kind):
        return unwrap_type(kind.value_type)
    return kind
