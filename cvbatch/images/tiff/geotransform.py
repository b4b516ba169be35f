"""Where a GeoTIFF lies on the earth.

Source: OGC GeoTIFF 1.1 (19-008r4), 7.1 (keys), B.5 and B.6 (from raster to model space).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.file_view import FileBytes
from cvbatch.images.formats import identify_format
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag, read_first_directory
from cvbatch.images.tiff.pages import read_picture_size, select_main_page
from cvbatch.images.tiff.reader import read_page_orientation

_RASTER_TYPE, _GEODETIC_CRS, _PROJECTED_CRS, _MODEL_TYPE = 1025, 2048, 3072, 1024
"""Numbers of keys."""
_PIXEL_IS_POINT: Final = 2
_CRS_KEYS: Final = {1: _PROJECTED_CRS, 2: _GEODETIC_CRS}
"""Key with the EPSG code, by the model type."""
_EPSG_CODES: Final = range(1024, 32767)
_SIGNATURE_BYTES: Final = 512
_Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GeoReference:
    """From pixels to coordinates, of the upright picture."""

    transform: tuple[float, float, float, float, float, float]
    """a, b, c, d, e, f: x = a · column + b · row + c and y = d · column + e · row + f, where (0, 0) is the corner of
    the first pixel; the order of rasterio and of affine."""
    crs: str | None
    """`EPSG:32633`; None if the file names no code."""


def read_geo_reference(data: FileBytes) -> GeoReference | None:
    """Read where a picture lies; None for files of other formats, and for TIFFs that do not say it by a transform.

    Args:
        data: The whole file.
    """
    try:
        if identify_format(data[:_SIGNATURE_BYTES]).name != "tiff":
            return None
        page = select_main_page(read_first_directory(data))
        directory = page.directory
        keys = _read_keys(directory)
        matrix = _read_matrix(directory)
        if matrix is None:
            return None
        if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:
            matrix = matrix @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        matrix = matrix @ _turn_of(read_page_orientation(page), *read_picture_size(directory))
        values = tuple(float(value) for value in matrix[:2].ravel())
    except ImageError:
        return None
    if len(values) != 6 or not all(map(math.isfinite, values)):
        return None
    code = keys.get(_CRS_KEYS.get(keys.get(_MODEL_TYPE, 0), 0), 0)
    return GeoReference(values, f"EPSG:{code}" if code in _EPSG_CODES else None)


def _read_keys(directory: TiffDirectory) -> Mapping[int, int]:
    """The keys whose values are in the directory of keys itself."""
    numbers = directory.get_integers(TiffTag.GEO_KEYS)
    rows = (numbers[start : start + 4] for start in range(4, len(numbers) - 3, 4))
    return {key: value for key, place, _, value in rows if place == 0}


def _read_matrix(directory: TiffDirectory) -> _Matrix | None:
    matrix = _read_doubles(directory, TiffTag.MODEL_TRANSFORMATION)
    if len(matrix) == 16:
        return matrix.reshape(4, 4)[[0, 1, 3]][:, [0, 1, 3]]
    scale, points = (
        _read_doubles(directory, TiffTag.MODEL_PIXEL_SCALE),
        _read_doubles(directory, TiffTag.MODEL_TIEPOINT),
    )
    if len(scale) < 2 or len(points) < 6 or not scale[0] or not scale[1]:
        return None
    column, row, _, x, y = points[:5]
    return np.array([[scale[0], 0, x - column * scale[0]], [0, -scale[1], y + row * scale[1]], [0, 0, 1]])


def _read_doubles(directory: TiffDirectory, tag: TiffTag) -> _Matrix:
    data = directory.get_bytes(tag)
    return np.frombuffer(data[: len(data) // 8 * 8], f"{directory.byte_order}f8").astype(np.float64)


def _turn_of(orientation: int, width: int, height: int) -> _Matrix:
    """From columns and rows of the upright picture to those of the stored one."""
    column, row, one = np.eye(3)
    from_right, from_bottom = width * one - column, height * one - row
    x, y = {
        1: (column, row),
        2: (from_right, row),
        3: (from_right, from_bottom),
        4: (column, from_bottom),
        5: (row, column),
        6: (row, height * one - column),
        7: (width * one - row, height * one - column),
        8: (width * one - row, column),
    }[orientation]
    return np.stack((x, y, one))
