"""What the decode stage knows of each image, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from cvbatch.errors import RowError
from cvbatch.images.arrow_pixels import RgbArray, pack_images, pack_tiles
from cvbatch.images.decode import DecodedImage
from cvbatch.images.file_view import FileView
from cvbatch.images.jpeg_header import JpegHeader
from cvbatch.images.tiff.geotransform import read_geo_reference
from cvbatch.schema import (
    CONTENT_SHA256,
    ENCODED,
    ERROR,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TRANSIENT,
    ERROR_TYPE,
    EXIF_FIELDS,
    FORMAT,
    GEO_CRS,
    GEO_FIELDS,
    GEO_TRANSFORM,
    HEIGHT,
    IMAGE_BYTES,
    IMAGE_FIELDS,
    IMAGE_WARNING,
    MEASURES,
    OK,
    STATUS,
    TURN,
    WARNING_FIELD,
    WIDTH,
    pixels_column,
)
from cvbatch.stages.tiled_rows import PictureFacts

if TYPE_CHECKING:
    from cvbatch.stages.decode import DecodeOptions

_LARGE_FILE_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class DecodedRow:
    """State of one image: decoded, failed with `error`, or left to the next stage as `encoded_bytes`."""

    data: bytes | FileView | None = None
    sha256: str | None = None
    decoded: DecodedImage | PictureFacts | None = None
    header: JpegHeader | None = None
    images: tuple[RgbArray | list[RgbArray], ...] = ()
    """For each view its pixels, or those of its tiles."""
    error: RowError | None = None

    @property
    def encoded_bytes(self) -> bytes | None:
        """The file, if the next stage decodes it."""
        is_left = self.decoded is None and self.error is None
        return self.data if is_left and isinstance(self.data, bytes) else None


def build_decoded_table(
    rows: pa.Table, decoded_rows: Sequence[DecodedRow], options: DecodeOptions, seconds: float
) -> pa.Table:
    """Return rows with the columns of the schema and the pixels of each view.

    Args:
        rows: The rows, without these columns.
        decoded_rows: What became of the image of each.
        options: Of the decode stage.
        seconds: That decoding took for one image.
    """
    row_facts = [row.decoded or row.header for row in decoded_rows]
    values_by_column: dict[str, list[Any]] = {
        IMAGE_BYTES: [None if row.data is None else len(row.data) for row in decoded_rows],
        WIDTH: [facts and facts.width for facts in row_facts],
        HEIGHT: [facts and facts.height for facts in row_facts],
        FORMAT: [facts and facts.format for facts in row_facts],
        CONTENT_SHA256: [row.sha256 for row in decoded_rows],
        **error_columns([row.error for row in decoded_rows]),
    }
    if options.exif:
        for column in EXIF_FIELDS:
            name = column.name.removeprefix("exif_")
            values_by_column[column.name] = [getattr(facts.exif, name) if facts else None for facts in row_facts]
    if options.keep_damaged:
        values_by_column[IMAGE_WARNING] = [row.decoded and row.decoded.warning for row in decoded_rows]
    if options.geo:
        places = [None if row.data is None else read_geo_reference(row.data) for row in decoded_rows]
        values_by_column[GEO_TRANSFORM] = [place and place.transform for place in places]
        values_by_column[GEO_CRS] = [place and place.crs for place in places]
    types = {column.name: column.type for column in (*IMAGE_FIELDS, *EXIF_FIELDS, WARNING_FIELD, *GEO_FIELDS)}
    table = rows.drop_columns([IMAGE_BYTES]) if IMAGE_BYTES in rows.column_names else rows
    for name, values in values_by_column.items():
        table = table.append_column(name, pa.array(values, types[name]))
    for index, view in enumerate(options.views):
        images: list[Any] = [row.images[index] if row.images else None for row in decoded_rows]
        packed = pack_images(images) if view.tiles is None else pack_tiles(images)
        table = table.append_column(pixels_column(index), packed)
    table = table.append_column(ENCODED, _column_of_files([row.encoded_bytes for row in decoded_rows]))
    table = table.append_column(
        TURN, pa.array([row.header and row.header.orientation for row in decoded_rows], pa.int8())
    )
    return table.append_column(f"{MEASURES}decode", pa.array([seconds] * len(decoded_rows), pa.float64()))


def _column_of_files(files: Sequence[bytes | None]) -> pa.Array | pa.ChunkedArray:
    """Return files as a column; one with a large file refers to its bytes, in a chunk for each file."""
    if not any(len(file or b"") >= _LARGE_FILE_BYTES for file in files):
        return pa.array(files, pa.large_binary())
    chunks = []
    for file in files:
        if file is None:
            chunks.append(pa.nulls(1, pa.large_binary()))
        else:
            offsets = pa.py_buffer(np.array([0, len(file)], np.int64))
            chunks.append(pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(file)]))
    return pa.chunked_array(chunks, pa.large_binary())


def error_columns(errors: Sequence[RowError | None]) -> dict[str, list[Any]]:
    """Return the values of the status and error columns by name."""
    return {
        STATUS: [OK if error is None else ERROR for error in errors],
        ERROR_STAGE: [error and error.stage for error in errors],
        ERROR_TYPE: [error and error.type for error in errors],
        ERROR_MESSAGE: [error and error.message for error in errors],
        ERROR_TRANSIENT: [None if error is None else error.transient for error in errors],
    }


def to_error_rows(rows: pa.Table, schema: pa.Schema, error: RowError) -> pa.Table:
    """Return rows of predictions that all have the same error.

    Args:
        rows: Rows of the plan.
        schema: Of the predictions.
        error: The error of every row.
    """
    types = {column.name: column.type for column in schema}
    plan_columns = {name: rows[name] for name in rows.column_names if name in types}
    error_arrays = {
        name: pa.array(values, types[name]) for name, values in error_columns([error] * rows.num_rows).items()
    }
    missing_columns = {
        name: pa.nulls(rows.num_rows, column_type)
        for name, column_type in types.items()
        if name not in plan_columns | error_arrays
    }
    return pa.table({name: (plan_columns | error_arrays | missing_columns)[name] for name in schema.names})
