"""The images of the page, with what the models say of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.report.image_elements import element_columns, read_elements
from cvbatch.report.image_names import ImageNames, link_to_image
from cvbatch.report.page_data import GalleryImage
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import (
    CONTENT_SHA256,
    ERROR_MESSAGE,
    ERROR_STAGE,
    ERROR_TYPE,
    HEIGHT,
    IMAGE_URI,
    OK,
    ROW_ID,
    STATUS,
    WIDTH,
)

_COLUMNS: Final = (
    ROW_ID,
    IMAGE_URI,
    STATUS,
    ERROR_STAGE,
    ERROR_TYPE,
    ERROR_MESSAGE,
    WIDTH,
    HEIGHT,
    CONTENT_SHA256,
)
_PREDICT: Final = "predict"
"""Stage of errors of images that could be decoded."""


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image of the page, before it has a picture."""

    image: GalleryImage
    sha256: str | None
    """Of its content; None where no picture can be drawn."""


def read_gallery(opened: OpenedOutput, names: ImageNames, reasons: Mapping[int, str]) -> list[ShownImage]:
    """Read the images that are shown, in the order of `reasons`.

    Args:
        opened: The run.
        names: Of its sources.
        reasons: Why each is shown, by row id.
    """
    shown = {image.image.row_id: image for image in _iter_images(opened, names, reasons)}
    return [shown[row_id] for row_id in reasons if row_id in shown]


def with_thumbnails(images: list[ShownImage], files: Mapping[int, str]) -> list[GalleryImage]:
    """The images with their pictures.

    Args:
        images: Those that are shown.
        files: Names of the pictures by row id.
    """
    return [replace(shown.image, thumbnail=files.get(shown.image.row_id)) for shown in images]


def _iter_images(opened: OpenedOutput, names: ImageNames, reasons: Mapping[int, str]) -> Iterator[ShownImage]:
    models = opened.plan.models
    columns = [*_COLUMNS, *(name for model in models for name in element_columns(model))]
    condition = pads.field(ROW_ID).isin(pa.array(list(reasons), pa.int64()))
    for table in iter_rows(opened, RowSelection(columns=columns, where=condition)):
        for row in table.to_pylist():
            yield _to_shown_image(opened, names, row, reasons[row[ROW_ID]])


def _to_shown_image(opened: OpenedOutput, names: ImageNames, row: Mapping[str, Any], reason: str) -> ShownImage:
    uri, is_ok = row[IMAGE_URI], row[STATUS] == OK
    elements = [element for model in opened.plan.models for element in read_elements(model, row)] if is_ok else []
    image = GalleryImage(
        row_id=row[ROW_ID],
        uri=uri,
        name=names.name_of(uri),
        folder=names.folder_of(uri),
        link=link_to_image(uri),
        status=row[STATUS],
        message=None if is_ok else f"{row[ERROR_TYPE]}: {row[ERROR_MESSAGE]}",
        reason=reason,
        width=row[WIDTH],
        height=row[HEIGHT],
        thumbnail=None,
        elements=elements,
    )
    return ShownImage(image, row[CONTENT_SHA256] if is_ok or row[ERROR_STAGE] == _PREDICT else None)
