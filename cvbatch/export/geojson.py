"""GeoJSON (RFC 7946): a polygon in longitude and latitude for each box, of images that say where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.coordinates import CoordinateSystems, points_on_earth, transforms_of
from cvbatch.export.element_json import EDGES
from cvbatch.export.json_text import Text, arrays_to_json, objects_to_json, texts_to_json
from cvbatch.export.nested_json import values_to_json
from cvbatch.export.texts import numbers_to_text, write_texts
from cvbatch.schema import GEO_CRS, GEO_TRANSFORM, ROW_ID

_DECIMALS: Final = 9
"""A tenth of a millimetre."""


class GeoJsonExporter(Exporter):
    """Boxes whose place is not known are left out and counted."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        if GEO_TRANSFORM not in self.job.opened.schema.names:
            raise UsageError("the run does not know where its images lie: expected one with source.geo: true")
        systems = CoordinateSystems()
        written, without_place = 0, 0
        with self.job.target.open_file() as file:
            file.write(b'{"type":"FeatureCollection","features":[\n')
            for batch in self.job.iter_batches((GEO_TRANSFORM, GEO_CRS)):
                corners = box_corners(batch, systems)
                is_placed = np.isfinite(corners).all(axis=(1, 2))
                texts = _features(batch, corners).filter(pa.array(is_placed))
                write_texts(file, texts, ",\n", first=not written)
                written += len(texts)
                without_place += int((~is_placed).sum())
            file.write(b"\n]}\n")
        return {"boxes whose place is not known": without_place} if without_place else {}


def box_corners(batch: ImageBatch, systems: CoordinateSystems) -> npt.NDArray[np.float64]:
    """Longitude and latitude of the corners of each box.

    Returns:
        float64 (n, 5, 2), counterclockwise, the first corner again at the end; NaN or infinite where it is not known.
    """
    left, top, right, bottom = (batch.elements[edge].to_numpy().astype(np.float64) for edge in EDGES)
    columns = np.stack((left, right, right, left, left), axis=1)
    rows = np.stack((bottom, bottom, top, top, bottom), axis=1)
    # north is up in most pictures: then rows count down, and corners in this order go round counterclockwise
    a, b, _, d, e, _ = transforms_of(batch.images[GEO_TRANSFORM])[batch.image_indices].T
    is_mirrored = a * e - b * d > 0
    columns[is_mirrored], rows[is_mirrored] = columns[is_mirrored, ::-1], rows[is_mirrored, ::-1]
    return points_on_earth(batch, systems, columns, rows)


def _features(batch: ImageBatch, corners: npt.NDArray[np.float64]) -> Text:
    elements = batch.elements.combine_chunks()
    finite = np.round(np.where(np.isfinite(corners), corners, 0), _DECIMALS)
    points = [arrays_to_json([numbers_to_text(finite[:, corner, axis]) for axis in (0, 1)]) for corner in range(5)]
    properties: dict[str, Any] = {
        ROW_ID: numbers_to_text(batch.image_numbers(ROW_ID)[batch.image_indices]),
        "image": texts_to_json(batch.names).take(pa.array(batch.image_indices)),
        **{name: values_to_json(elements[name].combine_chunks()) for name in ("label", "label_id", "score")},
        "box": arrays_to_json([numbers_to_text(elements[edge].combine_chunks()) for edge in EDGES]),
    }
    geometry = objects_to_json({"type": '"Polygon"', "coordinates": arrays_to_json([arrays_to_json(points)])})
    return objects_to_json({"type": '"Feature"', "geometry": geometry, "properties": objects_to_json(properties)})
