"""Pillow's resizing for many images together, on their device.

Antialiased filters are separable, so both passes are products with matrices. Like Pillow, this rounds to integers after
each pass: from 500 × 375 to 341 × 256, one value in ten thousand differs, by 1. At ratios such as 5 : 4, many values
are exact halves, which floats round up or down: there one value in five differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from cvbatch.images.preprocess import Size, View, compute_crop_geometry


def resize_to_view(images: Sequence[Tensor], view: View) -> list[Tensor]:
    """Resize and crop images, as `preprocess.apply_view` does.

    Args:
        images: uint8, (3, height, width), of any sizes, all on one device.
        view: View of the network; its interpolation is one of `FILTERS`.

    Returns:
        uint8, (height, width, 3) for each image, on the same device.
    """
    if view.resize is None and view.crop is None and view.letterbox is None:
        return [image.permute(1, 2, 0) for image in images]
    sizes: list[Size] = [(image.shape[2], image.shape[1]) for image in images]
    geometries = [compute_crop_geometry(view, size) for size in sizes]
    out_width, out_height = (max(geometry.size[axis] for geometry in geometries) for axis in (0, 1))
    device = images[0].device
    shape = (len(images), 3, max(height for _, height in sizes), max(width for width, _ in sizes))
    pixels = torch.zeros(shape, device=device)
    for padded, image in zip(pixels, images, strict=True):
        padded[:, : image.shape[1], : image.shape[2]] = image
    lengths = [
        (*size, *geometry.resized_size, *geometry.offset) for size, geometry in zip(sizes, geometries, strict=True)
    ]
    steps = torch.tensor(lengths, dtype=torch.float64, pin_memory=device.type == "cuda").to(device, non_blocking=True)
    horizontal, vertical = (
        _filter_weights(view.interpolation, steps[:, axis::2, None, None], out, source)
        for axis, out, source in ((0, out_width, shape[3]), (1, out_height, shape[2]))
    )
    rows = _round_to_uint8(pixels.flatten(1, 2) @ horizontal.mT).view(len(images), 3, -1, out_width)
    result = _round_to_uint8(vertical[:, None] @ rows).to(torch.uint8).permute(0, 2, 3, 1)
    return [image[: geometry.size[1], : geometry.size[0]] for image, geometry in zip(result, geometries, strict=True)]


def _filter_weights(name: str, steps: Tensor, count: int, longest: int) -> Tensor:
    """Weights of all source pixels for each of `count` target pixels: float32, (images, count, longest).

    The rule is that of Pillow's `precompute_coeffs` (src/libImaging/Resample.c): the filter is as wide as
    the reduction, cut off at whole pixels and at the borders, and scaled to a sum of 1.

    Args:
        name: Name of the filter.
        steps: For each image, its length before and after resizing, and the offset of the crop in the resized image;
            pixels outside are black. Float64, (images, 3, 1, 1).
        count: Length of the longest crop.
        longest: Length of the longest image.
    """
    support, shape = FILTERS[name]
    source, target, offset = steps.unbind(1)
    device = steps.device
    scale = source / target
    wide = scale.clamp(min=1.0)
    target_position = torch.arange(count, device=device, dtype=torch.float64)[None, :, None] + offset
    centre = (target_position + 0.5) * scale
    first = (centre - support * wide + 0.5).floor().clamp(min=0)
    end = torch.minimum((centre + support * wide + 0.5).floor(), source)
    source_position = torch.arange(longest, device=device, dtype=torch.float64)
    weights = shape((source_position - centre + 0.5) / wide)
    weights *= (
        (source_position >= first) & (source_position < end) & (target_position >= 0) & (target_position < target)
    )
    weights /= weights.sum(dim=2, keepdim=True).clamp(min=1e-9)
    return (weights * _PARTS).round_().div_(_PARTS).float()


def _triangle_filter(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _cubic_filter(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5 (IEEE ASSP 29, 1981), which is Pillow's."""
    x = distance.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


FILTERS: Final[dict[str, tuple[float, Callable[[Tensor], Tensor]]]] = {
    "bilinear": (1.0, _triangle_filter),
    "bicubic": (2.0, _cubic_filter),
}
"""Half the width in pixels, and the shape, of each filter."""


_PARTS: Final = 1 << 22
"""Pillow's weights are multiples of 1 / `_PARTS`."""


def _round_to_uint8(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)
