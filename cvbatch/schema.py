"""Columns and Arrow types that all predictions have; those of a task stand with it, in `cvbatch.tasks`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from cvbatch.errors import SourceError

ROW_ID: Final = "row_id"
IMAGE_URI: Final = "image_uri"
IMAGE_BYTES: Final = "image_bytes"
WIDTH: Final = "width"
HEIGHT: Final = "height"
FORMAT: Final = "format"
CONTENT_SHA256: Final = "content_sha256"
STATUS: Final = "status"
OK: Final = "ok"
ERROR: Final = "error"
ERROR_STAGE: Final = "error_stage"
ERROR_TYPE: Final = "error_type"
ERROR_MESSAGE: Final = "error_message"
ERROR_TRANSIENT: Final = "error_transient"
SOURCE_REMOVED: Final = "source_removed"
"""Not in the files, but added on reading: whether the image is gone from the source since."""

LOCATION: Final = "_location"
"""Hidden, as all that follow: they travel between stages and end before the files of predictions. The exact bytes of an
image's path, where its URI cannot hold them."""
MODIFIED: Final = "_modified_ns"
"""When its file was last changed."""
ETAG: Final = "_etag"
"""The version that an object store names."""
SPAN: Final = "_span"
"""Which part of the file it is; null is all of it."""
MOVED_FROM: Final = "_moved_from"
"""In a part of the plan that tells of a move: the `image_uri` that an image had before."""
CERTAIN: Final = "_certain"
"""While a source is compared with its plan: whether a row is changed whatever the content of its image."""
ENCODED: Final = "_encoded"
"""The encoded bytes of an image that is decoded by a later stage."""
TURN: Final = "_turn"
"""How the pixels of rows have to be turned that are left to the GPU, as Exif counts; null for all others."""
PIXELS: Final = "_pixels_"
"""What the names of columns with pixels begin with; one for each view."""
MEASURES: Final = "_measures_"
"""What the names of float columns begin with that stages add for the run record; summed when a file is written."""
WORKER: Final = "_worker"
"""What the process that predicted a row says of itself, as JSON."""
HIDDEN_COLUMNS: Final = (
    LOCATION,
    MODIFIED,
    ETAG,
    SPAN,
    MOVED_FROM,
    CERTAIN,
    ENCODED,
    TURN,
    PIXELS,
    MEASURES,
    WORKER,
)

_PLANNED_FIELDS: Final = (
    pa.field(ROW_ID, pa.int64(), nullable=False),
    pa.field(IMAGE_URI, pa.string(), nullable=False),
)
DECODED_FIELDS: Final = (
    pa.field(IMAGE_BYTES, pa.int64()),
    pa.field(WIDTH, pa.int32()),
    pa.field(HEIGHT, pa.int32()),
    pa.field(FORMAT, pa.string()),
    pa.field(CONTENT_SHA256, pa.string()),
    pa.field(STATUS, pa.string(), nullable=False),
    pa.field(ERROR_STAGE, pa.string()),
    pa.field(ERROR_TYPE, pa.string()),
    pa.field(ERROR_MESSAGE, pa.string()),
    pa.field(ERROR_TRANSIENT, pa.bool_()),
)
"""What the decode stage says of each image."""
IMAGE_FIELDS: Final = (*_PLANNED_FIELDS, *DECODED_FIELDS)

EXIF_FIELDS: Final = (
    pa.field("exif_captured_at", pa.timestamp("ms")),
    pa.field("exif_camera", pa.string()),
    pa.field("exif_latitude", pa.float64()),
    pa.field("exif_longitude", pa.float64()),
)

IMAGE_WARNING: Final = "image_warning"
WARNING_FIELD: Final = pa.field(IMAGE_WARNING, pa.string())

STRINGS: Final = pa.list_(pa.string())
INTS: Final = pa.list_(pa.int32())
FLOATS: Final = pa.list_(pa.float32())
HALVES: Final = pa.list_(pa.float16())
FLOAT_LISTS: Final = pa.list_(pa.list_(pa.float32()))
BINARIES: Final = pa.list_(pa.binary())

RESERVED_COLUMNS: Final = frozenset(field.name for field in (*IMAGE_FIELDS, *EXIF_FIELDS)) | {SOURCE_REMOVED}
"""Names that a manifest column cannot have, besides those of the job's models."""


def predictions_schema(
    model_fields: Sequence[pa.Field],
    *,
    exif: bool = False,
    warnings: bool = False,
    extra_columns: Iterable[pa.Field] = (),
) -> pa.Schema:
    """The schema of every data file of a run.

    Args:
        model_fields: Columns of all models of the job.
        exif: Whether capture time, camera and position are asked for.
        warnings: Whether damaged images are kept, with what is wrong with them.
        extra_columns: Columns that come along from the source.

    Raises:
        SourceError: If a carried column has the name of a model's column.
    """
    added = [*(EXIF_FIELDS if exif else ()), *((WARNING_FIELD,) if warnings else ())]
    taken = {column.name for column in model_fields}
    for column in extra_columns:
        if column.name in taken or (warnings and column.name == IMAGE_WARNING):
            whose = "a model's column" if column.name in taken else "the column that source.damaged: keep adds"
            raise SourceError(
                f"the column {column.name!r} has the name of {whose}; "
                f"use source.rename: {{{column.name}: my_{column.name}}}"
            )
    return pa.schema([*IMAGE_FIELDS, *added, *extra_columns, *model_fields])


def is_hidden(name: str) -> bool:
    """Whether a column travels between stages only."""
    return name in HIDDEN_COLUMNS or name.startswith((PIXELS, MEASURES))


def pixels_column(index: int) -> str:
    """Name of the column with the pixels of a view."""
    return f"{PIXELS}{index}"
