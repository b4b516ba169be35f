"""Ways of hiding what is inside a region, as functions of pixels; what they leave does not tell what was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.edits.orientation import Pixels

Hide = Callable[[Pixels, npt.NDArray[Any]], Pixels]
"""Takes (rows, columns, channels), and the value of black, (channels,); returns new pixels of the same shape."""
_CELLS: Final = 6
"""Most cells along the longer side of a region; their means are all that remains. A face of 6 × 6 values cannot be told
from others. A Gaussian blur of fixed width would leave more of a large region, and can be inverted."""
_SMALLEST_CELL: Final = 8.0
"""Side of a cell in pixels: in a small region, six cells would leave nearly every pixel."""


def fill_region(pixels: Pixels, black: npt.NDArray[Any]) -> Pixels:
    """Black."""
    return np.broadcast_to(black, pixels.shape)


def pixelate_region(pixels: Pixels, black: npt.NDArray[Any]) -> Pixels:
    """Large squares, each with the mean of its pixels."""
    rows, columns = _cell_edges(pixels.shape)
    means = _cell_means(pixels, rows, columns)
    return _rounded(np.repeat(np.repeat(means, np.diff(rows), axis=0), np.diff(columns), axis=1), pixels.dtype)


def blur_region(pixels: Pixels, black: npt.NDArray[Any]) -> Pixels:
    """The same means, with smooth transitions: bilinear between the centres of the cells."""
    rows, columns = _cell_edges(pixels.shape)
    means = _cell_means(pixels, rows, columns)
    in_rows = _interpolate(means.swapaxes(0, 1), columns).swapaxes(0, 1)
    return _rounded(_interpolate(in_rows, rows), pixels.dtype)


HIDING: Final[Mapping[str, Hide]] = {"blur": blur_region, "pixelate": pixelate_region, "fill": fill_region}
"""By the value of `--how`."""


def _cell_edges(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where cells begin, and the end; cells are about square, and at most `_CELLS` lie along the longer side."""
    side = max(max(shape[:2]) / _CELLS, _SMALLEST_CELL)
    counts = [max(1, min(length, round(length / side))) for length in shape[:2]]
    rows, columns = (
        np.linspace(0, length, count + 1).astype(np.intp) for length, count in zip(shape[:2], counts, strict=True)
    )
    return rows, columns


def _cell_means(
    pixels: Pixels, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[np.floating[Any]]:
    sums = np.add.reduceat(np.add.reduceat(pixels, rows[:-1], axis=0, dtype=np.float64), columns[:-1], axis=1)
    means: npt.NDArray[np.floating[Any]] = sums / (np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None])
    return means.astype(np.float32) if pixels.dtype == np.uint8 else means


def _interpolate(means: npt.NDArray[np.floating[Any]], edges: npt.NDArray[np.intp]) -> npt.NDArray[np.floating[Any]]:
    """Values between the centres of cells, linear, along the first axis."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    places = np.interp(np.arange(edges[-1]), centres, np.arange(len(centres)))
    # the weight of a cell falls with its distance, and is 0 from the next cell on
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(len(centres))), 0, 1).astype(means.dtype)
    mixed: npt.NDArray[np.floating[Any]] = np.tensordot(weights, means, axes=1)
    return mixed


def _rounded(values: npt.NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> Pixels:
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)
