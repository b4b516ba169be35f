"""Columns and Arrow types that all predictions have; the columns of each task are in `cvbatch.tasks`."""

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
"""Added on reading, not stored: whether the image has been removed from the source."""

LOCATION: Final = "_location"
"""Exact bytes of an image's path, if its URI cannot hold them. This column and all below are hidden: they pass between
stages and are not stored in the predictions."""
MODIFIED: Final = "_modified_ns"
"""Modification time of the file."""
ETAG: Final = "_etag"
"""Version of the object in an object store."""
SPAN: Final = "_span"
"""Where in the file the image is; null for the whole file."""
MOVED_FROM: Final = "_moved_from"
"""In a plan part about a move: the old `image_uri`."""
CERTAIN: Final = "_certain"
"""During an update: whether a row has changed even if the content of its image has not."""
ENCODED: Final = "_encoded"
"""Encoded bytes of an image that a later stage decodes."""
TURN: Final = "_turn"
"""Exif orientation to apply to an image that the GPU decodes; null for all other images."""
PIXELS: Final = "_pixels_"
"""Prefix of the columns with pixels, one column for each view."""
MEASURES: Final = "_measures_"
"""Prefix of the float columns that stages add for the run record; they are summed when a file is written."""
WORKER: Final = "_worker"
"""Description of the process that predicted a row, as JSON."""
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
"""Columns that the decode stage adds."""
IMAGE_FIELDS: Final = (*_PLANNED_FIELDS, *DECODED_FIELDS)

EXIF_FIELDS: Final = (
    pa.field("exif_captured_at", pa.timestamp("ms")),
    pa.field("exif_camera", pa.string()),
    pa.field("exif_latitude", pa.float64()),
    pa.field("exif_longitude", pa.float64()),
)

GEO_TRANSFORM: Final = "geo_transform"
GEO_CRS: Final = "geo_crs"
GEO_FIELDS: Final = (pa.field(GEO_TRANSFORM, pa.list_(pa.float64())), pa.field(GEO_CRS, pa.string()))
"""Six numbers from pixels to coordinates, and what these are; see `cvbatch.images.tiff.geotransform.GeoReference`."""

IMAGE_WARNING: Final = "image_warning"
WARNING_FIELD: Final = pa.field(IMAGE_WARNING, pa.string())

STRINGS: Final = pa.list_(pa.string())
INTS: Final = pa.list_(pa.int32())
FLOATS: Final = pa.list_(pa.float32())
HALVES: Final = pa.list_(pa.float16())
FLOAT_LISTS: Final = pa.list_(pa.list_(pa.float32()))
BINARIES: Final = pa.list_(pa.binary())

EDIT_PATHS: Final = "edit_paths"
EDIT_SHA256S: Final = "edit_sha256s"
EDIT_LABELS: Final = "edit_labels"
EDIT_SCORES: Final = "edit_scores"
EDIT_BOXES: Final = "edit_boxes"
EDIT_ACTIONS: Final = "edit_actions"
EDIT_NOTE: Final = "edit_note"
EDIT_FIELDS: Final = (
    pa.field(EDIT_PATHS, STRINGS),
    pa.field(EDIT_SHA256S, STRINGS),
    pa.field(EDIT_LABELS, STRINGS),
    pa.field(EDIT_SCORES, FLOATS),
    pa.field(EDIT_BOXES, FLOAT_LISTS),
    pa.field(EDIT_ACTIONS, STRINGS),
    pa.field(EDIT_NOTE, pa.string()),
)
"""Columns of the audit of an edit: files written for an image, with their hashes; for each object its class, score, box
in pixels of the oriented original, and what was done; and what else there is to say of the file."""

RESERVED_COLUMNS: Final = frozenset(field.name for field in (*IMAGE_FIELDS, *EXIF_FIELDS)) | {SOURCE_REMOVED}
"""Names that a manifest column cannot have; the columns of the job's models are reserved, too."""


def predictions_schema(
    model_fields: Sequence[pa.Field],
    *,
    exif: bool = False,
    warnings: bool = False,
    geo: bool = False,
    extra_columns: Iterable[pa.Field] = (),
) -> pa.Schema:
    """Schema of every data file of a run.

    Args:
        model_fields: Columns of all models of the job.
        exif: Whether to add capture time, camera and position.
        warnings: Whether damaged images are kept, with a column for the damage.
        geo: Whether to add where GeoTIFFs lie.
        extra_columns: Columns of the source that are copied to the predictions.

    Raises:
        SourceError: If an extra column has the name of another column.
    """
    later_fields = [
        *((field, "the column that source.damaged: keep adds") for field in ((WARNING_FIELD,) if warnings else ())),
        *((field, "a column that source.geo adds") for field in (GEO_FIELDS if geo else ())),
    ]
    conflicts = {field.name: reason for field, reason in later_fields}
    conflicts |= {column.name: "a model's column" for column in model_fields}
    for column in extra_columns:
        if column.name in conflicts:
            raise SourceError(
                f"the column {column.name!r} has the name of {conflicts[column.name]}; "
                f"use source.rename: {{{column.name}: my_{column.name}}}"
            )
    optional_fields = [*(EXIF_FIELDS if exif else ()), *(field for field, _ in later_fields)]
    return pa.schema([*IMAGE_FIELDS, *optional_fields, *extra_columns, *model_fields])


def is_hidden(name: str) -> bool:
    """Whether a column passes between stages and is not stored in the predictions."""
    return name in HIDDEN_COLUMNS or name.startswith((PIXELS, MEASURES))


def pixels_column(index: int) -> str:
    """Name of the column with the pixels of the view at this index."""
    return f"{PIXELS}{index}"
