"""Generalized focal loss (arXiv:2006.04388): quality focal loss of classes, distribution focal loss of distances."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def quality_focal_loss(logits: Tensor, qualities: Tensor, beta: float = 2.0) -> Tensor:
    """Cross-entropy with a quality, times |quality − score|^β (equation 2): its sum.

    Args:
        logits: (n, classes)
        qualities: (n, classes) from 0 to 1: overlap of the answer with the box in its class, else 0.
        beta: β
    """
    scores = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, qualities, reduction="none")
    return ((qualities - scores).abs() ** beta * entropy).sum()


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy of the two bins beside a distance, by how near they are (equation 6): mean over the sides, (n,).

    Args:
        logits: (n, 4, bins)
        distances: (n, 4) in bins, from 0 to less than the last bin.
    """
    lower = distances.floor().long()
    share = distances - lower
    logs = functional.log_softmax(logits, dim=2)
    at_lower, at_upper = (logs.gather(2, (lower + step)[..., None])[..., 0] for step in (0, 1))
    return -((1 - share) * at_lower + share * at_upper).mean(dim=1)


def overlaps_of_pairs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and generalized intersection over union (arXiv:1902.09630), of pairs of boxes.

    Args:
        first: (n, 4): corners.
        second: (n, 4)

    Returns:
        (n,) and (n,)
    """
    inner = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0)
    outer = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    shared, around = inner.prod(dim=1), outer.prod(dim=1).clamp(min=1e-7)
    union = ((first[:, 2:] - first[:, :2]).prod(dim=1) + (second[:, 2:] - second[:, :2]).prod(dim=1)) - shared
    overlap = shared / union.clamp(min=1e-7)
    return overlap, overlap - (around - union) / around
