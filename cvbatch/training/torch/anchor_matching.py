"""Which cells of a detector shall find which box: adaptive training sample selection (ATSS, arXiv:1912.02424)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torchvision.ops import box_iou

from cvbatch.inference.torch.nanodet import STRIDES, cell_centres

_NEAREST: Final = 9
"""Candidates of each level; k of the paper."""
_ANCHOR_STRIDES: Final = 5.0
"""Side of the square around a cell in strides, as NanoDet has it."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a network for one size of images."""

    centres: Tensor
    """(cells, 2): x, y in pixels."""
    strides: Tensor
    """(cells,), in pixels."""

    @classmethod
    def of_frame(cls, height: int, width: int, device: torch.device) -> Cells:
        """The cells for a batch of this size in pixels."""
        return cls(*cell_centres(height, width, device))

    @property
    def anchors(self) -> Tensor:
        """(cells, 4): corners of the square around each."""
        half = self.strides[:, None] * (_ANCHOR_STRIDES / 2)
        return torch.cat([self.centres - half, self.centres + half], dim=1)


def match_cells(boxes: Tensor, cells: Cells) -> Tensor:
    """Find the box that each cell shall learn.

    The candidates of a box are the nearest cells of each level. It gets those whose squares overlap it by at least the
    mean plus the standard deviation of the candidates, and whose centres lie inside. A cell of several boxes gets the
    one that it overlaps most.

    Args:
        boxes: (boxes, 4): corners in pixels.
        cells: The cells.

    Returns:
        (cells,), int64: position of the box, or -1.
    """
    matched = torch.full((len(cells.centres),), -1, dtype=torch.int64, device=cells.centres.device)
    if not len(boxes):
        return matched
    overlaps = box_iou(cells.anchors, boxes)
    is_candidate = _nearest_cells(boxes, cells)
    chosen = overlaps[is_candidate.T.nonzero(as_tuple=True)[::-1]].reshape(len(boxes), -1)
    limits = chosen.mean(dim=1) + chosen.std(dim=1)
    sides = torch.cat([cells.centres[:, None] - boxes[:, :2], boxes[:, 2:] - cells.centres[:, None]], dim=2)
    is_match = is_candidate & (overlaps >= limits) & (sides.amin(dim=2) > 0)
    best, position = torch.where(is_match, overlaps, -1.0).max(dim=1)
    return torch.where(best >= 0, position, matched)


def _nearest_cells(boxes: Tensor, cells: Cells) -> Tensor:
    """(cells, boxes): whether a cell is one of the nearest of its level, by the distance of the centres."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = torch.cdist(cells.centres, centres)
    is_near = torch.zeros_like(distances, dtype=torch.bool)
    for stride in STRIDES:
        of_level = (cells.strides == stride).nonzero()[:, 0]
        nearest = distances[of_level].topk(min(_NEAREST, len(of_level)), dim=0, largest=False).indices
        is_near[of_level[nearest], torch.arange(len(boxes), device=boxes.device)] = True
    return is_near
