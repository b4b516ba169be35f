"""The elements of images as JSON: a list of objects for each image."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from cvbatch.export.base import ImageBatch
from cvbatch.export.json_text import Text, arrays_to_json, lists_to_json, objects_to_json, texts_to_json
from cvbatch.export.nested_json import values_to_json
from cvbatch.export.texts import numbers_to_text
from cvbatch.schema import HEIGHT, WIDTH

EDGES: Final = ("x_min", "y_min", "x_max", "y_max")
"""Columns of a box."""


def elements_to_json(batch: ImageBatch) -> Text:
    """What was found in each image.

    Args:
        batch: (n images)

    Returns:
        (n,) `[{"label": …, "box": [x_min, y_min, x_max, y_max], "mask": {"size": [height, width], "counts": …}}]`, with
        what the model has.
    """
    fields = element_fields(batch)
    texts = objects_to_json(fields) if fields else pa.array([], pa.string())
    return lists_to_json(texts, batch.offsets)


def element_fields(batch: ImageBatch) -> dict[str, Text]:
    """The fields of each element as JSON, by name."""
    fields = dict[str, Text]()
    for name in batch.elements.column_names:
        if name == EDGES[0]:
            fields["box"] = arrays_to_json([numbers_to_text(batch.elements[edge].combine_chunks()) for edge in EDGES])
        elif name == "mask":
            fields[name] = _masks_to_json(batch)
        elif name not in EDGES:
            fields[name] = values_to_json(batch.elements[name].combine_chunks())
    return fields


def _masks_to_json(batch: ImageBatch) -> Text:
    """COCO's run-length encoding, whose counts are ASCII."""
    heights, widths = (numbers_to_text(batch.image_numbers(name)).take(batch.image_indices) for name in (HEIGHT, WIDTH))
    counts = texts_to_json(batch.elements["mask"].combine_chunks().cast(pa.string()))
    return objects_to_json({"size": arrays_to_json([heights, widths]), "counts": counts})
