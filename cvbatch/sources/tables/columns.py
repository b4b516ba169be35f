"""Which column of a table holds the images, and which ones come along."""

from __future__ import annotations

import json
from typing import Final

import pyarrow as pa

from cvbatch.sources.blobs import BrokenContainerError
from cvbatch.sources.carrying import plain

BYTES: Final = "bytes"
PATH: Final = "path"
_USUAL: Final = "image"


def image_column(schema: pa.Schema, wanted: str | None) -> str | None:
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
        known = wanted in schema.names and _holds_bytes(schema.field(wanted).type)
        return wanted if known else None
    structs = [column.name for column in schema if is_file(column.type)]
    binaries = [column.name for column in schema if _is_binary(plain(column.type))]
    marked = _marked(schema)
    for names in (structs if marked is None else [name for name in structs if name in marked], binaries):
        if len(names) == 1 or _USUAL in names:
            return _USUAL if _USUAL in names else names[0]
        if names:
            raise BrokenContainerError(
                f"several columns could be the images: {', '.join(names)}; say source.image_column"
            )
    return None


def offered(schema: pa.Schema, image: str) -> pa.Schema:
    """What comes along: every other column that holds no files, and the names that the images had."""
    columns = [column.with_type(_same_everywhere(plain(column.type))) for column in schema if column.name != image]
    columns = [column for column in columns if not is_file(column.type)]
    if is_file(schema.field(image).type):
        columns.append(pa.field(path_name(image), pa.string()))
    return pa.schema([column.with_nullable(True).remove_metadata() for column in columns])


def path_name(image: str) -> str:
    """Name of the column with the names that the images of a struct column had."""
    return f"{image}_{PATH}"


def is_file(kind: pa.DataType) -> bool:
    """Whether it is a struct of `bytes` and `path`, as Hugging Face keeps images and audio."""
    if isinstance(kind, pa.BaseExtensionType):
        return is_file(kind.storage_type)
    return (
        pa.types.is_struct(kind)
        and {column.name for column in kind} == {BYTES, PATH}
        and _is_binary(kind.field(BYTES).type)
    )


def _same_everywhere(kind: pa.DataType) -> pa.DataType:
    """A dictionary differs from file to file, so its values come along instead."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _holds_bytes(kind: pa.DataType) -> bool:
    return is_file(kind) or _is_binary(plain(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _marked(schema: pa.Schema) -> set[str] | None:
    """The columns that `datasets` calls images; None if it has not written the table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
