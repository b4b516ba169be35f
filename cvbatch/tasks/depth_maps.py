"""Maps of depth as PNG files of 16 bits, which a smallest and a largest value bring back to numbers."""

from __future__ import annotations

import io
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

STEPS: Final = (1 << 16) - 1
"""Largest value of 16 bits."""
_CUBIC: Final = -0.75
"""Parameter of the cubic kernel, as torch has it."""

Depths = npt.NDArray[np.float32]
"""(height, width)"""


class DepthMap(NamedTuple):
    """A map of depth as it is stored."""

    png: bytes
    """Grey, 16 bits: 0 is `minimum`, 65,535 is `maximum`."""
    minimum: float
    maximum: float


def encode_depths(depths: npt.NDArray[np.floating[Any]]) -> DepthMap:
    """Encode a map.

    Args:
        depths: Finite, (height, width).
    """
    low, high = float(depths.min()), float(depths.max())
    shares = (depths.astype(np.float64) - low) / ((high - low) or 1.0)
    image = Image.fromarray(np.rint(shares * STEPS).astype(np.uint16))
    with io.BytesIO() as file:
        image.save(file, "PNG", compress_level=1)
        return DepthMap(file.getvalue(), low, high)


def decode_depth(
    png: bytes, minimum: float, maximum: float, *, width: int | None = None, height: int | None = None
) -> Depths:
    """Decode a map of depth of the predictions.

    Args:
        png: A value of a `_map` column of a model for depth.
        minimum: Its value of the `_min` column.
        maximum: Its value of the `_max` column.
        width: Width of the oriented original, in pixels; None keeps the network's.
        height: Height of it.

    Returns:
        Float32, (height, width), in the model's unit: metres, or for many models nearness without a unit, larger for
        what is closer. Larger sizes are interpolated as `post_process_depth_estimation` of transformers does:
        bicubically, as `torch.nn.functional.interpolate` without aligned corners.

    Raises:
        ValueError: It is no such PNG, or only one of the sides is given.
    """
    with Image.open(io.BytesIO(png)) as image:
        steps = np.asarray(image)
    if steps.ndim != 2:
        raise ValueError(f"expected a grey PNG of 16 bits, got one of shape {steps.shape}")
    depths = (minimum + steps.astype(np.float64) / STEPS * (maximum - minimum)).astype(np.float32)
    if width is None or height is None:
        if (width, height) != (None, None):
            raise ValueError(f"expected width and height, got {width} and {height}")
        return depths
    return _resize_cubic(_resize_cubic(depths, width, 1), height, 0)


def _resize_cubic(values: Depths, length: int, axis: int) -> Depths:
    """Interpolate along an axis; each value is a sum of four."""
    count = values.shape[axis]
    centres = (np.arange(length) + 0.5) * (count / length) - 0.5
    first = np.floor(centres).astype(np.int64)
    shares = (centres - first).astype(np.float32)
    result = np.zeros([length if number == axis else side for number, side in enumerate(values.shape)], np.float32)
    for offset in (-1, 0, 1, 2):
        weights = _cubic_weights(np.abs(shares - offset))
        neighbours = np.take(values, np.clip(first + offset, 0, count - 1), axis=axis)
        result += neighbours * (weights if axis == 1 else weights[:, None])
    return result


def _cubic_weights(distances: Depths) -> Depths:
    """Keys' kernel (IEEE Transactions on Acoustics, Speech, and Signal Processing 29, 1981)."""
    near = ((_CUBIC + 2) * distances - (_CUBIC + 3)) * distances**2 + 1
    far = ((distances - 5) * distances + 8) * distances * _CUBIC - 4 * _CUBIC
    weights: Depths = np.where(distances <= 1, near, far).astype(np.float32)
    return weights
