"""How NanoDet-g learns: generalized focal loss and GIoU, of the cells that ATSS chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from cvbatch.inference.torch.nanodet import BINS, expected_boxes
from cvbatch.inference.torch.nanodet_boxes import NanoDetOutputs
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.training.torch.anchor_matching import Cells, match_cells
from cvbatch.training.torch.base import TaskContext
from cvbatch.training.torch.boxes import BoxExample, BoxLearning
from cvbatch.training.torch.focal_losses import distribution_focal_loss, overlaps_of_pairs, quality_focal_loss
from cvbatch.training.torch.losses import LossPart, LossParts

_BOX_FACTOR: Final = 2.0
_DISTANCE_FACTOR: Final = 0.25
"""Weights of the parts beside that of the classes, those of NanoDet and of the paper."""
_LAST: Final = BINS - 1 - 0.01
"""Greatest distance in strides that can be learned, below the last bin."""


class NanoDetLearning(BoxLearning):
    """NanoDet-g; see `TrainingTask`.

    Args:
        context: What is learned.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self._normalize = BatchNormalizer(context.network.mean, context.network.std, context.device)

    def collate(self, examples: Sequence[BoxExample]) -> tuple[Tensor, Sequence[BoxExample]]:
        """Normalised frames, (images, 3, height, width)."""
        return self._normalize([example.pixels for example in examples])[: len(examples)], examples

    def compute_loss(self, module: nn.Module, inputs: Tensor, targets: Sequence[BoxExample]) -> LossParts:
        """See `nanodet_loss`."""
        logits, distances = module(inputs)
        boxes = [example.boxes.to(self.device) for example in targets]
        labels = [example.label_ids.to(self.device) - 1 for example in targets]
        cells = Cells.of_frame(inputs.shape[2], inputs.shape[3], inputs.device)
        return nanodet_loss(logits.float(), distances.float(), cells, boxes, labels, localisation=self.localisation)

    def detect(self, module: nn.Module, inputs: Tensor, targets: Sequence[BoxExample]) -> Sequence[BoxAnswer]:
        """See `BoxLearning.detect`."""
        logits, distances = module(inputs)
        frame = (inputs.shape[2], inputs.shape[3])
        return NanoDetOutputs(logits, distances, frame, [example.truth.size for example in targets]).boxes(self.spec)


def nanodet_loss(
    logits: Tensor,
    distances: Tensor,
    cells: Cells,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    localisation: float,
) -> LossParts:
    """Generalized focal loss as NanoDet has it.

    - classes: quality focal loss of all cells, divided by the number of matched cells
    - boxes: 1 − GIoU of each matched cell, the mean by its best score, times 2 λ
    - distances: distribution focal loss of each matched cell, the mean by its best score, times λ / 4

    Args:
        logits: (images, cells, classes)
        distances: (images, cells, 4, bins)
        cells: The cells.
        boxes: Of each image, (n, 4): corners in pixels.
        labels: Of each image, (n,), from 0 on.
        localisation: λ
    """
    matches = [match_cells(of_image, cells) for of_image in boxes]
    image, cell = torch.stack(matches).ge(0).nonzero(as_tuple=True)
    position = torch.stack(matches)[image, cell]
    starts = torch.tensor([0, *(len(of_image) for of_image in boxes)], device=logits.device).cumsum(dim=0)
    chosen = starts[image] + position
    wanted, classes = torch.cat(list(boxes))[chosen], torch.cat(list(labels))[chosen]
    centres, strides = cells.centres[cell], cells.strides[cell]
    of_cells = distances[image, cell]
    overlap, generalized = overlaps_of_pairs(expected_boxes(of_cells, centres, strides), wanted)
    qualities = torch.zeros_like(logits)
    qualities[image, cell, classes] = overlap.detach()
    weights = logits[image, cell].detach().sigmoid().amax(dim=1) if len(cell) else logits.new_zeros(0)
    sides = torch.cat([centres - wanted[:, :2], wanted[:, 2:] - centres], dim=1) / strides[:, None]
    focal = distribution_focal_loss(of_cells, sides.clamp(0, _LAST))
    count = torch.tensor(float(len(cell)), device=logits.device).clamp(min=1)
    return {
        "classes": LossPart(quality_focal_loss(logits, qualities), count),
        "boxes": LossPart((weights * (1 - generalized)).sum(), weights.sum(), _BOX_FACTOR * localisation),
        "distances": LossPart((weights * focal).sum(), weights.sum(), _DISTANCE_FACTOR * localisation),
    }
