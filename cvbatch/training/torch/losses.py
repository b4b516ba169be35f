"""Losses as sums with their denominators, so that parts of a batch on several workers add up to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cvbatch.training.torch.workers import WorkerGroup
from cvbatch.truth.base import IGNORED


@dataclass(frozen=True, slots=True)
class LossPart:
    """One part of a loss on a worker's part of a batch."""

    total: Tensor
    """Sum over what is counted; a scalar with a gradient."""
    weight: Tensor
    """What the sum is divided by, for this part of the batch; a scalar without a gradient."""
    factor: float = 1.0
    """Weight of this part in the sum of all parts."""


LossParts = Mapping[str, LossPart]


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """The loss of a whole batch, and what a worker adds to it."""

    share: Tensor
    """What this worker adds to the mean over the whole batch; its gradients add up over the workers."""
    parts: dict[str, Tensor]
    """Each part over the whole batch, times its factor, without gradients; scalars, the same on all workers."""


def combine_parts(parts: LossParts, group: WorkerGroup) -> BatchLoss:
    """Divide the sums of all workers by the denominators of all workers.

    Args:
        parts: Of this worker; each worker has parts of the same names.
        group: The workers.
    """
    names = list(parts)
    weights = group.add_up(torch.stack([parts[name].weight.detach().float() for name in names]))
    scaled = [
        parts[name].factor * parts[name].total.float() / weights[index].clamp(min=torch.finfo(torch.float32).tiny)
        for index, name in enumerate(names)
    ]
    values = group.add_up(torch.stack([value.detach() for value in scaled]))
    return BatchLoss(torch.stack(scaled).sum(), dict(zip(names, values, strict=True)))


def label_loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None, smoothing: float) -> LossPart:
    """Cross-entropy of classes, as `torch.nn.CrossEntropyLoss` with its mean.

    With smoothing ε and C classes: l = (1 − ε) w[y] (−log p[y]) + ε / C Σ_c w[c] (−log p[c]), and the mean divides by
    the sum of w[y].

    Args:
        logits: (images, classes)
        labels: (images,), int64
        class_weights: (classes,), or None if all are 1.
        smoothing: ε
    """
    total = functional.cross_entropy(
        logits.float(), labels, weight=class_weights, label_smoothing=smoothing, reduction="sum"
    )
    counted = torch.tensor(float(len(labels)), device=logits.device)
    return LossPart(total, counted if class_weights is None else class_weights[labels].sum())


def soft_label_loss(
    logits: Tensor, shares: Tensor, class_weights: Tensor | None = None, smoothing: float = 0.0
) -> LossPart:
    """Cross-entropy with soft targets, of which some shares are known, and of the others only the sum.

    With K the known classes: l = −Σ_{c ∈ K} q[c] log p[c] − (1 − Σ_{c ∈ K} q[c]) log Σ_{c ∉ K} p[c]. It is least where
    p[c] = q[c] for all known classes; how the rest is distributed is left to the network. With smoothing ε and C
    classes it is (1 − ε) l + ε / C Σ_c (−log p[c]). Weights are those of the class with the greatest share, and the
    mean divides by their sum.

    Args:
        logits: (images, classes)
        shares: (images, classes) probabilities; NaN where a share is not known.
        class_weights: (classes,), or None if all are 1.
        smoothing: ε
    """
    logs = functional.log_softmax(logits.float(), dim=1)
    is_known = ~shares.isnan()
    known = shares.nan_to_num(0.0)
    loss = -(known * logs).sum(dim=1)
    has_rest = ~is_known.all(dim=1)
    if has_rest.any():
        rest = (1 - known.sum(dim=1)).clamp(min=0)[has_rest]
        logs_of_rest = logs[has_rest].masked_fill(is_known[has_rest], -torch.inf).logsumexp(dim=1)
        loss = loss.index_add(0, has_rest.nonzero()[:, 0], -rest * logs_of_rest)
    loss = (1 - smoothing) * loss - smoothing * logs.mean(dim=1)
    weights = torch.ones_like(loss) if class_weights is None else class_weights[best_labels(shares)]
    return LossPart((weights * loss).sum(), weights.sum().detach())


def best_labels(targets: Tensor) -> Tensor:
    """(images,) classes of targets: the targets, or the known classes with the greatest share.

    Args:
        targets: (images,) classes, or (images, classes) shares as for `soft_label_loss`.
    """
    return targets if targets.dim() == 1 else targets.nan_to_num(-1.0).argmax(dim=1)


def pixel_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, smoothing: float, factor: float = 1.0
) -> LossPart:
    """Cross-entropy of each pixel, the mean over all pixels that count; see `label_loss`.

    Args:
        logits: (images, classes, height, width)
        labels: (images, height, width), int64; `IGNORED` where a pixel does not count.
        class_weights: (classes,), or None if all are 1.
        smoothing: ε
        factor: Of this part in the sum of all parts.
    """
    total = functional.cross_entropy(
        logits.float(), labels, weight=class_weights, label_smoothing=smoothing, ignore_index=IGNORED, reduction="sum"
    )
    counted = labels != IGNORED
    weight = counted.sum().float() if class_weights is None else (class_weights[labels.clamp(min=0)] * counted).sum()
    return LossPart(total, weight, factor)
