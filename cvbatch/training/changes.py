"""Random changes of a training image: drawn from seed, epoch and image, so they are the same on any worker."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvbatch.config.train_job import AugmentConfig

_TRIES = 10
_CHANGES = 1
"""Distinguishes this use of a seed from others."""


@dataclass(frozen=True, slots=True)
class DrawnChange:
    """What happens to one image."""

    left: int
    """First column of the crop, in pixels of the oriented original."""
    top: int
    width: int
    height: int
    flip: bool
    brightness: float
    """Factor; 1 keeps it."""
    contrast: float
    saturation: float


def draw_change(config: AugmentConfig, size: tuple[int, int], seed: int, epoch: int, image: int) -> DrawnChange:
    """Draw the change of an image in an epoch; crops are those of torchvision's `RandomResizedCrop`.

    Args:
        config: What is allowed.
        size: (width, height) of the oriented original.
        seed: Of the job.
        epoch: From 0 on.
        image: Number of the image.
    """
    draw = np.random.default_rng((seed, _CHANGES, epoch, image))
    left, top, width, height = _draw_crop(config, size, draw)
    flip = bool(draw.random() < config.flip)
    brightness, contrast, saturation = 1 + config.colour * draw.uniform(-1, 1, 3)
    return DrawnChange(left, top, width, height, flip, float(brightness), float(contrast), float(saturation))


def _draw_crop(config: AugmentConfig, size: tuple[int, int], draw: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width and height of a crop."""
    limit = math.log(config.aspect)
    for _ in range(_TRIES):
        area = size[0] * size[1] * draw.uniform(*config.crop)
        aspect = size[0] / size[1] if config.crop[0] == 1 else math.exp(draw.uniform(-limit, limit))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= size[0] and 0 < height <= size[1]:
            left, top = (int(draw.integers(0, free + 1)) for free in (size[0] - width, size[1] - height))
            return left, top, width, height
    return 0, 0, *size
