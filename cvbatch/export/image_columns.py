"""Which columns of the images an export gets besides the answers of its model."""

from __future__ import annotations

from typing import Final

from cvbatch.results.committed import OpenedOutput
from cvbatch.schema import (
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TRANSIENT,
    ERROR_TYPE,
    HEIGHT,
    IMAGE_URI,
    ROW_ID,
    STATUS,
    WIDTH,
)

_LEFT_OUT: Final = frozenset({STATUS, ERROR_STAGE, ERROR_TYPE, ERROR_MESSAGE, ERROR_TRANSIENT})
"""The same for all images that take part."""
BATCH_COLUMNS: Final = (ROW_ID, IMAGE_URI, WIDTH, HEIGHT)
"""What every batch has."""


def find_image_columns(opened: OpenedOutput) -> list[str]:
    """Columns of the images that no model made, such as those of a manifest; without `BATCH_COLUMNS`."""
    made = {field.name for model in opened.plan.models for field in model.column_fields()}
    return [name for name in opened.schema.names if name not in made | _LEFT_OUT | {*BATCH_COLUMNS}]
