"""NanoDet-g, the embedded detector: COCO's 80 classes in 3.8 million parameters.

A backbone of CSP blocks (arXiv:1911.11929), a path aggregation neck without convolutions, and one head for each of
three strides. A head gives a quality score for each class and, for each side of the box, a distribution over distances
(generalized focal loss, arXiv:2006.04388).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES: Final = 80
STRIDES: Final = (8, 16, 32)
"""Pixels between the cells of each level."""
BINS: Final = 11
"""Distances of a side that have a probability: 0 to 10 strides."""
_STAGES: Final = ((32, 32, 16, 1, 1), (64, 64, 32, 2, 2), (128, 128, 64, 2, 2), (256, 256, 128, 2, 3))
"""Channels before, channels, channels inside of blocks, stride, and number of blocks of each stage."""
_NECK: Final = 128


class NanoDet(nn.Module):
    """The network, with random weights; images may have any size whose sides are multiples of 32.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = _Convolution(3, 32, stride=2)
        self.stages = nn.ModuleList(_Stage(*sizes) for sizes in _STAGES)
        self.laterals = nn.ModuleList(nn.Conv2d(2 * channels, _NECK, 1) for _, channels, _, _, _ in _STAGES[1:])
        self.towers = nn.ModuleList(_Convolution(_NECK, _NECK) for _ in STRIDES)
        self.outputs = nn.ModuleList(nn.Conv2d(_NECK, num_classes + 4 * BINS, 1) for _ in STRIDES)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits for each cell, the finest level first, row by row.

        Args:
            batch: Normalized RGB, (images, 3, height, width).

        Returns:
            Logits of the classes, (images, cells, classes), and of the distances to the left, upper, right and lower
            side of the box, (images, cells, 4, bins).
        """
        maps = functional.max_pool2d(self.stem(batch), 3, stride=2, padding=1)
        levels = []
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        levels = [lateral(level) for lateral, level in zip(self.laterals, levels[1:], strict=True)]
        heads = [
            output(tower(level)).flatten(2)
            for level, tower, output in zip(_aggregate_paths(levels), self.towers, self.outputs, strict=True)
        ]
        cells = torch.cat(heads, dim=2).transpose(1, 2)
        return cells[..., : self.num_classes], cells[..., self.num_classes :].reshape(*cells.shape[:2], 4, BINS)


class _Convolution(nn.Module):
    """3 × 3; its batch norm is folded into it."""

    def __init__(self, before: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, channels, 3, stride=stride, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.leaky_relu(self.convolution(maps), 0.1)


class _Block(nn.Module):
    """Two convolutions whose outputs are joined."""

    def __init__(self, before: int, inside: int) -> None:
        super().__init__()
        self.reduce = _Convolution(before, inside)
        self.refine = _Convolution(inside, inside)

    def forward(self, maps: Tensor) -> Tensor:
        reduced = self.reduce(maps)
        return torch.cat([self.refine(reduced), reduced], dim=1)


class _Stage(nn.Module):
    """Blocks beside a shortcut."""

    def __init__(self, before: int, channels: int, inside: int, stride: int, blocks: int) -> None:
        super().__init__()
        self.enter = _Convolution(before, channels, stride=stride)
        self.blocks = nn.Sequential(*(_Block(channels, inside) for _ in range(blocks)))
        self.leave = _Convolution(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        entered = self.enter(maps)
        return torch.cat([self.leave(self.blocks(entered)), entered], dim=1)


def _aggregate_paths(levels: Sequence[Tensor]) -> list[Tensor]:
    """Add coarse levels to fine ones, then fine ones to coarse ones."""
    down = list(levels)
    for index in range(len(levels) - 2, -1, -1):
        down[index] = levels[index] + _scale_like(down[index + 1], levels[index])
    for index in range(1, len(levels)):
        down[index] = down[index] + _scale_like(down[index - 1], down[index])
    return down


def _scale_like(maps: Tensor, target: Tensor) -> Tensor:
    return functional.interpolate(maps, target.shape[-2:], mode="bilinear", align_corners=False)


def cell_centres(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute the centre and the stride of each cell, in the order of `NanoDet.forward`.

    Args:
        height: Of the batch, in pixels.
        width: Of the batch, in pixels.
        device: Where the tensors are put.

    Returns:
        Centres, (cells, 2): x, y in pixels; strides, (cells,), in pixels.
    """
    centres, strides = [], []
    for stride in STRIDES:
        rows = (torch.arange(height // stride, device=device) + 0.5) * stride
        columns = (torch.arange(width // stride, device=device) + 0.5) * stride
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], dim=1))
        strides.append(torch.full((len(rows) * len(columns),), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def expected_boxes(distances: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Turn distributions over distances into boxes: each distance is its expectation (arXiv:2006.04388, eq. 4).

    Args:
        distances: Logits, (n, 4, bins).
        centres: (n, 2), in pixels.
        strides: (n,), in pixels.

    Returns:
        (n, 4): x_min, y_min, x_max, y_max in pixels.
    """
    bins = torch.arange(distances.shape[2], dtype=torch.float32, device=distances.device)
    sides = distances.float().softmax(dim=2) @ bins * strides[:, None]
    return torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], dim=1)
