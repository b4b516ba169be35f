"""Coordinates of any system that EPSG has a code for, in degrees of WGS 84."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.export.image_batch import ImageBatch
from cvbatch.schema import GEO_CRS, GEO_TRANSFORM
from cvbatch.system.extras import import_extra

_DEGREES: Final = "EPSG:4326"
_Numbers = npt.NDArray[np.float64]


def transforms_of(column: pa.ChunkedArray) -> _Numbers:
    """The six numbers of each image, float64 (n, 6); NaN for an image without."""
    result = np.full((len(column), 6), np.nan)
    is_known = column.is_valid().to_numpy()
    result[is_known] = column.combine_chunks().flatten().to_numpy().reshape(-1, 6)
    return result


def points_on_earth(batch: ImageBatch, systems: CoordinateSystems, columns: _Numbers, rows: _Numbers) -> _Numbers:
    """Longitude and latitude of points in the images of some elements.

    Args:
        batch: Has `GEO_TRANSFORM` and `GEO_CRS`.
        systems: Known coordinate systems.
        columns: float64 (elements, points), from the left edge of the image.
        rows: From its upper edge.

    Returns:
        float64 (elements, points, 2); NaN or infinite where it is not known.

    Raises:
        UsageError: See `CoordinateSystems.to_degrees`.
    """
    transforms = transforms_of(batch.images[GEO_TRANSFORM])[batch.image_indices]
    a, b, c, d, e, f = (transforms[:, [index]] for index in range(6))
    points = np.stack((a * columns + b * rows + c, d * columns + e * rows + f), axis=2)
    return systems.to_degrees(points, batch.images[GEO_CRS].to_numpy()[batch.image_indices])


class CoordinateSystems:
    """Turns coordinates into degrees; each system is looked up once."""

    def __init__(self) -> None:
        self._transformers = dict[str, Any]()

    def to_degrees(self, points: _Numbers, names: npt.NDArray[np.object_]) -> _Numbers:
        """Longitude and latitude of some shapes.

        Args:
            points: float64 (n, points, 2): x and y.
            names: (n,) system of each shape, such as `EPSG:32633`; None if it is not known.

        Returns:
            float64 (n, points, 2); NaN or infinite where it is not known.

        Raises:
            UsageError: If the package is missing that knows other systems than WGS 84.
        """
        result = np.full(points.shape, np.nan)
        for name in {name for name in names.tolist() if name is not None}:
            is_of_system = names == name
            result[is_of_system] = self._transform(name, points[is_of_system])
        return result

    def _transform(self, name: str, points: _Numbers) -> _Numbers:
        if name == _DEGREES:
            return points
        if name not in self._transformers:
            self._transformers[name] = _open_transformer(name)
        transformer = self._transformers[name]
        if transformer is None:
            return np.full(points.shape, np.nan)
        return np.stack(transformer.transform(points[..., 0], points[..., 1]), axis=-1)


def _open_transformer(name: str) -> Any:
    """The transformer of a system; None if the library does not know it."""
    pyproj = import_extra("pyproj", "geo", f"coordinates of {name}")
    try:
        return pyproj.Transformer.from_crs(name, _DEGREES, always_xy=True)
    except pyproj.exceptions.ProjError:
        return None
