"""Brightness and sharpness of some images, which are read again from the source of the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from cvbatch.images.arrow_pixels import unpack_images
from cvbatch.images.preprocess import View
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import ERROR, ERROR_MESSAGE, ERROR_TYPE, ROW_ID, STATUS, pixels_column

BRIGHTNESS: Final = "brightness"
SHARPNESS: Final = "sharpness"
_SIDE: Final = 256
"""Shorter side in pixels to which images are scaled: about what models see, and the same for all cameras."""
_BATCH_ROWS: Final = 64
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of ITU-R BT.601."""


@dataclass(frozen=True, slots=True)
class PixelValues:
    """Measures of the images that could be read again."""

    row_ids: npt.NDArray[np.int64]
    brightness: npt.NDArray[np.float64]
    """(rows,), mean luma from 0 to 1."""
    sharpness: npt.NDArray[np.float64]
    """(rows,), decimal logarithm of the variance of the Laplacian (Pech-Pacheco et al. 2000), in steps of 255."""
    failed: int
    """Images that could not be read again."""
    reason: str | None
    """Why the first one could not."""


def measure_pixels(opened: OpenedOutput, row_ids: npt.NDArray[np.int64]) -> PixelValues:
    """Read images again through the source of the run, and measure them.

    Args:
        opened: The run.
        row_ids: The images.
    """
    from cvbatch.stages.decode import DecodeOptions, fetch_and_decode

    planned = PlannedImages(opened)
    options = replace(DecodeOptions.of_source(planned.job.source, [View(resize=_SIDE)]), scaled=True)
    ids, values, failed, reason = list[int](), list[tuple[float, float]](), 0, None
    for rows in planned.iter_rows(row_ids, batch_rows=_BATCH_ROWS):
        decoded = fetch_and_decode(rows, options)
        is_failed = pc.equal(decoded[STATUS], ERROR)
        failures = decoded.filter(is_failed)
        if failures.num_rows and reason is None:
            reason = f"{failures[ERROR_TYPE][0].as_py()}: {failures[ERROR_MESSAGE][0].as_py()}"
        failed += failures.num_rows
        usable = decoded.filter(pc.invert(is_failed))
        ids += usable[ROW_ID].to_pylist()
        images = unpack_images(usable[pixels_column(0)])
        values += [(np.nan, np.nan) if image is None else measure_image(image) for image in images]
    array = np.array(values, np.float64).reshape(-1, 2)
    return PixelValues(np.array(ids, np.int64), array[:, 0], array[:, 1], failed, reason)


def measure_image(image: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Brightness and sharpness of one image.

    Args:
        image: RGB, (height, width, 3).
    """
    luma = image.astype(np.float32) @ _LUMA
    padded = np.pad(luma, 1, mode="edge")
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float(luma.mean() / 255), float(np.log10((sides - 4 * luma).var() + 1e-3))
