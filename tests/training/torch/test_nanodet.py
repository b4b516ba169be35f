"""NanoDet's loss against its formulas in NumPy, and in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from cvbatch.inference.torch.nanodet import BINS
from cvbatch.training.torch.anchor_matching import Cells, match_cells
from cvbatch.training.torch.focal_losses import overlaps_of_pairs
from cvbatch.training.torch.losses import LossPart, LossParts, combine_parts
from cvbatch.training.torch.nanodet import nanodet_loss
from cvbatch.training.torch.workers import WorkerGroup

DRAW = np.random.default_rng(0)
CELLS = Cells.of_frame(64, 64, torch.device("cpu"))
LOGITS = DRAW.normal(-1, 2, (3, len(CELLS.centres), 2)).astype(np.float32)
DISTANCES = DRAW.normal(0, 1, (3, len(CELLS.centres), 4, BINS)).astype(np.float32)
BOXES = [np.array([[4, 6, 40, 50], [30, 8, 60, 30]], np.float32), np.zeros((0, 4), np.float32)]
BOXES.append(np.array([[10, 20, 20, 34]], np.float32))
LABELS = [np.array([0, 1]), np.zeros(0, np.int64), np.array([1])]


def parts_of(images: slice, localisation: float = 1.0) -> LossParts:
    return nanodet_loss(
        torch.from_numpy(LOGITS[images]),
        torch.from_numpy(DISTANCES[images]),
        CELLS,
        [torch.from_numpy(boxes) for boxes in BOXES[images]],
        [torch.from_numpy(labels) for labels in LABELS[images]],
        localisation=localisation,
    )


def values(parts: LossParts) -> dict[str, float]:
    return {name: float(value) for name, value in combine_parts(parts, WorkerGroup()).parts.items()}


def formulas() -> dict[str, float]:
    """Equations 2 and 6 of arXiv:2006.04388 and 1 − GIoU of arXiv:1902.09630, in NumPy."""
    scores = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    quality = np.zeros_like(scores)
    boxes_sum = distances_sum = weight_sum = 0.0
    count = 0
    for image, boxes in enumerate(BOXES):
        matches = match_cells(torch.from_numpy(boxes), CELLS).numpy()
        for cell in np.flatnonzero(matches >= 0):
            box, label = boxes[matches[cell]].astype(np.float64), LABELS[image][matches[cell]]
            (x, y), stride = CELLS.centres[cell].tolist(), float(CELLS.strides[cell])
            shares = np.exp(DISTANCES[image, cell].astype(np.float64))
            shares /= shares.sum(axis=1, keepdims=True)
            left, top, right, bottom = shares @ np.arange(BINS) * stride
            got = np.array([x - left, y - top, x + right, y + bottom])
            inner = np.prod(np.clip(np.minimum(got[2:], box[2:]) - np.maximum(got[:2], box[:2]), 0, None))
            union = np.prod(got[2:] - got[:2]) + np.prod(box[2:] - box[:2]) - inner
            around = np.prod(np.maximum(got[2:], box[2:]) - np.minimum(got[:2], box[:2]))
            weight = scores[image, cell].max()
            quality[image, cell, label] = inner / union
            boxes_sum += weight * (1 - inner / union + (around - union) / around)
            wanted = np.clip(np.array([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride, 0, BINS - 1.01)
            lower = np.floor(wanted).astype(int)
            sides = np.arange(4)
            focal = -(lower + 1 - wanted) * np.log(shares[sides, lower])
            focal -= (wanted - lower) * np.log(shares[sides, lower + 1])
            distances_sum += weight * focal.mean()
            weight_sum += weight
            count += 1
    entropy = -((1 - quality) * np.log(1 - scores) + quality * np.log(scores))
    return {
        "classes": float((np.abs(quality - scores) ** 2 * entropy).sum() / count),
        "boxes": 2 * boxes_sum / weight_sum,
        "distances": 0.25 * distances_sum / weight_sum,
    }


def test_the_loss_is_the_formula() -> None:
    assert values(parts_of(slice(None))) == pytest.approx(formulas(), abs=1e-5, rel=1e-5)


def test_localisation_is_weighed() -> None:
    plain, weighed = values(parts_of(slice(None))), values(parts_of(slice(None), 3.0))
    assert weighed == pytest.approx({**{name: 3 * value for name, value in plain.items()}, "classes": plain["classes"]})


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    first, second = parts_of(slice(0, 1)), parts_of(slice(1, 3))
    joined = {
        name: LossPart(part.total + second[name].total, part.weight + second[name].weight, part.factor)
        for name, part in first.items()
    }
    assert values(joined) == pytest.approx(values(parts_of(slice(None))), rel=1e-5)


def test_images_without_boxes_only_have_a_loss_of_classes() -> None:
    got = values(parts_of(slice(1, 2)))
    assert got["classes"] > 0
    assert (got["boxes"], got["distances"]) == (0.0, 0.0)


def test_overlaps_are_those_of_torchvision() -> None:
    corners = torch.from_numpy(DRAW.uniform(0, 50, (2, 40, 2)).astype(np.float32))
    boxes = torch.cat([corners, corners + torch.from_numpy(DRAW.uniform(1, 40, (2, 40, 2)).astype(np.float32))], dim=2)
    _, generalized = overlaps_of_pairs(boxes[0], boxes[1])
    torch.testing.assert_close(1 - generalized, generalized_box_iou_loss(boxes[0], boxes[1]))
